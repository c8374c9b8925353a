"""Two-segment examples as the reference builds them (google-research/electra, ExampleBuilder).

A sentence is a line. Lines of one document are gathered until they fill the target length; then
they are dealt to two segments: to the first while it is empty or they fit its half, to the second
otherwise, though the first line that overflows goes to the first segment half of the time, and a
short line behind it may still. One example in ten is a single segment. One in twenty, drawn apart,
is aimed at a shorter length. What a segment holds beyond its room is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Count = TypeVar("Count", int, NDArray[np.int64])
SINGLE_SEGMENT = 0.1
SHORTER = 0.05
SHORTEST = 5
_NO_LIMIT = 100_000
"""Tokens aimed at in a first segment that is to be the only one."""


class Draws(Protocol):
    """The part of `random.Random` that is used."""

    def random(self) -> float:
        """Uniform in [0, 1)."""

    def randint(self, a: int, b: int) -> int:
        """Uniform from a to b, both included."""


def gather_lines(
    documents: Iterable[Sequence[int]], *, max_length: int, draws: Draws
) -> tuple[list[int], bytearray]:
    """Which lines each example holds, and which of them are in its first segment.

    Args:
        documents: tokens of each line, document by document.
        max_length: L.
        draws: the source of randomness.

    Returns:
        How many lines each example holds, one example after another; and for every line 1 if it
        is in the first segment, else 0.
    """
    counts: list[int] = []
    in_first = bytearray()
    target = max_length
    for lengths in documents:
        begin = held = 0
        last = len(lengths) - 1
        for line, length in enumerate(lengths):
            held += length
            if held >= target or line == last:
                in_first += deal(lengths[begin : line + 1], target, draws)
                counts.append(line + 1 - begin)
                begin, held = line + 1, 0
                target = max_length
                if draws.random() < SHORTER:
                    target = draws.randint(SHORTEST, max_length)
    return counts, in_first


def deal(lengths: Sequence[int], target: int, draws: Draws) -> bytearray:
    """For each line of an example 1 if it goes to the first segment, 0 if to the second."""
    room = _NO_LIMIT if draws.random() < SINGLE_SEGMENT else (target - 3) // 2
    first = second = 0
    in_first = bytearray(len(lengths))
    for line, length in enumerate(lengths):
        if (
            first == 0
            or first + length < room
            or (second == 0 and first < room and draws.random() < 0.5)
        ):
            in_first[line] = 1
            first += length
        else:
            second += length
    return in_first


def trimmed(first: Count, second: Count, max_length: int) -> tuple[Count, Count]:
    """Tokens of both segments that fit, [CLS] and each [SEP] counted; numbers or arrays of them."""
    first = np.minimum(first, max_length - 2)
    return first, np.minimum(second, np.maximum(max_length - 3 - first, 0))
