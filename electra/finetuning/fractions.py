"""Learning curves over the number of labelled examples.

    electra finetune ... --train-fraction 0.01,0.1,1 --seeds 3

Every part is drawn once, from the first seed, and holds the smaller ones; the validation data stay
as they are. What the curve says of the next thousand labels is read from its last piece.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from electra.artifacts.report import curves, page, table
from electra.config import FinetuneConfig
from electra.corpus.order import shuffled_ids
from electra.errors import ConfigError
from electra.finetuning.one_run import MAY_CHANGE, RunInputs, RunResult, train_once
from electra.finetuning.one_task import TaskData
from electra.finetuning.several_seeds import copy_model, spread, train_seeds
from electra.tasks.budget import with_budget
from electra.training.run_folder import RunFolder, open_run, write_text
from electra.training.run_identity import check_same_run, describe_run

CURVE = "learning_curve.json"
_ALLOWED = "allowed: shares above 0 and up to 1 in rising order, commas between them: 0.01,0.1,1"


def parse_fractions(given: str) -> tuple[float, ...]:
    """`0.01,0.1,1` as numbers.

    Raises:
        ConfigError: it is no such list.
    """
    try:
        return tuple(float(part) for part in given.split(","))
    except ValueError:
        raise ConfigError(f"--train-fraction is {given}; {_ALLOWED}") from None


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse what is no share of the training data, or not in rising order.

    Raises:
        ConfigError: naming what was given.
    """
    if not all(0 < f <= 1 for f in fractions) or list(fractions) != sorted(set(fractions)):
        given = ",".join(f"{f:g}" for f in fractions)
        raise ConfigError(f"--train-fraction is {given}; {_ALLOWED}")


def part_of(examples: Sequence[Any], fraction: float, *, seed: int) -> list[Any]:
    """The share of the examples, in their order; a smaller share's examples are in a larger one's.

    At least one example; which ones is a pure function of their number and the seed.
    """
    count = max(1, round(fraction * len(examples)))
    positions = np.arange(count, dtype=np.uint64)
    chosen = shuffled_ids(positions, num_examples=len(examples), seed=seed)
    return [examples[i] for i in sorted(chosen.tolist())]


def train_fractions(
    run: RunFolder,
    config: FinetuneConfig,
    inputs: RunInputs,
    fractions: Sequence[float],
    seeds: int,
) -> tuple[RunResult, list[RunResult]]:
    """A run, or one of several seeds, in `fraction-F/` for each; the best model copied up.

    The budget of each follows from its own number of examples where none was given.
    """
    inputs.say(*run.notes)
    facts = inputs.facts | {"fractions": ", ".join(f"{f:g}" for f in fractions)}
    if run.status != "fresh":
        check_same_run(run.path, config, facts, may_change=MAY_CHANGE)
    if inputs.world.is_main:
        describe_run(run.path, config, facts)
    assert isinstance(inputs.data, TaskData), "several tasks are trained on whole"
    metric, every_example = inputs.data.metric, inputs.data.train
    rows: list[dict[str, Any]] = []
    every: list[RunResult] = []
    for fraction in fractions:
        train = part_of(every_example, fraction, seed=config.training.seed)
        part = dataclasses.replace(
            inputs,
            data=dataclasses.replace(inputs.data, train=train),
            facts=inputs.facts | {"train_fraction": str(fraction)},
        )
        sized = dataclasses.replace(config, training=with_budget(config, len(train)))
        folder = open_run(
            run.path / f"fraction-{fraction:g}",
            resume="auto",
            world=inputs.world,
            of_runs=seeds > 1,
        )
        inputs.say(f"{len(train):,} of {len(every_example):,} training examples")
        if seeds > 1:
            _, results = train_seeds(folder, sized, part, seeds)
        else:
            results = [train_once(folder, sized, part)]
        every += results
        scores = [r.metrics[metric] for r in results]
        rows.append({"fraction": fraction, "examples": len(train), **spread(scores)})
        rows[-1]["each"] = scores
    # of equal ones the last, which saw more of the data
    best = max(reversed(every), key=lambda r: r.metrics[metric])
    if inputs.world.is_main:
        copy_model(best.folder, run.path)
        curve = {"metric": metric, "rows": rows}
        write_text(run.path / CURVE, json.dumps(curve, indent=1) + "\n")
        _write_page(run.path / "learning_curve.html", metric, rows)
        report = RunFolder(best.folder, "finished").report()
        run.finish(report | {"fractions": list(fractions)})
        for row in rows:
            numbers = ", ".join(f"{name} {row[name]:.4f}" for name in ("median", "mean", "std"))
            inputs.say(f"{row['examples']:>9,} examples: {metric} {numbers}")
    inputs.world.wait()
    return best, every


def _write_page(path: Path, metric: str, rows: list[dict[str, Any]]) -> None:
    points = [{"examples": row["examples"], metric: row["median"]} for row in rows]
    picture = curves(
        points, [metric], x="examples", title="Validation data, median of the seeds", y_label=metric
    )
    shown = ("examples", "median", "mean", "std")
    sections = [
        ("Curve", picture),
        ("Numbers", table(shown, [[row[name] for name in shown] for row in rows])),
    ]
    path.write_text(page("Learning curve over labelled examples", sections), encoding="utf-8")
