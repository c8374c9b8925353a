"""Random numbers that belong to examples: each a function of (seed, example, draw, place) alone.

A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a
number is a hash of what it is for, so no state is carried and none is saved. Masks and samples of
an example are the same whatever else is in its batch, on whichever process and kind of device, and
tensor operations alone make them, which compile. The hash is the one of SplitMix64 (Steele et al.
2014), whose output passes BigCrush as a stream; here every draw of an example is a stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def _signed(number: int) -> int:
    """A 64-bit word as torch's int64 has it, whose products wrap around."""
    return (number + 2**63) % 2**64 - 2**63


_STEP = _signed(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio, odd
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


class Noise:
    """The noise of consecutive examples; every call of `uniform` draws other numbers."""

    def __init__(self, seed: int, first: int = 0) -> None:
        """Noise of the examples `first`, `first + 1`, ... of the stream of `seed`."""
        self._seed, self._draw = _signed(seed), 0
        self._first: int | Tensor = first

    def move(self, device: torch.device) -> None:
        """Keep the first example on a device, so that code is compiled once for all."""
        if not isinstance(self._first, Tensor):
            self._first = torch.full((), self._first, device=device)

    def uniform(self, shape: Sequence[int], device: torch.device | None = None) -> Tensor:
        """Numbers from [0, 1) in float32, of 24 bits; the first dimension counts examples."""
        self._draw += 1
        example = torch.arange(shape[0], device=device) + self._first
        stream = _mixed(_mixed(example * _STEP + self._seed) + self._draw)
        place = torch.arange(1, math.prod(shape[1:]) + 1, device=device)
        bits = _mixed(stream.unsqueeze(1) + place * _STEP)
        return (_shifted(bits, 40).float() * 2**-24).view(*shape)


def _mixed(word: Tensor) -> Tensor:
    """SplitMix64's output function, a permutation of the 64-bit words."""
    word = (word ^ _shifted(word, 30)) * _FIRST
    word = (word ^ _shifted(word, 27)) * _SECOND
    return word ^ _shifted(word, 31)


def _shifted(word: Tensor, places: int) -> Tensor:
    """To the right, zeros coming in, where torch's `>>` repeats the sign."""
    shifted: Tensor = (word >> places) & (2 ** (64 - places) - 1)
    return shifted
