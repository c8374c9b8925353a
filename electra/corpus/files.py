"""Reading the files people have: text, JSONL, CSV, TSV, Parquet, Arrow, WET; packed or not.

Every complaint names the file and the place in it. Labelled data is read through here too.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from electra.corpus.compression import COMPRESSIONS, without_compression
from electra.corpus.spans import Decoder, located_lines
from electra.corpus.spans import ReadReport as ReadReport
from electra.corpus.tables import TEXT_COLUMNS as TEXT_COLUMNS
from electra.corpus.tables import pick_column as pick_column
from electra.corpus.tables import separated_rows, table_rows
from electra.corpus.warc import read_records
from electra.errors import DataError

KINDS = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".warc": "warc",
    ".wet": "warc",
}
_ENDINGS = f"{', '.join(KINDS)} (each also {', '.join(COMPRESSIONS)})"


def kind_of(path: Path) -> str:
    """One of the values of `KINDS`, by the name without .gz and the like.

    Raises:
        DataError: another ending.
    """
    kind = KINDS.get(_ending(path))
    if kind is None:
        raise DataError(f"{path} has an ending that is not read; allowed: {_ENDINGS}")
    return kind


def _ending(path: Path) -> str:
    return Path(without_compression(path.name)).suffix.lower()


def expand(sources: Iterable[str | Path]) -> list[Path]:
    """Files, folders (searched through, by links too) and globs as a list of files.

    A folder that `datasets.save_to_disk` wrote stands for the files it lists.

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
            found = sorted(_walk(path))
        else:
            found = sorted(
                Path(p) for p in glob.glob(str(source), recursive=True) if Path(p).is_file()
            )
            for p in found:
                kind_of(p)
            if not found:
                raise DataError(f"{source} does not exist (a file, a folder or a glob is wanted)")
        if not found:
            raise DataError(f"{source} holds no file ending in {_ENDINGS}")
        files += found
    return list(dict.fromkeys(files))


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder with an ending that is read."""
    seen = {os.path.realpath(folder)}
    for place, folders, names in os.walk(folder, followlinks=True):
        new = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(place, name))
            if real not in seen:  # a link back up has no end
                seen.add(real)
                new.append(name)
        folders[:] = new
        listed = _saved_data_set(Path(place))
        for name in names:
            path = Path(place, name)
            if _ending(path) not in KINDS or (listed is not None and name not in listed):
                continue
            if path.is_file():
                yield path
            elif path.is_symlink():
                raise DataError(f"{path} is a link that leads nowhere; mend or remove it")


def _saved_data_set(folder: Path) -> set[str] | None:
    """The files of a data set that `datasets` saved here; others are left over from its work."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return {str(file["filename"]) for file in state["_data_files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
        path: a text file, packed as its name says.
        encoding: UTF-8, or one in which every byte is a character.
        encoding_errors: `strict` raises at the first byte that is not UTF-8, `replace` goes on.
        report: counts what was replaced, and gets the position.
        mend: what to do about bytes that are not UTF-8, for the message.

    Raises:
        DataError: the file is missing, not UTF-8, or a truncated or damaged archive.
    """
    decode = Decoder(path, encoding=encoding, errors=encoding_errors, report=report, mend=mend)
    for at, line in located_lines(path, report=report):
        yield decode(line, at)


def read_rows(
    path: Path,
    *,
    header: str = "auto",
    columns: Iterable[str] = (),
    encoding_errors: str = "strict",
    report: ReadReport | None = None,
    mend: str = "convert it",
) -> Iterator[dict[str, Any]]:
    """Rows of a file of any kind as dictionaries.

    Args:
        path: the file.
        header: of CSV and TSV: `true`, `false`, or `auto` (judged by the first line and by
            whether it holds a name from `columns`; a single column has to have a name that is
            known or asked for). Without a header columns are "0", "1", ...
        columns: names or numbers the caller is going to ask for.
        encoding_errors: as in `read_lines`.
        report: as in `read_lines`; it gets the line of each row, too.
        mend: as in `read_lines`.

    TSV is read without quoting, as GLUE's is. A line of plain text is a row {"text": line}, a
    record of WET {"text": ..., "url": ..., "date": ...}.

    Raises:
        DataError: a line that cannot be parsed, named by its number.
    """
    kind = kind_of(path)
    if kind in ("parquet", "arrow"):
        yield from table_rows(path, kind)
        return
    if kind == "warc":
        decode = Decoder(path, errors=encoding_errors, report=report, mend=mend)
        yield from read_records(path, decode, report)
        return
    lines = read_lines(path, encoding_errors=encoding_errors, report=report, mend=mend)
    if kind == "text":
        yield from ({"text": line.rstrip("\r\n")} for line in lines if line.strip())
    elif kind == "jsonl":
        for number, line in enumerate(lines, start=1):
            if report is not None:
                report.line = number
            if line.strip():
                yield json_row(path, number, line)
    else:
        yield from separated_rows(path, lines, kind, header, list(columns), report)


def json_row(path: Path, number: int, line: str) -> dict[str, Any]:
    """A line of JSON as a row.

    Raises:
        DataError: it is no JSON object; named by its number.
    """
    row = json_object(line, lambda: f"{path} line {number}")
    return {key: whole_text(value) for key, value in row.items()}


def json_object(line: str, place: Callable[[], str]) -> dict[str, Any]:
    """A line of JSON as a row, its texts as they are: they may hold halves of surrogate pairs.

    Raises:
        DataError: it is no JSON object; named by its place.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place()} is not JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{place()} is JSON nested too deep to be read") from None
    if not isinstance(row, dict):
        raise DataError(f"{place()} is {type(row).__name__}; a JSON object is wanted")
    return row


def whole_text(value: Any) -> Any:
    """Text without the halves of surrogate pairs that JSON may hold and UTF-8 may not."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
