"""Pairs of a long passage and something short, put together by hand.

A passage is tokenized once, however many questions and options it is read with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Frame:
    """What a tokenizer puts around and between two texts: [CLS] A [SEP] B [SEP], or its own."""

    parts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Ids before A, between A and B, behind B."""
    types: tuple[int, ...]
    """Token types: before A, of A, between, of B, behind B."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """Read off a pair of one-letter texts."""
        encoded = tokenizer("a", "b", return_token_type_ids=True, truncation=False)
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
        sides = encoded.sequence_ids(0)
        a, b = sides.index(0), sides.index(1)
        end_a, end_b = a + sides.count(0), b + sides.count(1)
        assert sides[a:end_a] + sides[b:end_b] == [0] * (end_a - a) + [1] * (end_b - b)
        # a part may be empty: its type is never used then
        starts = (0, a, min(end_a, b), b, min(end_b, len(ids) - 1))
        return cls(
            (tuple(ids[:a]), tuple(ids[end_a:b]), tuple(ids[end_b:])),
            tuple(types[start] for start in starts),
        )

    @property
    def size(self) -> int:
        """Tokens of the frame."""
        return sum(map(len, self.parts))

    def ids(self, a: Sequence[int], b: Sequence[int]) -> list[int]:
        """Both in their frame."""
        before, between, behind = self.parts
        return [*before, *a, *between, *b, *behind]

    def token_types(self, a: int, b: int) -> list[int]:
        """The token types of texts of `a` and of `b` tokens in their frame."""
        before, between, behind = map(len, self.parts)
        sizes = (before, a, between, b, behind)
        return [kind for kind, size in zip(self.types, sizes, strict=True) for _ in range(size)]


def best_stretch(passage: Sequence[int], wanted: Iterable[int], length: int) -> tuple[int, int]:
    """Where to cut a passage: the stretch of `length` tokens that shares most with `wanted`.

    Tokens of `wanted` count one over how often they stand in the passage, so rare ones count most;
    of equal stretches the first is taken. A passage that fits is taken whole.
    """
    if len(passage) <= length:
        return 0, len(passage)
    tokens = np.asarray(passage)
    _, inverse, counts = np.unique(tokens, return_inverse=True, return_counts=True)
    weights = np.isin(tokens, list(wanted)) / counts[inverse]
    total = np.concatenate([[0.0], np.cumsum(weights)])
    start = int(np.argmax(np.round(total[length:] - total[:-length], 6)))
    return start, start + length
