"""Questions about a text: SQuAD's JSON (v1.1, v2.0; CMRC 2018's is the same) and flat rows.

A flat row is `{id, question, context, answers: {text: [...], answer_start: [...]}}`, as the Hub
has them; answers may also be SQuAD's list of objects. Offsets are code points.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from electra.config import LabelledDataConfig
from electra.corpus.files import read_lines, whole_text
from electra.errors import DataError
from electra.tasks.inputs import is_json
from electra.tasks.labelled_data import Columns, source_rows

COLUMNS = Columns("question", "context", "answers")
"""Of flat rows."""


@dataclass(frozen=True)
class Answer:
    """A right answer."""

    text: str
    start: int | None
    """Offset in the context; None where the text does not occur there."""


@dataclass(frozen=True)
class Question:
    """A question and the text that may answer it."""

    id: str | int
    """The row's `id` where it has one, else its 0-based number."""
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
    """Empty: unanswerable; None: not known."""
    lost: int = 0
    """How many answers did not occur at their offset as written, found elsewhere or not."""
    source: str = "input"
    where: str = ""
    """Place in the source, for messages."""

    @property
    def place(self) -> str:
        """Source and place in it."""
        return f"{self.source} {self.where}".rstrip()

    @property
    def truths(self) -> list[str]:
        """Texts of the answers, those without an offset among them."""
        return [answer.text for answer in self.answers or ()]


def column_names(data: LabelledDataConfig | None, known: Columns = COLUMNS) -> Columns:
    """Columns of flat rows: those asked for, else the known ones."""
    data = data or LabelledDataConfig()
    return Columns(
        data.text_column or known.text,
        data.text_pair_column or known.text_pair,
        data.label_column or known.label,
    )


def read_questions(
    source: str,
    columns: Columns = COLUMNS,
    *,
    labelled: bool = True,
    lost_answers: str = "drop",
    header: str = "auto",
) -> list[Question]:
    """All questions of a file.

    Args:
        source: .json as SQuAD has it, a table of flat rows (.jsonl, .parquet; without labels also
            .csv and .tsv), each also .gz, or `ID:split` of the Hub.
        columns: of flat rows.
        labelled: whether answers are wanted.
        lost_answers: what becomes of an answer that does not occur at its offset: `drop` keeps it
            without a start, `search` takes the nearest place where it occurs, `refuse` raises.
        header: of CSV and TSV.

    Raises:
        DataError: what is missing or wrong, by file and place; an id that comes twice.
    """
    if is_json(source):
        rows = squad_rows(source)
    else:
        asked = [name for name in (columns.text, columns.text_pair) if name]
        rows = ((f"row {i + 1}", row) for i, row in enumerate(source_rows(source, header, asked)))
    questions = [
        question_of(
            row, number, source, where, columns, labelled=labelled, lost_answers=lost_answers
        )
        for number, (where, row) in enumerate(rows)
    ]
    if not questions:
        raise DataError(f"{source} holds no questions")
    seen: dict[str | int, str] = {}
    for question in questions:
        if question.id in seen:
            raise DataError(
                f'{question.place} has the id "{question.id}" of {seen[question.id]}; ids must '
                "differ"
            )
        seen[question.id] = question.where
    return questions


