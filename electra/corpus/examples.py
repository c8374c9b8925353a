"""Examples of one length from a split: which tokens the i-th row of the corpus holds.

B sequences, L tokens in a sequence. Nothing is stored per length: rows are found from the offsets
of documents and lines, so one corpus folder serves every length.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from electra.corpus.folder import Split, counted
from electra.corpus.segments import gather_lines, trimmed
from electra.corpus.tokenizer import SpecialIds
from electra.errors import DataError

SHORTEST_TAIL = 8
"""The last window of a document is left out where it holds fewer tokens than this."""


@dataclass(frozen=True)
class _Segments:
    """The two-segment examples of a shard."""

    lines: NDArray[np.uint32]
    """(examples + 1,) the line each begins with, and the end."""
    ends_document: NDArray[np.bool_]
    """(examples,) whether the document ends with it, whose own [SEP] is left out."""
    in_first: NDArray[np.uint8]
    """A bit a line: whether it is in the first segment."""
    num_used: int
    """Tokens that segments have room for."""


@dataclass(frozen=True)
class _Found:
    """Where the tokens of B rows stand: a run of N_i in the shard of each, N in all."""

    starts: NDArray[np.int64]
    """(B,) the first token's place in its shard."""
    counts: NDArray[np.int64]
    """(B,) how many are read."""
    first: NDArray[np.int64]
    """(B,) tokens of the first segment."""
    second: NDArray[np.int64]
    """(B,) tokens of the second; 0: there is none."""
    columns: NDArray[np.int64]
    """(N,) where in its row each goes, without [CLS] and [SEP]; -1: there is no room for it."""


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
        with_documents: bool = False,
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
            with_documents: packed rows have `document_starts`.

        Raises:
            DataError: the split is too small for one row.
        """
        assert kind == "packed" or not with_documents, "other rows hold one document each"
        self._split, self._special = split, special
        self.max_length, self._kind = max_length, kind
        self._word_starts = word_starts
        self.unused_share = 0.0
        """Share of the tokens that no row of `two_segments` has room for."""
        self._text = max_length - 2
        self._windows: list[NDArray[np.int64]] = []  # per shard: rows before each document
        self._segments: list[_Segments] = []
        self._most_documents = 0
        if kind == "packed":
            rows = [info.tokens // self._text for info in split.shards]
            if with_documents:
                self._most_documents = max(map(self._find_most_documents, split.offsets))
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

    def check_unchanged(self) -> None:
        """`Split.check_unchanged` of what is read."""
        self._split.check_unchanged()

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
        `token_type_ids`, 1 for B and its [SEP]; where words are asked for, `starts_word`. With
        documents `document_starts`, (B, D): the column each document of the row begins at, 0 for
        the first, which has the [CLS], and L where there are no more; D is what the fullest row of
        the split has, so that shapes stay.
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
        examples = ids.astype(np.int64)
        shards = np.searchsorted(self._first, examples, side="right") - 1
        found = self._find(shards, examples - self._first[shards])
        if self._most_documents:
            arrays["document_starts"] = self._document_starts(shards, found.starts)
        row, kept = np.repeat(np.arange(len(ids)), found.counts), found.columns >= 0
        tokens = self._split.runs_of_tokens(shards, found.starts, found.counts)[kept]
        row, column = row[kept], found.columns[kept]
        column += 1 + (column >= found.first[row])  # behind [CLS], and the first segment's [SEP]
        arrays["input_ids"][row, column] = tokens
        first_sep = 1 + found.first
        last_sep = first_sep + np.where(found.second > 0, 1 + found.second, 0)
        everywhere = np.arange(len(ids))
        arrays["input_ids"][:, 0] = self._special.cls
        arrays["input_ids"][everywhere, first_sep] = self._special.sep
        arrays["input_ids"][everywhere, last_sep] = self._special.sep
        columns = np.arange(self.max_length)
        if "attention_mask" in arrays:
            arrays["attention_mask"][:] = columns <= last_sep[:, None]
        if "token_type_ids" in arrays:
            second = (columns > first_sep[:, None]) & (columns <= last_sep[:, None])
            arrays["token_type_ids"][:] = second
        if self._word_starts is not None:
            if self._split.words_marked:
                starts = self._split.runs_of_word_starts(shards, found.starts, found.counts)[kept]
            else:
                starts = self._word_starts[tokens]
            arrays["starts_word"][row, column] = starts
        return arrays

    def _find(self, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> _Found:
        """Where the tokens of rows stand, given the shard of each and its number in there, (B,)."""
        if self._kind == "two_segments":
            return self._find_lines(shards, rows)
        counts = np.full(len(rows), self._text)
        if self._kind == "packed":
            starts = rows * self._text
        else:
            starts = np.empty(len(rows), dtype=np.int64)
            for shard in np.unique(shards):
                here = np.flatnonzero(shards == shard)
                windows, offsets = self._windows[shard], self._split.offsets[shard]
                document = np.searchsorted(windows, rows[here], side="right") - 1
                starts[here] = offsets[document] + (rows[here] - windows[document]) * self._text
                counts[here] = np.minimum(self._text, offsets[document + 1] - 1 - starts[here])
        return _Found(starts, counts, counts, np.zeros_like(counts), counted(counts))

    def _find_lines(self, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> _Found:
        """The same of two segments: each row is some lines, each line in one of them."""
        first_line, num_lines, ends = (np.empty(len(rows), dtype=np.int64) for _ in range(3))
        for shard in np.unique(shards):
            here, found = np.flatnonzero(shards == shard), self._segments[shard]
            first_line[here] = found.lines[rows[here]]
            num_lines[here] = found.lines[rows[here] + 1] - first_line[here]
            ends[here] = found.ends_document[rows[here]]
        row = np.repeat(np.arange(len(rows)), num_lines)
        in_first = self._in_first(shards, first_line, num_lines)
        bounds = self._split.runs_of_lines(shards, first_line, num_lines + 1)
        last = np.cumsum(num_lines + 1) - 1
        bounds[last] -= ends
        starts = bounds[last - num_lines]
        # all lines but the last are shorter than a row together, and of the last a row is enough
        bounds = np.minimum(bounds - np.repeat(starts, num_lines + 1), 2 * self.max_length)
        lengths = np.delete(np.diff(bounds, append=0), last)
        counts = bounds[last]
        before = np.cumsum(num_lines) - num_lines
        of_first = np.cumsum(lengths * in_first) - lengths * in_first
        of_second = np.cumsum(lengths * ~in_first) - lengths * ~in_first
        of_first, of_second = of_first - of_first[before][row], of_second - of_second[before][row]
        all_first = np.add.reduceat(lengths * in_first, before)
        first, second = trimmed(all_first, counts - all_first, self.max_length)
        # of a line: its first place in the row, and how many of its tokens there is room for
        column = np.where(in_first, of_first, first[row] + of_second)
        room = np.where(in_first, first[row], second[row]) - np.where(in_first, of_first, of_second)
        nth = counted(lengths)
        columns = np.where(nth < np.repeat(room, lengths), np.repeat(column, lengths) + nth, -1)
        return _Found(starts, counts, first, second, columns)

    def _in_first(
        self, shards: NDArray[np.int64], lines: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Of runs of lines, given by their shards, first lines and lengths: (sum of counts,)."""
        line, shard = np.repeat(lines, counts) + counted(counts), np.repeat(shards, counts)
        in_first = np.empty(len(line), dtype=np.bool_)
        for number in np.unique(shards):
            here = shard == number
            octets = self._segments[number].in_first[line[here] // 8]
            in_first[here] = octets >> (7 - line[here] % 8).astype(np.uint8) & 1
        return in_first

    def _document_starts(
        self, shards: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """`document_starts` of packed rows, given the shard and the first token of each, (B,)."""
        columns = np.zeros((len(shards), self._most_documents), dtype=np.int64)
        number = np.arange(self._most_documents - 1)
        for shard in np.unique(shards):
            here, offsets = np.flatnonzero(shards == shard), self._split.offsets[shard]
            later = np.searchsorted(offsets, starts[here], side="right")[:, None] + number
            # the last offset is the shard's end, behind every row
            place = offsets[np.minimum(later, len(offsets) - 1)] - starts[here][:, None]
            columns[here, 1:] = np.where(place < self._text, place + 1, self.max_length)
        return columns

    def _find_most_documents(self, offsets: NDArray[np.int64]) -> int:
        """Documents of the fullest packed row of a shard: its first, and those that begin later."""
        row, place = np.divmod(offsets[:-1], self._text)
        return 1 + int(np.bincount(row[place > 0]).max(initial=0))

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
        ends_document = np.isin(lines[1:], first_lines, assume_unique=True)
        return _Segments(lines.astype(np.uint32), ends_document, np.packbits(dealt), num_used)
