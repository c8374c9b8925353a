"""The order of examples: a pure function of (seed, position), for any rank, worker or restart.

Position i of the endless stream lies in epoch i // n; inside an epoch a keyed permutation of
0..n-1 says which example it is. The permutation is a Feistel network on the smallest even number
of bits that holds n, walked until it lands below n (Black and Rogaway 2002, "Ciphers with
arbitrary finite domains"): no table, no state, no replay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint64]
_ROUNDS = 6


@np.errstate(over="ignore")  # sums and products mod 2^64; numpy warns where it is one number
def shuffled_ids(positions: Ids, *, num_examples: int, seed: int) -> Ids:
    """The example at each position of the stream.

    Args:
        positions: any shape, any order; epochs follow one another every `num_examples`.
        num_examples: n, at least 1.
        seed: each (seed, epoch) has its own permutation.
    """
    assert num_examples > 0, "an order needs examples"
    n = np.uint64(num_examples)
    positions = np.asarray(positions, dtype=np.uint64)
    keys = _mix(positions // n + np.uint64(seed % 2**32) * np.uint64(0x1_0000_0001))
    half_bits = max(1, ((num_examples - 1).bit_length() + 1) // 2)
    values = _feistel(positions % n, keys, half_bits)
    while (outside := values >= n).any():
        values = np.where(outside, _feistel(values, keys, half_bits), values)
    return values


def _feistel(values: Ids, keys: Ids, half_bits: int) -> Ids:
    low_mask = np.uint64((1 << half_bits) - 1)
    left, right = values >> np.uint64(half_bits), values & low_mask
    for turn in range(_ROUNDS):
        mixed = _mix(right ^ (keys + np.uint64(turn * 0xD1342543DE82EF95 % 2**64)))
        left, right = right, left ^ (mixed & low_mask)
    return (left << np.uint64(half_bits)) | right


def _mix(x: Ids) -> Ids:
    """The finaliser of SplitMix64 (Steele et al. 2014): every input bit moves every output bit."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
