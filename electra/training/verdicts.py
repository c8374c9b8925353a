"""Which steps were applied: found out at once on a CPU, a step late on a GPU.

Whether loss and gradient are finite is known when the device has computed them. To ask at once is
to wait at every step, with nothing queued meanwhile; so on a GPU the optimizer is told by a flag on
the device, and the loop reads the flag of a step when the next one is queued.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from electra.training.averaging import TailAverage
from electra.training.health import skipped_row, too_many_skipped
from electra.training.optimizer import can_step_where
from electra.training.schedule import TrainState

if TYPE_CHECKING:
    from electra.training.loggers import Logger


def reads_late(
    device: torch.device, optimizer: torch.optim.Optimizer, average: TailAverage | None
) -> bool:
    """Whether the loop goes on before it knows of a step that it was applied.

    An average of the weights is to know at once whether they have moved.
    """
    return device.type == "cuda" and average is None and can_step_where(optimizer)


class Verdict:
    """A flag on its way from a device."""

    def __init__(self, flag: Tensor) -> None:
        """Begin to fetch a bool of no dimension; of a GPU without waiting."""
        self._event: Any = None
        self._flag = flag
        if flag.is_cuda:
            self._flag = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._flag.copy_(flag, non_blocking=True)
            cuda: Any = torch.cuda
            self._event = cuda.Event()
            self._event.record()

    def read(self) -> bool:
        """What it says; waits until the device has come so far."""
        if self._event is not None:
            self._event.synchronize()
        return bool(self._flag)


@dataclass(frozen=True)
class Step:
    """A step whose verdict is not read yet."""

    applied: Verdict
    first: int
    """Position of its first example in the stream."""
    norm: Tensor
    """Of the gradient."""
    loss: Tensor
    """Of this process's share."""


class Verdicts:
    """Counts the steps that were not applied, tells of them, and ends a run of too many."""

    def __init__(self, state: TrainState, logger: Logger, limit: int) -> None:
        """`limit` is how many in a row may be."""
        self._state, self._logger, self._limit = state, logger, limit
        self._last: Step | None = None

    def expect(self, step: Step) -> None:
        """Note the step that was just counted in the state; the one before is settled."""
        assert self._last is None, "settle comes first"
        self._last = step

    def settle(self) -> None:
        """Read the last step's verdict; the state must be as it was left after it.

        Raises:
            DivergedError: more in a row than the limit were not applied.
        """
        step, self._last = self._last, None
        if step is None:
            return
        state = self._state
        if step.applied.read():
            state.skipped_in_a_row = 0
            return
        state.skipped_in_a_row += 1
        state.skipped_steps += 1
        self._logger.log(skipped_row(state, step.first, step.norm, step.loss))
        if state.skipped_in_a_row > self._limit:
            raise too_many_skipped(state, step.first, step.norm, step.loss, self._limit)
