"""Writes checkpoints of TensorFlow 1, for inputs that the golden files do not have.

Follows LevelDB's table format and tensor_bundle.proto, without the checksums of the data. What
TensorFlow itself wrote is in `tests/golden/`.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FLOAT, INT64 = 1, 9


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    out, before = b"", b""
    for key, value in pairs:
        shared = next(
            (i for i, (a, b) in enumerate(zip(before, key, strict=False)) if a != b),
            min(len(before), len(key)),
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1)  # one restart, at 0


def masked_crc32c(data: bytes) -> int:
    """By long division of polynomials over GF(2), bit by bit; masked as LevelDB does."""
    remainder = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            remainder ^= byte >> bit & 1
            remainder = remainder >> 1 ^ 0x82F63B78 * (remainder & 1)
    crc = remainder ^ 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17) & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def write_bundle(
    prefix: Path, variables: Mapping[str, np.ndarray], *, keys_a_block: int = 1000
) -> Path:
    """Write PREFIX.index and PREFIX.data-00000-of-00001; return the prefix."""
    data, pairs = b"", [(b"", field(1, 1))]
    for name in sorted(variables):
        value = variables[name]
        shape = b"".join(field(2, field(1, size)) for size in value.shape)
        dtype = INT64 if value.dtype == np.int64 else FLOAT
        entry = field(1, dtype) + field(2, shape) + field(4, len(data)) + field(5, value.nbytes)
        pairs.append((name.encode(), entry + b"\x35" + bytes(4)))  # the checksum's place
        data += value.astype("<i8" if dtype == INT64 else "<f4").tobytes()
    file, handles = b"", []

    def add(content: bytes) -> bytes:
        nonlocal file
        handle = varint(len(file)) + varint(len(content))
        file += content + b"\0" + struct.pack("<I", masked_crc32c(content + b"\0"))
        return handle

    for start in range(0, len(pairs), keys_a_block):
        some = pairs[start : start + keys_a_block]
        handles.append((some[-1][0], add(block(some))))
    footer = add(block([])) + add(block(handles))
    file += footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    Path(f"{prefix}.index").write_bytes(file)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)
    return prefix
