"""Texts without labels as examples, in the form of the training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from electra.config import LabelledDataConfig
from electra.corpus.compression import without_compression
from electra.errors import DataError
from electra.tasks.inputs import CHUNK, check_utf8, open_input
from electra.tasks.labelled_data import (
    Columns,
    LabelledExample,
    choose_columns,
    header_of,
    row_example,
)
from electra.tasks.text_files import TREC_LABELS, open_trec


def open_texts(
    input: str, data: LabelledDataConfig, known: Columns, stdin: TextIO | None = None
) -> tuple[Iterator[LabelledExample], int]:
    """Rows of a file or of standard input as examples, and how many to answer together.

    Args:
        input: a path, or `-`.
        data: the columns asked for; none: those of the training data where they are there.
        known: the columns of the training data.
        stdin: none: `sys.stdin`.

    Raises:
        DataError: what is missing or wrong, by file and row.
    """
    if known.label in TREC_LABELS and without_compression(input).lower().endswith(".txt"):
        found = open_trec(Path(input))
        if found is not None:
            return _examples(found[0], input, data, known), CHUNK
    names = (data.text_column, data.text_pair_column, known.text, known.text_pair)
    source = open_input(
        input,
        header=header_of(data, known),
        columns=[name for name in names if name],
        stdin=stdin,
    )
    return _examples(source.rows, source.place, data, known), source.chunk


def _examples(
    rows: Iterator[dict[str, Any]], place: str, data: LabelledDataConfig, known: Columns
) -> Iterator[LabelledExample]:
    columns: Columns | None = None
    for number, row in enumerate(rows):
        if columns is None:
            columns = choose_columns(list(row), data, place, labelled=False, known=known)
            if known.text_pair is not None and list(row) == ["text"]:
                raise DataError(
                    f"{place} holds one text a line, the model reads two sentences: give "
                    "JSONL, CSV or TSV with two columns"
                )
            check_pair(columns.text_pair is not None, known.text_pair is not None, place)
        where = f"{place} row {number + 1}"
        yield row_example(row, columns, number, where, allow_empty=True)
    if columns is None:
        raise DataError(f"{place} holds no rows")


def text_examples(texts: Sequence[Any], has_pair: bool) -> list[LabelledExample]:
    """From texts, or pairs of them for a model of two sentences.

    Raises:
        DataError: an input is something else, or no UTF-8.
    """
    examples = []
    for i, given in enumerate(texts):
        parts = given if has_pair and isinstance(given, tuple | list) else (given,)
        if len(parts) != 1 + has_pair or not all(isinstance(part, str) for part in parts):
            wanted = "two sentences, (text, text)" if has_pair else "one sentence, a text"
            raise DataError(f"input {i}: the model reads {wanted}; {given!r:.80} was given")
        for part in parts:
            check_utf8(part, f"input {i}")
        examples.append(LabelledExample(i, *parts))
    return examples


def check_pair(given: bool, wanted: bool, source: str) -> None:
    """Refuse one sentence where two are wanted, and the other way round.

    Raises:
        DataError: naming what was given and how to mend it.
    """
    if given and not wanted:
        raise DataError(
            f"{source} gives two sentences, the model reads one; name its column with "
            "--data.text-column"
        )
    if wanted and not given:
        raise DataError(
            f"{source} gives one sentence, the model reads two; name the second one's column "
            "with --data.text-pair-column"
        )
