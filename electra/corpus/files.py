"""Reading the files people have: text, JSONL, CSV, TSV, Parquet, each also gzipped.

Every complaint names the file and the place in it. Labelled data is read through here too.
"""

from __future__ import annotations

import csv
import glob
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from electra.errors import DataError

KINDS = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
TEXT_COLUMNS = ("text", "content", "document", "body", "article", "sentence")
"""Names of the column that holds a document's text, the first that is there."""
_LONE_HEADERS = {*TEXT_COLUMNS, "sentence1", "premise", "question", "review", "utterance", "title"}
csv.field_size_limit(2**31 - 1)


@dataclass
class ReadReport:
    """What reading had to put up with."""

    replaced_bytes: dict[str, int] = field(default_factory=dict)
    """File -> undecodable places replaced by U+FFFD."""
    position: int = 0
    """Bytes of the current file read so far, as they lie on disk (for progress)."""
    line: int = 0
    """Line on which the last row of JSONL, CSV or TSV ends."""


def kind_of(path: Path) -> str:
    """`text`, `jsonl`, `csv`, `tsv` or `parquet`, by the name without .gz.

    Raises:
        DataError: another ending.
    """
    name = path.name.removesuffix(".gz")
    kind = KINDS.get(Path(name).suffix.lower())
    if kind is None:
        raise DataError(f"{path} has an ending that is not read; allowed: {', '.join(KINDS)} (.gz)")
    return kind


def expand(sources: Iterable[str | Path]) -> list[Path]:
    """Files, folders (searched through) and globs as a sorted list of files.

    Raises:
        DataError: a source does not exist or holds no file that can be read.
    """
    files: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_file():
            kind_of(path)
            found = [path]
        elif path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and _is_readable(p))
        else:
            found = sorted(
                Path(p) for p in glob.glob(str(source), recursive=True) if Path(p).is_file()
            )
            for p in found:
                kind_of(p)
            if not found:
                raise DataError(f"{source} does not exist (a file, a folder or a glob is wanted)")
        if not found:
            raise DataError(f"{source} holds no file ending in {', '.join(KINDS)} (.gz)")
        files += found
    return list(dict.fromkeys(files))


def _is_readable(path: Path) -> bool:
    return Path(path.name.removesuffix(".gz")).suffix.lower() in KINDS


def read_lines(
    path: Path,
    *,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    report: ReadReport | None = None,
    mend: str = "convert it",
) -> Iterator[str]:
    """Decoded lines with their line ends.

    Args:
        path: a text file, gzipped if it ends in .gz.
        encoding: UTF-8, or one in which every byte is a character.
        encoding_errors: `strict` raises at the first byte that is not UTF-8, `replace` goes on.
        report: counts what was replaced.
        mend: what to do about bytes that are not UTF-8, for the message.

    Raises:
        DataError: the file is missing, not UTF-8, or a truncated or damaged .gz.
    """
    offset = 0
    for number, line in enumerate(_binary_lines(path, report)):
        if number == 0 and line.startswith(b"\xef\xbb\xbf"):
            line, offset = line[3:], offset + 3
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            if encoding_errors != "replace":
                place = "unpacked " if path.suffix == ".gz" else ""
                raise DataError(
                    f"{path} is not UTF-8: {place}byte {offset + error.start} "
                    f"(line {number + 1}) is 0x{line[error.start]:02x}; {mend}"
                ) from None
            text = line.decode("utf-8", errors="replace")
            if report is not None:
                seen = report.replaced_bytes.get(str(path), 0)
                before = line.decode("utf-8", errors="ignore").count("\ufffd")
                report.replaced_bytes[str(path)] = seen + text.count("\ufffd") - before
        offset += len(line)
        yield text


def _binary_lines(path: Path, report: ReadReport | None) -> Iterator[bytes]:
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    with path.open("rb") as raw:
        file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
        try:
            for line in file:
                if report is not None:
                    report.position = raw.tell()
                yield line
        except EOFError:
            raise DataError(f"{path} is truncated: the .gz ends early; get it again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is not a whole .gz file: {error}") from None


