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
from electra.errors import ConfigError
from electra.tasks.inputs import CHUNK, answers_in_json, require_one
from electra.tasks.predictor import Predictor


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
        {"id", ...} with what the task's `decode` says; the id is the row's, or its 0-based number.

    Raises:
        UserError: nothing to answer, or what cannot be read.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size is {batch_size}; allowed: above 0")
    require_one(texts, input, folders=True)  # a task may read one
    predictor = Predictor.open(model, device=device, batch_size=batch_size)
    task = predictor.task
    if input is None:
        return _answers(predictor, iter(task.of_arguments(texts)), CHUNK)
    examples, size = task.open_unlabelled(input, columns or LabelledDataConfig(), stdin)
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
        json: JSON instead of plain text.
        input: as given to `predict`: JSONL, and standard input, get JSON in any case.
        file: none: standard output.
    """
    file = file or sys.stdout
    json = json or answers_in_json(input)
    count = 0
    for row in predictions:
        count += 1
        line = json_format.dumps(row, ensure_ascii=False) if json else _plain(row)
        print(line, file=file, flush=True)
    return count


def _plain(row: dict[str, Any]) -> str:
    """What a prediction says in short, tabs between its parts: words as they are, numbers to four
    digits, entities as `text [label]`, several labels with commas; tables of scores are for JSON.
    """
    parts = []
    for name, value in row.items():
        if name == "entities":
            parts.append("  ".join(f"{found['text']} [{found['label']}]" for found in value))
        elif name == "labels":
            parts.append(", ".join(value))
        elif isinstance(value, float):
            parts.append(f"{value:.4f}")
        elif isinstance(value, str | int):
            parts.append(str(value))
    return "\t".join(parts)


def _answers(predictor: Predictor, examples: Iterator[Any], size: int) -> Iterator[dict[str, Any]]:
    while chunk := list(itertools.islice(examples, size)):
        answers = predictor.predict_examples(chunk)
        for example, answer in zip(chunk, answers, strict=True):
            yield {"id": example.id, **answer}
