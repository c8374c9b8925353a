"""Examples of one length from a split: which tokens the i-th row of the corpus holds.

B sequences, L tokens in a sequence. Nothing is stored per length: rows are found from the document
offsets, so one corpus folder serves every length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from electra.corpus.shards import Split
from electra.corpus.tokenizer import SpecialIds
from electra.errors import DataError

SHORTEST_TAIL = 8
"""The last window of a document is left out where it holds fewer tokens than this."""


class Examples:
    """Rows `[CLS] ... [SEP]` of L tokens.

    With `cross_documents` a row is the next L - 2 tokens of the shard, document ends marked by the
    [SEP] between them, and nothing is padded. Without, a row holds a window of one document.
    """

    def __init__(
        self, split: Split, special: SpecialIds, *, max_length: int, cross_documents: bool
    ) -> None:
        """Find the rows.

        Raises:
            DataError: the split is too small for one row.
        """
        self._split, self._special = split, special
        self.max_length = max_length
        self._cross = cross_documents
        self._text = max_length - 2
        self._windows: list[NDArray[np.int64]] = []  # per shard: rows before each document
        if cross_documents:
            rows = [info.tokens // self._text for info in split.shards]
        else:
            for offsets in split.offsets:
                lengths = np.diff(offsets) - 1  # without the document's own [SEP]
                windows, tail = np.divmod(lengths, self._text)
                windows += (tail >= SHORTEST_TAIL) | (windows == 0)
                self._windows.append(np.concatenate([[0], np.cumsum(windows)]))
            rows = [int(w[-1]) for w in self._windows]
        self._first = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        if not len(self):
            raise DataError(
                f"the {split.name} split holds {split.num_tokens} tokens, too few for one sequence "
                f"of {max_length}; lower --data.max-length, or prepare more text"
                + (" or a larger --validation-share" if split.name == "validation" else "")
            )

    def __len__(self) -> int:
        """Rows of one epoch."""
        return int(self._first[-1])

    @property
    def padded(self) -> bool:
        """Whether rows may hold padding."""
        return not self._cross

    def rows(self, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The rows `ids`, shape (B, L), padded with [PAD]."""
        rows = np.full((len(ids), self.max_length), self._special.pad, dtype=np.int64)
        rows[:, 0] = self._special.cls
        for row, example in zip(rows, ids.astype(np.int64), strict=True):
            shard = int(np.searchsorted(self._first, example, side="right")) - 1
            start, count = self._span(shard, int(example - self._first[shard]))
            row[1 : count + 1] = self._split.tokens(shard, start, count)
            row[count + 1] = self._special.sep
        return rows

    def _span(self, shard: int, row: int) -> tuple[int, int]:
        if self._cross:
            return row * self._text, self._text
        windows, offsets = self._windows[shard], self._split.offsets[shard]
        document = int(np.searchsorted(windows, row, side="right")) - 1
        start = int(offsets[document]) + (row - int(windows[document])) * self._text
        return start, min(self._text, int(offsets[document + 1]) - 1 - start)
