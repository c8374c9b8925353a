"""Multiple choice: RACE's objects, C3's lists, and plain rows.

RACE (Lai et al., 2017): `{article, questions, options, answers, id}`, answers as letters, one
object a line. C3 (Sun et al., 2020): a JSON list of `[lines of the passage, [{question, choice,
answer}], id]`, answers as texts. Plain: `{context, question, choices, label}`, the label as 0-based
number, as letter or as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from electra.corpus.files import read_lines, whole_text
from electra.errors import DataError
from electra.tasks.inputs import is_json
from electra.tasks.labelled_data import source_rows

CONTEXTS = ("context", "article", "passage")
CHOICES = ("choices", "options", "choice")
LABELS = ("label", "answer")


@dataclass(frozen=True)
class ChoiceExample:
    """A passage, a question, and what may answer it."""

    id: str | int
    """The row's, else its 0-based number; with `/` and the question's where there are several."""
    context: str
    question: str
    choices: tuple[str, ...]
    """Two or more."""
    label: int | None = None
    """Which of `choices` is right; None where it was not asked for."""
    place: str = ""
    """File and row, for messages."""


def read_choices(source: str, *, labelled: bool = True) -> Iterator[ChoiceExample]:
    """The examples of a file or of a split of the Hub, in order.

    Args:
        source: .json, .jsonl, .parquet (each also .gz), or `ID:split`.
        labelled: whether answers are wanted.

    Raises:
        DataError: what is missing or wrong, by file and row.
    """
    rows: Iterator[Any]
    if is_json(source) and Path(source).is_file():
        rows = iter(_json_list(Path(source)))
    else:
        rows = source_rows(source, "auto", ())
    empty = True
    for number, row in enumerate(rows):
        empty = False
        yield from row_choices(row, number, f"{source} row {number + 1}", labelled=labelled)
    if empty:
        raise DataError(f"{source} holds no rows")


def row_choices(
    row: Any, number: int, place: str, *, labelled: bool = True
) -> Iterator[ChoiceExample]:
    """The examples of one row: of RACE's and C3's, one for each question.

    Raises:
        DataError: what is missing or wrong, named by `place`.
    """
    if isinstance(row, list):
        yield from _c3(row, number, place, labelled)
    elif not isinstance(row, Mapping):
        raise DataError(
            f"{place} is {type(row).__name__}; an object or one of C3's lists is wanted"
        )
    elif "questions" in row:
        yield from _race(row, number, place, labelled)
    else:
        yield _example(
            row.get("id", row.get("example_id", number)),
            _field(row, CONTEXTS, place),
            _field(row, ("question",), place),
            _field(row, CHOICES, place),
            _field(row, LABELS, place) if labelled else None,
            place,
            labelled,
        )


def _race(
    row: Mapping[str, Any], number: int, place: str, labelled: bool
) -> Iterator[ChoiceExample]:
    context = _field(row, CONTEXTS, place)
    questions, options = (_field(row, (name,), place) for name in ("questions", "options"))
    answers = _field(row, ("answers",), place) if labelled else None
    for name, values in (("options", options), ("answers", answers)):
        if values is not None and len(values) != len(questions):
            raise DataError(
                f"{place} has {len(questions)} questions and {len(values)} {name}; as many are "
                "wanted"
            )
    for i, (question, choices) in enumerate(zip(questions, options, strict=True)):
        yield _example(
            f"{row.get('id', number)}/{i}",
            context,
            question,
            choices,
            None if answers is None else answers[i],
            f"{place} question {i + 1}",
            labelled,
        )


def _c3(row: list[Any], number: int, place: str, labelled: bool) -> Iterator[ChoiceExample]:
    if len(row) < 2 or not all(isinstance(part, list) for part in row[:2]):
        raise DataError(f"{place} is no list of lines, questions and an id")
    lines, questions = row[:2]
    identity = row[2] if len(row) > 2 else number
    for i, asked in enumerate(questions):
        where = f"{place} question {i + 1}"
        if not isinstance(asked, Mapping):
            raise DataError(f"{where} is {type(asked).__name__}; an object is wanted")
        yield _example(
            f"{identity}/{i}",
            "\n".join(map(str, lines)),
            _field(asked, ("question",), where),
            _field(asked, CHOICES, where),
            _field(asked, LABELS, where) if labelled else None,
            where,
            labelled,
        )


def _example(
    identity: Any,
    context: Any,
    question: Any,
    choices: Any,
    answer: Any,
    place: str,
    labelled: bool,
) -> ChoiceExample:
    for name, text in (("context", context), ("question", question)):
        if not isinstance(text, str):
            raise DataError(f"{place} has {type(text).__name__}, not text, as its {name}")
    if not context.strip():
        raise DataError(f"{place} has an empty passage")
    if not isinstance(choices, list) or len(choices) < 2:
        count = len(choices) if isinstance(choices, list) else "no list of"
        raise DataError(f"{place} has {count} options; two or more are wanted")
    texts = []
    for i, choice in enumerate(choices):
        if not isinstance(choice, str) or not choice.strip():
            raise DataError(f"{place} has no text as option {_letter(i)}")
        texts.append(whole_text(choice))
    return ChoiceExample(
        id=identity if isinstance(identity, str | int) else str(identity),
        context=whole_text(context),
        question=whole_text(question),
        choices=tuple(texts),
        label=_index(answer, texts, place) if labelled else None,
        place=place,
    )


def _index(answer: Any, choices: list[str], place: str) -> int:
    """Which option an answer names, by its number, its text or its letter."""
    if type(answer) is int and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str):
        name = answer.strip()
        stripped = [choice.strip() for choice in choices]
        if name in stripped:
            return stripped.index(name)
        letters = [_letter(i) for i in range(len(choices))]
        if name.upper() in letters:
            return letters.index(name.upper())
        if name.isdecimal() and int(name) < len(choices):
            return int(name)
    raise DataError(
        f"{place} has the answer {json.dumps(answer, ensure_ascii=False, default=str)}, which is "
        f"none of its {len(choices)} options; wanted: the text of one, a letter from A to "
        f"{_letter(len(choices) - 1)}, or a number from 0 to {len(choices) - 1}"
    )


def _field(row: Mapping[str, Any], names: tuple[str, ...], place: str) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise DataError(
        f"{place} has no {' or '.join(names)}; it has: {', '.join(map(str, row)) or 'nothing'}"
    )


def _json_list(path: Path) -> list[Any]:
    try:
        rows = json.loads("".join(read_lines(path)))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    return rows if isinstance(rows, list) else [rows]


def _letter(index: int) -> str:
    return chr(ord("A") + index)
