"""Batches of a corpus as tensors: a pure function of the position in the stream."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from electra.corpus.examples import Examples
from electra.corpus.order import shuffled_ids


class CorpusSource:
    """The endless, shuffled stream of examples that pretraining reads."""

    def __init__(self, examples: Examples, *, seed: int) -> None:
        self._examples, self._seed = examples, seed

    def batch(self, position: int, size: int) -> dict[str, Tensor]:
        """Examples `position` to `position + size`, tensors (B, L) under the names of
        `Examples.rows`.
        """
        positions = np.arange(position, position + size, dtype=np.uint64)
        ids = shuffled_ids(positions, num_examples=len(self._examples), seed=self._seed)
        return as_batch(self._examples, ids)


def as_batch(examples: Examples, ids: NDArray[np.uint64]) -> dict[str, Tensor]:
    """The rows `ids` as tensors."""
    return {name: torch.from_numpy(array) for name, array in examples.rows(ids).items()}
