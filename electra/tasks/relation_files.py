"""Labelled relations: SemEval's text format, and rows of a text and two spans.

SemEval-2010 Task 8 (Hendrickx et al., 2010): a numbered sentence with `<e1>...</e1>` and
`<e2>...</e2>`, the relation on the next line, a line of comment, an empty line. Rows (JSONL, CSV,
TSV, Parquet, the Hub) have `text` and, as offsets in code points, `head` and `tail`
(`{"start": 4, "end": 9}`; a `type` beside them is not used), or the marks in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from electra.corpus.files import kind_of, pick_column, read_lines
from electra.errors import DataError
from electra.tasks.inputs import is_json
from electra.tasks.labelled_data import label_name, source_rows

TEXTS = ("text", "sentence")
LABELS = ("label", "relation")
_MARK = re.compile(r"</?e[12]>")
_NUMBERED = re.compile(r"(\d+)\t(.*)")
_WANTED = "a text is wanted with <e1>...</e1> around one entity and <e2>...</e2> around the other"

Span = tuple[int, int]
"""Start and end (behind the last) in code points."""


@dataclass(frozen=True)
class ColumnNames:
    """Where the text and the label stand, where a person has said so."""

    text: str | None = None
    label: str | None = None
    known: tuple[str | None, str | None] = (None, None)
    """Those of the training data, taken where a file has them."""

    def asked(self) -> list[str]:
        """The names there are."""
        return [name for name in (self.text, self.label, *self.known) if name]


@dataclass(frozen=True)
class RelationExample:
    """A text and two of its spans."""

    id: str | int
    """The row's, or its 0-based number."""
    text: str
    head: Span
    """e1."""
    tail: Span
    """e2."""
    label: str | None = None
    place: str = ""
    """File and row, for messages."""


def read_relations(
    source: str, header: str, columns: ColumnNames, *, labelled: bool = True
) -> list[RelationExample]:
    """All examples of a file or of a split of the Hub.

    Args:
        source: .txt in SemEval's format, .jsonl, .csv, .tsv, .parquet, .json (each also .gz),
            splits of a .json file, `ID:split`.
        header: of CSV and TSV, as in `read_rows`.
        columns: names of the columns.
        labelled: whether a label is wanted.

    Raises:
        DataError: what is missing or wrong, by file and row.
    """
    path = Path(source)
    if path.is_file() and not is_json(source) and kind_of(path) == "text":
        examples = list(read_text(path, labelled=labelled))
    else:
        rows = source_rows(source, header, columns.asked())
        examples = [
            row_relation(row, columns, number, f"{source} row {number + 1}", labelled=labelled)
            for number, row in enumerate(rows)
        ]
    if not examples:
        raise DataError(f"{source} holds no rows")
    return examples


def read_text(path: Path, *, labelled: bool) -> Iterator[RelationExample]:
    """Examples of SemEval's format; without labels also its test file, or a text a line."""
    record: tuple[str, str, int] | None = None  # number, sentence, line
    label: str | None = None
    commented = False
    count = 0

    def example() -> RelationExample:
        assert record is not None, "called with a record"
        number, sentence, line = record
        place = f"{path} line {line}"
        if labelled and label is None:
            raise DataError(f"{place}: no relation stands on the line behind the sentence")
        text, head, tail = parse_marks(_unquoted(sentence), place)
        identity = int(number) if number else count
        return RelationExample(identity, text, head, tail, label if labelled else None, place)

    for number, raw in enumerate(read_lines(path), start=1):
        line = raw.strip()
        if not line:
            continue
        numbered = _NUMBERED.fullmatch(raw.strip("\r\n"))
        if numbered or (not labelled and _MARK.search(line)):
            if record:
                yield example()
                count += 1
            record = (numbered[1], numbered[2], number) if numbered else ("", line, number)
            label, commented = None, False
        elif line.startswith("Comment") and record:
            commented = True
        elif record is None or not record[0] or (label is not None and not commented):
            raise DataError(
                f'{path} line {number} is "{line[:40]}"; wanted: a number, a tab and a sentence '
                "with <e1> and <e2>, and on the next line its relation"
            )
        elif not commented:
            label = line
    if record:
        yield example()


