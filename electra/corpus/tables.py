"""Rows of CSV, TSV, Parquet and Arrow files; of the last two also one column alone."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from electra.corpus.compression import unpacked_file
from electra.corpus.spans import ReadReport
from electra.errors import DataError

TEXT_COLUMNS = ("text", "content", "document", "body", "article", "sentence")
"""Names of the column that holds a document's text, the first that is there."""
_LONE_HEADERS = {*TEXT_COLUMNS, "sentence1", "premise", "question", "review", "utterance", "title"}
_ROWS = 1024
_BUFFER = 2**20
csv.field_size_limit(2**31 - 1)


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


def separated_rows(
    path: Path,
    lines: Iterator[str],
    kind: str,
    header: str,
    columns: list[str],
    report: ReadReport | None,
) -> Iterator[dict[str, Any]]:
    """Rows of `csv` or `tsv` lines; arguments and errors are those of `files.read_rows`."""
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
                if header == "true" or (header == "auto" and (named or _looks_like_header(row))):
                    names = [cell.strip() for cell in row]
                    named_cells = [name for name in names if name]  # sheets have nameless columns
                    if len(set(named_cells)) < len(named_cells):
                        raise DataError(f"{path} has two columns of one name: {', '.join(names)}")
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


def table_rows(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Rows of a file of kind `parquet` or `arrow`.

    Raises:
        DataError: it is missing or damaged.
    """
    with _complaints(path, kind):
        for batch, _ in _batches(path, kind, None):
            yield from batch.to_pylist()


def column_values(
    path: Path,
    kind: str,
    choose: Callable[[list[str]], str],
    *,
    encoding_errors: str = "strict",
    report: ReadReport | None = None,
    mend: str = "convert it",
) -> Iterator[tuple[str, Any]]:
    """(its name, value) for each row of one column of a Parquet or Arrow file.

    Args:
        path: the file.
        kind: `parquet` or `arrow`.
        choose: the names of the columns to the one wanted.
        encoding_errors: `strict` or `replace`; text in these files ought to be UTF-8, too.
        report: counts what was replaced, and gets the position, as far as it can be told.
        mend: what to do about bytes that are not UTF-8, for the message.

    Raises:
        DataError: the file is missing or damaged, or holds bytes that are not UTF-8.
    """
    row = 0
    with _complaints(path, kind):
        size = path.stat().st_size if path.is_file() else 0
        for batch, share in _batches(path, kind, choose):
            if report is not None:
                report.position = int(share * size)
            name = batch.schema.names[0]
            column = batch.column(0)
            try:
                values = column.to_pylist()
            except UnicodeDecodeError:
                values = _decoded(column, path, row, encoding_errors, report, mend)
            row += len(values)
            for value in values:
                yield name, value


def _batches(
    path: Path, kind: str, choose: Callable[[list[str]], str] | None
) -> Iterator[tuple[Any, float]]:
    """(batch of `_ROWS` rows at most, share of the file read), of all columns or the chosen one."""
    import pyarrow

    with unpacked_file(path) as file:
        if kind == "parquet":
            import pyarrow.parquet as parquet

            # buffered: a column is read page by page, and not a row group at once
            with parquet.ParquetFile(file, buffer_size=_BUFFER) as opened:
                wanted = [choose(opened.schema_arrow.names)] if choose is not None else None
                rows, done = max(1, opened.metadata.num_rows), 0
                for batch in opened.iter_batches(batch_size=_ROWS, columns=wanted):
                    done += len(batch)
                    yield batch, done / rows
            return
        size = max(1, file.seek(0, os.SEEK_END))
        file.seek(0)
        is_file = file.read(6) == b"ARROW1"  # else a stream, as `datasets` writes
        file.seek(0)
        reader = pyarrow.ipc.open_file(file) if is_file else pyarrow.ipc.open_stream(file)
        name = choose(reader.schema.names) if choose is not None else None
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            share = file.tell() / size
            whole = batch if name is None else batch.select([name])
            for first in range(0, len(whole), _ROWS):
                yield whole.slice(first, _ROWS), share


@contextmanager
def _complaints(path: Path, kind: str) -> Iterator[None]:
    """What pyarrow raises, as one line."""
    import pyarrow

    name = {"parquet": "Parquet", "arrow": "Arrow"}[kind]
    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"{path} is not a whole {name} file: {said}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} holds text that is not UTF-8: {error}") from None


def _decoded(
    column: Any, path: Path, row: int, errors: str, report: ReadReport | None, mend: str
) -> list[Any]:
    """The values of a column of text with bytes that are not UTF-8."""
    import pyarrow

    values: list[Any] = []
    for number, raw in enumerate(column.cast(pyarrow.large_binary()).to_pylist(), start=row + 1):
        try:
            values.append(raw if raw is None else raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            if errors != "replace":
                raise DataError(
                    f"{path} row {number} is not UTF-8: byte {error.start} of the text is "
                    f"0x{raw[error.start]:02x}; {mend}"
                ) from None
            values.append(raw.decode("utf-8", errors="replace"))
            if report is not None:
                before = raw.decode("utf-8", errors="ignore").count("\ufffd")
                report.count_bytes(path, values[-1].count("\ufffd") - before)
    return values
