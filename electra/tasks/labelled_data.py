"""Labelled files: which columns hold the text and the label, and every complaint by file and row.

A source is a path (CSV, TSV, JSONL, Parquet) or a data set of the Hub as `ID:split`, where ID is
`owner/name` or `owner/name/configuration`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from electra.config import LabelledDataConfig
from electra.corpus.files import pick_column, read_rows
from electra.errors import DataError
from electra.tasks.model_folder import hub_is_reachable

TEXT_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text", "text_pair"),
    ("sentence_a", "sentence_b"),
)
TEXTS = ("text", "sentence", "sentence1", "premise", "question", "question1", "text_a")
MORE_TEXTS = ("content", "article", "review", "document", "body", "utterance")
IDENTITIES = {"id", "idx", "index", "guid", "uid"}
LABELS = ("label", "labels", "category", "class", "intent", "gold_label", "target", "score")


@dataclass(frozen=True)
class Columns:
    """Names of the columns of one file."""

    text: str
    text_pair: str | None
    label: str | None
    """None where no label was asked for."""


@dataclass(frozen=True)
class LabelledExample:
    """A row."""

    id: str | int
    """The row's `id` where it has one, else its 0-based number."""
    text: str
    text_pair: str | None = None
    label: str | None = None
    """As written, without white space around it; None where it was not asked for."""
    place: str = ""
    """File and row, for messages."""


def read_examples(
    source: str,
    data: LabelledDataConfig,
    *,
    labelled: bool = True,
    known: Columns | None = None,
    allow_empty: bool = False,
) -> tuple[Columns, list[LabelledExample]]:
    """The columns that were chosen and all rows.

    Args:
        source: a path or `ID:split`.
        data: column names or numbers; none: judged by the names that are there.
        labelled: whether a label is wanted.
        known: the columns of the training data, taken before judging where a file has them all.
        allow_empty: let an empty text pass (a missing one never does).

    Raises:
        DataError: the file, a column, a text or a label is missing.
    """
    columns, examples = _read(source, data, labelled, known, allow_empty, data.header)
    if data.header == "auto" and columns.label in {e.label for e in examples}:
        # the "header" ends in one of the labels: it was the first row of data
        columns, examples = _read(source, data, labelled, known, allow_empty, "false")
    return columns, examples


def _read(
    source: str,
    data: LabelledDataConfig,
    labelled: bool,
    known: Columns | None,
    allow_empty: bool,
    header: str,
) -> tuple[Columns, list[LabelledExample]]:
    asked = [c for c in (data.text_column, data.text_pair_column, data.label_column) if c]
    rows = source_rows(source, header, asked)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source} holds no rows")
    columns = choose_columns(list(first), data, source, labelled=labelled, known=known)
    examples = [
        row_example(row, columns, number, f"{source} row {number + 1}", allow_empty=allow_empty)
        for number, row in enumerate(itertools.chain([first], rows))
    ]
    return columns, examples


def choose_columns(
    available: list[str],
    data: LabelledDataConfig,
    source: str,
    *,
    labelled: bool = True,
    known: Columns | None = None,
) -> Columns:
    """Which columns hold what: those asked for, else the training data's, else by their names.

    Raises:
        DataError: a column that was asked for is not there, or nothing is left for the text.
    """
    path = Path(source)
    label = None
    if labelled:
        if data.label_column is not None:
            label = pick_column(available, data.label_column, path)
        elif known is not None and known.label in available:
            label = known.label
        else:
            label = next((name for name in LABELS if name in available), available[-1])
    free = [name for name in available if name != label]
    if data.text_column is not None or data.text_pair_column is not None:
        text = pick_column(available, data.text_column or "0", path)
        pair = data.text_pair_column
        return Columns(text, None if pair is None else pick_column(available, pair, path), label)
    if known is not None and known.text in free and known.text_pair in (None, *free):
        return Columns(known.text, known.text_pair, label)
    for text, pair in TEXT_PAIRS:
        if text in free and pair in free:
            return Columns(text, pair, label)
    free = [name for name in free if name.lower() not in IDENTITIES]
    if not free:
        raise DataError(
            f"{source} has no column for the text beside the label's; it has: "
            f"{', '.join(available)}"
        )
    return Columns(
        next((name for name in TEXTS + MORE_TEXTS if name in free), free[0]), None, label
    )


def row_example(
    row: dict[str, Any], columns: Columns, number: int, place: str, *, allow_empty: bool = False
) -> LabelledExample:
    """One row as an example.

    Raises:
        DataError: the text or the label is missing or empty, named by `place`.
    """

    def text(column: str) -> str:
        value = row.get(column)
        if not isinstance(value, str):
            found = "no text" if value is None else f"{type(value).__name__}, not text,"
            raise DataError(f'{place} has {found} in column "{column}"')
        if not value.strip() and not allow_empty:
            raise DataError(f'{place} has an empty text in column "{column}"')
        return value

    label = None
    if columns.label is not None:
        label = label_name(row.get(columns.label))
        if not label:
            raise DataError(f'{place} has no label in column "{columns.label}"')
    identity = row.get("id")
    return LabelledExample(
        id=identity if isinstance(identity, str | int) else number,
        text=text(columns.text),
        text_pair=None if columns.text_pair is None else text(columns.text_pair),
        label=label,
        place=place,
    )


def label_name(value: Any) -> str:
    """A label as a name: 1, 1.0 and "1" are the same; nothing and NaN are ""."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def source_rows(source: str, header: str, asked: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Rows of a file or of `ID:split`; `header` and `asked` as in `read_rows`.

    Raises:
        DataError: it is neither.
    """
    if Path(source).is_file():
        return read_rows(Path(source), header=header, columns=asked)
    identity, colon, split = source.rpartition(":")
    if colon and split and not Path(identity).suffix and identity.count("/") in (0, 1, 2):
        return _hub_rows(identity, split, source)
    raise DataError(
        f"{source} does not exist (a CSV, TSV, JSONL or Parquet file is wanted, or a data set of "
        "the Hub as ID:split)"
    )


def _hub_rows(identity: str, split: str, source: str) -> Iterator[dict[str, Any]]:
    import datasets

    owner_and_name, configuration = identity, None
    if identity.count("/") == 2:
        owner_and_name, _, configuration = identity.rpartition("/")
    if not hub_is_reachable() and not datasets.config.HF_HUB_OFFLINE:
        raise DataError(
            f"{source} is no file here, and the Hub cannot be reached for a data set of that name "
            "(HF_HUB_OFFLINE=1 uses what was downloaded before)"
        )
    try:
        loaded = datasets.load_dataset(owner_and_name, configuration, split=split)
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{source} could not be had from the Hub: {first}") from None
    names = {
        column: feature.names
        for column, feature in loaded.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    for row in loaded:
        # the Hub marks a hidden label by -1
        yield row | {
            column: labels[row[column]] if row[column] is not None and row[column] >= 0 else None
            for column, labels in names.items()
        }
