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

import re
from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

_LAYER = re.compile(r"\.layers?\.\d+\.")
_FUSED = {"Wqkv": 3, "Wi": 2}
"""Name of a layer -> how many linear maps its weight holds, one below the other."""


def linear_maps(name: str, parameter: nn.Parameter) -> int:
    """How many linear maps for Muon a parameter holds; 0 for what goes to AdamW."""
    if parameter.ndim != 2 or _LAYER.search(name) is None:
        return 0
    return next((maps for fused, maps in _FUSED.items() if name.endswith(f".{fused}.weight")), 1)


class SplitMuon(torch.optim.Muon):
    """`torch.optim.Muon` on each of the `maps` of a group's tensors; state by whole tensors."""

    def _init_group(
        self,
        group: MutableMapping[str, Any],
        params_with_grad: list[Tensor],
        grads: list[Tensor],
        muon_momentum_bufs: list[Tensor],
    ) -> bool:
        whole: tuple[list[Tensor], ...] = ([], [], [])
        found: bool = super()._init_group(group, *whole)
        # rows of a tensor are views of it: what is done to them in place is done to it
        for tensors, parts in zip(
            whole, (params_with_grad, grads, muon_momentum_bufs), strict=True
        ):
            parts += [part for tensor in tensors for part in tensor.chunk(group["maps"])]
        return found


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
