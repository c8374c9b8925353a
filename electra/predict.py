"""A fine-tuned model and texts to predictions.

electra predict --model runs/sentiment "a fine film" "a dull one"
electra predict --model runs/sentiment --input reviews.jsonl > answers.jsonl
"""

from __future__ import annotations

import itertools
import json as json_format
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from electra.config import LabelledDataConfig
from electra.errors import ConfigError, DataError
from electra.tasks.inputs import CHUNK, answers_in_json, open_input, require_one
from electra.tasks.labelled_data import Columns, LabelledExample, choose_columns, row_example
from electra.tasks.predictor import Predictor
from electra.tasks.text_classification import TextClassification


def predict(
    *,
    model: str | Path,
    texts: Sequence[str] = (),
    input: str | None = None,
    columns: LabelledDataConfig | None = None,
    batch_size: int = 32,
    device: str = "auto",
    stdin: TextIO | None = None,
) -> Iterator[dict[str, Any]]:
    """Answer texts or the rows of a file, in their order.

    Args:
        model: a folder that `finetune` wrote.
        texts: the texts; for a model of two sentences they come in twos.
        input: instead of `texts`, a file: .txt (a line, a text), .jsonl, .csv, .tsv, .parquet, or
            `-` for lines of text or JSON on standard input.
        columns: where the text stands; none: as in the training data where the file has it.
        batch_size: texts a forward pass.
        device: auto, cpu, cuda or mps.
        stdin: none: `sys.stdin`.

    Yields:
        {"id", "label", "score", "scores": {label: probability}}; the id is the row's, or its
        0-based number.

    Raises:
        UserError: nothing to answer, or what cannot be read.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size is {batch_size}; allowed: above 0")
    require_one(texts, input)
    predictor = Predictor.open(model, device=device, batch_size=batch_size)
    task = predictor.task
    assert isinstance(task, TextClassification), "the one task there is"
    data = columns or LabelledDataConfig()
    if input is None:
        examples = _of_arguments(task, texts)
        size = CHUNK
    else:
        names = (data.text_column, data.text_pair_column, task.columns.text, task.columns.text_pair)
        # trained on a file without a header, so this one has none either
        headerless = data.header == "auto" and task.columns.text.isdigit()
        header = "false" if headerless else data.header
        asked = [name for name in names if name]
        source = open_input(input, header=header, columns=asked, stdin=stdin)
        examples = _of_rows(task, source.rows, source.place, data)
        size = min(CHUNK, source.chunk)
    return _answers(predictor, examples, size)


def print_predictions(
    predictions: Iterator[dict[str, Any]],
    *,
    json: bool = False,
    input: str | None = None,
    file: TextIO | None = None,
) -> int:
    """A line for each prediction, as it comes; the number of lines.

    Args:
        predictions: from `predict`.
        json: JSON instead of `id  label  score`.
        input: as given to `predict`: JSONL, and standard input, get JSON in any case.
        file: none: standard output.
    """
    file = file or sys.stdout
    json = json or answers_in_json(input)
    count = 0
    for row in predictions:
        count += 1
        if json:
            line = json_format.dumps(row, ensure_ascii=False)
        else:
            label = "" if row["label"] is None else f"\t{row['label']}"
            line = f"{row['id']}{label}\t{row['score']:.4f}"
        print(line, file=file, flush=True)
    return count


def _answers(
    predictor: Predictor, examples: Iterator[LabelledExample], size: int
) -> Iterator[dict[str, Any]]:
    while chunk := list(itertools.islice(examples, size)):
        answers = predictor.predict_examples(chunk)
        for example, answer in zip(chunk, answers, strict=True):
            yield {"id": example.id, **answer}


def _of_arguments(task: TextClassification, texts: Sequence[str]) -> Iterator[LabelledExample]:
    if not task.has_pair:
        return (LabelledExample(i, text) for i, text in enumerate(texts))
    if len(texts) % 2:
        raise DataError(
            f"the model reads two sentences, so texts come in twos; {len(texts)} given (or give "
            "--input with a JSONL, CSV or TSV file of two columns)"
        )
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return (LabelledExample(i, first, second) for i, (first, second) in enumerate(pairs))


def _of_rows(
    task: TextClassification, rows: Iterator[dict[str, Any]], place: str, data: LabelledDataConfig
) -> Iterator[LabelledExample]:
    columns: Columns | None = None
    for number, row in enumerate(rows):
        if columns is None:
            columns = choose_columns(list(row), data, place, labelled=False, known=task.columns)
            if task.has_pair and list(row) == ["text"]:
                raise DataError(
                    f"{place} holds one text a line, the model reads two sentences: give JSONL, "
                    "CSV or TSV with two columns"
                )
            task.check_pair(columns.text_pair is not None, place)
        where = f"{place} row {number + 1}"
        yield row_example(row, columns, number, where, allow_empty=True)
    if columns is None:
        raise DataError(f"{place} holds no rows")
