"""Rows held out of training data, and fixed samples, drawn by seed from a file of any form.

What belongs together is held out together: the questions on one passage, in SQuAD's JSON the
passages of one article, in text classification the rows of one text (of pairs: one first text),
whatever its case and white space. Every label stays among the rows to train on. What is written has
the form of what was read, a folder's a folder, so that the task's own reader reads it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from electra.config import LabelledDataConfig
from electra.corpus.compression import read_blocks, without_compression
from electra.corpus.order import shuffled_ids
from electra.errors import DataError
from electra.tasks.inputs import is_json
from electra.tasks.labelled_data import choose_columns, label_name, source_rows
from electra.tasks.tagged_files import (
    PARALLEL_INTENT,
    PARALLEL_TAGS,
    PARALLEL_WORDS,
    TagColumns,
    TaggedRow,
    is_columns,
    json_lines,
    read_tagged,
)

_DOCUMENT = b"-DOCSTART-"


@dataclass(frozen=True)
class Unit:
    """What is drawn or not as a whole: a row, a sentence of tagged words, a passage."""

    content: Any
    """What stands in the file."""
    rows: int = 1
    """Examples in it."""
    group: Hashable = None
    """Units of one group are held out together; None: on its own."""
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Units:
    """The units of one source or more, in order, and how to write some of them."""

    units: list[Unit]
    suffix: str
    """Of the file's name; "" for a folder."""
    written: Callable[[list[Any]], bytes]
    """The contents as a file."""
    files: Callable[[list[Any]], dict[str, bytes]] | None = None
    """The contents as the files of a folder, by their names, where that was read."""


@dataclass(frozen=True)
class Split:
    """Numbers of units, each in the order of the file; the two share none."""

    kept: list[int]
    held_out: list[int]


def split(
    units: Sequence[Unit],
    *,
    seed: int = 0,
    held_out: float = 0.0,
    max_rows: int | None = None,
    max_held_out: int | None = None,
    every_label: bool = True,
) -> Split:
    """Draw units to keep and units to hold out; a pure function of the arguments.

    Args:
        units: one or more.
        seed: of the order they are drawn in.
        held_out: share of all rows, 0 to below 1; whole groups, so it may be a little more.
        max_rows: of the kept; none: all that are left.
        max_held_out: of those held out; the others are left to train on.
        every_label: keep a unit of each label, as long as `max_rows` allows.

    Raises:
        DataError: there is one group alone, which cannot be parted.
    """
    order, first = _order(units, seed, every_label)
    out: list[int] = []
    if held_out:
        members = defaultdict(list)
        for number, unit in enumerate(units):
            members[_group(unit, number)].append(number)
        if len(members) < 2:
            raise DataError(f"{len(units)} rows on one text or passage: none can be held out")
        wanted = held_out * sum(unit.rows for unit in units)
        wanted = wanted if max_held_out is None else min(wanted, max_held_out)
        taken: dict[Hashable, None] = {}
        rows = 0
        # from the end, and what is wanted for its label last of all
        needed = {_group(units[i], i) for i in order[:first]}
        spare = [i for i in reversed(order) if _group(units[i], i) not in needed]
        for number in (*spare, *reversed(order)):
            group = _group(units[number], number)
            if rows >= wanted or len(taken) == len(members) - 1:
                break
            if group not in taken:
                taken[group] = None
                rows += sum(units[i].rows for i in members[group])
        out = [number for group in taken for number in members[group]]
    hidden = set(out)
    kept = [number for number in order if number not in hidden]
    return Split(sorted(_first(kept, units, max_rows)), sorted(_first(out, units, max_held_out)))


def _group(unit: Unit, number: int) -> Hashable:
    return ("unit", number) if unit.group is None else unit.group


def _order(units: Sequence[Unit], seed: int, every_label: bool) -> tuple[list[int], int]:
    """All numbers in a random order, one unit of each label first; and how many those are."""
    positions = np.arange(len(units), dtype=np.uint64)
    order = [int(i) for i in shuffled_ids(positions, num_examples=len(units), seed=seed)]
    if not every_label or _are_scores({label for unit in units for label in unit.labels}):
        return order, 0
    seen: set[str] = set()
    first: dict[int, None] = {}
    for number in order:
        if not units[number].labels <= seen:
            seen |= units[number].labels
            first[number] = None
    return [*first, *(number for number in order if number not in first)], len(first)


