"""A fine-tuned model and labelled data to numbers.

electra evaluate --model runs/sentiment --data test.tsv --json
"""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from electra.config import LabelledDataConfig
from electra.errors import ConfigError
from electra.evaluation.metrics import per_class
from electra.tasks.predictor import Predictor
from electra.training.loggers import progress_bar
from electra.training.run_folder import write_text


def evaluate(
    *,
    model: str | Path,
    data: str,
    json: bool = False,
    output: Path | None = None,
    columns: LabelledDataConfig | None = None,
    batch_size: int = 32,
    device: str = "auto",
    console: Console | None = None,
    progress: Console | None = None,
) -> dict[str, Any]:
    """Score a model on labelled data.

    Args:
        model: a folder that `finetune` wrote.
        data: CSV, TSV, JSONL or Parquet, or `ID:split` of the Hub.
        json: print the result as one line of JSON instead of tables.
        output: write the result to this file as well.
        columns: where text and label stand; none: as in the training data where it has them.
        batch_size: examples a forward pass.
        device: auto, cpu, cuda or mps.
        console: where the result is printed; none: nowhere.
        progress: a terminal for the progress bar, or none.

    Returns:
        {"task", "data", "n", "metric", "metrics": {name: number}}

    Raises:
        UserError: the model or the data cannot be read, or do not fit each other.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size is {batch_size}; allowed: above 0")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}")
    predictor = Predictor.open(model, device=device, batch_size=batch_size)
    task = predictor.task
    examples = task.read(data, columns)
    predictions = _with_bar(predictor, examples, progress)
    result = {
        "task": task.name,
        "data": str(data),
        "n": len(examples),
        "metric": task.metric,
        "metrics": task.metrics(examples, predictions),
    }
    if output is not None:
        write_text(output, json_format.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if console is not None:
        if json:
            line = json_format.dumps(result, ensure_ascii=False)
            console.print(Text(line), soft_wrap=True)
        else:
            _show(console, result, task.settings().get("labels") or [], examples, predictions)
    return result


def _with_bar(
    predictor: Predictor, examples: list[Any], progress: Console | None
) -> list[dict[str, Any]]:
    if progress is None or not progress.is_terminal:
        return predictor.predict_examples(examples)
    with progress_bar(progress) as bar:
        row = bar.add_task("evaluating", total=len(examples), numbers="")
        return predictor.predict_examples(
            examples, lambda done, total: bar.update(row, completed=done, total=total)
        )


def _show(
    console: Console,
    result: dict[str, Any],
    labels: list[str],
    examples: list[Any],
    predictions: list[dict[str, Any]],
) -> None:
    title = f"{result['task']}: {result['n']:,} rows of {result['data']}"
    console.print(title, highlight=False, markup=False)
    table = Table("metric", "value")
    for name, value in result["metrics"].items():
        table.add_row(name, f"{value:.4f}", style="bold" if name == result["metric"] else None)
    console.print(table)
    if not labels:
        return
    truth, answers = [e.label for e in examples], [p["label"] for p in predictions]
    rows = Table("label", "precision", "recall", "f1", "rows")
    for row in per_class(truth, answers, labels):
        numbers = [f"{row[name]:.4f}" for name in ("precision", "recall", "f1")]
        rows.add_row(escape(str(row["label"])), *numbers, f"{row['support']:,}")
    console.print(rows)
