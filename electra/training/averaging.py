"""The average of the weights over the last share of the budget (tail averaging).

Uniform, as in stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407) and, for BERT,
in latest weight averaging (Kaddour 2022, arXiv 2209.14981): w_n = w_(n-1) + (w - w_(n-1)) / n after
each step. An exponential average would have a horizon in steps, another one for each budget; this
one is the share that was asked for, whatever the budget counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from electra.training.distributed import own_share


class TailAverage(nn.Module):
    """The mean of a module's trainable parameters, tied ones once; its buffers stay the module's.

    Made a submodule of what it averages it is in that one's checkpoints, one more copy of the
    weights; it has no parameters itself.
    """

    count: Tensor
    """Steps in the average; on the CPU, where reading it waits for nothing."""

    def __init__(self, module: nn.Module, share: float) -> None:
        """Make room.

        Args:
            module: on its device already.
            share: of the budget, its last.
        """
        super().__init__()
        self._share = share
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self._names = [name.replace(".", "/") for name, _ in named]
        self._weights: list[Tensor] = [p for _, p in named]
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        for name, weight in zip(self._names, self._weights, strict=True):
            self.register_buffer(name, torch.zeros_like(weight))

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Take in the weights after the step that began at `progress`, if that is in the tail.

        Before the tail it begins anew: a resumed run may have been given a larger budget.
        """
        if progress + self._share < 1 - 1e-9:
            self.count.zero_()
            return
        self.count += 1
        torch._foreach_lerp_(self._averages(), self._own(), 1 / int(self.count))

    @torch.no_grad()
    def apply_to_weights(self) -> None:
        """Put the average into the weights; where there is none yet they stay."""
        if int(self.count):
            torch._foreach_copy_(self._own(), self._averages())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the weights are the average; afterwards what they were, to the bit."""
        before = [weight.clone() for weight in self._own()]
        self.apply_to_weights()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._own(), before)

    def _own(self) -> list[Tensor]:
        return [own_share(weight.detach()) for weight in self._weights]

    def _averages(self) -> list[Tensor]:
        return [own_share(self.get_buffer(name)) for name in self._names]
