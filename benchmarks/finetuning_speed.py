"""Rows a second of our fine-tuning and of both plain paths, measured in turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.finetuning_case import Case
from benchmarks.plain_path import Encoded, PlainPath, PlainTraining
from electra.finetuning.one_task import Encoder, TaskData
from electra.tasks.budget import in_parts
from electra.tasks.task import Task
from electra.training.device import seed_everything
from electra.training.loop import fit
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState

OURS, PLAIN, DYNAMIC = "ours", "plain", "plain, padded to the longest of the batch"
PATHS = (OURS, PLAIN, DYNAMIC)
SUFFIX = {PLAIN: "", DYNAMIC: "_dynamic"}
"""Of the keys that compare ours to a peer."""
EVALUATION_ROWS = 320
EVALUATION_ROUNDS = 5
UNMEASURED_ROWS = 64
UNMEASURED_STEPS = 2


class OurTraining:
    """A task in training as `electra finetune` builds it; `run` may be called again and goes on."""

    def __init__(self, case: Case, task: Task[Any], train: Sequence[Any], test: Sequence[Any]):
        """Seed torch before."""
        self._config = case.config
        device, seed = torch.device("cpu"), case.config.training.seed
        self._training = in_parts(case.config.training, device)
        self.trained = TaskData(task, train, test).build(
            Encoder(case.encoder), case.config, device, seed
        )
        self._optimizer = build_optimizer(
            self.trained.objective, case.config.optimizer, num_layers=self.trained.num_layers
        )
        self._state = TrainState()

    def run(self, steps: int) -> int:
        """Take some steps; return how many inputs of the network they read."""
        fit(
            self.trained.objective,
            optimizer=self._optimizer,
            source=self.trained.source,
            state=self._state,
            budget=Budget(max_steps=self._state.step + steps),
            config=self._training,
            optimizer_config=self._config.optimizer,
            schedule=self._config.schedule,
            logging=self._config.logging,
            device=torch.device("cpu"),
            dtype=torch.float32,
            logger=_Silent(),
        )
        return steps * self._training.global_batch_size


class _Silent:
    def log(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def show(self, progress: float, text: str) -> None:
        """Nothing."""


def plain_training(
    case: Case, plain: PlainPath, encoded: Encoded, steps: int, *, pad_to_longest: bool = False
) -> PlainTraining:
    """The plain loop over a case's rows, at its rate and batch size."""
    return PlainTraining(
        plain.model,
        encoded,
        learning_rate=case.setting.learning_rate,
        batch_size=case.setting.batch_size,
        steps=steps,
        pad_to_longest=pad_to_longest,
    )


def throughput(
    case: Case, *, rounds: int, steps: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows a second of all paths, in training and in evaluation, and what ours gains on each peer.

    A speedup is the median over the rounds of our rows a second over the peer's in that round.

    Args:
        case: a set and its recipe.
        rounds: in each every path has a turn; the one that begins changes.
        steps: of a path in a round of training.
    """
    task, train, test = case.read()
    test = test[:: -(-len(test) // EVALUATION_ROWS)]
    seed_everything(0)
    ours = OurTraining(case, task, train, test)
    plain = {
        path: PlainPath.of(
            task, case.encoder, case.setting.max_length, pad_to_longest=path == DYNAMIC
        )
        for path in (PLAIN, DYNAMIC)
    }
    encoded = plain[PLAIN].encode(train, training=True)
    total = rounds * steps + UNMEASURED_STEPS
    training: dict[str, Callable[[int], int]] = {OURS: ours.run}
    answering: dict[str, Callable[[Sequence[Any]], Any]] = {
        OURS: ours.trained.predictor.predict_examples
    }
    for path, peer_path in plain.items():
        loop = plain_training(case, peer_path, encoded, total, pad_to_longest=path == DYNAMIC)
        training[path], answering[path] = loop.run, peer_path.predictions
    for run in training.values():  # the first steps make room and choose kernels
        run(UNMEASURED_STEPS)
    share = {OURS: _examples_per_input([f.example for f in _features(ours, train)])}
    windows = task.name == "question-answering"
    theirs = [o[0] for o in encoded.origin] if windows else range(len(encoded.origin))
    share |= dict.fromkeys(plain, _examples_per_input(theirs))
    found = {
        "train": _in_turns(rounds, lambda path: training[path](steps) * share[path]),
    }
    # the kernel that from_pretrained chooses, so that of `electra evaluate` and of the peers
    ours.trained.model.set_attn_implementation("sdpa")
    for answer in answering.values():
        answer(test[:UNMEASURED_ROWS])
    found["evaluate"] = _in_turns(
        min(rounds, EVALUATION_ROUNDS), lambda path: len(answering[path](test))
    )
    summary: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "steps": steps,
        "evaluation_rows": len(test),
        "seconds": {
            what: {path: [seconds for _, seconds in turns] for path, turns in by_path.items()}
            for what, by_path in found.items()
        },
    }
    rows = []
    for what, by_path in found.items():
        speed = {path: [n / seconds for n, seconds in turns] for path, turns in by_path.items()}
        row: dict[str, Any] = {"what": what}
        row |= {f"{path} rows/s": statistics.median(speed[path]) for path in PATHS}
        for peer, suffix in SUFFIX.items():
            ratios = [a / b for a, b in zip(speed[OURS], speed[peer], strict=True)]
            row[f"speedup{suffix}"] = statistics.median(ratios)
            row[f"range{suffix}"] = [min(ratios), max(ratios)]
            summary[f"{what}_speedup{suffix}"] = row[f"speedup{suffix}"]
            summary[f"{what}_speedup{suffix}_range"] = row[f"range{suffix}"]
        rows.append(row)
    return rows, summary


def _in_turns(rounds: int, run: Callable[[str], float]) -> dict[str, list[tuple[float, float]]]:
    """(rows, seconds) of each round by path."""
    found: dict[str, list[tuple[float, float]]] = {path: [] for path in PATHS}
    for turn in range(rounds):
        first = turn % len(PATHS)
        for path in (*PATHS[first:], *PATHS[:first]):
            began = time.perf_counter()
            rows = run(path)
            found[path].append((rows, time.perf_counter() - began))
    return found


def _features(ours: OurTraining, train: Sequence[Any]) -> list[Any]:
    return [f for f in ours.trained.predictor.features(train) if f.target is not None]


def _examples_per_input(examples: Sequence[Any]) -> float:
    """Below 1 where a long example is several inputs, windows of it."""
    return len(set(examples)) / len(examples)