def row_relation(
    row: dict[str, Any],
    columns: ColumnNames,
    number: int,
    place: str,
    *,
    labelled: bool,
) -> RelationExample:
    """One row as an example.

    Raises:
        DataError: a text, a span or the label is missing or does not fit, named by `place`.
    """
    column = _column(row, columns.text, (columns.known[0], *TEXTS), place)
    text = row[column]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f'{place} has no text in column "{column}"')
    if "head" in row or "tail" in row:
        head, tail = (_span(row, name, text, place) for name in ("head", "tail"))
        _check_apart(head, tail, "head and tail", place)
    else:
        text, head, tail = parse_marks(text, place)
    label = None
    if labelled:
        column = _column(row, columns.label, (columns.known[1], *LABELS), place)
        label = label_name(row[column])
        if not label:
            raise DataError(f'{place} has no label in column "{column}"')
    identity = row.get("id")
    return RelationExample(
        identity if isinstance(identity, str | int) else number, text, head, tail, label, place
    )


def parse_marks(marked: str, place: str) -> tuple[str, Span, Span]:
    """A text with <e1> and <e2> as the text without them, and the two spans.

    Raises:
        DataError: a mark is missing, stands twice or in another's span, or a span is empty.
    """
    found: dict[str, int] = {}
    parts: list[str] = []
    length = end = 0
    for match in _MARK.finditer(marked):
        mark = match.group()
        if mark in found:
            raise DataError(f"{place} has {mark} twice; {_WANTED}")
        parts.append(marked[end : match.start()])
        length += len(parts[-1])
        found[mark] = length
        end = match.end()
    parts.append(marked[end:])
    text = "".join(parts)
    missing = [mark for mark in ("<e1>", "</e1>", "<e2>", "</e2>") if mark not in found]
    if missing:
        raise DataError(f"{place} has no {' and no '.join(missing)}; {_WANTED}")
    spans = []
    for name in ("e1", "e2"):
        span = found[f"<{name}>"], found[f"</{name}>"]
        if span[0] > span[1]:
            raise DataError(f"{place} has </{name}> before <{name}>; {_WANTED}")
        if not text[slice(*span)].strip():
            raise DataError(f"{place} has nothing between <{name}> and </{name}>")
        spans.append(span)
    head, tail = spans
    _check_apart(head, tail, "<e1> and <e2>", place)
    return text, head, tail


def _span(row: dict[str, Any], name: str, text: str, place: str) -> Span:
    value = row.get(name)
    form = f'"{name}": {{"start": 0, "end": 5}} is wanted'
    if not isinstance(value, dict) or not {"start", "end"} <= value.keys():
        raise DataError(f"{place} has no span in {name}; {form}, in code points")
    start, end = value["start"], value["end"]
    if type(start) is not int or type(end) is not int:
        raise DataError(f"{place} has a {name} from {start!r} to {end!r}; {form}, in code points")
    if not 0 <= start < end <= len(text):
        raise DataError(
            f"{place} has a {name} from {start} to {end}, which is no span of its text of "
            f"{len(text)} characters"
        )
    if not text[start:end].strip():
        raise DataError(f"{place} has white space alone in its {name}")
    return start, end


def _check_apart(head: Span, tail: Span, what: str, place: str) -> None:
    if head[0] < tail[1] and tail[0] < head[1]:
        raise DataError(
            f"{place} has overlapping entities ({what}: {head[0]} to {head[1]} and {tail[0]} to "
            f"{tail[1]}); the two must not share a character"
        )


def _column(
    row: dict[str, Any], asked: str | None, names: tuple[str | None, ...], place: str
) -> str:
    if asked is not None:
        return pick_column(row, asked, Path(place))
    found = next((name for name in names if name in row), None)
    if found is None:
        wanted = " or ".join(name for name in names if name)
        raise DataError(f"{place} has no {wanted}; it has: {', '.join(row) or 'nothing'}")
    return found


def _unquoted(sentence: str) -> str:
    sentence = sentence.strip()
    quoted = len(sentence) > 1 and sentence[0] == sentence[-1] == '"'
    return sentence[1:-1] if quoted else sentence
