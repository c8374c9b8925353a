"""Sorting more records than memory holds: buckets on disk, each sorted by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MOST_BUCKETS = 200
"""Open files at once; more than some 190 million records make the buckets larger."""
_FULL = 0.9
_HALF = np.uint64(32)


class Spill:
    """Records in buckets by the leading bits of their field `key`, in the order they came.

    Use it as a context: the folder is removed at the end. Memory is a few bucket sizes of records,
    however often a key comes again.
    """

    def __init__(self, folder: Path, record: np.dtype[Any], total: int, bucket_size: int) -> None:
        """Open the buckets.

        Args:
            folder: made for the buckets.
            record: a structured type with uint64 `key`, evenly spread, and `index`.
            total: records that will come.
            bucket_size: records that are read at once.
        """
        self.count = min(MOST_BUCKETS, max(1, -(-total // max(1, int(_FULL * bucket_size)))))
        self._record = record
        self._bucket_size = bucket_size
        self._folder = folder
        folder.mkdir(parents=True)
        self._files: list[BinaryIO] = []
        for number in range(self.count):
            self._files.append((folder / f"{number:03}").open("w+b"))

    def add(self, records: NDArray[Any]) -> None:
        """Append records, (n,), to their buckets."""
        bucket = ((records["key"] >> _HALF) * np.uint64(self.count) >> _HALF).astype(np.uint8)
        ordered = records[np.argsort(bucket, kind="stable")]
        ends = np.cumsum(np.bincount(bucket, minlength=self.count))
        for file, start, end in zip(self._files, [0, *ends[:-1]], ends, strict=True):
            if start < end:
                file.write(ordered[start:end].view(np.uint8).data)

    def buckets(self) -> Iterator[Iterator[NDArray[Any]]]:
        """Each bucket in chunks of `bucket_size` records; most have one."""
        for file in self._files:
            file.seek(0)
            yield self._chunks(file)

    def _chunks(self, file: BinaryIO) -> Iterator[NDArray[Any]]:
        while data := file.read(self._bucket_size * self._record.itemsize):
            yield np.frombuffer(data, dtype=self._record)

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            try:
                file.close()
            except OSError:  # a full disk was told of by the write
                continue
        shutil.rmtree(self._folder, ignore_errors=True)


def repeats_of(
    chunks: Iterator[NDArray[Any]], keys: tuple[str, ...]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Indices of the records whose keys came before, (n,), and of the first ones with these keys.

    Chunks come in the order of the index. From one to the next only the first of each key is held,
    so a bucket that is large by repeats takes no more memory than another.
    """
    firsts: NDArray[Any] | None = None
    following = next(chunks, None)
    while following is not None:
        records = following if firsts is None else np.concatenate((firsts, following))
        following = next(chunks, None)
        columns = [np.ascontiguousarray(records[key]) for key in keys]
        order = np.lexsort(columns[::-1])  # stable: the first comes first
        same = np.zeros(len(records), dtype=np.bool_)
        same[1:] = True
        for column in columns:
            column = column[order]
            same[1:] &= column[1:] == column[:-1]
        starts = np.flatnonzero(~same)
        group = np.cumsum(~same)[same] - 1
        yield records["index"][order[same]], records["index"][order[starts[group]]]
        if following is not None:
            firsts = records[order[starts]]
