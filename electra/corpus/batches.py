"""Batches of a corpus as tensors: a pure function of the position in the stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from electra.corpus.examples import Examples
from electra.corpus.mixture import Mixture, shares_of
from electra.corpus.order import Ids, shuffled_ids


class CorpusSource:
    """The endless, shuffled stream of examples that pretraining reads."""

    def __init__(
        self,
        examples: Examples,
        *,
        seed: int,
        weights: Sequence[float] | None = None,
        with_ids: bool = False,
        with_partners: bool = False,
    ) -> None:
        """Make the stream.

        Args:
            examples: of a split.
            seed: of their order.
            weights: of the corpus's sources, as `Corpus.weights`; none: all are one.
            with_ids: batches say which examples they hold, as `as_batch` has it.
            with_partners: each row comes with another one, of the same stream in another order.

        Raises:
            DataError: a source that has a weight holds no example.
        """
        self._examples, self._seed = examples, seed
        self._with_ids, self._with_partners = with_ids, with_partners
        self._mixture: Mixture | None = None
        if weights is not None:
            self._mixture = Mixture(examples.source_ranges(len(weights)), shares_of(weights))

    def batch(self, position: int, size: int) -> dict[str, Tensor]:
        """Examples `position` to `position + size`, tensors (B, L) under the names of
        `Examples.rows`.
        """
        positions = np.arange(position, position + size, dtype=np.uint64)
        return as_batch(
            self._examples,
            self._ids(positions, self._seed),
            positions if self._with_ids else None,
            self._ids(positions, partner_seed(self._seed)) if self._with_partners else None,
        )

    def _ids(self, positions: Ids, seed: int) -> Ids:
        if self._mixture is not None:
            return self._mixture.ids(positions, seed=seed)
        return shuffled_ids(positions, num_examples=len(self._examples), seed=seed)


def partner_seed(seed: int) -> int:
    """Of the order that partners are in."""
    return seed ^ 0x5EC0


def as_batch(
    examples: Examples, ids: Ids, positions: Ids | None = None, partners: Ids | None = None
) -> dict[str, Tensor]:
    """The rows `ids` as tensors.

    Given the positions of the rows in their stream, the batch also holds `positions` (B,) and
    `example_ids` (B,), the numbers of the rows in the split, both int64. Given the numbers of other
    rows it also holds what these have, as `partner_input_ids` and so on, and `has_partner` (B,)
    bool, false where that is the row itself.
    """
    batch = {name: torch.from_numpy(array) for name, array in examples.rows(ids).items()}
    if positions is not None:
        batch["positions"] = torch.from_numpy(positions.astype(np.int64))
        batch["example_ids"] = torch.from_numpy(ids.astype(np.int64))
    if partners is not None:
        others = examples.rows(partners)
        batch |= {f"partner_{name}": torch.from_numpy(array) for name, array in others.items()}
        batch["has_partner"] = torch.from_numpy(partners != ids)
    return batch
