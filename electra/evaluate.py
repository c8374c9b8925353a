"""A model and data to numbers: a fine-tuned one on labels, a pretrained one on pairs of sentences.

electra evaluate --model runs/sentiment --data test.tsv --json
electra evaluate --model runs/mine --data blimp/ --task minimal-pairs
electra evaluate --model runs/mine --data stsb.csv --task similarity
"""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from electra.artifacts.finetuning_report import write_finetuning_report
from electra.config import LabelledDataConfig
from electra.errors import ConfigError, DataError, did_you_mean
from electra.evaluation.minimal_pairs import (
    MINIMAL_PAIRS,
    MinimalPair,
    minimal_pairs_result,
    read_minimal_pairs,
)
from electra.evaluation.scoring_methods import METHODS
from electra.evaluation.similarity import (
    SIMILARITY,
    ScoredPair,
    SentenceEncoder,
    read_scored_pairs,
    similarity_result,
)
from electra.evaluation.token_scores import AUTO, TextScorer
from electra.tasks.predictor import Predictor
from electra.tasks.task import TASK_FILE, TASKS, load_task
from electra.training.loggers import progress_bar
from electra.training.run_folder import write_text

OF_PRETRAINED = (MINIMAL_PAIRS, SIMILARITY)
"""Tasks of models that were not fine-tuned."""


