"""Labelled files: which columns hold the text and the label, and every complaint by file and row.

A source is a path (CSV, TSV, JSONL, Parquet, and the forms of `text_files`), splits of a JSON file
as `PATH.json:train+oos_train`, or a data set of the Hub as `ID:split`, where ID is `owner/name` or
`owner/name/configuration`. The label column holds a label, or a list of labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from electra.config import LabelledDataConfig
from electra.corpus.files import kind_of, pick_column, read_rows, whole_text
from electra.errors import DataError
from electra.tasks.inputs import is_json
from electra.tasks.model_folder import hub_is_reachable
from electra.tasks.text_files import json_rows, open_trec

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
    labels: tuple[str, ...] | None = None
    """Where the row has a list of labels, perhaps an empty one; `label` is None then."""
    note: str = ""
    """On a file's first row: what reading the file had to put up with."""


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
        source: a path, splits of one, or `ID:split`.
        data: column names or numbers; none: judged by the names that are there. With
            `label_separator` the labels are sets.
        labelled: whether a label is wanted.
        known: the columns of the training data, taken before judging where a file has them all.
        allow_empty: let an empty text pass (a missing one never does).

    Raises:
        DataError: the file, a column, a text or a label is missing.
    """
    columns, examples = _read(source, data, labelled, known, allow_empty, data.header)
    names = {name for e in examples for name in e.labels or (e.label,)}
    separator = data.label_separator
    cells = columns.label and (columns.label.split(separator) if separator else [columns.label])
    if data.header == "auto" and cells and names.issuperset(cells):
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
    rows, note = _open_rows(source, header, asked)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source} holds no rows")
    columns = choose_columns(list(first), data, source, labelled=labelled, known=known)
    examples = [
        row_example(
            row,
            columns,
            number,
            f"{source} row {number + 1}",
            allow_empty=allow_empty,
            label_separator=data.label_separator,
        )
        for number, row in enumerate(itertools.chain([first], rows))
    ]
    examples[0] = replace(examples[0], note=note)
    return columns, examples


def _open_rows(source: str, header: str, asked: list[str]) -> tuple[Iterator[dict[str, Any]], str]:
    """Rows of `source_rows` or of TREC's form, and a note on the file."""
    path = Path(source)
    if path.is_file() and not is_json(source) and kind_of(path) == "text":
        found = open_trec(path)
        if found is not None:
            return found
    return source_rows(source, header, asked), ""


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
    row: dict[str, Any],
    columns: Columns,
    number: int,
    place: str,
    *,
    allow_empty: bool = False,
    label_separator: str | None = None,
) -> LabelledExample:
    """One row as an example; of a label column with a list, or with a separator, `labels`.

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

    label, labels = None, None
    if columns.label is not None:
        value = row.get(columns.label)
        where = f'in column "{columns.label}"'
        if isinstance(value, str) and label_separator is not None:
            value = [part for part in value.split(label_separator) if part.strip()]
        if isinstance(value, list | tuple):
            labels = _label_set(value, place, where)
        elif isinstance(value, dict):
            raise DataError(f"{place} has an object {where}; a label or a list is wanted")
        elif value != value:
            raise DataError(f"{place} has NaN {where}; a finite number or a name is wanted")
        elif not (label := label_name(value)):
            raise DataError(f"{place} has no label {where}")
        elif label_separator is not None:  # a number
            labels, label = (label,), None
    identity = row.get("id")
    return LabelledExample(
        id=identity if isinstance(identity, str | int) else number,
        text=text(columns.text),
        text_pair=None if columns.text_pair is None else text(columns.text_pair),
        label=label,
        place=place,
        labels=labels,
    )


def _label_set(values: Sequence[Any], place: str, where: str) -> tuple[str, ...]:
    """Names in their order, each once."""
    names = [whole_text(label_name(value)) for value in values]
    for name, value in zip(names, values, strict=True):
        if not name or isinstance(value, list | dict):
            raise DataError(f"{place} has {value!r} in its list of labels {where}")
    return tuple(dict.fromkeys(names))


def label_name(value: Any) -> str:
    """A label as a name: 1, 1.0 and "1" are the same; nothing and NaN are ""."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def source_rows(source: str, header: str, asked: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Rows of a file, of its splits, or of `ID:split`; `header` and `asked` as in `read_rows`.

    Raises:
        DataError: it is neither.
    """
    if Path(source).is_file():
        if is_json(source):
            return json_rows(Path(source))
        return read_rows(Path(source), header=header, columns=asked)
    identity, colon, split = source.rpartition(":")
    if colon and split and Path(identity).is_file():
        if is_json(identity):
            return json_rows(Path(identity), split)
        raise DataError(f"{identity} has no splits, as a .json file may; leave :{split} out")
    if colon and split and not Path(identity).suffix and identity.count("/") in (0, 1, 2):
        return _hub_rows(identity, split, source)
    raise DataError(
        f"{source} does not exist (a CSV, TSV, JSONL, JSON or Parquet file is wanted, or a data "
        "set of the Hub as ID:split)"
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
        column: found.names
        for column, feature in loaded.features.items()
        # of a list of labels it is the feature of its items
        if isinstance(found := getattr(feature, "feature", feature), datasets.ClassLabel)
    }

    def named(value: Any, labels: list[str]) -> Any:
        if isinstance(value, list):
            return [named(item, labels) for item in value]
        # the Hub marks a hidden label by -1
        return labels[value] if value is not None and value >= 0 else None

    for row in loaded:
        yield row | {column: named(row[column], labels) for column, labels in names.items()}
