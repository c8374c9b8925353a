"""Texts and words without labels: what `predict` reads for tagging."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from electra.config import LabelledDataConfig
from electra.corpus.compression import without_compression
from electra.errors import DataError
from electra.tasks.inputs import CHUNK, STDIN, open_input
from electra.tasks.tagged_files import (
    TagColumns,
    TaggedRow,
    is_columns,
    json_lines,
    json_row,
    looks_tagged,
    read_tagged,
)


def open_untagged(
    input: str, data: LabelledDataConfig, known: TagColumns, stdin: TextIO | None = None
) -> tuple[Iterator[TaggedRow], int]:
    """Rows of any format, and how many to answer together.

    A .txt or .tsv holds CoNLL columns where its first sentence ends in tags, or where
    --data.text-column says which column; else it holds texts. JSON lines of standard input may
    have a text or words.

    Raises:
        DataError: what is missing or wrong, by file and row.
    """
    if input != STDIN and (Path(input).is_dir() or _holds_columns(input, data)):
        return iter(read_tagged(input, data, known, labelled=False)), CHUNK
    columns = known.given(data)
    if _suffix(input) == ".json":
        return _rows(json_lines(Path(input)), columns, input), CHUNK
    names = [columns.text] if columns.text else []
    source = open_input(input, header=data.header, columns=names, stdin=stdin)
    numbered = enumerate(source.rows, start=1)
    placed = ((f"{source.place} row {number}", row) for number, row in numbered)
    return _rows(placed, columns, source.place), source.chunk


def _rows(
    objects: Iterator[tuple[str, dict[str, object]]], columns: TagColumns, place: str
) -> Iterator[TaggedRow]:
    number = -1
    for number, (where, row) in enumerate(objects):
        yield json_row(row, columns, number, where, labelled=False)
    if number < 0:
        raise DataError(f"{place} holds no rows")


def _holds_columns(input: str, data: LabelledDataConfig) -> bool:
    if not is_columns(input):
        return False
    if _suffix(input) not in (".txt", ".text", ".tsv") or looks_tagged(Path(input)):
        return True
    return _suffix(input) != ".tsv" and data.text_column is not None


def _suffix(input: str) -> str:
    return Path(without_compression(input)).suffix.lower()
