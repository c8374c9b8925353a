"""Lines and documents of text files as bytes, of a whole file or of a range of it.

A document or line belongs to the range in which it begins, and is read whole; so ranges that cover
a file give each of its documents once, whatever the cuts. Files are read in blocks, documents found
by one search for blank lines; nothing is done a line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from electra.corpus.compression import Progress, compression_of, read_blocks
from electra.errors import DataError

Span = tuple[int, int]
"""First byte of a range, and the one behind its last."""
BOM = b"\xef\xbb\xbf"
# what str.isspace() says, in UTF-8, but the newline
_SPACE = (
    rb"(?:[\t\x0b-\r\x1c-\x1f ]|\xc2[\x85\xa0]|\xe1\x9a\x80"
    rb"|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)"
)
_BREAK = re.compile(rb"\n(?:" + _SPACE + rb"*+\n)++")
"""The end of a line and the blank lines behind it."""
_INK = re.compile(rb"[!-~\xc3-\xe0\xe4-\xf4]")
"""Bytes that no blank line has; not all such bytes."""
_LOOK_BACK = 2**16
_LONGEST = 10**9
"""Bytes of a document or of a line; memory holds several times as many."""


@dataclass
class ReadReport:
    """What reading had to put up with."""

    replaced_bytes: dict[str, int] = field(default_factory=dict)
    """File -> undecodable places replaced by U+FFFD."""
    replaced_surrogates: dict[str, int] = field(default_factory=dict)
    """File -> halves of surrogate pairs in documents of JSON (`\\ud800`) replaced by U+FFFD."""
    position: int = 0
    """Bytes of the current file or range read so far, as they lie on disk (for progress)."""
    line: int = 0
    """Line on which the last row of JSONL, CSV or TSV ends."""

    def count_bytes(self, path: Path, places: int) -> None:
        """Some more undecodable places of a file."""
        self.replaced_bytes[str(path)] = self.replaced_bytes.get(str(path), 0) + places

    def progress(self, span: Span | None = None) -> Progress:
        """What to tell how far the file has been read."""
        first, last = span or (0, sys.maxsize)

        def tell(byte: int) -> None:
            self.position = max(0, min(byte, last) - first)

        return tell


def located_lines(
    path: Path, span: Span | None = None, report: ReadReport | None = None
) -> Iterator[tuple[int, bytes]]:
    """(unpacked byte at which it begins, line with its end); a byte order mark is left out.

    Memory is that of a line.

    Args:
        path: the file, packed as its name says.
        span: only lines that begin here; of files that are not packed.
        report: gets the position.

    Raises:
        DataError: as `read_blocks`; or a line is over 1 GB long.
    """
    start, end = _range(path, span)
    tell = report.progress(span) if report is not None else None
    packed = compression_of(path) is not None
    exact = None if packed else tell
    # from the byte before, so that a line that begins at `start` counts
    runs = _whole_lines(path, max(0, start - 1), bool(start), end, tell if packed else None)
    for at, run in runs:
        position = 0
        while position < len(run):
            if end is not None and at + position >= end:
                return
            line_end = run.find(b"\n", position) + 1 or len(run)
            if exact is not None:
                exact(at + line_end)
            yield at + position, run[position:line_end]
            position = line_end


def located_documents(
    path: Path, span: Span | None = None, report: ReadReport | None = None
) -> Iterator[tuple[int, bytes]]:
    """(unpacked byte at which it begins, document) of text in which blank lines end documents.

    Lines keep their ends, but the last. Memory is that of a document, and one over 1 GB an error.
    Arguments and errors are those of `located_lines`.
    """
    start, end = _range(path, span)
    begin, inside = _look_back(path, start) if start else (0, False)
    skipping = bool(start)  # the rest of what began before
    progress = report.progress(span) if report is not None else None
    held: list[bytes] = []
    held_at = size = 0
    for at, run in _whole_lines(path, begin, inside, end, progress):
        data = b"\n" + run if run.endswith(b"\n") else b"\n" + run + b"\n"
        first = at - 1  # where data[0] would stand
        position = 1
        for found in _BREAK.finditer(data):
            if skipping:
                skipping = False
            else:
                if found.start() > position:
                    held_at = held_at if held else first + position
                    if end is not None and held_at >= end:
                        return
                    held.append(data[position : found.start()])
                if held:
                    yield held_at, held[0] if len(held) == 1 else b"".join(held)
                    held.clear()
                    size = 0
            position = found.end()
        if skipping:
            if end is not None and first + len(data) >= end:
                return
        elif position < len(data):
            held_at = held_at if held else first + position
            if end is not None and held_at >= end:
                return
            held.append(data[position:])
            size += len(held[-1])
            if size > _LONGEST:
                raise _endless(path, "blank line", held_at)
    if held:
        yield held_at, b"".join(held)


def _range(path: Path, span: Span | None) -> tuple[int, int | None]:
    """Where to begin, the beginning being behind a byte order mark, and where to end."""
    if span is None:
        return 0, None
    if compression_of(path) is not None:
        raise ValueError(f"{path} is packed: it is read as a whole")
    start, end = span
    if 0 < start <= len(BOM):
        with path.open("rb") as file:
            start = 0 if file.read(len(BOM)) == BOM else start
    return start, end


def _whole_lines(
    path: Path, start: int, inside: bool, end: int | None, progress: Progress | None
) -> Iterator[tuple[int, bytes]]:
    """(offset, run of whole lines); `inside`: the rest of the line at `start` is left out."""
    at = start
    held: list[bytes] = []
    size = 0
    for block in read_blocks(path, start=start, progress=progress):
        if inside:
            cut = block.find(b"\n") + 1
            at += cut or len(block)
            if not cut:
                if end is not None and at >= end:
                    return
                continue
            inside, block = False, block[cut:]
        cut = block.rfind(b"\n") + 1
        if cut:
            held.append(block[:cut])
            run = b"".join(held) if len(held) > 1 else held[0]
            yield _without_mark(at, run)
            at += len(run)
            held.clear()
            size = 0
        if cut < len(block):
            held.append(block[cut:])
            size += len(held[-1])
            if size > _LONGEST:
                raise _endless(path, "end of line", at)
    if held:
        yield _without_mark(at, b"".join(held))


def _endless(path: Path, what: str, at: int) -> DataError:
    return DataError(
        f"{path}: no {what} in the {_LONGEST:,} bytes from byte {at:,} on, which would be one "
        'document; if there are several, give .jsonl with one a line: {"text": "..."}'
    )


def _without_mark(at: int, run: bytes) -> tuple[int, bytes]:
    return (len(BOM), run[len(BOM) :]) if at == 0 and run.startswith(BOM) else (at, run)


def _look_back(path: Path, start: int) -> tuple[int, bool]:
    """Where to begin to read so that it is seen whether the line before `start` is blank.

    Returns:
        (the first byte of that line, False), or (a byte of it, True) where it is not blank.
    """
    with path.open("rb") as file:
        mark = len(BOM) if file.read(len(BOM)) == BOM else 0
        high = start - 1  # that byte may be the end of the line itself
        while high > mark:
            low = max(mark, high - _LOOK_BACK)
            file.seek(low)
            data = file.read(high - low)
            line = data.rfind(b"\n") + 1
            if _INK.search(data, line):
                return start - 1, True
            if line:
                return low + line, False
            high = low
    return mark, False


class Decoder:
    """Bytes of a file to text; complaints say the byte and the line."""

    def __init__(
        self,
        path: Path,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        report: ReadReport | None = None,
        mend: str = "convert it",
    ) -> None:
        """Arguments as of `files.read_lines`."""
        self._path, self._encoding, self._errors = path, encoding, errors
        self._report, self._mend = report, mend

    def __call__(self, raw: bytes, at: int) -> str:
        """The text of bytes that stand at byte `at` of the unpacked file.

        Raises:
            DataError: they are not UTF-8, and errors are strict.
        """
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            if self._errors != "replace":
                byte = at + error.start
                place = "unpacked " if compression_of(self._path) else ""
                raise DataError(
                    f"{self._path} is not UTF-8: {place}byte {byte} "
                    f"(line {line_number(self._path, byte)}) is 0x{raw[error.start]:02x}; "
                    f"{self._mend}"
                ) from None
        text = raw.decode("utf-8", errors="replace")
        if self._report is not None:
            before = raw.decode("utf-8", errors="ignore").count("\ufffd")
            self._report.count_bytes(self._path, text.count("\ufffd") - before)
        return text


def line_number(path: Path, byte: int) -> int:
    """The line, from 1, in which a byte of the unpacked file stands. Reads the file up to there."""
    lines = 0
    for block in read_blocks(path):
        lines += block.count(b"\n", 0, byte)
        byte -= len(block)
        if byte <= 0:
            break
    return lines + 1
