"""Standard input, copied to disk: text that comes once is read several times."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import BinaryIO

from electra.corpus.compression import read_blocks
from electra.errors import DataError

STANDARD_INPUT = "-"
_BLOCK = 2**20
_PACKED = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"\xfd7zXZ\0": ".xz", b"BZh": ".bz2"}
_TABLES = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"WARC/": ".warc"}
_FIRST_LINE = 2**16


def spool(stream: BinaryIO, path: Path) -> Path:
    """Copy a stream to a file, in blocks, and say by the file's name what it holds.

    Args:
        stream: bytes, from where they stand to the end.
        path: the file without an ending; its folder exists.

    Returns:
        The path with the ending that fits: .jsonl where the first line is a JSON object, .txt
        for other text, the kinds that are known by their first bytes, and .gz and the like behind.

    Raises:
        DataError: nothing came.
    """
    partial = path.with_name(f"{path.name}.partial")
    first = b""
    with partial.open("wb") as file:
        while block := stream.read(_BLOCK):
            first = first or block[:8]
            file.write(block)
    if not first:
        partial.unlink()
        raise DataError("standard input is empty; pipe text into it, or name files")
    packed = next((ending for magic, ending in _PACKED.items() if first.startswith(magic)), "")
    named = partial.rename(path.with_name(f"{path.name}.partial{packed}"))
    return named.rename(path.with_name(f"{path.name}{_kind(named)}{packed}"))


def _kind(path: Path) -> str:
    blocks = read_blocks(path)
    text = b""
    for block in blocks:
        text = (text + block).lstrip(b"\xef\xbb\xbf \t\r\n")
        if len(text) >= _FIRST_LINE or b"\n" in text:
            break
    table = next((ending for magic, ending in _TABLES.items() if text.startswith(magic)), None)
    if table is not None:
        return table
    line, end, _ = text.partition(b"\n")
    if not end and len(text) >= _FIRST_LINE:  # a long line: it is not read to its end for this
        return ".jsonl" if text.startswith(b'{"') else ".txt"
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(json.loads(line), dict):
            return ".jsonl"
    return ".txt"
