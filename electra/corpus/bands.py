"""Band keys of the documents of a part on disk, in an order that lets one band be read by itself.

A file is blocks of documents; in a block the keys of the first band stand together, then those of
the second, and so on. Keys are uint64, little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from electra.errors import DataError

BLOCK = 2**15
"""Documents of a block; the last one of a file is shorter."""
MEND = "delete the work folder and run electra prepare again"


class BandWriter:
    """Writes the keys of the documents of a part, under another name until all are there.

    Use it as a context, or call `close`: the file appears at the end, and not after an error. Some
    4 MB are held for 14 bands.
    """

    def __init__(self, path: Path, bands: int) -> None:
        """Begin a file; what an earlier try has left is written over."""
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._held = np.empty((bands, BLOCK), dtype="<u8")
        self._count = 0
        self._file: BinaryIO = self._partial.open("wb")

    def append(self, keys: NDArray[np.uint64]) -> None:
        """Add a document by its keys, (bands,)."""
        self._held[:, self._count] = keys
        self._count += 1
        if self._count == BLOCK:
            self._flush()

    def close(self) -> None:
        """Write what is left; the file gets its name."""
        if self._count:
            self._flush()
        self._file.close()
        self._partial.replace(self._path)

    def _flush(self) -> None:
        self._file.write(np.ascontiguousarray(self._held[:, : self._count]).data)
        self._count = 0

    def __enter__(self) -> BandWriter:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after an error nothing stays."""
        if kind is None:
            self.close()
        else:
            self._file.close()
            self._partial.unlink(missing_ok=True)


def read_band(
    path: Path, documents: int, bands: int, band: int
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Keys of one band, (n,) for each block, with the index of the block's first document.

    Raises:
        DataError: the file is cut short.
    """
    with path.open("rb") as file:
        for start in range(0, documents, BLOCK):
            count = min(BLOCK, documents - start)
            file.seek(8 * (start * bands + band * count))
            yield start, read_numbers(file, path, count)


def read_numbers(file: BinaryIO, path: Path, count: int) -> NDArray[np.uint64]:
    """`count` numbers of 64 bits from where the file stands, (count,).

    Raises:
        DataError: there are fewer.
    """
    data = file.read(8 * count)
    if len(data) != 8 * count:
        raise DataError(f"{path} is cut short: {count} numbers wanted, {len(data) // 8}; {MEND}")
    return np.frombuffer(data, dtype="<u8")
