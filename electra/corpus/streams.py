"""What pretraining reads of a corpus: rows as the recipe wants them, and the held-out ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from electra.config import PretrainConfig
from electra.corpus.batches import as_batch
from electra.corpus.examples import Examples
from electra.corpus.folder import Corpus
from electra.corpus.tokenizer import SpecialIds, load_tokenizer
from electra.corpus.words import word_starts

EVAL_TOKENS = 32_768
EVAL_ROWS = 64


def examples_of(
    corpus: Corpus,
    split: str,
    config: PretrainConfig,
    special: SpecialIds,
    max_length: int | None = None,
) -> Examples:
    """The rows of a split as the recipe wants them, or at another length."""
    words = config.objective.masking != "token"
    return Examples(
        corpus.split(split),
        special,
        max_length=max_length or config.data.max_length,
        kind=config.data.examples,
        seed=config.training.seed if split == "train" else 0,
        word_starts=word_starts(load_tokenizer(corpus.folder)) if words else None,
        with_documents=config.data.document_attention,
    )


def token_counts(corpus: Corpus, vocab_size: int, config: PretrainConfig) -> torch.Tensor | None:
    """(V,) how often each token occurs, for objectives that want to know; else None."""
    first_visits = config.objective.name == "self_augmented"
    if config.objective.generator != "unigram" and not first_visits:
        return None
    return torch.from_numpy(corpus.split("train").token_counts(vocab_size))


def validation_batches(
    corpus: Corpus, config: PretrainConfig, special: SpecialIds, *, with_ids: bool
) -> list[dict[str, Tensor]]:
    """The same rows at every evaluation, spread evenly over the validation split."""
    examples = examples_of(corpus, "validation", config, special)
    rows = min(len(examples), max(1, EVAL_TOKENS // config.data.max_length))
    ids = np.linspace(0, len(examples) - 1, rows).astype(np.uint64)

    def batches() -> Iterator[dict[str, Tensor]]:
        for start in range(0, rows, EVAL_ROWS):
            chosen = ids[start : start + EVAL_ROWS]
            positions = np.arange(start, start + len(chosen)).astype(np.uint64)
            yield as_batch(examples, chosen, positions if with_ids else None)

    return list(batches())
