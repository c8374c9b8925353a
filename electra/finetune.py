r"""An encoder and labelled data to a model for a task.

    electra finetune --task text-classification --model runs/first/encoder \
        --train train.tsv --validation dev.tsv --output runs/sentiment

The task says what a row, a head and a metric are; the one loop trains; the best evaluation on the
validation data becomes the model folder.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from electra.config import BUDGETS, FinetuneConfig, finetune_defaults
from electra.errors import ConfigError, DataError, Interrupted
from electra.recipe import resolve
from electra.tasks.batches import LengthBatches
from electra.tasks.best import BestModel
from electra.tasks.budget import in_steps, with_budget
from electra.tasks.model_folder import (
    add_special_tokens,
    find_encoder,
    load_tokenizer,
    longest_input,
    save_model_folder,
)
from electra.tasks.objective import FinetuneObjective
from electra.tasks.predictor import Predictor
from electra.tasks.task import Task, task_class
from electra.training.checkpoint import CheckpointStore
from electra.training.device import (
    inference_dtype,
    keep_memory,
    machine,
    pick_device,
    pick_dtype,
    seed_everything,
    seed_rank,
    training_attention,
)
from electra.training.distributed import World, join_world, leave_world
from electra.training.loggers import MetricsFile, RunLogger
from electra.training.loop import bit_environment, fit
from electra.training.optimizer import build_optimizer
from electra.training.run_folder import RunFolder, copy_file, open_run, write_text
from electra.training.run_identity import check_same_run, describe_run, identity, other_bits
from electra.training.schedule import Budget, TrainState

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MAY_CHANGE = {
    "training": {*BUDGETS, "epochs", "eval_steps", "save_steps", "save_total_limit", "device"}
}
"""Fields that a resumed run may have otherwise than it began."""
_SUMMARY = "summary.json"


@dataclass(frozen=True)
class SeedResult:
    """One run."""

    seed: int
    folder: Path
    metrics: dict[str, float]
    """On the validation data, of the best evaluation."""
    best_step: int
    note: str | None = None
    """Where the model answers the same to everything."""


@dataclass(frozen=True)
class FinetuneResult:
    """What `finetune` did."""

    output: Path
    """The model folder."""
    task: str
    metric: str
    """The metric the best was chosen by."""
    metrics: dict[str, float]
    """On the validation data, of the best run's best evaluation."""
    seeds: tuple[SeedResult, ...]

    @property
    def score(self) -> float:
        """`metrics[metric]`."""
        return self.metrics[self.metric]


@dataclass(frozen=True)
class _Inputs:
    """What all seeds share."""

    task: Task[Any]
    train: list[Any]
    validation: list[Any]
    encoder: str
    from_scratch: bool
    facts: dict[str, Any]
    """For environment.json, and to know a run again by."""
    world: World
    console: Console


def finetune(
    *,
    model: str,
    train: str,
    validation: str,
    output: Path,
    task: str = "text-classification",
    config: FinetuneConfig | None = None,
    seeds: int = 1,
    resume: str = "never",
    overwrite: bool = False,
    from_scratch: bool = False,
    console: Console | None = None,
) -> FinetuneResult:
    """Fine-tune; the output becomes a folder that the Auto class and `Predictor.open` read.

    Args:
        model: an encoder: a folder, a run folder with `encoder/`, or a Hub id.
        train: CSV, TSV, JSONL or Parquet, or `ID:split` of the Hub.
        validation: the same; the best of some ten evaluations on it is kept (ties: the earlier).
        output: the folder to make.
        task: a name from `electra.tasks.task.TASKS`.
        config: none: `finetune_defaults(task)` alone.
        seeds: runs, with seeds counted up from `training.seed`; above 1 each has a folder
            `seed-K/` and the best is copied up.
        resume: `never`, `auto`, or the output folder itself.
        overwrite: move what is in the output folder aside.
        from_scratch: fresh weights of the encoder's shape, to know what pretraining is worth.
        console: where progress goes; none: nowhere.

    Raises:
        UserError: what the user can mend.
        Interrupted: after Ctrl-C or SIGTERM; a checkpoint is on disk.
    """
    console = console or Console(quiet=True)
    config = config or resolve(FinetuneConfig, finetune_defaults(task))
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}; allowed: 1 or more")
    world = join_world()
    try:
        size = config.training.global_batch_size
        if size % world.size:
            raise ConfigError(
                f"--training.global-batch-size {size} cannot be shared by {world.size} processes; "
                f"allowed: multiples of {world.size}"
            )
        built = task_class(task)
        encoder = find_encoder(model)
        learned, examples = built.from_training(train, config)
        inputs = _Inputs(
            task=learned,
            train=examples,
            validation=learned.read(validation, config.data),
            encoder=encoder,
            from_scratch=from_scratch,
            facts={
                "task": task,
                "model": identity(encoder),
                "from_scratch": from_scratch,
                "train": identity(train),
                "validation": identity(validation),
            },
            world=world,
            console=console,
        )
        if world.is_main:
            for note in (*learned.notes(examples), *learned.notes(inputs.validation)):
                console.print(note, highlight=False, markup=False)
        config = dataclasses.replace(config, training=with_budget(config, len(examples)))
        run = open_run(output, resume=resume, overwrite=overwrite, world=world)
        if seeds == 1:
            return _result(run.path, inputs, (_finetune_once(run, config, inputs),))
        return _finetune_seeds(run, config, inputs, seeds, resume)
    except Interrupted as stop:
        raise Interrupted(
            stop.exit_code - 128,
            f"{stop}; the same command with --resume auto (and without --overwrite) continues",
        ) from None
    finally:
        leave_world(world)


