"""Files with tagged words or marked spans, as they are published, to rows.

- CoNLL columns: a word a line, a blank line behind a sentence; the word first, the tag last. A
  character a line is the same. -DOCSTART- lines are left out.
- JSON lines (.jsonl, .json, .parquet, the Hub): `text` with `entities` or `labels`, a list of
  `{start, end, label}` or `[start, end, label]`, ends exclusive; with CLUENER's `label`,
  `{type: {surface: [[start, end]]}}`, ends inclusive; or `tokens` with `tags`.
- A folder of parallel lines as ATIS has: `seq.in`, `seq.out`, and `label` for the intent.

Offsets are code points.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from electra.config import LabelledDataConfig
from electra.corpus.compression import without_compression
from electra.corpus.files import pick_column, read_lines
from electra.errors import DataError
from electra.tasks.labelled_data import TEXTS, source_rows
from electra.tasks.tag_schemes import parse_tag

WORDS = ("tokens", "words")
SPANS = ("entities", "labels", "label", "spans")
TAGS = ("tags", "ner_tags", "labels", "slots")
PARALLEL_WORDS, PARALLEL_TAGS, PARALLEL_INTENT = "seq.in", "seq.out", "label"
_DOCUMENT = "-DOCSTART-"
_JSON = (".jsonl", ".json", ".ndjson")


class Entity(NamedTuple):
    """A marked stretch of a text."""

    start: int
    end: int
    """Behind its last character."""
    label: str


@dataclass(frozen=True, slots=True)
class TaggedRow:
    """A sentence as its file has it: words with tags, or a text with entities."""

    id: str | int
    place: str
    """File and line, for messages."""
    text: str = ""
    entities: tuple[Entity, ...] | None = None
    words: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    intent: str | None = None


@dataclass(frozen=True)
class TagColumns:
    """Columns or keys of text and labels; None where the format says which."""

    text: str | None = None
    label: str | None = None

    def given(self, data: LabelledDataConfig) -> TagColumns:
        """With what the user names put first."""
        return TagColumns(data.text_column or self.text, data.label_column or self.label)


def read_tagged(
    source: str, data: LabelledDataConfig, known: TagColumns, *, labelled: bool = True
) -> list[TaggedRow]:
    """All rows of a source.

    Args:
        source: a file, a folder with `seq.in`, or `ID:split` of the Hub.
        data: columns and header as the user gives them.
        known: columns of the training data.
        labelled: whether tags or entities are wanted.

    Raises:
        DataError: what is missing or wrong, by file and line.
    """
    columns = known.given(data)
    if Path(source).is_dir():
        rows = _parallel(Path(source), labelled)
    elif is_columns(source):
        rows = _column_rows(Path(source), data.header, columns, labelled)
    else:
        rows = (
            json_row(row, columns, number, place, labelled=labelled)
            for number, (place, row) in enumerate(_objects(source, data))
        )
    found = list(rows)
    if not found:
        raise DataError(f"{source} holds no sentences")
    return found


def is_columns(source: str) -> bool:
    """Whether a path is one of CoNLL columns: any file that is no JSON, CSV, Parquet or Arrow."""
    suffix = Path(without_compression(source)).suffix.lower()
    others = (*_JSON, ".csv", ".parquet", ".arrow", ".feather")
    return Path(source).is_file() and suffix not in others


def looks_tagged(path: Path) -> bool:
    """Whether all lines of the first sentence end in a tag behind a word."""
    lines = itertools.takewhile(
        lambda line: line.strip(),
        itertools.dropwhile(lambda x: not x.strip() or x.startswith(_DOCUMENT), read_lines(path)),
    )
    cells = [line.split() for line in lines]
    return bool(cells) and all(len(row) > 1 and _is_tag(row[-1]) for row in cells)


def _is_tag(text: str) -> bool:
    try:
        parse_tag(text)
    except ValueError:
        return False
    return True


def _column_rows(
    path: Path, header: str, columns: TagColumns, labelled: bool
) -> Iterator[TaggedRow]:
    """Sentences of CoNLL columns, parted by tabs where the first line has one, else by spaces."""
    names: list[str] | None = None
    tabs = False
    text = label = 0
    words: list[str] = []
    tags: list[str] = []
    number = start = 0

    def sentence() -> TaggedRow:
        found = tuple(tags) if labelled else None
        return TaggedRow(number, f"{path} line {start}", words=tuple(words), tags=found)

    for line_number, line in enumerate(read_lines(path), start=1):
        line = line.rstrip("\r\n")
        if not line.strip() or line.startswith(_DOCUMENT):
            if words:
                yield sentence()
                number += 1
                words, tags = [], []
            continue
        if names is None:
            tabs = "\t" in line
        cells = line.split("\t") if tabs else re.split(" +", line.strip(" "))
        if names is None:
            wanted = [c for c in (columns.text, columns.label) if c and not c.isdigit()]
            headed = header == "true" or (header == "auto" and any(c in cells for c in wanted))
            names = cells if headed else [str(i) for i in range(len(cells))]
            if labelled and len(names) < 2:
                raise DataError(
                    f"{path} line {line_number} has one column; a word and its tag are wanted, "
                    "parted by a tab or spaces"
                )
            text = names.index(pick_column(names, columns.text or "0", path))
            if labelled:
                label = names.index(pick_column(names, columns.label or str(len(names) - 1), path))
            if headed:
                continue
        if len(cells) != len(names):
            raise DataError(
                f"{path} line {line_number} has {_columns(len(cells))}, the first line has "
                f"{len(names)}"
            )
        if not cells[text]:
            raise DataError(f"{path} line {line_number} has no word in column {text}")
        if not words:
            start = line_number
        words.append(cells[text])
        if labelled:
            if not _is_tag(cells[label]):
                raise DataError(f"{path} line {line_number} {_no_tag(cells[label])}")
            tags.append(cells[label])
    if words:
        yield sentence()


def _columns(count: int) -> str:
    return "1 column" if count == 1 else f"{count} columns"


def _no_tag(tag: str) -> str:
    return (
        f'has the tag "{tag}"; allowed: O, or B-TYPE and I-, E-, M-, S-TYPE with it (BIO, BIOES, '
        "BMES); name another column with --data.label-column"
    )


def _parallel(folder: Path, labelled: bool) -> Iterator[TaggedRow]:
    path = folder / PARALLEL_WORDS
    if not path.is_file():
        raise DataError(f"{folder} is a folder without {PARALLEL_WORDS} (as ATIS's has)")
    sentences = _lines(path)
    tags: list[str] | None = None
    intents: list[str] | None = None
    if labelled:
        tags = _lines(folder / PARALLEL_TAGS)
        if (folder / PARALLEL_INTENT).is_file():
            intents = _lines(folder / PARALLEL_INTENT)
        for name, lines in ((PARALLEL_TAGS, tags), (PARALLEL_INTENT, intents)):
            if lines is not None and len(lines) != len(sentences):
                raise DataError(
                    f"{folder / name} has {len(lines)} lines, {PARALLEL_WORDS} has {len(sentences)}"
                )
    for number, sentence in enumerate(sentences):
        place = f"{path} line {number + 1}"
        words = tuple(sentence.split())
        if not words:
            raise DataError(f"{place} is empty")
        row_tags = tuple(tags[number].split()) if tags is not None else None
        if row_tags is not None:
            _check_tags(row_tags, len(words), place)
        intent = intents[number].strip() if intents is not None else None
        if intent == "":
            raise DataError(f"{folder / PARALLEL_INTENT} line {number + 1} is empty")
        yield TaggedRow(number, place, words=words, tags=row_tags, intent=intent)


def _lines(path: Path) -> list[str]:
    lines = [line.rstrip("\r\n") for line in read_lines(path)]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _check_tags(tags: Iterable[Any], words: int, place: str) -> None:
    found = list(tags)
    if len(found) != words:
        raise DataError(f"{place} has {words} words and {len(found)} tags")
    for tag in found:
        if not isinstance(tag, str) or not _is_tag(tag):
            raise DataError(f"{place} {_no_tag(str(tag))}")


def _objects(source: str, data: LabelledDataConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of JSON lines, Parquet or the Hub."""
    path = Path(source)
    suffix = Path(without_compression(source)).suffix.lower()
    if path.is_file() and suffix in _JSON:
        yield from json_lines(path)
        return
    if suffix == ".csv":
        raise DataError(f"{source}: CSV is not read for tags; give CoNLL columns or JSON lines")
    for number, row in enumerate(source_rows(source, data.header, ())):
        yield f"{source} row {number + 1}", row


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of each line."""
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place} is not JSON: {error} (an object a line is wanted)") from None
        if not isinstance(row, dict):
            raise DataError(f"{place} is {type(row).__name__}; a JSON object a line is wanted")
        yield place, row


def json_row(
    row: dict[str, Any],
    columns: TagColumns,
    number: int,
    place: str,
    *,
    labelled: bool = True,
) -> TaggedRow:
    """An object with a text, or words, and with what is marked in it.

    Raises:
        DataError: a part is missing, or does not fit the text.
    """
    given = row.get("id")
    identity = given if isinstance(given, str | int) else number
    intent = row.get("intent")
    intent = intent if isinstance(intent, str) and intent else None
    words_key = columns.text if isinstance(row.get(columns.text or ""), list) else None
    words_key = words_key or next((k for k in WORDS if isinstance(row.get(k), list)), None)
    text_key = columns.text if columns.text in row else None
    text_key = text_key or next((k for k in TEXTS if isinstance(row.get(k), str)), None)
    if words_key is not None and (text_key is None or text_key == words_key):
        words = row[words_key]
        if not all(isinstance(word, str) and word for word in words):
            raise DataError(f'{place} has an empty word, or one that is no text, in "{words_key}"')
        tags = None
        if labelled:
            tags = row[_key(row, columns.label, TAGS, place)]
            if not isinstance(tags, list):
                raise DataError(f"{place}: tags must be a list beside a list of words")
            _check_tags(tags, len(words), place)
        whole = tuple(_whole(word) for word in words)
        return TaggedRow(
            identity, place, words=whole, tags=None if tags is None else tuple(tags), intent=intent
        )
    text = row.get(text_key) if text_key else None
    if not isinstance(text, str):
        raise DataError(f'{place} has no "text" (nor tokens); it has: {", ".join(row)}')
    text = _whole(text)
    entities = None
    if labelled:
        entities = tuple(_entities(row[_key(row, columns.label, SPANS, place)], text, place))
    return TaggedRow(identity, place, text=text, entities=entities, intent=intent)


def _key(row: dict[str, Any], named: str | None, keys: tuple[str, ...], place: str) -> str:
    for key in (named, *keys):
        if key is not None and key in row:
            return key
    raise DataError(f"{place} has none of {', '.join(keys)}; it has: {', '.join(row)}")


def _whole(text: str) -> str:
    """JSON may hold halves of surrogate pairs, UTF-8 may not: one U+FFFD for each."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)