def evaluate(
    *,
    model: str | Path,
    data: str,
    task: str | None = None,
    limit: int | None = None,
    method: str = AUTO,
    json: bool = False,
    output: Path | None = None,
    report: Path | None = None,
    columns: LabelledDataConfig | None = None,
    batch_size: int = 32,
    device: str = "auto",
    console: Console | None = None,
    progress: Console | None = None,
) -> dict[str, Any]:
    """Score a model on data.

    Args:
        model: a folder that `finetune` wrote; for minimal pairs whatever `TextScorer.open` takes,
            for similarity whatever `SentenceEncoder.open` takes.
        data: CSV, TSV, JSONL or Parquet, or `ID:split` of the Hub; for minimal pairs whatever
            `read_minimal_pairs` takes.
        task: `minimal-pairs` or `similarity`; none: the model's own.
        limit: pairs of a paradigm; none: all. Minimal pairs only.
        method: how sentences are scored, see `TextScorer.open`. Minimal pairs only.
        json: print the result as one line of JSON instead of tables.
        output: write the result to this file as well.
        report: write a page of what is right and wrong to this .html file; of fine-tuned models
            alone.
        columns: where text and label stand; none: as in the training data where it has them.
        batch_size: examples a forward pass.
        device: auto, cpu, cuda or mps.
        console: where the result is printed; none: nowhere.
        progress: a terminal for the progress bar, or none.

    Returns:
        {"task", "data", "n", "metric", "metrics": {name: number}}; minimal pairs also
        "paradigms": {name: accuracy}, and their accuracy is the mean over the paradigms.

    Raises:
        UserError: the model or the data cannot be read, or do not fit each other.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size is {batch_size}; allowed: above 0")
    for flag, file in (("--output", output), ("--report", report)):
        if file is not None and not file.parent.is_dir():
            raise ConfigError(f"{flag} {file}: there is no folder {file.parent}")
        if file is not None and file.is_dir():
            raise ConfigError(f"{flag} {file} is a folder; a file is wanted")
    if report is not None and task in OF_PRETRAINED:
        raise ConfigError(
            f"--report is for fine-tuned models: leave it out for {task.replace('-', ' ')}"
        )
    if task is not None and task not in (*OF_PRETRAINED, *TASKS):
        raise ConfigError(f"--task is {task}; {did_you_mean(task, (*OF_PRETRAINED, *TASKS))}")
    if task != MINIMAL_PAIRS and (limit is not None or method != AUTO):
        raise ConfigError(f"--limit and --method are for --task {MINIMAL_PAIRS}")
    if task == MINIMAL_PAIRS:
        if columns not in (None, LabelledDataConfig()):
            raise ConfigError("minimal pairs have columns of their own: leave --data.* out")
        paradigms = read_minimal_pairs(data, limit=limit)
        scorer = TextScorer.open(model, method=method, device=device, batch_size=batch_size)
        result = _minimal_pairs(scorer, paradigms, data, progress)
        tables = [_paradigm_table(result)]
    elif task == SIMILARITY:
        scored = read_scored_pairs(data, columns or LabelledDataConfig())
        encoder = SentenceEncoder.open(model, device=device, batch_size=batch_size)
        result = _similarity(encoder, scored, data, progress)
        tables = _tables(result, [])
    else:
        if task is None and Path(model).is_dir() and not (Path(model) / TASK_FILE).is_file():
            raise DataError(
                f"--model {model} has no {TASK_FILE}: give a folder that `finetune` wrote, or, "
                "for pairs of sentences and a pretrained model, --task "
                f"{' or '.join(OF_PRETRAINED)}"
            )
        known = load_task(Path(model))
        if task not in (None, known.name):
            raise ConfigError(
                f"--task is {task}; allowed: {', '.join(OF_PRETRAINED)}, or what the model was "
                f"made for: {known.name}"
            )
        examples = known.read(data, columns)
        predictor = Predictor.open(model, device=device, batch_size=batch_size)
        if progress is not None:
            for note in known.notes(examples):
                progress.print(note, highlight=False, markup=False)
        predictions = _with_bar(predictor, examples, progress)
        result = {
            "task": known.name,
            "data": str(data),
            "n": len(examples),
            "metric": known.metric,
            "metrics": known.metrics(examples, predictions),
        }
        tables = _tables(result, known.per_class(examples, predictions))
        if report is not None:
            write_finetuning_report(
                report,
                task=known,
                examples=examples,
                predictions=predictions,
                metrics=result["metrics"],
                facts={"model": Path(model).name, "data": str(data)},
                title="Evaluation",
            )
    if output is not None:
        write_text(output, json_format.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if console is not None:
        if json:
            line = json_format.dumps(result, ensure_ascii=False)
            console.print(Text(line), soft_wrap=True)
        else:
            unit = "pairs" if task in OF_PRETRAINED else "rows"
            title = f"{result['task']}: {result['n']:,} {unit} of {result['data']}"
            console.print(title, highlight=False, markup=False)
            for table in tables:
                console.print(table)
    return result


def _minimal_pairs(
    scorer: TextScorer,
    paradigms: dict[str, list[MinimalPair]],
    data: str,
    progress: Console | None,
) -> dict[str, Any]:
    if progress is None:
        return minimal_pairs_result(scorer, paradigms, data)
    said = f"{scorer.folder}, {scorer.method}: {METHODS[scorer.method].meaning}"
    progress.print(said, highlight=False, markup=False, soft_wrap=True)
    if not progress.is_terminal:
        return minimal_pairs_result(scorer, paradigms, data)
    with progress_bar(progress) as bar:
        row = bar.add_task("evaluating", total=1.0, numbers="")
        return minimal_pairs_result(
            scorer,
            paradigms,
            data,
            progress=lambda done, name: bar.update(row, completed=done, numbers=name),
        )


def _similarity(
    encoder: SentenceEncoder, pairs: list[ScoredPair], data: str, progress: Console | None
) -> dict[str, Any]:
    with _bar(progress, 2 * len(pairs)) as tell:
        result = similarity_result(encoder, pairs, data, tell)
    if progress is not None and encoder.num_cut:
        note = (
            f"texts longer than the {encoder.longest} tokens that {encoder.folder} reads, cut "
            f"there: {encoder.num_cut:,}"
        )
        progress.print(note, highlight=False, markup=False)
    return result


def _with_bar(
    predictor: Predictor, examples: list[Any], progress: Console | None
) -> list[dict[str, Any]]:
    with _bar(progress, len(examples)) as tell:
        return predictor.predict_examples(examples, tell)


@contextmanager
def _bar(progress: Console | None, total: int) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, to be told what is done and of how many; else None."""
    if progress is None or not progress.is_terminal:
        yield None
        return
    with progress_bar(progress) as bar:
        row = bar.add_task("evaluating", total=total, numbers="")
        yield lambda done, of: bar.update(row, completed=done, total=of)


def _tables(result: dict[str, Any], classes: list[dict[str, Any]]) -> list[Table]:
    table = Table("metric", "value")
    for name, value in result["metrics"].items():
        table.add_row(name, f"{value:.4f}", style="bold" if name == result["metric"] else None)
    if not classes:
        return [table]
    rows = Table("label", "precision", "recall", "f1", "rows")
    for row in classes:
        numbers = [f"{row[name]:.4f}" for name in ("precision", "recall", "f1")]
        rows.add_row(escape(str(row["label"])), *numbers, f"{row['support']:,}")
    return [table, rows]


def _paradigm_table(result: dict[str, Any]) -> Table:
    table = Table("paradigm", "accuracy")
    for name, value in result["paradigms"].items():
        table.add_row(escape(name), f"{value:.4f}")
    mean = f"{result['metrics']['accuracy']:.4f}"
    table.add_row(f"mean over {len(result['paradigms'])}", mean, style="bold")
    return table
