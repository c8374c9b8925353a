"""Plain text in WARC files: the WET files of Common Crawl.

A record is a line `WARC/1.0`, header lines, an empty line, and as many bytes as `Content-Length`
says (ISO 28500). Text stands in records of type `conversion`, and in resources of type text/plain.
A file with web pages themselves (`response`) is refused: taking text out of HTML is a trade of its
own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from electra.corpus.compression import BlockReader, read_blocks
from electra.corpus.spans import Decoder, ReadReport
from electra.errors import DataError

_READ = 2**20
_LONGEST_LINE = 2**16


def read_records(
    path: Path, decode: Decoder, report: ReadReport | None = None
) -> Iterator[dict[str, str]]:
    """Rows with `text`, `url` and `date` of the records that hold plain text.

    Args:
        path: .warc or .wet, packed as its name says.
        decode: bytes of this file to text.
        report: gets the position.

    Raises:
        DataError: it is no WARC file, ends within a record, or holds web pages; named by the
            unpacked byte at which the record begins.
    """
    blocks = read_blocks(path, progress=report.progress() if report is not None else None)
    file: BinaryIO = io.BufferedReader(BlockReader(blocks), _READ)
    at = 0
    while line := file.readline(_LONGEST_LINE):
        begin = at
        at += len(line)
        if not line.strip():
            continue
        place = f"{path} record at byte {begin}"
        if not line.startswith(b"WARC/"):
            raise DataError(
                f"{place} does not begin with WARC/1.0 but {line[:20]!r}: the file is damaged or "
                "no WARC file; get it again, or name it for what it is"
            )
        headers: dict[str, str] = {}
        while (line := file.readline(_LONGEST_LINE)).strip():
            at += len(line)
            name, _, value = line.decode("utf-8", "replace").partition(":")
            headers[name.strip().lower()] = value.strip()
        at += len(line)
        length = headers.get("content-length", "")
        if not line or not (length.isascii() and length.isdigit()):
            raise DataError(
                f"{place} has no whole header; the file is cut or damaged, get it again"
            )
        wanted = _holds_text(headers, place)
        body = _body(file, int(length), place, keep=wanted)
        if wanted:
            yield {
                "text": decode(body, at),
                "url": headers.get("warc-target-uri", ""),
                "date": headers.get("warc-date", ""),
            }
        at += int(length)


def _holds_text(headers: dict[str, str], place: str) -> bool:
    kind = headers.get("warc-type", "").lower()
    if kind == "response":
        raise DataError(
            f"{place} is a web page, not text; take the .wet file of the same crawl, or extract "
            "the text first (trafilatura, datatrove) and give it as .jsonl"
        )
    content = headers.get("content-type", "").lower()
    return kind == "conversion" or (kind == "resource" and content.startswith("text/plain"))


def _body(file: BinaryIO, length: int, place: str, *, keep: bool) -> bytes:
    parts: list[bytes] = []
    left = length
    while left:  # in steps: a length that is wrong must not be allocated
        part = file.read(min(left, _READ))
        if not part:
            raise DataError(
                f"{place} is cut: {left} of its {length} bytes are missing; get the file again"
            )
        left -= len(part)
        if keep:
            parts.append(part)
    return b"".join(parts)
