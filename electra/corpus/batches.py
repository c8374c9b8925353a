"""Batches of a corpus as tensors: a pure function of the position in the stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from electra.corpus.examples import Examples
from electra.corpus.mixture import Mixture, shares_of
from electra.corpus.order import shuffled_ids


class CorpusSource:
    """The endless, shuffled stream of examples that pretraining reads."""

    def __init__(
        self,
        examples: Examples,
        *,
        seed: int,
        weights: Sequence[float] | None = None,
        with_ids: bool = False,
    ) -> None:
        """Make the stream.

        Args:
            examples: of a split.
            seed: of their order.
            weights: of the corpus's sources, as `Corpus.weights`; none: all are one.
            with_ids: batches say which examples they hold, as `as_batch` has it.

        Raises:
            DataError: a source that has a weight holds no example.
        """
        self._examples, self._seed, self._with_ids = examples, seed, with_ids
        self._mixture: Mixture | None = None
        if weights is not None:
            self._mixture = Mixture(examples.source_ranges(len(weights)), shares_of(weights))

    def batch(self, position: int, size: int) -> dict[str, Tensor]:
        """Examples `position` to `position + size`, tensors (B, L) under the names of
        `Examples.rows`.
        """
        positions = np.arange(position, position + size, dtype=np.uint64)
        if self._mixture is not None:
            ids = self._mixture.ids(positions, seed=self._seed)
        else:
            ids = shuffled_ids(positions, num_examples=len(self._examples), seed=self._seed)
        return as_batch(self._examples, ids, positions if self._with_ids else None)


def as_batch(
    examples: Examples, ids: NDArray[np.uint64], positions: NDArray[np.uint64] | None = None
) -> dict[str, Tensor]:
    """The rows `ids` as tensors.

    Given the positions of the rows in their stream, the batch also holds `positions` (B,) and
    `example_ids` (B,), the numbers of the rows in the split, both int64.
    """
    batch = {name: torch.from_numpy(array) for name, array in examples.rows(ids).items()}
    if positions is not None:
        batch["positions"] = torch.from_numpy(positions.astype(np.int64))
        batch["example_ids"] = torch.from_numpy(ids.astype(np.int64))
    return batch
