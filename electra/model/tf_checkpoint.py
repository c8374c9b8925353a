"""Checkpoints of TensorFlow 1, read without TensorFlow.

TensorFlow itself is 1.5 GB installed, for a format that has not changed since 2016: PREFIX.index
is a table sorted by name (LevelDB's format: blocks of prefix-compressed keys, tensorflow/core/lib/
io/format.h) of protocol buffers that say where a tensor lies (tensorflow/core/protobuf/
tensor_bundle.proto), and PREFIX.data-00000-of-00001 holds the raw values. The checksums (CRC-32C)
of the index are compared; of the data, lengths alone.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from electra.errors import DataError

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER, _TRAILER = 48, 5
"""Bytes behind the last block, and behind each block: its compression and its checksum."""
_BFLOAT16 = 14
# tensorflow/core/framework/types.proto
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?"}
_DTYPES |= {_BFLOAT16: "<u2", 17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8"}


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies (BundleEntryProto)."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    slices: tuple[tuple[tuple[int, int], ...], ...]
    """Of a partitioned variable, the parts: (start, length) a dimension, (0, -1) for all of it."""


class TFCheckpoint:
    """The variables of a checkpoint, by name."""

    def __init__(self, prefix: Path) -> None:
        """Read the index.

        Args:
            prefix: the files' name up to `.index`, as `find_checkpoint` gives it.

        Raises:
            DataError: the index is damaged, or of another kind.
        """
        self.prefix = prefix
        index = Path(f"{prefix}.index")
        try:
            table = dict(_table(index.read_bytes()))
            header = dict(_fields(table.pop(b"")))
            self._num_shards = int(header.get(1, 0))
            self._entries = {key: _entry(value) for key, value in table.items()}
            # a key with a leading zero is a part of a partitioned variable
            names = {key.decode(): entry for key, entry in self._entries.items() if key[:1] > b"\0"}
        except (KeyError, IndexError, ValueError, TypeError, struct.error) as error:
            raise DataError(
                f"{index} is damaged, or no index of a TensorFlow checkpoint ({error})"
            ) from None
        if header.get(2, 0) != 0:
            raise DataError(f"{index} was written big-endian; only little-endian can be read")
        if any(name.endswith(".ATTRIBUTES/VARIABLE_VALUE") for name in names):
            raise DataError(
                f"{prefix} is an object-based checkpoint of TensorFlow 2; the reference writes "
                "name-based ones of TensorFlow 1"
            )
        self.shapes: dict[str, tuple[int, ...]] = {n: e.shape for n, e in names.items()}

    def tensor(self, name: str) -> np.ndarray:
        """Read a variable; bfloat16 comes as float32.

        Raises:
            DataError: the data file is missing or too short, or the type is not of numbers.
        """
        entry = self._entries[name.encode()]
        if not entry.slices:
            return self._read(name, entry)
        prefix = b"\0" + name.encode() + b"\0\1"
        parts = [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]
        numbers = "<f4" if entry.dtype == _BFLOAT16 else _DTYPES.get(entry.dtype, "<f4")
        whole = np.zeros(entry.shape, numbers)
        # the keys of the parts are coded so that they sort as the parts do
        for extents, part in zip(sorted(entry.slices), parts, strict=False):
            where = tuple(slice(a, None if n < 0 else a + n) for a, n in extents)
            if whole[where].shape != part.shape:
                break
            whole[where] = self._read(name, part)
        else:
            if len(parts) == len(entry.slices):
                return whole
        raise DataError(f"{self.prefix}.index is damaged: the parts of {name} do not fit together")

    def _read(self, name: str, entry: _Entry) -> np.ndarray:
        file = Path(f"{self.prefix}.data-{entry.shard:05d}-of-{self._num_shards:05d}")
        if entry.dtype not in _DTYPES:
            raise DataError(
                f"{self.prefix}: {name} is of TensorFlow's type {entry.dtype}, which is no number"
            )
        dtype, count = np.dtype(_DTYPES[entry.dtype]), math.prod(entry.shape)
        if not file.is_file():
            raise DataError(f"{file} is missing; {self.prefix}.index needs it")
        if count * dtype.itemsize != entry.size:
            raise DataError(
                f"{self.prefix}.index is damaged: {name} of shape {entry.shape} has "
                f"{entry.size:,} bytes"
            )
        length = file.stat().st_size
        if entry.offset + entry.size > length:
            raise DataError(
                f"{file} is torn: {name} ends at byte {entry.offset + entry.size:,}, the file at "
                f"{length:,}; copy or download it again"
            )
        values = np.fromfile(file, dtype, count, offset=entry.offset).reshape(entry.shape)
        if entry.dtype == _BFLOAT16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values


def find_checkpoint(path: Path) -> Path:
    """The prefix of a checkpoint's files.

    Args:
        path: the prefix; one of the files; or their folder, whose `checkpoint` names the latest,
            or which holds one checkpoint alone.

    Raises:
        DataError: there is none, or a folder holds several and names none.
    """
    if path.is_dir():
        state = path / "checkpoint"
        text = state.read_text(encoding="utf-8", errors="replace") if state.is_file() else ""
        latest = re.search(r'^\s*model_checkpoint_path:\s*"(.*)"', text, re.MULTILINE)
        if latest:
            # often the absolute path of the machine that wrote it: the files lie here
            return _indexed(path / Path(latest[1]).name, f"{state} names it, but ")
        found = sorted(p.with_suffix("") for p in path.glob("*.index"))
        if len(found) == 1:
            return found[0]
        names = ", ".join(p.name for p in found)
        raise DataError(
            f"{path} holds several checkpoints and no file `checkpoint` that names the latest; "
            f"give one: {names}"
            if found
            else f"{path} holds no TensorFlow checkpoint: neither a file `checkpoint` nor an .index"
        )
    return _indexed(path.with_name(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name)))


def _indexed(prefix: Path, because: str = "") -> Path:
    if not Path(f"{prefix}.index").is_file():
        raise DataError(
            f"there is no TensorFlow checkpoint {prefix}: {because}{prefix}.index is not there "
            "(give the files' name up to .index, or their folder)"
        )
    return prefix


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted table."""
    if data[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("its last bytes are not those of a table")
    # the footer: a handle of the meta index, which is empty, and one of the index of the blocks
    position = len(data) - _FOOTER
    list(_block(data, *_handle(data, position)))  # for its checksum
    for _ in range(2):
        _, position = _varint(data, position)
    for _, handle in _block(data, *_handle(data, position)):
        yield from _block(data, *_handle(handle, 0))


def _handle(data: bytes, position: int) -> tuple[int, int]:
    offset, position = _varint(data, position)
    size, _ = _varint(data, position)
    return offset, size


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block; a key repeats the first bytes of the one before."""
    block, trailer = data[offset : offset + size], data[offset + size :][:_TRAILER]
    if len(block) != size or len(trailer) != _TRAILER:
        raise ValueError("a block is cut")
    (stored,) = struct.unpack("<I", trailer[1:])
    if stored != _masked_crc32c(block + trailer[:1]):
        raise ValueError("the checksum of a block is not that of its bytes")
    if trailer[0] != 0:
        raise ValueError("it is compressed, which TensorFlow has not done since version 1.2")
    (restarts,) = struct.unpack("<I", block[-4:])
    end, position, key = size - 4 * (restarts + 1), 0, b""
    while position < end:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def _crc32c_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in table]
    return table


_CRC32C = _crc32c_table()


def _masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) as LevelDB stores it: turned and moved (util/crc32c.h)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, low ones first, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, position = _varint(data, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if position + size > len(data):
            raise ValueError("a field is cut")
        yield tag >> 3, data[position : position + size]
        position += size


def _entry(data: bytes) -> _Entry:
    numbers: dict[int, int] = {}
    shape: tuple[int, ...] = ()
    slices = []
    for field, value in _fields(data):
        if isinstance(value, int):
            numbers[field] = value
        elif field == 2:
            dimensions = [v for f, v in _fields(value) if f == 2 and isinstance(v, bytes)]
            shape = tuple(dict(_numbers(d)).get(1, 0) for d in dimensions)
        elif field == 7:
            extents = [dict(_numbers(v)) for f, v in _fields(value) if isinstance(v, bytes)]
            slices.append(tuple((e.get(1, 0), e.get(2, -1)) for e in extents))
    dtype, shard, offset, size = (numbers.get(n, 0) for n in (1, 3, 4, 5))
    return _Entry(dtype, shape, shard, offset, size, tuple(slices))


def _numbers(data: bytes) -> Iterator[tuple[int, int]]:
    return ((field, value) for field, value in _fields(data) if isinstance(value, int))
