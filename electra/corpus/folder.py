"""A corpus folder, open for reading: its manifest, and of a split runs of tokens, lines and words.

Shards are read by positioned reads, not mapped: a mapped file that is cut kills the process, a
short read is an error with a name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from electra.errors import DataError, ElectraError

FORMAT = "electra-corpus"
VERSION = 2
_PUT_BACK = "put back what it was and go on with --resume auto, or prepare again and train afresh"
_BLOCK = 2**22
"""Tokens read at once when all are counted."""


@dataclass(frozen=True)
class ShardInfo:
    """One shard as the manifest has it."""

    file: str
    tokens: int
    documents: int
    lines: int
    sha256: str
    source: int = 0
    """Number of the source that the text is of."""

    def num_bytes(self, dtype: str, *, words_marked: bool) -> int:
        """Of its file.

        Args:
            dtype: of the token ids.
            words_marked: a segmenter's word starts are in it.
        """
        fixed = np.dtype(dtype).itemsize * self.tokens + 8 * (self.documents + 1) + 4 * self.lines
        return fixed + ((self.tokens + 7) // 8 if words_marked else 0)


def counted(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... of runs of these lengths, one behind the other: (sum of counts,)."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


class Corpus:
    """A corpus folder: its manifest and its splits."""

    def __init__(self, folder: Path) -> None:
        """Open the folder.

        Raises:
            DataError: it is not a corpus folder, or its manifest cannot be read.
        """
        self.folder = folder
        path = folder / "manifest.json"
        if not path.is_file():
            text = folder if folder.is_file() else "TEXT"
            raise DataError(
                f"{folder} is not a prepared corpus (no manifest.json); make one with: electra "
                f"prepare {text} --output {'FOLDER' if folder.exists() else folder}"
            )
        try:
            self.manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}") from None
        if not isinstance(self.manifest, dict) or "splits" not in self.manifest:
            raise DataError(f"{path} is not the manifest of a corpus")
        if self.manifest.get("format") != FORMAT or self.manifest.get("version") != VERSION:
            raise DataError(
                f"{path} has format {self.manifest.get('format')} version "
                f"{self.manifest.get('version')}; this electra reads {FORMAT} version {VERSION}: "
                f"prepare again with: electra prepare TEXT --output {folder} --overwrite"
            )

    @property
    def weights(self) -> list[float] | None:
        """Of the sources; None where they were given none, and all are one."""
        sources = self.manifest.get("sources")
        if not isinstance(sources, list) or any(s["weight"] is None for s in sources):
            return None
        return [float(source["weight"]) for source in sources]

    def split(self, name: str) -> Split:
        """`train` or `validation`."""
        shards = [ShardInfo(**s) for s in self.manifest["splits"][name]["shards"]]
        marked = bool(self.manifest["words_marked"])
        return Split(
            self.folder,
            name,
            self.manifest["dtype"],
            shards,
            words_marked=marked,
            vocab_size=self.manifest.get("vocab_size"),
        )


class Split:
    """One split of a corpus folder, open for reading."""

    def __init__(
        self,
        folder: Path,
        name: str,
        dtype: str,
        shards: Sequence[ShardInfo],
        *,
        words_marked: bool = False,
        vocab_size: int | None = None,
    ) -> None:
        """Open the files.

        Args:
            folder: where they lie.
            name: of the split.
            dtype: of the token ids.
            shards: as the manifest has them.
            words_marked: a segmenter's word starts are in the shards.
            vocab_size: V, above all ids; none: they are not checked.

        Raises:
            DataError: a shard is missing, not as long as the manifest says, or damaged.
            ElectraError: the machine does not allow so many open files, or has no positioned reads.
        """
        self._files: list[int] = []  # first of all: `close` looks at it
        self._seen: list[tuple[int, int]] = []
        self.name, self.words_marked = name, words_marked
        self._vocab_size = vocab_size
        self._dtype = np.dtype("<" + np.dtype(dtype).str[1:])
        self._paths = [folder / s.file for s in shards]
        self.shards = list(shards)
        _allow_files(len(shards))
        for path, info in zip(self._paths, self.shards, strict=True):
            self._files.append(_opened(path, len(shards)))
            wanted = info.num_bytes(dtype, words_marked=words_marked)
            found = os.fstat(self._files[-1])
            size = found.st_size
            self._seen.append((size, found.st_mtime_ns))
            if size != wanted:
                how = "cut short" if size < wanted else "longer than it was"
                raise DataError(
                    f"shard {path} is {how}: {size:,} bytes, the manifest says {wanted:,}; "
                    "run electra prepare again"
                )
        self._num_tokens = np.array([s.tokens for s in shards], dtype=np.int64)
        self._num_lines = np.array([s.lines for s in shards], dtype=np.int64)
        documents = np.array([s.documents for s in shards], dtype=np.int64)
        self._lines_at = self._num_tokens * self._dtype.itemsize + 8 * (documents + 1)
        self.offsets = [self._read_offsets(i) for i in range(len(shards))]

    @property
    def num_tokens(self) -> int:
        """Tokens of the split, the [SEP] of each document counted."""
        return sum(s.tokens for s in self.shards)

    def tokens(self, shard: int, start: int, count: int) -> NDArray[Any]:
        """`count` token ids of a shard from `start` on, shape (count,).

        Raises:
            DataError: the shard is shorter than the manifest says, or an id is no token.
        """
        return self.runs_of_tokens(*np.array([[shard], [start], [count]]))

    def runs_of_tokens(
        self, shards: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[Any]:
        """The ids of runs of tokens, one behind the other: (sum of counts,).

        Args:
            shards: (B,) in which each run is.
            starts: (B,) its first token.
            counts: (B,) how many it has.

        Raises:
            DataError: a shard is shorter than the manifest says, or an id is no token.
        """
        size = self._dtype.itemsize
        ids = np.frombuffer(self._read(shards, starts * size, counts * size), dtype=self._dtype)
        if self._vocab_size is not None and ids.max(initial=0) >= self._vocab_size:
            run = int(np.searchsorted(np.cumsum(counts), np.argmax(ids), side="right"))
            found = f"token id {ids.max()}, the vocabulary has {self._vocab_size}"
            where = f"(tokens {starts[run]} to {starts[run] + counts[run]})"
            raise self._damaged(int(shards[run]), f"{found} {where}")
        return ids

    def token_counts(self, vocab_size: int) -> NDArray[np.int64]:
        """How often each token occurs in the split, shape (V,)."""
        counts = np.zeros(vocab_size, dtype=np.int64)
        for shard, info in enumerate(self.shards):
            for start in range(0, info.tokens, _BLOCK):
                block = self.tokens(shard, start, min(_BLOCK, info.tokens - start))
                counts += np.bincount(block, minlength=vocab_size)
        return counts

    def lines(self, shard: int, first: int, count: int) -> NDArray[np.int64]:
        """Where `count` lines of a shard begin, from line `first` on: (count,) token positions."""
        return self.runs_of_lines(*np.array([[shard], [first], [count]]))

    def runs_of_lines(
        self, shards: NDArray[np.int64], first: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Where runs of lines begin, one behind the other; the line behind a shard's last is its
        end: (sum of counts,), arguments as `runs_of_tokens` has them.
        """
        there = np.minimum(counts, self._num_lines[shards] - first)
        data = self._read(shards, self._lines_at[shards] + 4 * first, 4 * there)
        begins = np.frombuffer(data, dtype="<u4").astype(np.int64)
        short = np.flatnonzero(there < counts)
        return np.insert(begins, np.cumsum(there)[short], self._num_tokens[shards[short]])

    def runs_of_word_starts(
        self, shards: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each token of runs begins a word by the corpus's segmenter: (sum of counts,),
        arguments as `runs_of_tokens` has them. Only where `words_marked`.
        """
        first, last = starts // 8, (starts + counts + 7) // 8
        at = self._lines_at[shards] + 4 * self._num_lines[shards] + first
        data = np.frombuffer(self._read(shards, at, last - first), dtype=np.uint8)
        before = np.cumsum(last - first) - (last - first)
        bit = np.repeat(8 * before + starts % 8, counts) + counted(counts)
        return np.unpackbits(data)[bit].astype(np.bool_)

    def check_unchanged(self) -> None:
        """Look whether every file is still what was opened.

        One with another time of change, but the bytes of the manifest, is taken as it is.

        Raises:
            DataError: a shard is gone or has other bytes.
        """
        for number, (path, info) in enumerate(zip(self._paths, self.shards, strict=True)):
            try:
                found = path.stat()
                if (found.st_size, found.st_mtime_ns) == self._seen[number]:
                    continue
                with path.open("rb") as file:
                    same = hashlib.file_digest(file, "sha256").hexdigest() == info.sha256
            except FileNotFoundError:
                raise DataError(f"shard {path} has vanished; {_PUT_BACK}") from None
            except OSError as error:
                raise DataError(f"shard {path} cannot be read: {error.strerror}") from None
            if not same:
                raise DataError(f"shard {path} has changed since it was opened; {_PUT_BACK}")
            self._seen[number] = (found.st_size, found.st_mtime_ns)

    def _read_offsets(self, shard: int) -> NDArray[np.int64]:
        info = self.shards[shard]
        start = info.tokens * self._dtype.itemsize
        data = self._read(*np.array([[shard], [start], [8 * (info.documents + 1)]]))
        offsets = np.frombuffer(data, dtype="<i8").astype(np.int64)
        if offsets[0] != 0 or offsets[-1] != info.tokens or (np.diff(offsets) < 1).any():
            raise self._damaged(shard, "the documents do not follow one another")
        return offsets

    def _damaged(self, shard: int, what: str) -> DataError:
        return DataError(
            f"shard {self._paths[shard]} is damaged: {what}; run electra prepare again"
        )

    def _read(
        self, shards: NDArray[np.int64], starts: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> bytes:
        """Pieces of shards, one behind the other."""
        pieces = []
        for shard, start, size in zip(
            shards.tolist(), starts.tolist(), sizes.tolist(), strict=True
        ):
            try:
                data = os.pread(self._files[shard], size, start)
            except OSError as error:
                raise DataError(
                    f"shard {self._paths[shard]} cannot be read at {start}: {error.strerror}"
                ) from None
            if len(data) != size:
                raise DataError(
                    f"shard {self._paths[shard]} is cut short: {size} bytes wanted at {start}, "
                    f"{len(data)} there; run electra prepare again"
                )
            pieces.append(data)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())

    def __del__(self) -> None:
        """Close the files with the object."""
        self.close()


def _opened(path: Path, count: int) -> int:
    """A shard, one of `count`, open for positioned reads."""
    if not hasattr(os, "pread"):
        raise ElectraError("Windows has no positioned reads (os.pread); use WSL, Linux or macOS")
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise DataError(f"shard {path} is missing; run electra prepare again") from None
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise DataError(f"shard {path} cannot be read: {error.strerror}") from None
        raise ElectraError(
            f"the corpus has {count:,} shards, more files than may be open at once "
            f"({error.strerror}); allow more with: ulimit -n {2 * count + 512}"
        ) from None


def _allow_files(count: int) -> None:
    """Let this process hold as many files open, and some more, as far as the machine allows."""
    if importlib.util.find_spec("resource") is None:  # not on Windows
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        # macOS has a limit of its own below "none"; where it matters, opening complains
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