def _finetune_seeds(
    run: RunFolder, config: FinetuneConfig, inputs: _Inputs, seeds: int, resume: str
) -> FinetuneResult:
    """A run in `seed-K/` for each seed, the best copied up, `summary.json`."""
    console, main = inputs.console, inputs.world.is_main
    if main and (run.status == "finished" or resume == "never"):
        _say(run, console)
    if resume != "never":
        check_same_run(run.path, config, inputs.facts, may_change=_MAY_CHANGE)
    if main:
        describe_run(run.path, config, inputs.facts)
    results = []
    for seed in range(config.training.seed, config.training.seed + seeds):
        training = dataclasses.replace(config.training, seed=seed)
        folder = open_run(
            run.path / f"seed-{seed}",
            resume="never" if resume == "never" else "auto",
            world=inputs.world,
        )
        results.append(
            _finetune_once(folder, dataclasses.replace(config, training=training), inputs)
        )
    metric = inputs.task.metric
    best = max(results, key=lambda r: (r.metrics[metric], -r.seed))
    scores = [r.metrics[metric] for r in results]
    summary: dict[str, Any] = {
        "metric": metric,
        "median": statistics.median(scores),
        "mean": statistics.fmean(scores),
        "std": statistics.stdev(scores),
        "best_seed": best.seed,
        "each": [
            {"seed": r.seed, "best_step": r.best_step, "metrics": r.metrics, "note": r.note}
            for r in results
        ],
    }
    if main:
        for file in sorted(best.folder.iterdir()):
            if file.is_file() and file.name not in ("report.json", "metrics.jsonl", "config.toml"):
                copy_file(file, run.path)
        write_text(run.path / _SUMMARY, json.dumps(summary, indent=1) + "\n")
        run.finish(RunFolder(best.folder, "finished").report() | {"seeds": seeds})
        numbers = ", ".join(f"{name} {summary[name]:.4f}" for name in ("median", "mean", "std"))
        console.print(
            f"{metric} over {seeds} seeds: {numbers}; the best, seed {best.seed}, is in {run.path}",
            highlight=False,
        )
    inputs.world.wait()
    return _result(run.path, inputs, tuple(results), best)