def read_rows(
    path: Path,
    *,
    header: str = "auto",
    columns: Iterable[str] = (),
    encoding_errors: str = "strict",
    report: ReadReport | None = None,
    mend: str = "convert it",
) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL, CSV, TSV or Parquet file as dictionaries.

    Args:
        path: the file.
        header: of CSV and TSV: `true`, `false`, or `auto` (judged by the first line and by
            whether it holds a name from `columns`; a single column has to have a name that is
            known or asked for). Without a header columns are "0", "1", ...
        columns: names or numbers the caller is going to ask for.
        encoding_errors: as in `read_lines`.
        report: as in `read_lines`; it gets the line of each row, too.
        mend: as in `read_lines`.

    TSV is read without quoting, as GLUE's is. A line of plain text is a row {"text": line}.

    Raises:
        DataError: a line that cannot be parsed, named by its number.
    """
    kind = kind_of(path)
    lines = read_lines(path, encoding_errors=encoding_errors, report=report, mend=mend)
    if kind == "parquet":
        yield from _parquet_rows(path)
    elif kind == "text":
        yield from ({"text": line.rstrip("\r\n")} for line in lines if line.strip())
    elif kind == "jsonl":
        for number, line in enumerate(lines, start=1):
            if report is not None:
                report.line = number
            if line.strip():
                yield json_row(path, number, line)
    else:
        yield from _separated_rows(path, lines, kind, header, list(columns), report)


def json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    """A line of JSON as a row.

    Raises:
        DataError: it is no JSON object; named by its number.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path} line {number} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{path} line {number} is {type(row).__name__}; a JSON object is wanted")
    return {key: whole_text(value) for key, value in row.items()}


def whole_text(value: Any) -> Any:
    """Text without the halves of surrogate pairs that JSON may hold and UTF-8 may not."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _separated_rows(
    path: Path,
    lines: Iterator[str],
    kind: str,
    header: str,
    columns: list[str],
    report: ReadReport | None,
) -> Iterator[dict[str, Any]]:
    if kind == "tsv":
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, strict=True)
    names: list[str] | None = None
    try:
        for row in reader:
            if not row:
                continue
            if names is None:
                named = any(c in row for c in columns if not c.isdigit())
                if len(set(row)) < len(row) and header == "true":
                    raise DataError(f"{path} has two columns of one name: {', '.join(row)}")
                if header == "true" or (header == "auto" and (named or _looks_like_header(row))):
                    names = [cell.strip() for cell in row]
                    continue
                names = [str(i) for i in range(len(row))]
            if len(row) != len(names):
                raise DataError(
                    f"{path} line {reader.line_num} has {len(row)} columns, "
                    f"the first line has {len(names)}"
                )
            if report is not None:
                report.line = reader.line_num
            yield dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}") from None


def _looks_like_header(row: list[str]) -> bool:
    """Short, distinct, wordy cells: what nobody's first data row looks like.

    A single cell may well be a short text, so there it has to be a name that columns have.
    """
    if len(row) == 1:
        return row[0].strip().casefold() in _LONE_HEADERS

    def wordy(cell: str) -> bool:
        cell = cell.strip()
        number = cell.replace(".", "", 1).replace("-", "", 1).isdigit()
        return bool(cell) and not number and len(cell) <= 30 and len(cell.split()) <= 2

    return len(set(row)) == len(row) and all(map(wordy, row))


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet as parquet

    if not path.is_file():
        raise DataError(f"{path} does not exist")
    packed = path.suffix == ".gz"
    source = pyarrow.BufferReader(b"".join(_binary_lines(path, None))) if packed else path
    try:
        with parquet.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}") from None


def pick_column(available: Iterable[str], wanted: str, path: Path) -> str:
    """The column called `wanted`, or the one with that 0-based number.

    Raises:
        DataError: it is not there; those that are get listed.
    """
    names = list(available)
    if wanted in names:
        return wanted
    if wanted.isdigit() and int(wanted) < len(names):
        return names[int(wanted)]
    raise DataError(f'{path} has no column "{wanted}"; it has: {", ".join(names)}')
