"""Several seeds of one run, and what they are worth together.

Beside the spread of the seeds two ways to join them are measured on the validation data: the
ensemble, which answers by the mean of all logits and costs as many passes, and the average of the
weights, which costs nothing (the greedy soup of Wortsman et al. 2022, "Model soups", section 2:
models join in the order of their scores, as long as the score does not fall).
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from electra.config import FinetuneConfig
from electra.finetuning.one_run import (
    MAY_CHANGE,
    NOT_OF_THE_MODEL,
    RunInputs,
    RunResult,
    train_once,
)
from electra.finetuning.one_task import TaskData
from electra.tasks.batches import Feature
from electra.tasks.model_folder import save_model_folder
from electra.tasks.predictor import Predictor, save_ensemble
from electra.tasks.task import Logits, Task
from electra.training.run_folder import RunFolder, copy_file, open_run, write_text
from electra.training.run_identity import check_same_run, describe_run

SUMMARY = "summary.json"


def train_seeds(
    run: RunFolder, config: FinetuneConfig, inputs: RunInputs, seeds: int
) -> tuple[RunResult, list[RunResult]]:
    """A run in `seed-K/` for each seed, the best copied up, the ways to join them, a summary.

    Returns:
        the best by the validation data (ties: the smaller seed), and all.
    """
    inputs.say(*run.notes)
    if run.status != "fresh":
        check_same_run(run.path, config, inputs.facts, may_change=MAY_CHANGE)
    if inputs.world.is_main:
        describe_run(run.path, config, inputs.facts)
    results = []
    for seed in range(config.training.seed, config.training.seed + seeds):
        training = dataclasses.replace(config.training, seed=seed)
        folder = open_run(run.path / f"seed-{seed}", resume="auto", world=inputs.world)
        results.append(train_once(folder, dataclasses.replace(config, training=training), inputs))
    metric = inputs.data.metric
    best = max(results, key=lambda r: (r.metrics[metric], -r.seed))
    if inputs.world.is_main and not (run.status == "finished" and _seeds_of(run) == seeds):
        _summarise(run, results, best, config, inputs)
    inputs.world.wait()
    return best, results


def spread(scores: Sequence[float]) -> dict[str, float]:
    """`median`, `mean` and `std` (of the sample) of several runs' scores; of one, std is 0."""
    return {
        "median": statistics.median(scores),
        "mean": statistics.fmean(scores),
        "std": statistics.stdev(scores) if len(scores) > 1 else 0.0,
    }


def copy_model(best: Path, folder: Path) -> None:
    """The model of a run's folder, without what belongs to the run alone."""
    for file in sorted(best.iterdir()):
        if file.is_file() and file.name not in NOT_OF_THE_MODEL:
            copy_file(file, folder)


def _summarise(
    run: RunFolder,
    results: Sequence[RunResult],
    best: RunResult,
    config: FinetuneConfig,
    inputs: RunInputs,
) -> None:
    metric, seeds = inputs.data.metric, len(results)
    numbers = spread([r.metrics[metric] for r in results])
    together = _join(run.path, results, config, inputs)
    summary: dict[str, Any] = {
        "metric": metric,
        **numbers,
        "best_seed": best.seed,
        **together,
        "each": [
            {"seed": r.seed, "best_step": r.best_step, "metrics": r.metrics, "note": r.note}
            for r in results
        ],
    }
    copy_model(best.folder, run.path)
    write_text(run.path / SUMMARY, json.dumps(summary, indent=1) + "\n")
    run.finish(RunFolder(best.folder, "finished").report() | {"seeds": seeds})
    shown = ", ".join(f"{name} {number:.4f}" for name, number in numbers.items())
    inputs.say(
        f"{metric} over {seeds} seeds: {shown}; the best, seed {best.seed}, is in {run.path}"
    )
    for name, found in together.items():
        inputs.say(f"{metric} of {name}/: {found['metrics'][metric]:.4f}")


def _seeds_of(run: RunFolder) -> int:
    return int(run.report().get("seeds", 1))


def _join(
    folder: Path, results: Sequence[RunResult], config: FinetuneConfig, inputs: RunInputs
) -> dict[str, Any]:
    """Make and measure `ensemble/` and `averaged/`."""
    assert isinstance(inputs.data, TaskData), "several tasks have one seed"
    task, validation = inputs.data.task, inputs.data.validation
    metric = inputs.data.metric
    device = config.training.device
    ranked = sorted(results, key=lambda r: (-r.metrics[metric], r.seed))
    predictor = Predictor.open(ranked[0].folder, device=device)
    features = predictor.features(validation)
    kept, weights = [ranked[0].seed], _weights(predictor)
    tuned, metrics = predictor.task, ranked[0].metrics
    logits = predictor.logits(features)
    for count, result in enumerate(ranked[1:], start=1):  # no more than two models at a time
        member = Predictor.open(result.folder, device=device)
        if task.averages_logits:
            added = zip(logits, member.logits(features), strict=True)
            logits = [(count * mean + own) / np.float32(count + 1) for mean, own in added]
        further, size = _weights(member), len(kept)
        del member
        tried = {name: (size * w + further[name]) / (size + 1) for name, w in weights.items()}
        _load(predictor, tried)
        found = _measured(task, validation, features, predictor.logits(features))
        if found[1][metric] >= metrics[metric]:
            kept, weights = [*kept, result.seed], tried
            tuned, metrics = found
    together: dict[str, Any] = {}
    if task.averages_logits:
        decoding, joint = _measured(task, validation, features, logits)
        save_ensemble(folder / "ensemble", decoding, [r.folder for r in results])
        together["ensemble"] = {"metrics": joint, "members": [r.seed for r in results]}
    _load(predictor, weights)
    save_model_folder(folder / "averaged", tuned, predictor.model, predictor.tokenizer)
    together["averaged"] = {"metrics": metrics, "members": kept}
    return together


def _measured(
    task: Task[Any], examples: Sequence[Any], features: list[Feature], logits: list[Logits]
) -> tuple[Task[Any], dict[str, float]]:
    tuned = task.tuned(examples, features, logits)
    return tuned, tuned.metrics(examples, tuned.decode(examples, features, logits))


def _weights(predictor: Predictor) -> dict[str, Tensor]:
    """Copies of all weights that can be averaged."""
    state = predictor.model.state_dict()
    return {name: w.detach().clone() for name, w in state.items() if w.is_floating_point()}


def _load(predictor: Predictor, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in predictor.model.state_dict().items():
            if name in weights:
                tensor.copy_(weights[name])
