"""A question and a long context as windows that a model can read, and answers as tokens of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from electra.errors import ConfigError, DataError
from electra.tasks.batches import Feature
from electra.tasks.squad_data import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_QUESTION = 64
"""Tokens of a question, as in the reference code (`max_query_length`); the rest is cut off."""
LEAST_LENGTH = 16
ANSWER_MASK = "answer_mask"
"""Further input of a head that must know where an answer may be: 1 there and at position 0."""
NOWHERE = (0, 0, 1)
"""The target of a window without the answer: position 0 twice, and 1 for unanswerable."""
_CHUNK = 500


def _no_offsets() -> NDArray[np.int32]:
    return np.empty((0, 2), dtype=np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Window(Feature):
    """[CLS] question [SEP] part of the context [SEP], in the tokenizer's own way."""

    first: int = 0
    """Position of the first token of the context."""
    offsets: NDArray[np.int32] = field(default_factory=_no_offsets)
    """[N, 2] first and last (exclusive) code point of the context's tokens."""


def make_windows(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    doc_stride: int,
    token_types: bool,
    answer_mask: bool = False,
) -> list[Window]:
    """The windows of each question, in order; every token of a context is in one of its windows.

    Args:
        questions: with answers or without.
        tokenizer: a fast one.
        max_length: tokens of a window.
        doc_stride: tokens two neighbours share (the `stride` of transformers' tokenizers), at most
            half the room beside the longest question.
        token_types: whether the model reads `token_type_ids`.
        answer_mask: add `ANSWER_MASK`.

    Raises:
        ConfigError: `max_length` leaves no room.
        DataError: a question that is longer than a window.
    """
    if max_length < LEAST_LENGTH:
        raise ConfigError(
            f"--data.max-length is {max_length}; question answering needs {LEAST_LENGTH} or more"
        )
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
    longest = min(MAX_QUESTION, room // 2)
    stride = min(doc_stride, (room - longest) // 2)
    windows: list[Window] = []
    for start in range(0, len(questions), _CHUNK):
        part = questions[start : start + _CHUNK]
        texts = _cut_questions(part, tokenizer, longest, max_length)
        encoded = tokenizer(
            texts,
            [question.context for question in part],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=token_types,
        )
        for i, number in enumerate(encoded["overflow_to_sample_mapping"]):
            sides: list[int | None] = encoded.sequence_ids(i)
            size = sides.count(1)
            first = sides.index(1) if size else len(sides)
            offsets = np.array(
                encoded["offset_mapping"][i][first : first + size], dtype=np.int32
            ).reshape(-1, 2)
            mask = [int(side == 1) for side in sides]
            mask[0] = 1
            windows.append(
                Window(
                    example=start + number,
                    input_ids=encoded["input_ids"][i],
                    token_type_ids=encoded["token_type_ids"][i] if token_types else None,
                    target=target_in(part[number], offsets, first),
                    more_inputs={ANSWER_MASK: mask} if answer_mask else None,
                    first=first,
                    offsets=offsets,
                )
            )
    return windows


def target_in(
    question: Question, offsets: NDArray[np.int32], first: int
) -> tuple[int, int, int] | None:
    """Positions of the first and last token of the answer, and 0; `NOWHERE` where it is not here.

    Of several answers the first that has a start. None where answers are not known, or none of
    them has a start.

    Args:
        question: the question.
        offsets: [N, 2] of the window's part of the context.
        first: position of its first token.
    """
    if question.answers is None:
        return None
    if not question.answers:
        return NOWHERE
    answer = next((a for a in question.answers if a.start is not None), None)
    if answer is None or answer.start is None:
        return None
    begin = answer.start + len(answer.text) - len(answer.text.lstrip())
    end = answer.start + len(answer.text.rstrip())
    if not len(offsets) or begin < offsets[0, 0] or end > offsets[-1, 1]:
        return NOWHERE
    i = int(np.searchsorted(offsets[:, 1], begin, side="right"))  # the first that ends behind it
    j = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1  # the last that begins before it
    return (first + i, first + j, 0) if i <= j else NOWHERE


def by_example(windows: Sequence[Window], count: int) -> Iterator[list[int]]:
    """For each of `count` examples the numbers of its windows."""
    numbers: list[list[int]] = [[] for _ in range(count)]
    for number, window in enumerate(windows):
        numbers[window.example].append(number)
    yield from numbers


def _cut_questions(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerBase,
    longest: int,
    max_length: int,
) -> list[str]:
    texts = [question.question for question in questions]
    encoded: Any = tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    for i, offsets in enumerate(encoded["offset_mapping"]):
        if len(offsets) > max_length:
            raise DataError(
                f'{questions[i].place}: the question "{texts[i][:40]}..." has {len(offsets):,} '
                f"tokens, the model reads {max_length} at once; is it the context?"
            )
        if len(offsets) > longest:
            texts[i] = texts[i][: offsets[longest - 1][1]]
    return texts