def _are_scores(labels: set[str]) -> bool:
    """Whether they are numbers, not all whole: then there are no classes."""
    try:
        return any(not float(label).is_integer() for label in labels)
    except ValueError:
        return False


def _first(numbers: Iterable[int], units: Sequence[Unit], most: int | None) -> list[int]:
    """Those that fit into `most` rows, in their order; at least one."""
    chosen: list[int] = []
    rows = 0
    for number in numbers:
        if most is None or rows + units[number].rows <= most or not chosen:
            chosen.append(number)
            rows += units[number].rows
    return chosen


def read_units(sources: Sequence[str], task: str, data: LabelledDataConfig) -> Units:
    """All units of some sources of one form.

    Args:
        sources: paths, or `ID:split` of the Hub.
        task: whose files they are, by name.
        data: where text and label stand.

    Raises:
        DataError: a file is missing or damaged, or of another form than the first.
    """
    found = [_read(source, task, data) for source in sources]
    for source, part in zip(sources, found, strict=True):
        if part.suffix != found[0].suffix:  # a folder's is ""
            raise DataError(f"{source} has another form than {sources[0]}; one form is wanted")
        if not part.units:
            raise DataError(f"{source} holds no rows")
    units = [
        # a text is the same in all sources, an article has a number in its own
        replace(u, group=(number, u.group) if isinstance(u.group, int) else u.group)
        for number, part in enumerate(found)
        for u in part.units
    ]
    return replace(found[0], units=units)


def _read(source: str, task: str, data: LabelledDataConfig) -> Units:
    path = Path(source)
    if path.is_dir():
        if task != "token-classification":
            raise DataError(f"{source} is a folder; a file is wanted")
        rows = read_tagged(source, data, TagColumns())
        return Units([_tagged_unit(row) for row in rows], "", _blocks, _parallel_lines)
    name = without_compression(path.name).lower()
    if task == "token-classification" and is_columns(source):
        return Units(list(_sentences(path)), Path(name).suffix or ".txt", _blocks)
    if path.is_file() and name.endswith((".txt", ".text")):
        if task == "relation-extraction":
            return Units(list(_numbered(path)), ".txt", _blocks)
        return Units(list(_lines(path)), ".txt", b"".join)
    if path.is_file() and is_json(source) and task == "question-answering":
        return Units(list(_passages(path)), ".json", _squad)
    if path.is_file() and is_json(source):
        text = _content(path).decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
        if text.startswith("["):
            return Units(list(_row_units(_json(path), source, task, data)), ".json", _list)
    return Units(list(_row_units(_rows(source, data), source, task, data)), ".jsonl", _jsonl)


def _content(path: Path) -> bytes:
    return b"".join(read_blocks(path))