def _finetune_once(run: RunFolder, config: FinetuneConfig, inputs: _Inputs) -> SeedResult:
    console, world, task = inputs.console, inputs.world, inputs.task
    if world.is_main:
        _say(run, console)
    if run.status == "finished":
        return _seed_result(run)
    if run.status == "continued":
        check_same_run(run.path, config, inputs.facts, may_change=_MAY_CHANGE)
    device = pick_device(config.training.device, world)
    dtype = pick_dtype(config.training.dtype, device)
    seed_everything(config.training.seed)
    keep_memory()
    model, tokenizer = _build(config, inputs)
    model.set_attn_implementation(training_attention(device, tokenizer.model_max_length))
    objective = FinetuneObjective(
        task,
        model,
        label_smoothing=config.training.label_smoothing,
        train_encoder=config.training.train_encoder,
    ).to(device)
    optimizer = build_optimizer(
        objective, config.optimizer, num_layers=model.config.num_hidden_layers
    )
    predictor = Predictor(task, model, tokenizer, device=device, dtype=inference_dtype(device))
    pad_token_id = tokenizer.pad_token_id
    assert isinstance(pad_token_id, int), "load_tokenizer refuses a tokenizer without padding"
    train = [f for f in predictor.features(inputs.train) if f.target is not None]
    source = LengthBatches(
        train,
        task.targets,
        pad_token_id=pad_token_id,
        global_batch_size=config.training.global_batch_size,
        seed=config.training.seed,
    )
    validation = predictor.features(inputs.validation)
    training = in_steps(config.training, len(train))
    store = CheckpointStore(run.checkpoints, keep=training.save_total_limit)
    best = BestModel(run.path, metric=task.metric, fresh=run.status == "fresh", world=world)
    state = TrainState()
    if run.status == "continued":
        loaded = store.load_latest(module=objective, optimizer=optimizer)
        assert loaded is not None, "open_run saw a whole checkpoint"
        state = loaded.state
        warning = other_bits(loaded.environment, bit_environment(training, dtype, world))
        if warning and world.is_main:
            console.print(warning, highlight=False)
    seed_rank(config.training.seed, world, state.step)
    if world.is_main:
        describe_run(run.path, config, inputs.facts)

    def evaluate() -> dict[str, float]:
        logits = predictor.logits(validation)
        tuned = task.tuned(inputs.validation, validation, logits)
        predictions = tuned.decode(inputs.validation, validation, logits)
        metrics = tuned.metrics(inputs.validation, predictions)
        best.offer(
            state.step,
            metrics,
            tuned.collapsed(inputs.validation, predictions),
            lambda folder: save_model_folder(folder, tuned, model, tokenizer),
        )
        return metrics

    cut = state.step if run.status == "continued" else -1
    file = MetricsFile(run.path / "metrics.jsonl", cut_after_step=cut) if world.is_main else None
    title = f"fine-tuning (seed {config.training.seed})"
    logger = RunLogger(file, console, title=title, quiet=not world.is_main)
    try:
        fit(
            objective,
            optimizer=optimizer,
            source=source,
            state=state,
            budget=Budget.of(training, config.schedule.replay),
            config=training,
            optimizer_config=config.optimizer,
            schedule=config.schedule,
            logging=config.logging,
            device=device,
            dtype=dtype,
            logger=logger,
            evaluate=evaluate,
            checkpoints=store,
            world=world,
        )
    finally:
        logger.close()
    if not best.metrics:  # resumed after the last step, and what was kept is gone
        evaluate()
    report = {
        "electra": machine()["electra"],
        **inputs.facts,
        "seed": config.training.seed,
        "metric": task.metric,
        "metrics": best.metrics,
        "best_step": best.step,
        "steps": state.step,
        "minutes": state.seconds / 60,
        "examples": {"train": len(inputs.train), "validation": len(inputs.validation)},
        "note": best.note,
    }
    if world.is_main:
        for path in best.files():
            copy_file(path, run.path)
        run.finish(report)
        best.forget()
        for step in store.steps()[:-1]:
            shutil.rmtree(store.path(step))
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in best.metrics.items())
        console.print(f"{numbers}  (step {best.step} of {state.step}): {run.path}", highlight=False)
        if best.note:
            console.print(f"warning: {best.note}", highlight=False)
    world.wait()
    return _seed_result_of(run.path, report)


def _build(
    config: FinetuneConfig, inputs: _Inputs
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder with a fresh head, and a tokenizer that knows how much the task reads."""
    model = inputs.task.build_model(inputs.encoder, config.model, from_scratch=inputs.from_scratch)
    tokenizer = load_tokenizer(inputs.encoder)
    if len(tokenizer) > model.config.vocab_size:
        raise ConfigError(
            f"--model {inputs.encoder}: its tokenizer has {len(tokenizer)} tokens, its network "
            f"{model.config.vocab_size}; they do not belong together"
        )
    add_special_tokens(model, tokenizer, inputs.task.special_tokens)
    reads = longest_input(model.config) or config.data.max_length
    tokenizer.model_max_length = min(config.data.max_length, reads)
    return model, tokenizer


def _result(
    output: Path, inputs: _Inputs, results: Sequence[SeedResult], best: SeedResult | None = None
) -> FinetuneResult:
    return FinetuneResult(
        output=output,
        task=inputs.task.name,
        metric=inputs.task.metric,
        metrics=(best or results[0]).metrics,
        seeds=tuple(results),
    )


def _seed_result(run: RunFolder) -> SeedResult:
    try:
        return _seed_result_of(run.path, run.report())
    except KeyError as error:
        raise DataError(f"{run.path}/report.json is not of a fine-tuning run: no {error}") from None


def _seed_result_of(folder: Path, report: dict[str, Any]) -> SeedResult:
    return SeedResult(
        report["seed"], folder, report["metrics"], report["best_step"], report["note"]
    )


def _say(run: RunFolder, console: Console) -> None:
    for note in run.notes:
        console.print(note, highlight=False, markup=False)
