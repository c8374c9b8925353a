"""Which source each position of the stream reads, where sources have weights.

The turns repeat with a period. In any beginning of the stream every source has been read its share
of the positions to within one: `|count(t) - share * t| < 1`. That is Pfair scheduling of one
processor (Baruah et al. 1996, "Proportionate progress"), for which the earliest deadline first is
enough: the k-th reading of a source with share p must come after (k - 1) / p and by k / p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from electra.corpus.order import Ids, shuffled_ids
from electra.errors import ConfigError

LONGEST_PERIOD = 100_000
"""Positions after which the turns repeat, at most; a table of them is held in memory."""


def shares_of(weights: Sequence[float]) -> list[Fraction]:
    """Weights as exact shares, which sum to one.

    Raises:
        ConfigError: a weight is not above 0, or they have too many digits.
    """
    # a number as it is written, not as it is rounded: 0.1 is a tenth
    exact = [Fraction(str(weight)) for weight in weights]
    if not all(weight > 0 for weight in exact):
        raise ConfigError(f"weights of sources are {_listed(weights)}; allowed: above 0")
    shares = [weight / sum(exact) for weight in exact]
    period = math.lcm(*(share.denominator for share in shares))
    if period > LONGEST_PERIOD:
        raise ConfigError(
            f"the weights {_listed(weights)} repeat after {period:,} examples only; allowed: "
            f"{LONGEST_PERIOD:,} (fewer digits)"
        )
    return shares


def _listed(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:g}" for weight in weights)


class Mixture:
    """A stream over ranges of examples, one a source, each shuffled by itself and endless."""

    def __init__(self, ranges: Sequence[tuple[int, int]], shares: Sequence[Fraction]) -> None:
        """Make the table of turns.

        Args:
            ranges: for each source its first example, and the one behind its last.
            shares: of `shares_of`.
        """
        assert len(ranges) == len(shares) > 0
        assert all(first < end for first, end in ranges)
        self._ranges = ranges
        self._turns = turns(shares)  # (period,)
        of_each = self._turns[:, None] == np.arange(len(shares))
        counts = np.concatenate([np.zeros((1, len(shares)), dtype=np.int64), of_each.cumsum(0)])
        self._before = counts[:-1]  # (period, sources)
        self._in_period = counts[-1]

    def ids(self, positions: Ids, *, seed: int) -> Ids:
        """The example at each position (any shape): a pure function of both, O(1) each."""
        positions = np.asarray(positions, dtype=np.uint64)
        rounds, place = np.divmod(positions.astype(np.int64), len(self._turns))
        source = self._turns[place]
        ids = np.empty_like(positions)
        for number, (first, end) in enumerate(self._ranges):
            mine = source == number
            if mine.any():
                own = rounds[mine] * self._in_period[number] + self._before[place[mine], number]
                chosen = shuffled_ids(
                    own.astype(np.uint64), num_examples=end - first, seed=_seed_of(seed, number)
                )
                ids[mine] = chosen + np.uint64(first)
        return ids


def _seed_of(seed: int, source: int) -> int:
    """So that sources of one size are not shuffled alike."""
    return (seed + source * 0x9E3779B1) % 2**32


def turns(shares: Sequence[Fraction]) -> NDArray[np.int64]:
    """The source of each position of one period, (period,)."""
    period = math.lcm(*(share.denominator for share in shares))
    quotas = [int(share * period) for share in shares]
    assert sum(quotas) == period, "shares sum to one"
    counts = [0] * len(quotas)
    chosen = np.empty(period, dtype=np.int64)
    for time in range(1, period + 1):
        # released: count < share * time; its deadline: the first t with share * t >= count + 1
        deadline, source = min(
            (-(-(count + 1) * period // quota), number)
            for number, (count, quota) in enumerate(zip(counts, quotas, strict=True))
            if count * period < quota * time
        )
        assert deadline >= time, "earliest deadline first meets all of them"
        counts[source] += 1
        chosen[time - 1] = source
    return chosen
