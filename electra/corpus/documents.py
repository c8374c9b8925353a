"""Raw text to documents: the units that are kept together and split as wholes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from electra.corpus.files import (
    TEXT_COLUMNS,
    ReadReport,
    json_object,
    kind_of,
    pick_column,
    read_rows,
    whole_text,
)
from electra.corpus.spans import Decoder, Span, line_number, located_documents, located_lines
from electra.corpus.tables import column_values
from electra.errors import DataError

_MEND = "convert it, or go on with --encoding-errors replace"
_LINE_END = re.compile(r"(?<!\r)\r++\n")


def read_documents(
    path: Path,
    *,
    text_column: str | None = None,
    encoding_errors: str = "strict",
    report: ReadReport | None = None,
    span: Span | None = None,
) -> Iterator[str]:
    """Documents of one file: blank lines separate them in text, each row is one elsewhere.

    Args:
        path: any of `files.KINDS`, packed or not.
        text_column: name or 0-based number; none: the first of `TEXT_COLUMNS` that is there,
            else the only column.
        encoding_errors: `strict` or `replace`.
        report: counts replaced bytes.
        span: bytes `span[0]` to `span[1]`: only documents that begin there, each read whole, so
            that ranges that cover a file give its documents once each. Of .txt and .jsonl that are
            not packed.

    Raises:
        DataError: the file cannot be read, or the column is not there or holds no text.
    """
    kind = kind_of(path)
    decode = Decoder(path, errors=encoding_errors, report=report, mend=_MEND)
    if kind == "text":
        for at, raw in located_documents(path, span, report):
            text = decode(raw, at).rstrip("\r\n")
            yield _LINE_END.sub("\n", text) if "\r" in text else text
    elif kind == "jsonl":
        yield from _json_documents(path, text_column, decode, report, span)
    elif span is not None:
        raise ValueError(f"{path} is read as a whole: there are ranges of text and JSONL alone")
    elif kind in ("parquet", "arrow"):
        values = column_values(
            path,
            kind,
            lambda names: text_column_of(names, text_column, path),
            encoding_errors=encoding_errors,
            report=report,
            mend=_MEND,
        )
        for number, (column, value) in enumerate(values, start=1):
            if is_document(value, column, f"{path} row {number}"):
                yield value
    else:
        wanted = (text_column,) if text_column is not None else TEXT_COLUMNS
        rows = read_rows(
            path, columns=wanted, encoding_errors=encoding_errors, report=report, mend=_MEND
        )
        yield from row_texts(rows, path, "text" if kind == "warc" else text_column)


def row_texts(rows: Iterable[dict[str, Any]], path: Path, text_column: str | None) -> Iterator[str]:
    """The texts of rows, as `read_documents` finds them."""
    column: str | None = None
    for number, row in enumerate(rows, start=1):
        if column is None or column not in row:
            column = text_column_of(row, text_column, path)
        if is_document(row[column], column, f"{path} row {number}"):
            yield row[column]


def is_document(value: Any, column: str, place: str) -> bool:
    """Whether a value is text and not blank; nothing is no document.

    Raises:
        DataError: it is neither text nor nothing.
    """
    if value is None:
        return False
    if not isinstance(value, str):
        raise DataError(
            f'{place}: column "{column}" holds {type(value).__name__}, not text; '
            "choose another with --text-column"
        )
    return bool(value) and not value.isspace()


def text_column_of(names: Iterable[str], wanted: str | None, path: Path) -> str:
    """The column of the text: the one wanted, the first of `TEXT_COLUMNS`, or the only one.

    Raises:
        DataError: it is not there, or there are several to choose from.
    """
    columns = list(names)
    if wanted is not None:
        return pick_column(columns, wanted, path)
    for name in TEXT_COLUMNS:
        if name in columns:
            return name
    if len(columns) == 1:
        return columns[0]
    raise DataError(
        f"{path} has the columns {', '.join(columns)}; say which one is the text: "
        "--text-column NAME"
    )


def _json_documents(
    path: Path,
    text_column: str | None,
    decode: Decoder,
    report: ReadReport | None,
    span: Span | None,
) -> Iterator[str]:
    # by the first row of the file, whatever the range; a row without it has its own
    usual = _first_column(path, text_column) if span is not None and span[0] else None
    for at, raw in located_lines(path, span, report):
        line = decode(raw, at)
        if line.isspace():
            continue
        row = json_object(line, partial(_place, path, at))
        if usual is None:
            usual = text_column_of(row, text_column, path)
        column = usual if usual in row else text_column_of(row, text_column, path)
        text = row[column]
        if not isinstance(text, str) and text is not None:
            is_document(text, column, _place(path, at))  # complains
        if not text or text.isspace():
            continue
        if "\\u" in line and (whole := whole_text(text)) != text:
            if report is not None:
                halves = whole.count("\ufffd") - text.count("\ufffd")
                seen = report.replaced_surrogates
                seen[str(path)] = seen.get(str(path), 0) + halves
            text = whole
        yield text


def _first_column(path: Path, text_column: str | None) -> str | None:
    decode = Decoder(path, errors="replace")  # the range that holds the row complains
    for at, raw in located_lines(path):
        line = decode(raw, at)
        if not line.isspace():
            row = json_object(line, partial(_place, path, at))
            return text_column_of(row, text_column, path)
    return None


def _place(path: Path, at: int) -> str:
    return f"{path} line {line_number(path, at)}"