def _entities(value: Any, text: str, place: str) -> Iterator[Entity]:
    if isinstance(value, dict):
        yield from _cluener(value, text, place)
        return
    if not isinstance(value, list):
        raise DataError(f"{place}: entities must be a list of {{start, end, label}}")
    for item in value:
        if isinstance(item, dict):
            start, end = item.get("start"), item.get("end")
            label = item.get("label", item.get("type"))
        else:
            start, end, label = item if isinstance(item, list) and len(item) == 3 else [None] * 3
        yield _checked(start, end, label, text, place)


def _cluener(value: dict[str, Any], text: str, place: str) -> Iterator[Entity]:
    try:
        flat = [
            (label, surface, start, end)
            for label, surfaces in value.items()
            for surface, places in surfaces.items()
            for start, end in places
        ]
    except (AttributeError, TypeError, ValueError):
        raise DataError(f"{place}: labels must be {{type: {{surface: [[start, last]]}}}}") from None
    for label, surface, start, last in flat:
        end = last + 1 if isinstance(last, int) else last
        entity = _checked(start, end, label, text, place)
        if text[start:end] != surface:
            raise DataError(
                f'{place} says that "{surface}" stands from {start} to {last}; there the text has '
                f'"{text[start:end]}"'
            )
        yield entity


def _checked(start: Any, end: Any, label: Any, text: str, place: str) -> Entity:
    """The entity, without white space at its borders."""
    if not (isinstance(start, int) and isinstance(end, int) and isinstance(label, str) and label):
        raise DataError(
            f"{place} has an entity without whole numbers start and end and a label: "
            f"{start!r}, {end!r}, {label!r}"
        )
    if end <= start:
        raise DataError(f"{place} has the entity {label} from {start} to {end}: it ends too early")
    if start < 0 or end > len(text):
        raise DataError(
            f"{place} has the entity {label} from {start} to {end}, outside its text of "
            f"{len(text)} characters"
        )
    found = text[start:end]
    if not found.strip():
        raise DataError(f"{place} has the entity {label} from {start} to {end} on white space")
    left = len(found) - len(found.lstrip())
    return Entity(start + left, start + left + len(found.strip()), label)