def _json(path: Path) -> Any:
    try:
        return json.loads(_content(path).decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None


def _rows(source: str, data: LabelledDataConfig) -> Iterator[dict[str, Any]]:
    """Rows of tables, of JSON lines, of the Hub."""
    if is_json(source) and Path(source).is_file():
        return (row for _, row in json_lines(Path(source)))
    asked = [c for c in (data.text_column, data.text_pair_column, data.label_column) if c]
    return source_rows(source, data.header, asked)


def _row_units(
    rows: Iterable[Any], source: str, task: str, data: LabelledDataConfig
) -> Iterator[Unit]:
    text, label = None, data.label_column
    for number, row in enumerate(rows):
        if number == 0 and task == "text-classification" and isinstance(row, dict):
            columns = choose_columns(list(row), data, source)
            text, label = columns.text, columns.label
        yield _row_unit(row, task, label, text)


def _row_unit(row: Any, task: str, label: str | None, text: str | None = None) -> Unit:
    if isinstance(row, list) and task == "text-classification":  # a text and its label
        return Unit(row, group=_same(row[0]), labels=frozenset(_named(row[-1])))
    if isinstance(row, list):  # C3's
        return Unit(row, rows=len(row[1]) if len(row) > 1 and isinstance(row[1], list) else 1)
    if not isinstance(row, dict):
        return Unit(row)  # the task's reader says what is wrong with it
    if task in ("multiple-choice", "question-answering"):
        questions = row.get("questions")
        if isinstance(questions, list):  # RACE's
            return Unit(row, rows=max(1, len(questions)))
        context = next((row[k] for k in ("context", "article", "passage") if k in row), None)
        return Unit(row, group=context if isinstance(context, str) else None)
    names = (label,) if label else ("label", "relation", "labels", "entities", "tags", "ner_tags")
    named = next((row[name] for name in names if row.get(name) is not None), None)
    return Unit(row, group=_same(row.get(text)), labels=frozenset(_named(named)))


def _same(text: Any) -> str | None:
    """What texts that are the same but for case and white space have in common."""
    return " ".join(text.casefold().split()) or None if isinstance(text, str) else None


def _named(value: Any) -> Iterator[str]:
    """The labels that a value of a row speaks of."""
    if isinstance(value, dict):  # an entity, or CLUENER's types
        yield from [str(value["label"])] if "label" in value else map(str, value)
    elif isinstance(value, list):
        if len(value) == 3 and isinstance(value[0], int):  # start, end, label
            yield str(value[2])
        else:
            for part in value:
                yield from _named(part)
    elif name := label_name(value):
        yield name


def _lines(path: Path) -> Iterator[Unit]:
    """Lines; `LABEL:more text` as TREC has them."""
    for line in _content(path).splitlines(keepends=True):
        if line.strip():
            label, _, text = line.decode("utf-8", errors="replace").strip().partition(" ")
            labels = frozenset({label, label.partition(":")[0]} if ":" in label else ())
            whole = line if line.endswith(b"\n") else line + b"\n"
            yield Unit(whole, group=_same(text) if labels else None, labels=labels)


def _numbered(path: Path) -> Iterator[Unit]:
    """SemEval's records: a numbered sentence, its relation, a comment."""
    for block in _parted(path):
        label = block[1].decode("utf-8", errors="replace").strip() if len(block) > 1 else ""
        yield Unit(b"\n".join(block), labels=frozenset([label]))


def _sentences(path: Path) -> Iterator[Unit]:
    """Sentences of CoNLL columns; where documents begin is not kept."""
    for block in _parted(path):
        tags = (line.split()[-1].decode("utf-8", errors="replace") for line in block)
        yield Unit(b"\n".join(block), labels=frozenset(tags))


def _tagged_unit(row: TaggedRow) -> Unit:
    """A sentence of a folder of parallel lines."""
    return Unit(row, labels=frozenset([*(row.tags or ()), f"intent {row.intent}"]))


def _parallel_lines(contents: list[Any]) -> dict[str, bytes]:
    """The files of such a folder."""
    lines = {
        PARALLEL_WORDS: [" ".join(row.words) for row in contents],
        PARALLEL_TAGS: [" ".join(row.tags) for row in contents],
        PARALLEL_INTENT: [row.intent for row in contents if row.intent is not None],
    }
    return {
        name: "".join(f"{x}\n" for x in found).encode() for name, found in lines.items() if found
    }


def _parted(path: Path) -> Iterator[list[bytes]]:
    lines = iter(_content(path).split(b"\n"))
    for first in lines:
        block = [first, *takewhile(lambda x: x.strip() and not x.startswith(_DOCUMENT), lines)]
        if not first.strip() or first.startswith(_DOCUMENT):
            del block[0]
        if block:
            yield [line.rstrip(b"\r") for line in block]


def _passages(path: Path) -> Iterator[Unit]:
    """Paragraphs of SQuAD's JSON, by article."""
    root = _json(path)
    try:
        for number, article in enumerate(root["data"]):
            for paragraph in article["paragraphs"]:
                content = (article.get("title"), paragraph)
                yield Unit(content, rows=len(paragraph["qas"]), group=number)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not in SQuAD's form: {error!r}") from None


def _squad(contents: list[Any]) -> bytes:
    data = [{"title": title, "paragraphs": [paragraph]} for title, paragraph in contents]
    return json.dumps({"version": "sample", "data": data}).encode()


def _list(contents: list[Any]) -> bytes:
    return json.dumps(contents).encode()


def _jsonl(contents: list[Any]) -> bytes:
    return "".join(json.dumps(row, default=str) + "\n" for row in contents).encode()


def _blocks(contents: list[Any]) -> bytes:
    return b"".join(block + b"\n\n" for block in contents)
