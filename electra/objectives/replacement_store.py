"""Replacements on disk, by their position in the stream: drawn once, read by later runs.

A folder holds `replacements.json`, which says what they were drawn with, and for each split and
process a file of blocks, `train-00000.bin`, that is only ever appended to. A block is 16 bytes,
little-endian (first position uint64, rows uint32, CRC-32 of the rest uint32), then the positions of
the chosen tokens, uint16 (rows, P), and the tokens there, uint16 or uint32 (rows, P). Unused slots
have position 0, that of [CLS], and its token. A block cut short at the end of a file, as a killed
run leaves it, is passed over and written over.

P slots of a sequence, B sequences.
"""

from __future__ import annotations

import bisect
import json
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from electra.errors import ConfigError, DataError

HEADER = "replacements.json"
_FORMAT = "electra replacements 1"
_BLOCK = struct.Struct("<QII")

Split = Literal["train", "validation"]
Drawn = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Positions and tokens, (B, P) each."""


@dataclass(frozen=True, order=True)
class _Block:
    first: int
    rows: int
    file: Path = field(compare=False)
    offset: int = field(compare=False)
    """Of the header, in the file."""


class ReplacementStore:
    """The folder `objective.replacements`."""

    def __init__(
        self, folder: Path, drawn_with: Mapping[str, object], *, slots: int, vocab_size: int
    ) -> None:
        """Open the folder, or begin it.

        Args:
            folder: made if it is not there.
            drawn_with: all that decides what is drawn, of JSON's types.
            slots: P.
            vocab_size: V, which decides the width of a token.

        Raises:
            ConfigError: the folder was drawn with something else, naming it, or is no such folder.
        """
        self._folder, self._slots = folder, slots
        self._ids = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        width = {"slots": slots, "token_bytes": self._ids.itemsize}
        header = {"format": _FORMAT, **drawn_with, **width}
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / HEADER
        if file.is_file():
            _check(folder, file, header)
        elif any(HEADER not in path.name for path in folder.iterdir()):
            raise ConfigError(
                f"--objective.replacements {folder} holds other files and no {HEADER}: give a "
                "folder of its own"
            )
        else:
            partial = folder / f".{HEADER}-{os.getpid()}"
            partial.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
            partial.replace(file)
        self._blocks: dict[str, list[_Block]] = {"train": [], "validation": []}
        self._ends: dict[Path, tuple[int, int]] = {}
        """Where the last whole block of a file ends, and the file."""
        for split, blocks in self._blocks.items():
            for path in sorted(folder.glob(f"{split}-*.bin")):
                blocks += self._scan(path)
            blocks.sort()

    def read(self, split: Split, first: int, rows: int) -> Drawn | None:
        """What was drawn for the positions from `first` on; None where some were not.

        Raises:
            DataError: a block is damaged.
        """
        parts, position = [], first
        blocks = self._blocks[split]
        while position < first + rows:
            # the last block that begins at or before the position
            place = bisect.bisect_right(blocks, position, key=lambda block: block.first) - 1
            block = blocks[place] if place >= 0 else None
            if block is None or position >= block.first + block.rows:
                return None
            end = min(first + rows, block.first + block.rows)
            here = slice(position - block.first, end - block.first)
            positions, tokens = self._load(block)
            parts.append((positions[here], tokens[here]))
            position = end
        return np.concatenate([p for p, _ in parts]), np.concatenate([t for _, t in parts])

    def append(self, split: Split, process: int, first: int, drawn: Drawn) -> None:
        """Keep what was drawn for the positions from `first` on.

        Raises:
            ConfigError: another run is writing to this folder.
        """
        positions, tokens = drawn
        assert positions.shape == tokens.shape == (len(positions), self._slots), positions.shape
        payload = positions.astype("<u2").tobytes() + tokens.astype(self._ids).tobytes()
        path = self._folder / f"{split}-{process:05d}.bin"
        whole, length = self._ends.get(path, (0, 0))
        with path.open("ab") as file:
            if file.tell() != length:
                raise ConfigError(
                    f"--objective.replacements {self._folder}: another run writes {path.name}, "
                    "too; wait for it, or give another folder"
                )
            file.truncate(whole)
            file.write(_BLOCK.pack(first, len(positions), zlib.crc32(payload)) + payload)
        end = whole + _BLOCK.size + len(payload)
        self._ends[path] = end, end
        bisect.insort(self._blocks[split], _Block(first, len(positions), path, whole))

    def _size(self, rows: int) -> int:
        return rows * self._slots * (2 + self._ids.itemsize)

    def _scan(self, path: Path) -> list[_Block]:
        """The whole blocks of a file; the last one's sum is checked, the others' when read."""
        found: list[_Block] = []
        end, length = 0, path.stat().st_size
        with path.open("rb") as file:
            while True:
                header = file.read(_BLOCK.size)
                if len(header) < _BLOCK.size:
                    break
                first, rows, _ = _BLOCK.unpack(header)
                after = end + _BLOCK.size + self._size(rows)
                if not rows or after > length:
                    break
                found.append(_Block(first, rows, path, end))
                end = after
                file.seek(end)
        if found:
            try:
                self._load(found[-1])
            except DataError:
                end = found.pop().offset
        self._ends[path] = end, length
        return found

    def _load(self, block: _Block) -> Drawn:
        with block.file.open("rb") as file:
            file.seek(block.offset)
            _, _, expected = _BLOCK.unpack(file.read(_BLOCK.size))
            payload = file.read(self._size(block.rows))
        if zlib.crc32(payload) != expected:
            raise DataError(
                f"{block.file} is damaged at byte {block.offset:,}; delete the folder and draw anew"
            )
        shape = (block.rows, self._slots)
        count = block.rows * self._slots
        positions = np.frombuffer(payload, "<u2", count).reshape(shape)
        tokens = np.frombuffer(payload, self._ids, count, offset=2 * count).reshape(shape)
        return positions.astype(np.int64), tokens.astype(np.int64)


def _check(folder: Path, file: Path, header: Mapping[str, object]) -> None:
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        differing = [
            f"{name.replace('_', ' ')} {_short(before.get(name))} there, {_short(now)} here"
            for name, now in header.items()
            if before.get(name) != now
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"--objective.replacements: {file} cannot be read: {error}") from None
    if differing:
        raise ConfigError(
            f"--objective.replacements {folder} was drawn otherwise ({'; '.join(differing)}): give "
            "another folder, or what it was drawn with"
        )


def _short(value: object) -> object:
    return value[:16] if isinstance(value, str) else value
