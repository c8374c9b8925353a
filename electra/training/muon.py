"""Muon for the matrices inside layers, AdamW for all else, as one optimizer.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) gives every singular value of the
momentum the same size. Its updates are scaled by 0.2 sqrt(max(rows, columns)), to the root mean
square of AdamW's: learning rate and weight decay of AdamW carry over (Liu et al. 2025, arXiv
2502.16982, section 2.2), and one rate with one schedule serves both.

A tensor that holds several linear maps is taken apart: query, key and value of ModernBERT's `Wqkv`,
input and gate of its `Wi`. The authors found that better for attention, and it makes both families
learn alike: the classic one has the three apart. Embeddings, whatever is tied to them, heads,
projections and vectors go to AdamW.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_LAYER = re.compile(r"\.layers?\.\d+\.")
_FUSED = {"Wqkv": 3, "Wi": 2}
"""Name of a layer -> how many linear maps its weight holds, one below the other."""
_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Of the iteration a x + b x^3 + c x^5."""


def linear_maps(name: str, parameter: nn.Parameter) -> int:
    """How many linear maps for Muon a parameter holds; 0 for what goes to AdamW."""
    if parameter.ndim != 2 or _LAYER.search(name) is None:
        return 0
    return next((maps for fused, maps in _FUSED.items() if name.endswith(f".{fused}.weight")), 1)


class Muon(torch.optim.Optimizer):
    """Matrices of one shape are made orthogonal together, a batch of them.

    What `torch.optim.Muon` does one by one, in half of its time for small matrices on a CPU.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], *, lr: float, weight_decay: float, momentum: float
    ) -> None:
        """Take groups of matrices, each with how many `maps` one holds (1)."""
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "maps": 1}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None, "closures are not supported"
        alike: dict[torch.Size, list[tuple[Tensor, Tensor, float]]] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                # chunks are views: what is done to them in place is done to the parameter
                wholes = (parameter, self._looked_ahead(parameter, group["momentum"]))
                for part, update in zip(*(w.chunk(group["maps"]) for w in wholes), strict=True):
                    if part.size(0) > part.size(1):
                        part, update = part.mT, update.mT
                    rate = group["lr"] * 0.2 * math.sqrt(part.size(1))
                    alike.setdefault(part.shape, []).append((part, update, rate))
        for found in alike.values():
            parts, updates, rates = zip(*found, strict=True)
            for part, update, rate in zip(
                parts, orthogonal(torch.stack(updates)), rates, strict=True
            ):
                part.add_(update, alpha=-rate)

    def _looked_ahead(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's: the gradient on its way to the momentum, which is a running mean of it."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)
        state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["momentum_buffer"], momentum)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """About U V^T of each matrix U S V^T, in bfloat16; (N, rows, columns), rows <= columns.

    The quintic Newton-Schulz iteration of the post, whose singular values end near 1, not at it.
    """
    x = matrices.bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # no singular value above 1
    for _ in range(steps):
        square = x @ x.mT
        square = torch.baddbmm(square, square, square, beta=_B, alpha=_C)
        x = torch.baddbmm(x, square, x, beta=_A)
    return x


class MuonWithAdam(torch.optim.Optimizer):
    """Two optimizers as one: `param_groups` and `state` are those of both."""

    def __init__(self, muon: torch.optim.Optimizer, adam: torch.optim.Optimizer) -> None:
        """Take both over; no parameter may be in both."""
        self._both = (muon, adam)
        super().__init__([*muon.param_groups, *adam.param_groups], {})
        self._share()

    def _share(self) -> None:
        muon, adam = self._both
        first = len(muon.param_groups)
        muon.param_groups, adam.param_groups = self.param_groups[:first], self.param_groups[first:]
        muon.state = adam.state = self.state

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None, "closures are not supported"
        for optimizer in self._both:
            optimizer.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()
