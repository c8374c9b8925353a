"""Texts as inputs of bounded length: cut at the end, or as windows that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from electra.tasks.batches import Feature
from electra.tasks.task import Logits

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_texts(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    targets: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    doc_stride: int | None,
    token_types: bool,
) -> list[Feature]:
    """Features in the order of the texts.

    Args:
        texts: at least one.
        pairs: second sentences, or none.
        targets: of each text; every window of a text has its target.
        tokenizer: a fast one.
        max_length: tokens of an input.
        doc_stride: tokens two neighbouring windows share, at most half of a window; none: one
            feature a text, cut at its end (of a pair the longer one).
        token_types: whether the model reads `token_type_ids`.
    """
    stride = 0
    if doc_stride is not None:
        room = max_length - tokenizer.num_special_tokens_to_add(pair=False)
        stride = min(doc_stride, room // 2)
    encoded = tokenizer(
        list(texts),
        None if pairs is None else list(pairs),
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=doc_stride is not None,
        return_attention_mask=False,
        return_token_type_ids=token_types,
    )
    ids: list[list[int]] = encoded["input_ids"]
    types: Sequence[list[int] | None] = (
        encoded["token_type_ids"] if token_types else [None] * len(ids)
    )
    owners = range(len(ids)) if doc_stride is None else encoded["overflow_to_sample_mapping"]
    return [
        Feature(owner, input_ids, token_type_ids, targets[owner])
        for owner, input_ids, token_type_ids in zip(owners, ids, types, strict=True)
    ]


def mean_logits(features: Sequence[Feature], logits: Sequence[Logits], count: int) -> list[Logits]:
    """The mean of the logits of each example's windows, float32 [outputs]; of one they are its own.

    Args:
        features: windows, each with the number of its example.
        logits: of each window.
        count: examples; each has a window.
    """
    windows: list[list[Logits]] = [[] for _ in range(count)]
    for feature, row in zip(features, logits, strict=True):
        windows[feature.example].append(row)
    return [np.mean(rows, axis=0, dtype=np.float32) for rows in windows]
