"""One fine-tuning run: a seed, a folder, the best evaluation kept.

A run that ends with a model which answers the same to everything is put aside as `collapsed-1/`
and begun again with another seed, as often as `training.restarts` says (ELECTRA's large models
collapse on small data sets; the paper and its code call such runs degenerate).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from electra.config import BUDGETS, FinetuneConfig
from electra.errors import ConfigError, DataError, did_you_mean
from electra.finetuning.one_task import Encoder, TaskData
from electra.finetuning.several_tasks import SeveralTasks
from electra.recipe import to_tables
from electra.tasks.best import BestModel
from electra.tasks.budget import in_parts, in_steps
from electra.training.checkpoint import CheckpointStore
from electra.training.device import (
    keep_memory,
    machine,
    pick_device,
    pick_dtype,
    seed_everything,
)
from electra.training.distributed import World
from electra.training.loggers import MetricsFile, RunLogger, read_metrics
from electra.training.loop import bit_environment, fit
from electra.training.memory import within_memory
from electra.training.optimizer import build_optimizer
from electra.training.run_folder import RunFolder
from electra.training.run_identity import check_same_run, describe_run, other_bits
from electra.training.schedule import Budget, TrainState
from electra.training.trackers import Trackers

MAY_CHANGE = {
    "training": {
        *(*BUDGETS, "epochs", "eval_steps", "save_steps", "save_total_limit", "device"),
        "max_skipped_steps",
    },
    "logging": {"trackers"},
}
"""Fields that a resumed run may have otherwise than it began."""
NOT_OF_THE_MODEL = {
    *("report.json", "metrics.jsonl", "config.toml", "environment.json", "trackers.json")
}
"""Files of a run that are not copied with its model."""
_COLLAPSED = "collapsed-"
_SEED_STRIDE = 1_000
"""From the seed of a collapsed run to that of the next, so that those of `--seeds` are not met."""


@dataclass(frozen=True)
class RunInputs:
    """What is trained on what; several runs may share it."""

    data: TaskData | SeveralTasks
    encoder: Encoder
    facts: dict[str, Any]
    """For environment.json, and to know a run again by."""
    world: World
    console: Console

    def say(self, *lines: str) -> None:
        """Lines for the person, once."""
        if self.world.is_main:
            for line in lines:
                self.console.print(line, highlight=False, markup=False)


@dataclass(frozen=True)
class RunResult:
    """One run that has ended."""

    seed: int
    folder: Path
    metrics: dict[str, float]
    """On the validation data, of the best evaluation."""
    best_step: int
    note: str | None = None
    """Where the model answers the same to everything."""

    @classmethod
    def read(cls, run: RunFolder) -> RunResult:
        """Of a finished run.

        Raises:
            DataError: its report is of something else.
        """
        report = run.report()
        if report.get("seeds", 1) > 1 or "trials" in report or "fractions" in report:
            raise ConfigError(
                f"{run.path} holds several runs (--seeds, --train-fraction or --search): give the "
                "flags it was made with, or choose another --output"
            )
        try:
            return cls(
                report["seed"], run.path, report["metrics"], report["best_step"], report["note"]
            )
        except KeyError as error:
            raise DataError(
                f"{run.path}/report.json is not of a fine-tuning run: no {error}"
            ) from None


def train_once(run: RunFolder, config: FinetuneConfig, inputs: RunInputs) -> RunResult:
    """Train, begin again where that collapsed, and leave a model folder with a report and a card.

    Raises:
        UserError: the encoder does not fit, or the folder holds a run of another recipe.
        Interrupted: a checkpoint is on disk.
    """
    size, processes = config.training.global_batch_size, inputs.world.size
    if size % processes:
        raise ConfigError(
            f"--training.global-batch-size {size} cannot be shared by {processes} processes; "
            f"allowed: multiples of {processes}"
        )
    inputs.say(*run.notes)
    if run.status != "fresh":
        check_same_run(run.path, config, inputs.facts, may_change=MAY_CHANGE)
    if run.status == "finished":
        return RunResult.read(run)
    while True:
        tried = round(inputs.world.same_number(float(_collapsed_runs(run.path))))
        seed = config.training.seed + _SEED_STRIDE * tried
        attempt = _Attempt(run, config, inputs, seed)
        attempt.train()
        note = attempt.best.note
        if note is None or tried >= config.training.restarts:
            return attempt.finish()
        inputs.say(
            f"the run with seed {seed} collapsed ({note}); beginning again with seed "
            f"{seed + _SEED_STRIDE}"
        )
        if inputs.world.is_main:
            _put_aside(run, seed=seed, note=note, metrics=attempt.best.metrics)
        del attempt  # the next model is not to stand beside it
        inputs.world.wait()
        run = RunFolder(run.path, "fresh")


class _Attempt:
    """A run with one seed: everything that is built for it, the loop, what it leaves behind."""

    def __init__(
        self, run: RunFolder, config: FinetuneConfig, inputs: RunInputs, seed: int
    ) -> None:
        """Build, and load the checkpoint of a run that is continued."""
        world = inputs.world
        self.run, self.config, self.inputs, self.seed = run, config, inputs, seed
        device = pick_device(config.training.device, world)
        dtype = pick_dtype(config.training.dtype, device)
        self.device, self.dtype = device, dtype
        seed_everything(seed)
        keep_memory()
        self.trained = inputs.data.build(inputs.encoder, config, device, seed)
        inputs.say(*self.trained.notes)
        self.optimizer = build_optimizer(
            self.trained.objective, config.optimizer, num_layers=self.trained.num_layers
        )
        steps = in_steps(config.training, self.trained.num_train)
        self.training = dataclasses.replace(in_parts(steps, device, world.size), seed=seed)
        self.budget = Budget.of(self.training, config.schedule.replay)
        self.store = CheckpointStore(
            run.checkpoints, keep=self.training.save_total_limit, world=world
        )
        self.state, before = TrainState(), None
        if run.status == "continued":
            loaded = self.store.load_latest(module=self.trained.objective, optimizer=self.optimizer)
            assert loaded is not None, "open_run saw a whole checkpoint"
            self.state, before = loaded.state, loaded.environment
        self.training = within_memory(
            self.training,
            self.trained.objective,
            self.trained.source,
            device=device,
            dtype=dtype,
            world=world,
            before=before,
        )
        if before is not None:
            now = bit_environment(self.training, self.dtype, world)
            inputs.say(*filter(None, [other_bits(before, now)]))
        cut = self.state.step if run.status == "continued" else -1
        metrics = run.path / "metrics.jsonl"
        self.file = MetricsFile(metrics, cut_after_step=cut) if world.is_main else None
        self.best = BestModel(
            run.path, metric=inputs.data.metric, fresh=run.status == "fresh", world=world
        )
        since = sum(step > self.best.step for step in _evaluated_steps(metrics, cut))
        self._since_best = round(world.same_number(float(since)))
        if world.is_main:
            describe_run(run.path, config, inputs.facts)

    def train(self) -> None:
        """The loop, and an evaluation at least."""
        config, quiet = self.config, not self.inputs.world.is_main
        title = f"fine-tuning (seed {self.seed})"
        trackers = Trackers(
            () if quiet else config.logging.trackers,
            self.run.path,
            config=to_tables(config),
            step=self.state.step,
            continued=self.run.status == "continued",
            say=self.inputs.say,
        )
        console = self.inputs.console
        logger = RunLogger(self.file, console, title=title, quiet=quiet, trackers=trackers)
        try:
            fit(
                self.trained.objective,
                optimizer=self.optimizer,
                source=self.trained.source,
                state=self.state,
                budget=self.budget,
                config=self.training,
                optimizer_config=config.optimizer,
                schedule=config.schedule,
                logging=config.logging,
                device=self.device,
                dtype=self.dtype,
                logger=logger,
                evaluate=self._evaluate,
                checkpoints=self.store,
                world=self.inputs.world,
                stop=self._stops_early,
            )
        finally:
            logger.close()
        if not self.best.metrics:  # resumed after the last step, and what was kept is gone
            self._evaluate()

    def _evaluate(self) -> dict[str, float]:
        found, world = self.trained.evaluate(), self.inputs.world
        if self.inputs.data.metric not in found.metrics:
            raise ConfigError(
                f"--training.metric-for-best-model is {self.inputs.data.metric}; "
                f"{did_you_mean(self.inputs.data.metric, found.metrics)}"
            )
        # what is decided by them is decided alike everywhere, whatever the last bits are
        metrics = {name: world.same_number(value) for name, value in found.metrics.items()}
        collapsed = world.same_number(float(found.note is not None))
        note = (found.note or "the main process says so") if collapsed else None
        self.best.offer(self.state.step, metrics, note, found.save)
        self._since_best = 0 if self.best.step == self.state.step else self._since_best + 1
        return metrics

    def _stops_early(self) -> bool:
        patience = self.config.training.early_stopping_patience
        return patience is not None and self._since_best >= patience

    def finish(self) -> RunResult:
        """The best model in the run's own folder, with what there is to say about it."""
        run, inputs, best, step = self.run, self.inputs, self.best, self.state.step
        early = self.budget.progress(self.state) < 1
        report = {
            "electra": machine()["electra"],
            **inputs.facts,
            "seed": self.seed,
            "metric": inputs.data.metric,
            "metrics": best.metrics,
            "best_step": best.step,
            "steps": step,
            "stopped_early": early,
            "minutes": self.state.seconds / 60,
            "examples": inputs.data.counts,
            "note": best.note,
        }
        if inputs.world.is_main:
            best.copy_to(run.path)
            rows = read_metrics(run.path / "metrics.jsonl")
            inputs.data.explain(run.path, report, rows, self.config)
            run.finish(report)
            best.forget()
            for saved in self.store.steps()[:-1]:
                shutil.rmtree(self.store.path(saved))
            numbers = "  ".join(f"{name} {value:.4f}" for name, value in best.metrics.items())
            which = f"step {best.step} of {step}" + (", stopped early" if early else "")
            inputs.say(f"{numbers}  ({which}): {run.path}")
            if best.note:
                inputs.say(f"warning: {best.note}")
        inputs.world.wait()
        return RunResult(self.seed, run.path, best.metrics, best.step, best.note)


def _evaluated_steps(file: Path, last: int) -> list[int]:
    """The steps up to `last` that a run has evaluated."""
    if last < 0 or not file.is_file():
        return []
    return [
        row["step"]
        for row in read_metrics(file)
        if row["step"] <= last and any(name.startswith("eval_") for name in row)
    ]


def _collapsed_runs(folder: Path) -> int:
    return len(list(folder.glob(f"{_COLLAPSED}[0-9]*")))


def _put_aside(run: RunFolder, *, seed: int, note: str, metrics: dict[str, float]) -> None:
    """Keep the log of a collapsed run; from the first rename on there is nothing to resume."""
    partial = run.path / f".partial-{_COLLAPSED[:-1]}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    run.checkpoints.rename(partial / "checkpoints")
    (run.path / "metrics.jsonl").rename(partial / "metrics.jsonl")
    facts = {"seed": seed, "note": note, "metrics": metrics}
    (partial / "collapsed.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    aside = run.path / f"{_COLLAPSED}{_collapsed_runs(run.path) + 1}"
    partial.rename(aside)
    shutil.rmtree(aside / "checkpoints")
