"""Texts as words to windows of tokens in which each word is to be tagged once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from electra.tasks.tagged_data import TaggedExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OVERLAP = 4
"""Windows share a part of 1 / this."""


@dataclass(frozen=True, slots=True)
class Window:
    """What the model reads at once."""

    example: int
    """Index of the example."""
    input_ids: list[int]
    """With special tokens."""
    positions: list[int]
    """Where the first pieces stand of the words that are tagged here."""
    words: list[int]
    """Which words those are."""


def windows_of(
    examples: Sequence[TaggedExample], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[Window]:
    """Windows of at most `max_length` tokens, in order; none for a text without words.

    Each word that the tokenizer leaves anything of is tagged in one of them, the one in which its
    first piece is farthest from an end that cuts the text.
    """
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    sample = tokenizer("a", return_special_tokens_mask=True)
    frame = list(zip(sample["input_ids"], sample["special_tokens_mask"], strict=True))
    before = [token for token, special in itertools.takewhile(_is_special, frame)]
    after = [token for token, special in itertools.takewhile(_is_special, frame[::-1])][::-1]
    room = max_length - len(before) - len(after)
    encodings = backend.encode_batch(
        [_pieces(e) for e in examples], is_pretokenized=True, add_special_tokens=False
    )
    for number, encoding in enumerate(encodings):
        firsts: dict[int, int] = {}  # word -> its first token
        for position, word in enumerate(encoding.word_ids):
            firsts.setdefault(word, position)
        for start, owned in _windows(len(encoding.ids), room, list(firsts.items())):
            yield Window(
                number,
                [*before, *encoding.ids[start : start + room], *after],
                [len(before) + token - start for _, token in owned],
                [word for word, _ in owned],
            )


def _is_special(token: tuple[int, int]) -> bool:
    return bool(token[1])


def _pieces(example: TaggedExample) -> list[str]:
    """The words, a space before each that has one in the text, as byte-level tokenizers want it."""
    pieces, behind = [], 0
    for number, (start, end) in enumerate(example.words):
        gap = " " if number and start > behind else ""
        pieces.append(gap + example.text[start:end])
        behind = end
    return pieces


def _windows(
    length: int, room: int, firsts: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(start, the (word, token) it owns) for each window of `room` tokens that owns any."""
    if length <= room:
        if firsts:
            yield 0, list(firsts)
        return
    step = max(1, room - room // _OVERLAP)
    starts = [*range(0, length - room, step), length - room]
    owned: list[list[tuple[int, int]]] = [[] for _ in starts]

    def context(window: int, token: int) -> float:
        left = token - starts[window] if window else np.inf
        right = starts[window] + room - 1 - token if window < len(starts) - 1 else np.inf
        return min(left, right)

    for word, token in firsts:
        last = min(token // step, len(starts) - 1)
        near = range(max(0, last - 1), min(last + 2, len(starts)))
        owned[max(near, key=lambda w: context(w, token))].append((word, token))
    yield from ((start, mine) for start, mine in zip(starts, owned, strict=True) if mine)
