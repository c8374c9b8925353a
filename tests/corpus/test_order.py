"""The order of examples is a permutation, epoch by epoch, and a pure function."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electra.corpus.order import shuffled_ids


def ids(start: int, stop: int, n: int, seed: int) -> list[int]:
    positions = np.arange(start, stop, dtype=np.uint64)
    return [int(i) for i in shuffled_ids(positions, num_examples=n, seed=seed)]


def mixed(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def id_at(position: int, n: int, seed: int) -> int:
    """The order by its definition, a position at a time, in Python's whole numbers."""
    epoch, value = divmod(position, n)
    key = mixed((epoch + seed % 2**32 * (2**32 + 1)) % 2**64)
    bits = next(b for b in range(1, 33) if 4**b >= n)
    while True:
        left, right = divmod(value, 2**bits)
        for turn in range(6):
            drawn = mixed(right ^ (key + turn * 0xD1342543DE82EF95) % 2**64)
            left, right = right, left ^ (drawn % 2**bits)
        value = left * 2**bits + right
        if value < n:
            return value


@given(n=st.integers(1, 700), seed=st.integers(0, 2**40), epoch=st.integers(0, 5))
def test_every_epoch_holds_every_example_once(n: int, seed: int, epoch: int) -> None:
    assert sorted(ids(epoch * n, (epoch + 1) * n, n, seed)) == list(range(n))


@given(n=st.integers(2, 5000), seed=st.integers(0, 1000), start=st.integers(0, 10**9))
def test_any_part_of_the_stream_stands_alone(n: int, seed: int, start: int) -> None:
    whole = ids(start, start + 20, n, seed)
    assert whole == ids(start, start + 7, n, seed) + ids(start + 7, start + 20, n, seed)


def test_seeds_and_epochs_differ() -> None:
    n = 1000
    orders = [ids(e * n, (e + 1) * n, n, s) for s in range(3) for e in range(3)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            same = sum(a == b for a, b in zip(one, other, strict=True))
            assert same < 12  # one is expected by chance


def test_places_are_evenly_mixed() -> None:
    # where example 0 lands over 4,000 seeds: mean and spread of a uniform place
    n = 64
    places = [ids(0, n, n, seed).index(0) for seed in range(4000)]
    assert abs(np.mean(places) - (n - 1) / 2) < 1.2
    assert abs(np.std(places) - np.sqrt((n * n - 1) / 12)) < 0.7
    # and what follows example 0 is not always the same one
    followers = {ids(0, n, n, seed)[(places[seed] + 1) % n] for seed in range(1000)}
    assert len(followers) == n - 1


@settings(deadline=None)
@given(
    positions=st.lists(st.integers(0, 2**62), min_size=1, max_size=12),
    n=st.one_of(st.integers(1, 70), st.integers(1, 10**13)),
    seed=st.integers(0, 2**40),
)
def test_any_position_by_the_definition(positions: list[int], n: int, seed: int) -> None:
    found = shuffled_ids(np.array(positions, dtype=np.uint64), num_examples=n, seed=seed)
    assert found.tolist() == [id_at(position, n, seed) for position in positions]


@settings(deadline=None)
@given(data=st.data(), n=st.integers(1, 10**10), start=st.integers(0, 10**13))
def test_any_position_alone_in_any_shape_and_order(data: st.DataObject, n: int, start: int) -> None:
    row = np.arange(start, start + 24, dtype=np.uint64)
    whole = shuffled_ids(row, num_examples=n, seed=5)
    for index in (0, 11, 23):
        alone = shuffled_ids(row[index], num_examples=n, seed=5)  # a number, not a row of one
        assert np.shape(alone) == ()
        assert alone == whole[index]
    square = shuffled_ids(row.reshape(4, 6), num_examples=n, seed=5)
    assert np.array_equal(square, whole.reshape(4, 6))
    order = np.array(data.draw(st.lists(st.integers(0, 23), min_size=1)))  # some twice
    assert np.array_equal(shuffled_ids(row[order], num_examples=n, seed=5), whole[order])


@settings(deadline=None)
@given(
    n=st.integers(1, 400),
    seed=st.integers(0, 2**32),
    worlds=st.lists(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]), min_size=1, max_size=20),
    epoch=st.sampled_from([0, 1, 10**9]),
)
def test_any_number_of_ranks_reads_the_same_stream(
    n: int, seed: int, worlds: list[int], epoch: int
) -> None:
    # 24 examples a step; every step may be another number of ranks, as after a resume
    begin = epoch * n
    read: list[int] = []
    for world in worlds:
        first, share = begin + len(read), 24 // world
        blocks = [ids(first + r * share, first + (r + 1) * share, n, seed) for r in range(world)]
        positions = np.arange(first, first + 24, dtype=np.uint64)
        stripes = np.empty(24, dtype=np.uint64)
        for rank in range(world):
            stripes[rank::world] = shuffled_ids(positions[rank::world], num_examples=n, seed=seed)
        together = [example for block in blocks for example in block]
        assert stripes.tolist() == together
        read += together
    assert read == ids(begin, begin + len(read), n, seed)
    # nothing twice within an epoch, nothing left out of a whole one
    for start in range(0, len(read), n):
        part = read[start : start + n]
        assert len(set(part)) == len(part)
        assert len(part) < n or set(part) == set(range(n))


@settings(deadline=None)
@given(n=st.integers(1, 500), seed=st.integers(0, 2**32), far=st.integers(10**12, 10**15))
def test_far_epochs_are_permutations(n: int, seed: int, far: int) -> None:
    begin = far // n * n
    assert sorted(ids(begin, begin + n, n, seed)) == list(range(n))


@pytest.mark.parametrize("n", [10**9, 10**9 + 7, 2**40 - 1, 2**40, 2**40 + 1])
def test_a_large_epoch_repeats_nothing(n: int) -> None:
    for begin in (0, n - 50_000, 10**12 // n * n):
        part = shuffled_ids(
            np.arange(begin, begin + 50_000, dtype=np.uint64), num_examples=n, seed=1
        )
        assert len(np.unique(part)) == 50_000
        assert int(part.max()) < n
        # spread over the whole of it: tenths are even to five standard deviations
        tenths = np.bincount((part.astype(np.float64) * 10 / n).astype(np.int64), minlength=10)
        assert np.abs(tenths - 5_000).max() < 5 * np.sqrt(50_000 * 0.09)


@settings(deadline=None)
@given(
    n=st.integers(20, 300),
    seed=st.integers(0, 2**32),
    epochs=st.lists(st.integers(0, 10**9), min_size=2, max_size=6, unique=True),
)
def test_no_epoch_repeats_an_order(n: int, seed: int, epochs: list[int]) -> None:
    orders = [ids(e * n, (e + 1) * n, n, seed) for e in epochs]
    # nor the same one begun elsewhere
    begun_at_0 = {tuple(o[o.index(0) :] + o[: o.index(0)]) for o in orders}
    assert len(begun_at_0) == len(epochs)
