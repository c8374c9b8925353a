"""The order of examples is a permutation, epoch by epoch, and a pure function."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from electra.corpus.order import shuffled_ids


def ids(start: int, stop: int, n: int, seed: int) -> list[int]:
    positions = np.arange(start, stop, dtype=np.uint64)
    return [int(i) for i in shuffled_ids(positions, num_examples=n, seed=seed)]


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
