"""Sums that become means when they are read, and speed."""

from __future__ import annotations

import torch
from torch import Tensor

from electra.training.distributed import World


class Meter:
    """Weighted means of many quantities over the steps since the last reading.

    Values stay tensors until they are read, so that a GPU is not waited for at every step.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._before = (self._sums, self._counts)

    def begin_step(self) -> None:
        """Remember where a step begins."""
        self._before = (dict(self._sums), dict(self._counts))

    def drop_step(self) -> None:
        """Forget what was added since the step began."""
        self._sums, self._counts = self._before

    def add(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add a sum over `count` items."""
        total = torch.as_tensor(total, dtype=torch.float32).detach()
        count = torch.as_tensor(count, dtype=torch.float32)
        if name in self._sums:
            # never in place: `begin_step` remembers these tensors
            self._sums[name] = self._sums[name] + total
            self._counts[name] = self._counts[name] + count.to(total.device)
        else:
            self._sums[name] = total.clone()
            self._counts[name] = count.to(total.device).clone()

    def read(self, world: World) -> dict[str, float]:
        """The means over all processes, and start again."""
        means = {}
        for name in sorted(self._sums):
            pair = world.sum(torch.stack([self._sums[name], self._counts[name]]))
            total, count = pair.tolist()
            means[name] = total / count if count else float("nan")
        self._sums.clear()
        self._counts.clear()
        return means
