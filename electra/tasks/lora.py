"""Low-rank adapters (LoRA; Hu et al. 2021, arXiv 2106.09685) on an encoder under a task's head.

Beside each chosen linear layer W stands (alpha / r) B A, with A [r, in] and B [out, r], B zero at
first; W itself stays as it is. The layers are peft's, put into the model in place, so that it keeps
its class. A model folder gets the sum, under the plain names: it opens without peft.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from electra.config import HeadConfig
from electra.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ADAPTER = "default"
_ATTENTION = ("attention", "attn")
_ORIGINAL = ".parametrizations.weight.original"
_ROWS = ".parametrizations.weight.0.rows"


class _TrainedRows(nn.Module):
    """A matrix of which some rows learn."""

    def __init__(self, weight: Tensor, ids: Sequence[int]) -> None:
        super().__init__()
        self.ids: Tensor
        self.register_buffer("ids", torch.tensor(ids, device=weight.device), persistent=False)
        self.rows = nn.Parameter(weight.detach()[self.ids].clone())

    def forward(self, weight: Tensor) -> Tensor:
        """`weight` [V, E] with the rows in their places."""
        return weight.index_copy(0, self.ids, self.rows)


def add_lora(model: PreTrainedModel, head: HeadConfig, new_tokens: Sequence[int] = ()) -> None:
    """Freeze the encoder and put adapters into it, in place; nothing where `head.adapter` is none.

    What is trained then: the adapters, the head, a pooler (which may be a fresh one, so it counts
    as head), and the embeddings of `new_tokens`.

    Args:
        model: an encoder under a head.
        head: `adapter` and the fields that begin with `lora_`.
        new_tokens: ids of the task's own tokens, whose embeddings have learned nothing yet.

    Raises:
        ConfigError: peft is not installed, or there are no such layers in the encoder.
    """
    if head.adapter == "none":
        return
    try:
        peft: Any = importlib.import_module("peft")
    except ImportError:
        raise ConfigError(
            '--model.adapter lora needs peft, which is not installed: pip install "electra[lora]"'
        ) from None
    encoder = model.base_model
    names = target_layers(encoder, head.lora_targets)
    if not names:
        raise ConfigError(
            f"--model.adapter is lora, but in the layers of {model.config.model_type} no "
            f"{head.lora_targets} linear layer was found; leave it out, or try "
            f"--model.lora-targets {'all' if head.lora_targets == 'attention' else 'attention'}"
        )
    settings = peft.LoraConfig(
        r=head.lora_r,
        lora_alpha=head.lora_alpha,
        lora_dropout=head.lora_dropout,
        target_modules=names,
    )
    peft.inject_adapter_in_model(settings, encoder, adapter_name=_ADAPTER)
    for name, parameter in encoder.named_parameters():
        if "pooler" in name.split("."):
            parameter.requires_grad_(True)
    if new_tokens:
        embeddings: Any = model.get_input_embeddings()
        rows = _TrainedRows(embeddings.weight, new_tokens)
        parametrize.register_parametrization(embeddings, "weight", rows)


def target_layers(encoder: nn.Module, targets: str) -> list[str]:
    """Names of the linear layers inside the encoder's numbered layers.

    Args:
        encoder: of any family.
        targets: `all`, or `attention`: those inside a module of that name.
    """
    found = []
    for name, module in encoder.named_modules():
        parts = name.split(".")
        numbered = any(part.isdecimal() for part in parts)
        attends = any(word in part.lower() for part in parts for word in _ATTENTION)
        if isinstance(module, nn.Linear) and numbered and (attends or targets == "all"):
            found.append(name)
    return found


def has_lora(model: nn.Module) -> bool:
    """Whether `add_lora` put adapters into it."""
    return any(hasattr(module, "lora_A") for module in model.modules())


@torch.no_grad()
def merged_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The weights with the adapters added, under the names and shapes of the plain model.

    The model stays as it is; what is not adapted is shared with it.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    merged = {}
    for name, tensor in model.state_dict().items():
        if ".lora_" in name or name.endswith(_ROWS):
            continue
        if name.endswith(_ORIGINAL):
            owner = name.removesuffix(_ORIGINAL)
            merged[f"{owner}.weight"] = modules[owner].weight.detach()
            continue
        owner, _, kind = name.rpartition(".base_layer.")
        if not owner:
            merged[name] = tensor
        elif kind == "weight":
            merged[f"{owner}.weight"] = tensor + modules[owner].get_delta_weight(_ADAPTER)
        else:
            merged[f"{owner}.{kind}"] = tensor
    return merged
