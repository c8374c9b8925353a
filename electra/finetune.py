r"""An encoder and labelled data to a model for a task.

    electra finetune --task text-classification --model runs/first/encoder \
        --train train.tsv --validation dev.tsv --output runs/sentiment

The task says what a row, a head and a metric are; the one loop trains; the best evaluation on the
validation data becomes the model folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig, finetune_defaults
from electra.errors import ConfigError, Interrupted, writing_to
from electra.finetuning.fractions import check_fractions, train_fractions
from electra.finetuning.one_run import RunInputs, RunResult, train_once
from electra.finetuning.one_task import Encoder, TaskData
from electra.finetuning.search import import_optuna, read_space, search
from electra.finetuning.several_seeds import train_seeds
from electra.finetuning.several_tasks import SeveralTasks, read_tasks
from electra.recipe import resolve
from electra.tasks.budget import with_budget
from electra.tasks.model_folder import find_encoder
from electra.tasks.task import task_class
from electra.tasks.task_options import check_options
from electra.training.distributed import join_world, leave_world
from electra.training.run_folder import open_run
from electra.training.run_identity import identity, same_content
from electra.training.trackers import check_trackers


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
    runs: tuple[RunResult, ...]
    """Every run there was: one, or those of the seeds, parts or trials."""

    @property
    def score(self) -> float:
        """`metrics[metric]`."""
        return self.metrics[self.metric]


def finetune(
    *,
    model: str,
    output: Path,
    train: str | None = None,
    validation: str | None = None,
    task: str = "text-classification",
    tasks: Mapping[str, Any] | None = None,
    config: FinetuneConfig | None = None,
    seeds: int = 1,
    train_fraction: Sequence[float] = (),
    trials: int | None = None,
    search_space: Path | None = None,
    resume: str = "never",
    overwrite: bool = False,
    from_scratch: bool = False,
    console: Console | None = None,
) -> FinetuneResult:
    """Fine-tune; the output becomes a folder that the Auto class and `Predictor.open` read.

    Args:
        model: an encoder: a folder, a run folder with `encoder/`, or a Hub id.
        output: the folder to make.
        train: CSV, TSV, JSONL or Parquet, or `ID:split` of the Hub.
        validation: the same; the best of some ten evaluations on it is kept (ties: the earlier).
        task: a name from `electra.tasks.task.TASKS`.
        tasks: instead of these three, tables of several tasks, see `finetuning.several_tasks`.
        config: none: `finetune_defaults(task)` alone.
        seeds: runs, with seeds counted up from `training.seed`; above 1 each has a folder
            `seed-K/` and the best is copied up.
        train_fraction: shares of the training data, each trained on by itself, see
            `finetuning.fractions`.
        trials: runs of a search for a recipe, see `finetuning.search`; none: no search.
        search_space: a TOML file; none: `finetuning.search.DEFAULT_SPACE`.
        resume: `never`, `auto`, or the output folder itself.
        overwrite: move what is in the output folder aside.
        from_scratch: fresh weights of the encoder's shape, to know what pretraining is worth.
        console: where progress goes; none: nowhere.

    Raises:
        UserError: what the user can mend.
        Interrupted: after Ctrl-C or SIGTERM; a checkpoint is on disk.
    """
    config = config or resolve(FinetuneConfig, finetune_defaults(task))
    several = seeds > 1 or bool(train_fraction) or trials is not None
    if tasks is not None and (train, validation) != (None, None):
        raise ConfigError("the recipe names its tasks: leave --train and --validation out")
    if tasks is not None and several:
        raise ConfigError(
            "a recipe of several tasks goes with none of --seeds, --train-fraction and --search"
        )
    for name in ("class_weights", "metric_for_best_model"):
        if tasks is not None and getattr(config.training, name) not in (None, "none"):
            raise ConfigError(f"--training.{name.replace('_', '-')} is for one task: leave it out")
    if tasks is not None and (config.data, config.model) != (LabelledDataConfig(), HeadConfig()):
        raise ConfigError(
            "fields of data and model are each task's own here: put them into [tasks.NAME], such "
            "as data.max_length = 64"
        )
    if tasks is None and (train is None or validation is None):
        raise ConfigError(
            "--train and --validation are wanted (or a --recipe with [tasks.NAME] tables)"
        )
    check_fractions(train_fraction)
    for flag, value in (("--seeds", seeds), ("--search", trials)):
        if value is not None and value < 1:
            raise ConfigError(f"{flag} is {value}; allowed: 1 or more")
    if trials is not None:
        if seeds > 1 or train_fraction:
            raise ConfigError(
                "--search goes with neither --seeds nor --train-fraction: search first, then give "
                "the best.toml it writes as --recipe"
            )
        import_optuna()
    elif search_space is not None:
        raise ConfigError("--search-space is for --search N")
    space = read_space(search_space, config) if trials is not None else {}
    check_trackers(config.logging.trackers)
    world = join_world()
    try:
        encoder = find_encoder(model)
        facts: dict[str, Any] = {
            "task": task,
            "model": identity(encoder),
            "from_scratch": from_scratch,
        }
        data: TaskData | SeveralTasks
        if tasks is not None:
            data, of_tasks = read_tasks(tasks, "recipe")
            facts |= {"task": " + ".join(tasks)} | of_tasks
            read = [part.data for part in data.parts.values()]
        else:
            assert train is not None, "checked above"
            assert validation is not None, "checked above"
            built = task_class(task)
            check_options(built, config)
            learned, examples = built.from_training(train, config)
            chosen_by = config.training.metric_for_best_model
            data = TaskData(learned, examples, learned.read(validation, config.data), chosen_by)
            facts |= {"train": identity(train), "validation": identity(validation)}
            read = [data]
        inputs = RunInputs(
            data=data,
            encoder=Encoder(encoder, from_scratch),
            facts=facts,
            world=world,
            console=console or Console(quiet=True),
        )
        if tasks is None and same_content(facts["train"], facts["validation"]):
            inputs.say("warning: --validation is the file of --train: its scores mean nothing")
        for found in read:
            inputs.say(*found.task.notes(found.train), *found.task.notes(found.validation))
        run = open_run(
            output,
            resume=resume,
            overwrite=overwrite,
            world=world,
            of_runs=several,
        )
        rows = data.counts["train"]
        sized = dataclasses.replace(config, training=with_budget(config, rows))
        with writing_to(output):
            if train_fraction:
                best, runs = train_fractions(run, config, inputs, train_fraction, seeds)
            elif trials is not None:
                best, runs = search(run, sized, inputs, trials=trials, space=space)
            elif seeds > 1:
                best, runs = train_seeds(run, sized, inputs, seeds)
            else:
                best = train_once(run, sized, inputs)
                runs = [best]
        return FinetuneResult(
            output=run.path,
            task=str(facts["task"]),
            metric=data.metric,
            metrics=best.metrics,
            runs=tuple(runs),
        )
    except Interrupted as stop:
        raise Interrupted(
            stop.exit_code - 128,
            f"{stop}; the same command with --resume auto (and without --overwrite) continues",
        ) from None
    finally:
        leave_world(world)
