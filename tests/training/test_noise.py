"""Noise of examples: a function of (seed, example, draw, place), even, and like no other."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from electra.training.noise import Noise

WORD = 2**64


def mixed(word: int) -> int:
    """SplitMix64's output function, in whole numbers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def slow(seed: int, example: int, draw: int, place: int) -> float:
    """One number; the stream of an example's draw is SplitMix64 from the state `stream`."""
    step = 0x9E3779B97F4A7C15
    stream = mixed((mixed((example * step + seed) % WORD) + draw) % WORD)
    return (mixed((stream + (place + 1) * step) % WORD) >> 40) / 2**24


def test_the_hash_is_splitmix64() -> None:
    # the first words of the published generator from state 0
    step, known = 0x9E3779B97F4A7C15, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    assert [mixed((i + 1) * step % WORD) for i in range(2)] == known


@given(
    seed=st.integers(0, 2**64 - 1), first=st.integers(0, 2**60), rows=st.integers(1, 4),
    width=st.integers(1, 9),
)  # fmt: skip
def test_equal_to_a_slow_one(seed: int, first: int, rows: int, width: int) -> None:
    noise = Noise(seed, first)
    for draw in (1, 2):
        expected = [
            [slow(seed, first + row, draw, place) for place in range(width)] for row in range(rows)
        ]
        assert noise.uniform((rows, width)).tolist() == expected


@given(first=st.integers(0, 10**6), cut=st.integers(1, 7))
def test_an_example_has_its_own_whatever_is_beside_it(first: int, cut: int) -> None:
    whole, left, right = Noise(5, first), Noise(5, first), Noise(5, torch.tensor(first + cut))
    for shape in ((3,), (2, 5)):
        parts = [left.uniform((cut, *shape)), right.uniform((8 - cut, *shape))]
        assert torch.equal(whole.uniform((8, *shape)), torch.cat(parts))


def test_even_and_unrelated() -> None:
    """Chi-square over 256 bins, and correlations between rows, draws, seeds and neighbours."""
    rows, width = 2_000, 128
    noise = Noise(0)
    first, second = noise.uniform((rows, width)), noise.uniform((rows, width))
    count = rows * width
    bins = (first * 256).long().flatten().bincount(minlength=256).double()
    assert ((bins - count / 256) ** 2 / (count / 256)).sum() < 255 + 5 * math.sqrt(2 * 255)
    pairs = {
        "draws": (first, second),
        "seeds": (first, Noise(1).uniform((rows, width))),
        "rows": (first[1:], first[:-1]),
        "places": (first[:, 1:], first[:, :-1]),
    }
    for name, (one, other) in pairs.items():
        related = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
        assert abs(float(related)) < 5 / math.sqrt(count), name
    assert abs(float(first.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / count)
    assert first.min() >= 0
    assert first.max() < 1
