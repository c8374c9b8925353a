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
from electra.corpus.compression import without_compression
from electra.corpus.files import KINDS, kind_of, pick_column, read_rows, whole_text
from electra.errors import DataError
from electra.tasks.inputs import file_and_splits, is_json
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
LABELS = (
    *("label", "labels", "category", "class", "intent", "gold_label", "target", "score"),
    *("stars", "rating", "sentiment", "polarity", "verdict"),
)


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
    header = header_of(data, known)
    available, columns, examples = _read(source, data, labelled, known, allow_empty, header)
    names = {name for e in examples for name in e.labels or (e.label,)}
    separator = data.label_separator
    cells = columns.label and (columns.label.split(separator) if separator else [columns.label])
    unnamed = header == "auto" and not _has_a_name(available, data, known)
    if unnamed and cells and names.issuperset(cells):
        # the "header" ends in one of the labels: it was the first row of data
        _, columns, examples = _read(source, data, labelled, known, allow_empty, "false")
    return columns, examples


def header_of(data: LabelledDataConfig, known: Columns | None) -> str:
    """`data.header`; where training read a file without one, this file has none either.

    A header it has all the same where a column is asked for by a name.
    """
    if data.header != "auto" or known is None or not known.text.isdigit():
        return data.header
    return "auto" if any(not name.isdigit() for name in _asked(data)) else "false"


def _asked(data: LabelledDataConfig, known: Columns | None = None) -> list[str]:
    """Names or numbers that the person gives, then those of the training data."""
    columns = [data.text_column, data.text_pair_column, data.label_column]
    if known is not None:
        columns += [known.text, known.text_pair, known.label]
    return [name for name in columns if name]


def _has_a_name(available: list[str], data: LabelledDataConfig, known: Columns | None) -> bool:
    """Whether a column has a name that is asked for, or that columns mostly have."""
    names = {*TEXTS, *MORE_TEXTS, *LABELS, *_asked(data, known)}
    return any({name, name.casefold()} & names for name in available if not name.isdigit())


def _read(
    source: str,
    data: LabelledDataConfig,
    labelled: bool,
    known: Columns | None,
    allow_empty: bool,
    header: str,
) -> tuple[list[str], Columns, list[LabelledExample]]:
    """All columns there are, those chosen, the rows."""
    rows, note = _open_rows(source, header, _asked(data, known))
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source} holds no rows")
    available = list(first)
    columns = choose_columns(available, data, source, labelled=labelled, known=known)
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
    return available, columns, examples


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

    Args:
        available: the columns of the first row.
        data: columns asked for.
        source: for messages.
        labelled: whether a label is wanted.
        known: the columns of the training data.

    Raises:
        DataError: a column that was asked for is not there, or is asked for twice; nothing is left
            for the text or the label.
    """
    if not available:
        raise DataError(f"{source} row 1 has no columns")
    fields = ("text_column", "text_pair_column", *(["label_column"] if labelled else []))
    wanted = {field: getattr(data, field) for field in fields}
    asked = {
        field: pick_column(available, name, Path(source))
        for field, name in wanted.items()
        if name is not None
    }
    for one, other in itertools.combinations(asked, 2):
        if asked[one] == asked[other]:
            flags = [f"--data.{field.replace('_', '-')}" for field in (one, other)]
            raise DataError(
                f'{" and ".join(flags)} both name column "{asked[one]}" of {source}; each wants '
                f"one of its own (there are: {', '.join(available)})"
            )
    free = [name for name in available if name not in asked.values()]
    label = asked.get("label_column")
    if labelled and label is None:
        if not free:
            raise DataError(
                f"{source} has no column for the label beside the text's; it has: "
                f"{', '.join(available)}"
            )
        label = _guessed_label(free, known)
        free.remove(label)
    text, pair = asked.get("text_column"), asked.get("text_pair_column")
    if text is not None:
        return Columns(text, pair, label)
    if pair is None:
        if known is not None and known.text in free and known.text_pair in (None, *free):
            return Columns(known.text, known.text_pair, label)
        for first, second in TEXT_PAIRS:
            if first in free and second in free:
                return Columns(first, second, label)
    names = [name for name in free if name.lower() not in IDENTITIES]
    if not names:
        raise DataError(
            f"{source} has no column for the text beside the label's; it has: "
            f"{', '.join(available)}"
        )
    beside = [first for first, second in TEXT_PAIRS if second == pair]
    if known is not None:
        beside.insert(0, known.text)
    likely = (name for name in (*beside, *TEXTS, *MORE_TEXTS) if name in names)
    return Columns(next(likely, names[0]), pair, label)


def _guessed_label(free: list[str], known: Columns | None) -> str:
    """The training data's, else by its name, else the last one that is not called like a text."""
    if known is not None and known.label in free:
        return str(known.label)
    others = {*TEXTS, *MORE_TEXTS, *(second for _, second in TEXT_PAIRS)}
    unlike = [name for name in free if name not in others and name.lower() not in IDENTITIES]
    return next((name for name in LABELS if name in free), (unlike or free)[-1])


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
    path, splits = file_and_splits(source)
    if path.is_file():
        if is_json(str(path)):
            return json_rows(path, splits)
        return read_rows(path, header=header, columns=asked)
    file, colon, split = source.rpartition(":")
    if colon and split and Path(file).is_file():
        raise DataError(f"{file} has no splits, as a .json file may; leave :{split} out")
    identity, colon, split = source.partition(":")  # a split may have more of them: train[:80%]
    if colon and split and not is_file_name(identity) and identity.count("/") in (0, 1, 2):
        return _hub_rows(identity, split, source)
    what = "is a folder" if path.is_dir() else "does not exist"
    raise DataError(
        f"{source} {what} (a CSV, TSV, JSONL, JSON or Parquet file is wanted, or a data "
        "set of the Hub as ID:split)"
    )


def is_file_name(name: str) -> bool:
    """Whether a name ends as those of files do; one of the Hub may have dots, as PAN-X.zh."""
    whole = without_compression(name)
    return whole != name or Path(whole).suffix.lower() in (*KINDS, ".json")


def _hub_rows(identity: str, split: str, source: str) -> Iterator[dict[str, Any]]:
    import datasets
    from datasets.exceptions import DatasetsError

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
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
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
