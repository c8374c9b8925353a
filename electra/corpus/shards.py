"""Shards of a corpus: tokens with the offsets of documents and the starts of lines.

A shard is one file, little-endian: the token ids (uint16 or uint32), every document ended by [SEP];
int64 offsets of the documents' starts and of the end; uint32 starts of the lines; and where a
segmenter marked the words, a bit a token that says whether it begins one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from electra.corpus.folder import ShardInfo


class ShardWriter:
    """Writes shards: those of a split, or of one part of the text for it."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        vocab_size: int,
        sep_id: int,
        max_tokens: int = 2**25,
        source: int = 0,
    ) -> None:
        """The files are called `NAME-00000.bin` and so on; a shard ends at `max_tokens`."""
        self._folder, self._name, self._sep, self._source = folder, name, sep_id, source
        self.dtype = dtype_of(vocab_size)
        self._max_tokens = max_tokens
        self._documents: list[NDArray[Any]] = []
        self._lines: list[NDArray[np.uint32]] = []
        self._starts_word: list[NDArray[np.bool_]] = []
        self._held = 0
        self.shards: list[ShardInfo] = []

    def add(
        self,
        ids: Sequence[int] | NDArray[np.uint32],
        line_lengths: Sequence[int] | None = None,
        starts_word: NDArray[np.bool_] | None = None,
    ) -> None:
        """Append a document; empty ones are left out.

        Args:
            ids: its tokens.
            line_lengths: tokens of each line, in sum as many as `ids`; none: it is one line.
            starts_word: (len(ids),) whether each token begins a word; for all documents of the
                writer or for none.
        """
        if not len(ids):
            return
        lengths = np.array([len(ids)] if line_lengths is None else line_lengths, dtype=np.int64)
        lengths = lengths[lengths > 0]  # a line of characters that no token stands for
        assert lengths.sum() == len(ids), "lines make up the document"
        document = np.empty(len(ids) + 1, dtype=self.dtype)
        document[:-1] = ids
        document[-1] = self._sep
        self._documents.append(document)
        self._lines.append((self._held + np.cumsum(lengths) - lengths).astype("<u4"))
        if starts_word is not None:
            self._starts_word.append(np.append(starts_word, True))
        self._held += len(document)
        if self._held >= self._max_tokens:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a shard."""
        if not self._documents:
            return
        offsets = np.zeros(len(self._documents) + 1, dtype="<i8")
        np.cumsum([len(d) for d in self._documents], out=offsets[1:])
        tokens = np.concatenate(self._documents).astype("<" + np.dtype(self.dtype).str[1:])
        lines = np.concatenate(self._lines)
        arrays: list[NDArray[Any]] = [tokens, offsets, lines]
        if self._starts_word:
            arrays.append(np.packbits(np.concatenate(self._starts_word)))
            assert len(arrays[-1]) == (len(tokens) + 7) // 8, "every token has its bit"
        path = self._folder / f"{self._name}-{len(self.shards):05d}.bin"
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for array in arrays:
                data = array.tobytes()
                digest.update(data)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        info = ShardInfo(
            path.name,
            len(tokens),
            len(self._documents),
            len(lines),
            digest.hexdigest(),
            self._source,
        )
        self.shards.append(info)
        self._documents, self._lines, self._starts_word, self._held = [], [], [], 0


def dtype_of(vocab_size: int) -> str:
    """Of the token ids in shards."""
    return "uint16" if vocab_size <= 2**16 else "uint32"
