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

    def end_step(self, applied: bool | Tensor) -> None:
        """Forget what was added since the step began, unless it was `applied`.

        A tensor, which is not waited for, says so on the device of the values.
        """
        if isinstance(applied, Tensor):
            pairs = ((self._sums, self._before[0]), (self._counts, self._before[1]))
            for values, before in pairs:
                for name, value in values.items():
                    old = before.get(name, torch.zeros_like(value))
                    values[name] = torch.where(applied, value, old)
        elif not applied:
            self._sums, self._counts = self._before

    def add(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add a sum over `count` items."""
        total = torch.as_tensor(total, dtype=torch.float32).detach()
        if not isinstance(count, Tensor):  # filled there: a copy would wait for the device
            count = torch.full((), count, dtype=torch.float32, device=total.device)
        count = count.to(torch.float32)
        if name in self._sums:
            # never in place: `begin_step` remembers these tensors
            self._sums[name] = self._sums[name] + total
            self._counts[name] = self._counts[name] + count.to(total.device)
        else:
            self._sums[name] = total.clone()
            self._counts[name] = count.to(total.device).clone()

    def read(self, world: World) -> dict[str, float]:
        """The means over all processes, and start again; without those of nothing."""
        means = {}
        for name in sorted(self._sums):
            pair = world.sum(torch.stack([self._sums[name], self._counts[name]]))
            total, count = pair.tolist()
            if count:
                means[name] = total / count
        self._sums.clear()
        self._counts.clear()
        return means
