"""Packed files as streams of bytes: gzip, Zstandard, xz and bzip2, told by the name.

Memory is a block, whatever the size of the file. A file may be several packed ones on end (`cat
a.gz b.gz`, Common Crawl's archives). A file of no bytes holds nothing and is no error.
"""

from __future__ import annotations

import bz2
import errno
import io
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from electra.errors import DataError, ElectraError

COMPRESSIONS = (".gz", ".zst", ".xz", ".bz2")
_BLOCK = 2**20
_PACKED_BLOCK = 2**16

Progress = Callable[[int], None]
"""Told how many bytes of the file have been read, as they lie on disk."""


def compression_of(name: str | Path) -> str | None:
    """The ending that says how a file is packed, in lower case; None: it is not."""
    lowered = str(name).lower()
    return next((ending for ending in COMPRESSIONS if lowered.endswith(ending)), None)


def without_compression(name: str) -> str:
    """A name or path without the ending that says how it is packed."""
    ending = compression_of(name)
    return name[: -len(ending)] if ending else name


def read_blocks(path: Path, *, start: int = 0, progress: Progress | None = None) -> Iterator[bytes]:
    """The unpacked bytes of a file, about 1 MB at a time, never an empty block.

    Args:
        path: packed as its name says.
        start: begin here; for files that are not packed.
        progress: told before each block.

    Raises:
        DataError: the file is missing, or what is packed ends early or is damaged; says near which
            byte.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    ending = compression_of(path)
    with path.open("rb", buffering=0) as raw:
        if ending is None:
            raw.seek(start)
            blocks = iter(lambda: raw.read(_BLOCK), b"")
        elif start:
            raise ValueError(f"{path} is packed: it is read from its beginning")
        else:
            file = cast(BinaryIO, raw)
            blocks = _zstandard(file) if ending == ".zst" else _unpacked(file, ending)
        unpacked = 0
        try:
            for block in blocks:
                if progress is not None:
                    progress(raw.tell())
                unpacked += len(block)
                yield block
        except EOFError:
            raise DataError(
                f"{path} is truncated: the {ending} ends early, at byte {raw.tell()} "
                f"({unpacked} bytes unpacked); get it again"
            ) from None
        except (zlib.error, lzma.LZMAError, _Damaged) as error:
            raise DataError(
                f"{path} is not a whole {ending} file: {error} (near byte {raw.tell()}, "
                f"{unpacked} bytes unpacked); get it again"
            ) from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from None


class _Damaged(Exception):
    """What libraries raise as OSError, as if the disk had failed."""


class _Decompressor(Protocol):
    """One packed stream; more bytes may lie behind it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Gzip:
    """zlib's object under the names of those of bz2 and lzma; its checksum is verified."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


class _Bzip2:
    """bz2's object with an error of its own."""

    def __init__(self) -> None:
        self._stream = bz2.BZ2Decompressor()

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    @property
    def needs_input(self) -> bool:
        return self._stream.needs_input

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        try:
            return self._stream.decompress(data, max_length)
        except OSError as error:
            raise _Damaged(str(error)) from None


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor()


_MAKERS: dict[str, Callable[[], _Decompressor]] = {".gz": _Gzip, ".bz2": _Bzip2, ".xz": _xz}


def _unpacked(raw: BinaryIO, ending: str) -> Iterator[bytes]:
    """Blocks of all streams in a file; behind the first there may be zeros, as tapes leave."""
    make = _MAKERS[ending]
    stream: _Decompressor | None = None
    data, first = b"", True
    while True:
        if not data and (stream is None or stream.needs_input):
            data = raw.read(_PACKED_BLOCK)
            if not data:
                if stream is not None:
                    raise EOFError
                return
        if stream is None:
            data = data if first else data.lstrip(b"\0")
            if not data:
                continue
            stream, first = make(), False
        block = stream.decompress(data, _BLOCK)
        data = b""
        if block:
            yield block
        if stream.eof:
            data, stream = stream.unused_data, None


def _zstandard(raw: BinaryIO) -> Iterator[bytes]:
    """Blocks by Arrow's reader, which `datasets` brings along; it knows several frames."""
    import pyarrow

    # not closed here: that would close `raw`, which says where it stands
    stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
    try:
        while block := stream.read(_BLOCK):
            yield block
    except OSError as error:
        if error.errno is not None:  # the disk's, not the stream's
            raise
        if "runcated" in str(error):
            raise EOFError from None
        raise _Damaged(str(error)) from None


def unpacked_file(path: Path) -> BinaryIO:
    """A file that can be searched through: the file itself, or its bytes unpacked on disk.

    Raises:
        DataError: as `read_blocks`.
        ElectraError: the disk for temporary files has no room for what is unpacked.
    """
    if compression_of(path) is None:
        if not path.is_file():
            raise DataError(f"{path} does not exist")
        return path.open("rb")
    spooled = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    try:
        for block in read_blocks(path):
            _write(spooled, block, path)
        spooled.seek(0)
    except BaseException:
        spooled.close()
        raise
    return cast(BinaryIO, io.BufferedReader(spooled))


def _write(spooled: BinaryIO, block: bytes, path: Path) -> None:
    rest = memoryview(block)
    try:
        while rest:  # a disk that is nearly full takes a part
            rest = rest[spooled.write(rest) :]
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise ElectraError(
            f"{path} is unpacked to {tempfile.gettempdir()}, which is full "
            f"({spooled.tell():,} bytes written): make room, name another folder in the "
            "environment variable TMPDIR, or give the file unpacked"
        ) from None


class BlockReader(io.RawIOBase):
    """Blocks as a file: `io.BufferedReader(BlockReader(blocks))` has `readline` and `read`."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
