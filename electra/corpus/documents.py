"""Raw text to documents: the units that are kept together and split as wholes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from electra.corpus.files import (
    TEXT_COLUMNS,
    ReadReport,
    kind_of,
    pick_column,
    read_lines,
    read_rows,
)
from electra.errors import DataError

_MEND = "convert it, or go on with --encoding-errors replace"


def read_documents(
    path: Path,
    *,
    text_column: str | None = None,
    encoding_errors: str = "strict",
    report: ReadReport | None = None,
) -> Iterator[str]:
    """Documents of one file: blank lines separate them in text, each row is one elsewhere.

    Args:
        path: .txt, .jsonl, .csv, .tsv or .parquet, also .gz.
        text_column: name or 0-based number; none: the first of `TEXT_COLUMNS` that is there,
            else the only column.
        encoding_errors: `strict` or `replace`.
        report: counts replaced bytes.

    Raises:
        DataError: the file cannot be read, or the column is not there or holds no text.
    """
    if kind_of(path) == "text":
        yield from _paragraph_documents(
            read_lines(path, encoding_errors=encoding_errors, report=report, mend=_MEND)
        )
        return
    column: str | None = None
    wanted = (text_column,) if text_column is not None else TEXT_COLUMNS
    rows = read_rows(
        path, columns=wanted, encoding_errors=encoding_errors, report=report, mend=_MEND
    )
    for number, row in enumerate(rows, start=1):
        if column is None or column not in row:
            column = _text_column(row, text_column, path)
        text = row[column]
        if text is None:
            continue
        if not isinstance(text, str):
            raise DataError(
                f'{path} row {number}: column "{column}" holds {type(text).__name__}, not text; '
                "choose another with --text-column"
            )
        if text.strip():
            yield text


def _text_column(row: dict[str, object], wanted: str | None, path: Path) -> str:
    if wanted is not None:
        return pick_column(row, wanted, path)
    for name in TEXT_COLUMNS:
        if name in row:
            return name
    if len(row) == 1:
        return next(iter(row))
    raise DataError(
        f"{path} has the columns {', '.join(row)}; say which one is the text: --text-column NAME"
    )


def _paragraph_documents(lines: Iterator[str]) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line.rstrip("\r\n"))
        elif held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)