def squad_rows(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place in the JSON, flat row) of every question of a file in SQuAD's JSON.

    Raises:
        DataError: it is not JSON, or not of that form; the message has the path in the JSON.
    """
    try:
        root = json.loads("".join(read_lines(Path(source))))
    except ValueError as error:
        raise DataError(f"{source} is not JSON: {error}") from None
    for a, article in enumerate(_list(root, "data", source, "")):
        here = f"data[{a}]"
        for p, paragraph in enumerate(_list(article, "paragraphs", source, here)):
            there = f"{here}.paragraphs[{p}]"
            for q, row in enumerate(_list(paragraph, "qas", source, there)):
                where = f"{there}.qas[{q}]"
                if not isinstance(row, dict):
                    raise DataError(f"{source} {where} is {type(row).__name__}, not an object")
                if not isinstance(paragraph.get("context"), str):
                    raise DataError(f'{source} {there} has no text in "context"')
                yield where, {**row, "context": paragraph["context"]}


def question_of(
    row: Mapping[str, Any],
    number: int,
    source: str,
    where: str,
    columns: Columns = COLUMNS,
    *,
    labelled: bool = False,
    lost_answers: str = "drop",
) -> Question:
    """A flat row, checked.

    Raises:
        DataError: a text that is missing or empty, answers of another form, or what
            `lost_answers` refuses.
    """
    place = f"{source} {where}".rstrip()

    def text(column: str | None, *, may_be_empty: bool = False) -> str:
        value = row.get(column or "")
        if not isinstance(value, str):
            has = f"; it has: {', '.join(map(str, row))}" if column not in row else ""
            raise DataError(f'{place} has no text in "{column}"{has}')
        if not value.strip() and not may_be_empty:
            raise DataError(f'{place} has an empty text in "{column}"')
        whole: str = whole_text(value)  # offsets stay
        return whole

    identity = row.get("id")
    identity = identity if isinstance(identity, str | int) else number
    question = text(columns.text, may_be_empty=True)  # CMRC 2018's trial file has one
    context = text(columns.text_pair)
    if not labelled:
        return Question(identity, question, context, source=source, where=where)
    answers, lost = [], 0
    for i, (answer, start) in enumerate(_answers(row, columns.label or "answers", place)):
        found: int | None = start
        if start < 0 or not context.startswith(answer, start):
            lost += 1
            if lost_answers == "refuse":
                raise DataError(
                    f'{place} answer {i}: "{answer}" does not occur at {start} of the context '
                    "(--data.lost-answers drop or search lets it pass)"
                )
            found = _nearest(answer, start, context) if lost_answers == "search" else None
        answers.append(Answer(answer, found))
    return Question(identity, question, context, tuple(answers), lost, source, where)


def notes(questions: Sequence[Question]) -> list[str]:
    """What was wrong with the answers, in a line; none where nothing was."""
    lost = sum(question.lost for question in questions)
    if not lost:
        return []
    every = sum(len(question.answers or ()) for question in questions)
    unplaced = [
        (question, answer)
        for question in questions
        for answer in question.answers or ()
        if answer.start is None
    ]
    line = f"{questions[0].source}: {lost:,} of {every:,} answers do not occur at their offset"
    if lost > len(unplaced):
        line += f"; {lost - len(unplaced):,} of them were found elsewhere in the context"
    if not unplaced:
        return [line]
    question, answer = unplaced[0]
    empty = sum(
        bool(q.answers) and all(a.start is None for a in q.answers or ()) for q in questions
    )
    line += (
        f"; {len(unplaced):,} are not trained on, though they count as right answers; the first: "
        f'"{answer.text[:60]}", {question.where}'
    )
    if empty:
        line += f"; {empty:,} questions are left without an answer to train on and stay out"
    if lost == len(unplaced):
        line += " (--data.lost-answers search looks for them in the whole context)"
    return [line]


def _answers(row: Mapping[str, Any], column: str, place: str) -> list[tuple[str, int]]:
    """(text, start) of each answer; none for an unanswerable question."""
    given = row.get(column)
    if row.get("is_impossible") is True:
        return []
    wrong = DataError(
        f'{place} has no answers in "{column}": a list of {{text, answer_start}} is wanted, or '
        "{text: [...], answer_start: [...]}; an empty one for an unanswerable question"
    )
    if isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list):
            raise wrong
        if len(texts) != len(starts):
            raise DataError(f"{place} has {len(texts)} answers and {len(starts)} offsets")
    elif isinstance(given, list) and all(isinstance(answer, Mapping) for answer in given):
        texts = [answer.get("text") for answer in given]
        starts = [answer.get("answer_start") for answer in given]
    else:
        raise wrong
    for i, (text, start) in enumerate(zip(texts, starts, strict=True)):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f'{place} answer {i} has no "text"; a question without has no answers')
        if not isinstance(start, int) or isinstance(start, bool):
            raise DataError(f'{place} answer {i} has no whole number in "answer_start"')
    return [(whole_text(text), start) for text, start in zip(texts, starts, strict=True)]


def _nearest(answer: str, start: int, context: str) -> int | None:
    found, places = context.find(answer), []
    while found >= 0:
        places.append(found)
        found = context.find(answer, found + 1)
    return min(places, key=lambda place: abs(place - max(start, 0)), default=None)


def _list(value: Any, name: str, source: str, where: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise DataError(
            f'{source} {where or "at its top"} has no list "{name}" (SQuAD\'s JSON is '
            "data[].paragraphs[].qas[])"
        )
    return found
