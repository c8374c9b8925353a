"""Examples of one length from a split: which tokens the i-th row of the corpus holds.

B sequences, L tokens in a sequence. Nothing is stored per length: rows are found from the offsets
of documents and lines, so one corpus folder serves every length.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from electra.corpus.segments import gather_lines, trimmed
from electra.corpus.shards import Split, read_bits
from electra.corpus.tokenizer import SpecialIds
from electra.errors import DataError

SHORTEST_TAIL = 8
"""The last window of a document is left out where it holds fewer tokens than this."""


@dataclass(frozen=True)
class _Segments:
    """The two-segment examples of a shard."""

    lines: NDArray[np.uint32]
    """(examples + 1,) the line each begins with, and the end."""
    in_first: NDArray[np.uint8]
    """A bit a line: whether it is in the first segment."""
    num_used: int
    """Tokens that segments have room for."""


class Examples:
    """Rows of L tokens, each a pure function of its number and the seed.

    `packed`: `[CLS] ... [SEP]` around the next L - 2 tokens of the shard, document ends marked by
    the [SEP] between them; nothing is padded. `documents`: the same around a window of one
    document. `two_segments`: `[CLS] A [SEP] B [SEP]` or `[CLS] A [SEP]` of lines of one document,
    as the reference builds them (`segments.py`).
    """

    def __init__(
        self,
        split: Split,
        special: SpecialIds,
        *,
        max_length: int,
        kind: Literal["packed", "documents", "two_segments"],
        seed: int = 0,
        word_starts: NDArray[np.bool_] | None = None,
    ) -> None:
        """Find the rows.

        Args:
            split: where the tokens are.
            special: ids of the special tokens.
            max_length: L.
            kind: what a row holds.
            seed: of `two_segments`; the others are not random.
            word_starts: (V,) whether a piece begins a word (`words.word_starts`); given, rows
                have `starts_word`, by the corpus's segmenter where it has been through one.

        Raises:
            DataError: the split is too small for one row.
        """
        self._split, self._special = split, special
        self.max_length, self._kind = max_length, kind
        self._word_starts = word_starts
        self.unused_share = 0.0
        """Share of the tokens that no row of `two_segments` has room for."""
        self._text = max_length - 2
        self._windows: list[NDArray[np.int64]] = []  # per shard: rows before each document
        self._segments: list[_Segments] = []
        if kind == "packed":
            rows = [info.tokens // self._text for info in split.shards]
        elif kind == "documents":
            self._windows = [self._find_windows(offsets) for offsets in split.offsets]
            rows = [int(w[-1]) for w in self._windows]
        else:
            self._segments = [self._find_segments(s, seed) for s in range(len(split.shards))]
            rows = [len(s.lines) - 1 for s in self._segments]
            num_text = split.num_tokens - sum(info.documents for info in split.shards)
            self.unused_share = 1 - sum(s.num_used for s in self._segments) / max(1, num_text)
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

    def source_ranges(self, count: int) -> list[tuple[int, int]]:
        """For each of `count` sources the number of its first row, and that behind its last.

        Raises:
            DataError: a source has no row.
        """
        sources = np.array([info.source for info in self._split.shards])
        assert (np.diff(sources) >= 0).all(), "shards stand in the order of their sources"
        ranges = []
        for source in range(count):
            first, end = np.searchsorted(sources, [source, source + 1])
            ranges.append((int(self._first[first]), int(self._first[end])))
            if ranges[-1][0] == ranges[-1][1]:
                raise DataError(
                    f"source {source + 1} of the corpus has a weight, but its {self._split.name} "
                    f"text is too short for a sequence of {self.max_length}; lower "
                    "--data.max-length, or prepare without it"
                )
        return ranges

    def rows(self, ids: NDArray[np.uint64]) -> dict[str, NDArray[Any]]:
        """The rows `ids`, each array (B, L).

        `input_ids` padded with [PAD]; unless packed, `attention_mask`; of two segments
        `token_type_ids`, 1 for B and its [SEP]; where words are asked for, `starts_word`.
        """
        shape = (len(ids), self.max_length)
        arrays: dict[str, NDArray[Any]] = {
            "input_ids": np.full(shape, self._special.pad, dtype=np.int64)
        }
        if self._kind != "packed":
            arrays["attention_mask"] = np.zeros(shape, dtype=np.int64)
        if self._kind == "two_segments":
            arrays["token_type_ids"] = np.zeros(shape, dtype=np.int64)
        if self._word_starts is not None:
            arrays["starts_word"] = np.ones(shape, dtype=np.bool_)
        for row, example in enumerate(ids.astype(np.int64)):
            shard = int(np.searchsorted(self._first, example, side="right")) - 1
            self._fill({k: a[row] for k, a in arrays.items()}, shard, int(example))
        return arrays

    def _fill(self, row: dict[str, NDArray[Any]], shard: int, example: int) -> None:
        """Write one example over a row of each array."""
        start, count, segments = self._find(shard, example - int(self._first[shard]))
        tokens = self._split.tokens(shard, start, count)
        row["input_ids"][0] = self._special.cls
        begin = 1
        for number, segment in enumerate(segments):
            inside = tokens[segment]
            end = begin + len(inside)
            row["input_ids"][begin:end] = inside
            row["input_ids"][end] = self._special.sep
            if "token_type_ids" in row:
                row["token_type_ids"][begin : end + 1] = number
            if self._word_starts is not None:
                starts = self._word_starts[tokens]
                if self._split.words_marked:
                    starts = self._split.starts_word(shard, start, count)
                row["starts_word"][begin:end] = starts[segment]
            begin = end + 1
        if "attention_mask" in row:
            row["attention_mask"][:begin] = 1

    def _find(self, shard: int, row: int) -> tuple[int, int, Sequence[Any]]:
        """Where a row's tokens begin in the shard, how many to read, and which are each segment."""
        everything = [slice(None)]
        if self._kind == "packed":
            return row * self._text, self._text, everything
        offsets = self._split.offsets[shard]
        if self._kind == "documents":
            windows = self._windows[shard]
            document = int(np.searchsorted(windows, row, side="right")) - 1
            start = int(offsets[document]) + (row - int(windows[document])) * self._text
            return start, min(self._text, int(offsets[document + 1]) - 1 - start), everything
        found = self._segments[shard]
        line, after = (int(n) for n in found.lines[row : row + 2])
        bounds = self._line_bounds(shard, line, after)
        # all lines but the last are shorter than a row together, and of the last a row is enough
        count = int(min(bounds[-1] - bounds[0], 2 * self.max_length))
        lengths = np.diff(np.minimum(bounds - bounds[0], count))
        in_first = np.repeat(read_bits(found.in_first, line, after - line), lengths)
        first, second = np.flatnonzero(in_first), np.flatnonzero(~in_first)
        num_first, num_second = trimmed(len(first), len(second), self.max_length)
        segments = [first[:num_first], second[:num_second]]
        return int(bounds[0]), count, segments[: 2 if num_second else 1]

    def _line_bounds(self, shard: int, line: int, after: int) -> NDArray[np.int64]:
        """Where lines of one document begin, and where the last ends: (after - line + 1,)."""
        info, offsets = self._split.shards[shard], self._split.offsets[shard]
        bounds = self._split.lines(shard, line, min(after + 1, info.lines) - line).astype(np.int64)
        if after == info.lines:
            bounds = np.append(bounds, info.tokens)
        document = int(np.searchsorted(offsets, bounds[-1]))
        bounds[-1] -= offsets[document] == bounds[-1]  # the document's own [SEP]
        return bounds

    def _find_windows(self, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        lengths = np.diff(offsets) - 1  # without the document's own [SEP]
        windows, tail = np.divmod(lengths, self._text)
        windows += (tail >= SHORTEST_TAIL) | (windows == 0)
        return np.concatenate([[0], np.cumsum(windows)])

    def _find_segments(self, shard: int, seed: int) -> _Segments:
        info, offsets = self._split.shards[shard], self._split.offsets[shard]
        begins = self._split.lines(shard, 0, info.lines).astype(np.int64)
        first_lines = np.searchsorted(begins, offsets)  # of each document, and the end
        lengths = np.diff(begins, append=info.tokens)
        lengths[first_lines[1:] - 1] -= 1
        table = lengths.tolist()
        counts, in_first = gather_lines(
            (table[a:b] for a, b in pairwise(first_lines.tolist())),
            max_length=self.max_length,
            draws=random.Random(f"{seed}/{shard}"),
        )
        lines = np.concatenate([[0], np.cumsum(counts)])
        dealt = np.frombuffer(in_first, dtype=np.uint8)
        first = np.add.reduceat(lengths * dealt, lines[:-1])
        second = np.add.reduceat(lengths, lines[:-1]) - first
        num_used = int(np.sum(trimmed(first, second, self.max_length)))
        return _Segments(lines.astype(np.uint32), np.packbits(dealt), num_used)
