"""AdamW over parameter groups: no decay on biases and norms, layer-wise learning rates; or Muon.

`Adam` without bias correction is the optimizer of the reference code (google-research/electra,
model/optimization.py, AdamWeightDecayOptimizer): with m and v started at zero the first update is
about 3.16 lr in the direction of the gradient's sign, not lr.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from electra.config import OptimizerConfig
from electra.training.distributed import is_divided, own_share, whole
from electra.training.muon import Muon, MuonWithAdam, linear_maps

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    weight_decay: float,
    layerwise_lr_decay: float = 1.0,
    layerwise_lr_form: str = "described",
    num_layers: int = 0,
    apart: Mapping[str, float] | None = None,
    muon: float | None = None,
) -> list[dict[str, Any]]:
    """Groups with `params`, `names`, `weight_decay`, `lr_scale`, `part` and `maps`.

    Args:
        named_parameters: unique parameters; tied ones once.
        weight_decay: for every matrix, embeddings included; vectors (biases, norms) get 0.
        layerwise_lr_decay: a layer's rate over that of the next one up.
        layerwise_lr_form: `described`, as the paper has it (appendix B): heads 1, top layer decay,
            ..., embeddings decay ** (num_layers + 1); or `published`, as the reference code has it
            and its published scores were made with: one power more for all but the heads
            (google-research/electra, issue 51: a leftover of a pooler).
        num_layers: layers of the encoder; needed where the decay is not 1.
        apart: name -> share of the learning rate, for parameters that are optimized apart from the
            rest: gradients are clipped by `part`.
        muon: share of the learning rate for what Muon takes, in groups whose `maps` is above 0;
            none: nothing is for Muon.
    """
    groups: dict[tuple[float, float, str, int], dict[str, Any]] = {}
    more = 1 if layerwise_lr_form == "published" else 0
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        decay = weight_decay if parameter.ndim >= 2 else 0.0
        part = "apart" if name in (apart or {}) else ""
        power = num_layers + 1 - _depth(name, num_layers)
        scale = layerwise_lr_decay ** (power + more if power else 0)
        scale *= (apart or {}).get(name, 1.0)
        maps = 0 if muon is None else linear_maps(name, parameter)
        scale *= muon if maps and muon is not None else 1.0
        group = groups.setdefault(
            (decay, scale, part, maps),
            {
                "params": [],
                "names": [],
                "weight_decay": decay,
                "lr_scale": scale,
                "part": part,
                "maps": maps,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def _depth(name: str, num_layers: int) -> int:
    """0 for embeddings, l + 1 for layer l, num_layers + 1 for everything above."""
    found = _LAYER.search(name)
    if found:
        return int(found.group(1)) + 1
    return 0 if ".embeddings" in name else num_layers + 1


def build_optimizer(
    module: nn.Module,
    config: OptimizerConfig,
    *,
    num_layers: int = 0,
    apart: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """The optimizer a config asks for, over the module's trainable parameters.

    `num_layers` and `apart` as for `parameter_groups`.
    """
    rate = config.muon_learning_rate or config.learning_rate
    groups = parameter_groups(
        module.named_parameters(),
        weight_decay=config.weight_decay,
        layerwise_lr_decay=config.layerwise_lr_decay,
        layerwise_lr_form=config.layerwise_lr_form,
        num_layers=num_layers,
        apart=apart,
        muon=rate / config.learning_rate if config.name == "muon" else None,
    )
    hidden = [group for group in groups if group["maps"]]
    adam = _adam([group for group in groups if not group["maps"]], config)
    if config.name != "muon":
        return adam
    muon = Muon(
        hidden,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.muon_momentum,
    )
    return MuonWithAdam(muon, adam)


def _adam(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.bias_correction else AdamWithoutBiasCorrection
    betas = (config.adam_beta1, config.adam_beta2)
    return kind(groups, lr=config.learning_rate, betas=betas, eps=config.adam_epsilon, fused=True)


class AdamWithoutBiasCorrection(torch.optim.AdamW):
    """p -= lr * (m / (sqrt(v) + eps) + weight_decay * p), m and v not corrected.

    It is AdamW that counts from a step so late that both corrections are 1 in float32; its fused
    kernel goes through the weights once.
    """

    _LATE = 2.0**30

    def _init_group(self, group: dict[str, Any], *lists: Any) -> Any:
        for parameter in group["params"]:  # checkpoints of before this count have none
            if state := self.state.get(parameter):
                state.setdefault("step", torch.zeros((), device=parameter.device))
        found = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        for step in lists[-1]:
            step.fill_(self._LATE)
        return found


def can_step_where(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `step_where` knows how to leave a step out; not with weights in shares."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    fused = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
    return fused and not any(is_divided(p) for p in weights)


def step_where(optimizer: torch.optim.Optimizer, applied: Tensor) -> None:
    """Apply the gradients if `applied`, a bool on their device, which is not waited for.

    Else weights and moments stay to the bit. So the fused kernels of torch leave out a step for a
    gradient scaler, of which this has the flag alone.
    """
    fused: Any = optimizer
    fused.found_inf = (~applied).float()
    try:
        fused.step()
    finally:
        fused.found_inf = None


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group `learning_rate` times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float) -> Tensor:
    """Scale the gradients to a global norm of at most `max_norm` (0: leave); return the norm.

    As in the reference (tf.clip_by_global_norm) the scale is max_norm / max(norm, max_norm), with
    nothing added to the norm. Parts that are optimized apart are clipped apart; the norm returned
    is that of all.
    """
    parts: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        found = [p.grad for p in group["params"] if p.grad is not None]
        parts.setdefault(group["part"], []).extend(found)
    norms = []
    for gradients in parts.values():
        if gradients:
            norm = whole(nn.utils.get_total_norm(gradients))
            norms.append(norm)
            if max_norm > 0:
                shares = [own_share(gradient) for gradient in gradients]
                torch._foreach_mul_(shares, max_norm / norm.clamp(min=max_norm))
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm()
