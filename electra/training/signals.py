"""SIGINT and SIGTERM, kept until a step is whole."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Caught:
    """What came."""

    number: int | None = None


@contextmanager
def noted_signals() -> Iterator[Caught]:
    """Note SIGINT and SIGTERM instead of dying; a second one takes the usual way."""
    caught = Caught()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def note(number: int, _frame: FrameType | None) -> None:
        caught.number = number
        for other in numbers:
            signal.signal(other, before[other])

    try:
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not in the main thread: signals are somebody else's
        yield caught
        return
    try:
        yield caught
    finally:
        for number in numbers:
            signal.signal(number, before[number])
