from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electra.corpus.mixture import LONGEST_PERIOD, Mixture, shares_of, turns
from electra.errors import ConfigError

weights = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(weights)
@settings(max_examples=60, deadline=None)
def test_every_beginning_has_its_shares_within_one(given_weights: list[int]) -> None:
    shares = shares_of(given_weights)
    order = turns(shares)
    counts = np.stack([(order == s).cumsum() for s in range(len(shares))])
    times = np.arange(1, len(order) + 1)
    for count, share in zip(counts, shares, strict=True):
        # exactly: |count - share t| < 1, in whole numbers
        apart = np.abs(count * share.denominator - share.numerator * times)
        assert (apart < share.denominator).all()
    assert [int(c[-1]) for c in counts] == [int(s * len(order)) for s in shares]


@given(weights, st.integers(0, 2**31), st.lists(st.integers(2, 30), min_size=6, max_size=6))
@settings(max_examples=30, deadline=None)
def test_a_position_alone_says_the_same_as_the_row_of_them(
    given_weights: list[int], seed: int, sizes: list[int]
) -> None:
    bounds = np.cumsum([0, *sizes[: len(given_weights)]])
    ranges = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
    mixture = Mixture(ranges, shares_of(given_weights))
    ids = mixture.ids(np.arange(500, dtype=np.uint64), seed=seed)
    for position in (0, 1, 77, 499):
        alone = mixture.ids(np.array([position], dtype=np.uint64), seed=seed)
        assert alone[0] == ids[position]
    source = np.searchsorted(bounds, ids, side="right") - 1
    for number, (first, end) in enumerate(ranges):
        own = ids[source == number].astype(np.int64)
        size = end - first
        # each epoch of a source holds every example of it once
        for epoch in range(len(own) // size):
            part = own[epoch * size : (epoch + 1) * size]
            assert sorted(part.tolist()) == list(range(first, end))
        assert ((own >= first) & (own < end)).all()


def test_far_positions_cost_nothing_and_do_not_overflow() -> None:
    mixture = Mixture([(0, 10**9), (10**9, 10**9 + 7)], shares_of([0.7, 0.3]))
    far = np.array([10**12, 10**15], dtype=np.uint64)
    ids = mixture.ids(far, seed=3)
    assert (ids < 10**9 + 7).all()


def test_epochs_and_sources_of_one_size_differ() -> None:
    mixture = Mixture([(0, 50), (50, 100)], shares_of([1, 1]))
    ids = mixture.ids(np.arange(200, dtype=np.uint64), seed=0).astype(np.int64)
    first, second = ids[ids < 50], ids[ids >= 50] - 50
    assert (first != second).any()
    assert (first[:50] != first[50:]).any()


def test_weights_are_taken_as_they_are_written() -> None:
    assert shares_of([0.7, 0.2, 0.1]) == [Fraction(7, 10), Fraction(2, 10), Fraction(1, 10)]
    assert shares_of([2, 1, 1]) == [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]


def test_weights_that_will_not_do() -> None:
    with pytest.raises(ConfigError, match=r"weights of sources are 1, 0; allowed: above 0"):
        shares_of([1, 0])
    with pytest.raises(ConfigError, match=f"repeat after .* allowed: {LONGEST_PERIOD:,}"):
        shares_of([0.123457, 0.7])
