"""Batch size and length by pieces of the budget: pure functions of progress.

A ramp is a row of pairs (progress, value): the value holds from there to the next pair. Where there
is none, what training and data say holds throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

from electra.config.option import require


def value_at(ramp: Sequence[tuple[float, float]], progress: float, otherwise: float) -> float:
    """The value of the last pair that `progress` has reached; `otherwise` where there is no ramp.

    Args:
        ramp: pairs (progress, value), as `check_ramp` lets pass.
        progress: used share of the budget.
        otherwise: what holds without a ramp.
    """
    reached = [value for start, value in ramp if start <= progress]
    return reached[-1] if reached else otherwise


def batch_size_at(
    ramp: Sequence[tuple[float, float]], progress: float, global_batch_size: int
) -> int:
    """Sequences of the step that begins at `progress`, over all devices."""
    return round(value_at(ramp, progress, 1.0) * global_batch_size)


def check_ramp(ramp: Sequence[tuple[float, float]], flag: str, what: str) -> None:
    """Refuse pairs that do not begin at 0, rise in progress, and have values above 0.

    Raises:
        ConfigError: naming the flag; `what` says what the values are.
    """
    starts = [start for start, _ in ramp]
    rises = starts == sorted(set(starts)) and starts[:1] in ([], [0]) and max(starts, default=0) < 1
    require(
        rises and all(value > 0 for _, value in ramp),
        flag,
        [list(pair) for pair in ramp],
        f"pairs [progress, {what}]: the first at 0, each later than the one before, all below 1, "
        f"{what} above 0",
    )
