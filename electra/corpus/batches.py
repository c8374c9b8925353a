"""Batches of a corpus as tensors: a pure function of the position in the stream."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from electra.corpus.examples import Examples
from electra.corpus.order import shuffled_ids


class CorpusSource:
    """The endless, shuffled stream of examples that pretraining reads."""

    def __init__(self, examples: Examples, *, pad_id: int, seed: int) -> None:
        self._examples, self._pad, self._seed = examples, pad_id, seed

    def batch(self, position: int, size: int) -> dict[str, Tensor]:
        """Examples `position` to `position + size`: `input_ids` (B, L), and where rows may be
        padded `attention_mask` (B, L).
        """
        positions = np.arange(position, position + size, dtype=np.uint64)
        ids = shuffled_ids(positions, num_examples=len(self._examples), seed=self._seed)
        return as_batch(self._examples, ids, self._pad)


def as_batch(examples: Examples, ids: np.ndarray, pad_id: int) -> dict[str, Tensor]:
    """The rows `ids` as tensors."""
    input_ids = torch.from_numpy(examples.rows(ids))  # (B, L)
    batch = {"input_ids": input_ids}
    if examples.padded:
        batch["attention_mask"] = (input_ids != pad_id).long()
    return batch
