"""A pretrained model and texts to scores, of each text and of each of its tokens.

electra score --model runs/mine "the cat sat on the mat" "the cat sit on the mat"
electra score --model runs/mine/generator --input texts.jsonl > scores.jsonl
"""

from __future__ import annotations

import itertools
import json as json_format
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from electra.config import LabelledDataConfig
from electra.corpus.files import ReadReport, kind_of
from electra.errors import ConfigError, DataError, UserError
from electra.evaluation.scoring_methods import METHODS
from electra.evaluation.token_scores import AUTO, TextScorer, TooLongError
from electra.tasks.inputs import (
    CHUNK,
    STDIN,
    answers_in_json,
    file_and_splits,
    is_json,
    open_input,
    require_one,
)
from electra.tasks.labelled_data import Columns, LabelledExample, choose_columns, row_example
from electra.training.loggers import progress_bar

Share = Callable[[float], None]
"""Called with the share of the chunk that is done, 0 to 1."""


def score(
    *,
    model: str | Path,
    texts: Sequence[str] = (),
    input: str | None = None,
    method: str = AUTO,
    columns: LabelledDataConfig | None = None,
    batch_size: int = 32,
    device: str = "auto",
    stdin: TextIO | None = None,
    progress: Console | None = None,
) -> Iterator[dict[str, Any]]:
    """Score texts or the rows of a file, in their order.

    Args:
        model: a run folder, one of its parts, or a masked LM of the Hub.
        texts: the texts.
        input: instead of `texts`, a file or `-`, as `open_input` takes it.
        method: a name of `METHODS`, or `auto`: the one the model is made for.
        columns: where the text stands; none: judged by the names of the columns.
        batch_size: rows of a forward pass; a text with one token masked is a row.
        device: auto, cpu, cuda or mps.
        stdin: none: `sys.stdin`.
        progress: where it is said what is scored and how, with a bar for files where it is a
            terminal and standard output is none; none: nowhere.

    Yields:
        {"id", "score", "tokens", "token_scores"}; the id is the row's, or its 0-based number; the
        score is the sum of the tokens', in nats.

    Raises:
        UserError: nothing to score, or what cannot be read; rows before it come first.
    """
    if input not in (None, STDIN) and not is_json(str(file_and_splits(input)[0])):
        kind_of(Path(input))
    require_one(texts, input)
    data = columns or LabelledDataConfig()
    if data.text_pair_column is not None:
        raise ConfigError("a score is of one text: leave --data.text-pair-column out")
    scorer = TextScorer.open(model, method=method, device=device, batch_size=batch_size)
    if progress is not None:
        said = f"{scorer.folder}, {scorer.method}: {METHODS[scorer.method].meaning}"
        progress.print(said, highlight=False, markup=False, soft_wrap=True)
    if input is None:
        given = (LabelledExample(i, text, place=f"text {i + 1}") for i, text in enumerate(texts))
        return _scores(scorer, given, CHUNK)
    report = ReadReport()
    asked = [data.text_column] if data.text_column else []
    source = open_input(input, header=data.header, columns=asked, stdin=stdin, report=report)
    examples = _of_rows(source.rows, source.place, data)
    size = min(CHUNK, source.chunk)
    if progress is None or not progress.is_terminal or input == STDIN or sys.stdout.isatty():
        return _scores(scorer, examples, size)
    return _with_bar(scorer, examples, file_and_splits(input)[0], report, progress)


def print_scores(
    scores: Iterator[dict[str, Any]],
    *,
    json: bool = False,
    input: str | None = None,
    file: TextIO | None = None,
) -> int:
    """Print scores as they come; their number.

    Args:
        scores: from `score`.
        json: a line of JSON each; else `id  score` for files, and a table for texts.
        input: as given to `score`: JSONL, and standard input, get JSON in any case.
        file: none: standard output.
    """
    file = file or sys.stdout
    json = json or answers_in_json(input)
    table = Table("id", "score", "tokens", box=None)
    count = 0
    for row in scores:
        count += 1
        if json:
            print(json_format.dumps(row, ensure_ascii=False), file=file, flush=True)
        elif input is not None:
            print(f"{row['id']}\t{row['score']:.4f}", file=file, flush=True)
        else:
            pieces = zip(row["tokens"], row["token_scores"], strict=True)
            tokens = "  ".join(f"{token} {score:.2f}" for token, score in pieces)
            table.add_row(str(row["id"]), f"{row['score']:.4f}", escape(tokens))
    if table.row_count:
        Console(file=file, highlight=False).print(table)
    return count


def _scores(
    scorer: TextScorer, examples: Iterator[LabelledExample], size: int, told: Share | None = None
) -> Iterator[dict[str, Any]]:
    failure: UserError | None = None
    while failure is None:
        chunk: list[LabelledExample] = []
        try:
            chunk.extend(itertools.islice(examples, size))
        except UserError as error:
            failure = error
        if not chunk:
            break

        def tell(done: int, passes: int) -> None:
            if told is not None:
                told(done / passes)

        try:
            scores = scorer.score([example.text for example in chunk], tell)
        except TooLongError as error:
            failure = DataError(f"{chunk[error.number].place}: {error}")
            del chunk[error.number :]
            scores = scorer.score([example.text for example in chunk], tell)
        for example, found in zip(chunk, scores, strict=True):
            yield {
                "id": example.id,
                "score": found.total,
                "tokens": found.tokens,
                "token_scores": found.token_scores,
            }
    if failure is not None:
        raise failure


def _with_bar(
    scorer: TextScorer,
    examples: Iterator[LabelledExample],
    file: Path,
    report: ReadReport,
    console: Console,
) -> Iterator[dict[str, Any]]:
    """The scores, with a bar that moves by the bytes of the file."""
    with progress_bar(console) as bar:
        row = bar.add_task("scoring", total=max(1, file.stat().st_size), numbers="")
        before = 0

        def tell(share: float) -> None:
            bar.update(row, completed=before + share * (report.position - before))

        for number, answer in enumerate(_scores(scorer, examples, CHUNK, tell), start=1):
            before = report.position
            bar.update(row, numbers=f"{number:,} texts")
            yield answer


def _of_rows(
    rows: Iterator[dict[str, Any]], place: str, data: LabelledDataConfig
) -> Iterator[LabelledExample]:
    columns: Columns | None = None
    for number, row in enumerate(rows):
        if columns is None:
            chosen = choose_columns(list(row), data, place, labelled=False)
            columns = Columns(chosen.text, None, None)
        yield row_example(row, columns, number, f"{place} row {number + 1}", allow_empty=True)
    if columns is None:
        raise DataError(f"{place} holds no rows")
