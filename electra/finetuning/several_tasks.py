r"""Several tasks on one encoder, from one recipe.

    electra finetune --recipe tasks.toml --model runs/first/encoder --output runs/both

    [tasks.sentiment]
    task = "text-classification"
    train = "sst2/train.tsv"
    validation = "sst2/dev.tsv"
    weight = 1.0                      # steps of a task: its share of all rows, times this
    data.max_length = 64              # and whatever else its sections `data` and `model` say

    [tasks.names]
    task = "token-classification"
    ...

Every step is a batch of one task (Liu et al. 2019, "Multi-task deep neural networks", algorithm 1);
which one is a pure function of the step: the task that is furthest behind its share of the steps so
far. The layers are one set of weights; each task has its head, and in the end
a model folder of its own. The best is chosen by the mean of the tasks' metrics.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from electra.artifacts.report import Rows
from electra.config import FinetuneConfig, finetune_defaults
from electra.errors import ConfigError, did_you_mean
from electra.finetuning.one_task import Encoder, Evaluation, TaskData, TrainedTask
from electra.recipe import resolve
from electra.tasks.objective import FinetuneObjective
from electra.tasks.task import task_class
from electra.tasks.task_options import check_options
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise
from electra.training.run_identity import identity

_KEYS = ("task", "train", "validation", "weight", "data", "model")
_WHICH = "task_number"
MEAN = "mean"


@dataclass(frozen=True)
class Part:
    """One of the tasks."""

    data: TaskData
    config: FinetuneConfig
    weight: float


@dataclass(frozen=True)
class SeveralTasks:
    """The tasks by their names; to a run what `TaskData` is for one."""

    parts: Mapping[str, Part]

    @property
    def metric(self) -> str:
        """The mean of the tasks' own."""
        return MEAN

    @property
    def counts(self) -> dict[str, int]:
        """Examples of all tasks together."""
        every = [part.data.counts for part in self.parts.values()]
        return {kind: sum(counts[kind] for counts in every) for kind in ("train", "validation")}

    def build(
        self, encoder: Encoder, config: FinetuneConfig, device: torch.device, seed: int
    ) -> TrainedTasks:
        """Models of one set of layers.

        Raises:
            ConfigError: the encoder cannot be opened or does not fit a task.
        """
        tokens = {
            token: None for part in self.parts.values() for token in part.data.task.special_tokens
        }
        trained = {}
        for name, part in self.parts.items():
            own = dataclasses.replace(config, data=part.config.data, model=part.config.model)
            trained[name] = TrainedTask(part.data, encoder, own, device, seed, list(tokens))
        weights = [part.weight for part in self.parts.values()]
        together = TrainedTasks(trained, weights, config.training.global_batch_size)
        # one set of layers has one kernel, and every task has to make its mask for that
        longest = max(t.tokenizer.model_max_length for t in trained.values())
        for task in trained.values():
            task.use_training_attention(longest, device)
        return together

    def explain(
        self, folder: Path, report: dict[str, Any], rows: Rows, config: FinetuneConfig
    ) -> None:
        """Each task's `report.html` and `README.md` in its folder."""
        for name, part in self.parts.items():
            own = dataclasses.replace(config, data=part.config.data, model=part.config.model)
            of_task = report | {
                "task": part.data.task.name,
                "trained_with": " + ".join(self.parts),
                "metric": part.data.metric,
                "metrics": _of_task(report["metrics"], f"{name}.", ""),
                "examples": part.data.counts,
                **_of_task(report, f"{name}.", ""),
            }
            of_task = {key: value for key, value in of_task.items() if "." not in key}
            its_rows = [{**row} | _of_task(row, f"eval_{name}.", "eval_") for row in rows]
            part.data.explain(folder / name, of_task, its_rows, own)


def _of_task(numbers: Mapping[str, Any], start: str, instead: str) -> dict[str, Any]:
    """Those whose names begin with `start`, with `instead` in its place."""
    return {
        instead + key.removeprefix(start): value
        for key, value in numbers.items()
        if key.startswith(start)
    }


class TrainedTasks:
    """Models that share their layers, and the stream that takes a step of each in turn."""

    def __init__(
        self, trained: Mapping[str, TrainedTask], weights: Sequence[float], global_batch_size: int
    ) -> None:
        """The layers are the first task's; each keeps its head."""
        self.trained = trained
        first, *others = trained.values()
        for other in others:
            _share_layers(first.model.base_model, other.model.base_model)
        self.objective = _TaskObjectives({name: t.objective for name, t in trained.items()})
        self.num_train = sum(t.num_train for t in trained.values())
        shares = [t.num_train * w for t, w in zip(trained.values(), weights, strict=True)]
        self.source = InTurns([t.source for t in trained.values()], shares, global_batch_size)
        self.num_layers = first.num_layers

    @property
    def notes(self) -> list[str]:
        """Of all tasks."""
        return [f"{name}: {note}" for name, t in self.trained.items() for note in t.notes]

    def evaluate(self) -> Evaluation:
        """Every task's metrics under its name, and the mean of those they are judged by."""
        found = {name: trained.evaluate() for name, trained in self.trained.items()}
        metrics = {
            f"{name}.{key}": value
            for name, evaluation in found.items()
            for key, value in evaluation.metrics.items()
        }
        judged = [found[name].metrics[t.data.metric] for name, t in self.trained.items()]
        notes = [f"{name}: {e.note}" for name, e in found.items() if e.note]

        def save(folder: Path) -> None:
            for name, evaluation in found.items():
                evaluation.save(folder / name)

        mean = {MEAN: sum(judged) / len(judged)}
        return Evaluation(mean | metrics, "; ".join(notes) or None, save)


def _share_layers(encoder: nn.Module, other: nn.Module) -> None:
    """What both have (embeddings, layers) becomes one; a pooler that one lacks is one's alone."""
    for name, module in encoder.named_children():
        if getattr(other, name, None) is not None:  # a pooler that is switched off is None
            setattr(other, name, module)


class _TaskObjectives(nn.Module):
    """The objective of the task that a batch belongs to."""

    def __init__(self, objectives: Mapping[str, FinetuneObjective]) -> None:
        super().__init__()
        self.names = list(objectives)
        self.objectives = nn.ModuleList(objectives.values())
        self.loss_weights: Mapping[str, float] = FinetuneObjective.loss_weights

    def begin_step(self, progress: float) -> None:
        """Each is told."""
        for objective in self._each():
            objective.begin_step(progress)

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """As the task of the batch does."""
        number, own = self._split(batch)
        prepared, counts = self._each()[number].prepare(own, noise)
        return prepared | {_WHICH: batch[_WHICH]}, counts

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Its loss; the metrics under the task's name."""
        number, own = self._split(batch)
        output: StepOutput = self.objectives[number](own, noise)
        name = self.names[number]
        metrics = {f"{name}.{key}": value for key, value in output.metrics.items()}
        return StepOutput(output.losses, metrics)

    def _each(self) -> list[FinetuneObjective]:
        return list(self.objectives)  # type: ignore[arg-type]

    @staticmethod
    def _split(batch: Batch) -> tuple[int, Batch]:
        return int(batch[_WHICH]), {k: t for k, t in batch.items() if k != _WHICH}


class InTurns:
    """Batches of several streams, a global batch of one after a global batch of another.

    Step k goes to the stream that is furthest behind its share of the k + 1 steps.
    """

    def __init__(self, streams: Sequence[Any], shares: Sequence[float], global_batch_size: int):
        """`shares` above 0; they need not sum to one."""
        assert len(streams) == len(shares) > 0
        assert min(shares) > 0
        total = sum(shares)
        self._streams = streams
        self._shares = [share / total for share in shares]
        self._size = global_batch_size
        self._turns: list[tuple[int, int]] = []
        self._counts = [0] * len(streams)

    def turn(self, step: int) -> tuple[int, int]:
        """Which stream a step reads, and how many steps it has had before."""
        while len(self._turns) <= step:
            done = len(self._turns) + 1
            behind = [s * done - c for s, c in zip(self._shares, self._counts, strict=True)]
            number = behind.index(max(behind))
            self._turns.append((number, self._counts[number]))
            self._counts[number] += 1
        return self._turns[step]

    def batch(self, position: int, size: int) -> Batch:
        """Examples of one global batch, which are all of one stream."""
        step, offset = divmod(position, self._size)
        assert offset + size <= self._size, "a step reads one stream"
        number, before = self.turn(step)
        batch: Batch = self._streams[number].batch(before * self._size + offset, size)
        return batch | {_WHICH: torch.tensor(number)}


def read_tasks(tables: Mapping[str, Any], origin: str) -> tuple[SeveralTasks, dict[str, Any]]:
    """The tasks of a recipe's `[tasks.NAME]` tables, their data read.

    Returns:
        the tasks, and facts of each for `environment.json`.

    Raises:
        UserError: a table without what a task needs, or data that cannot be read.
    """
    parts: dict[str, Part] = {}
    facts: dict[str, Any] = {}
    if not isinstance(tables, Mapping) or len(tables) < 2:
        raise ConfigError(f"{origin}: two [tasks.NAME] tables or more are wanted")
    for name, given in tables.items():
        where = f"{origin}: [tasks.{name}]"
        if not isinstance(given, Mapping):
            raise ConfigError(f"{where} is a table, not a single value")
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{where}: a name of letters, digits, - and _ is wanted")
        for key in given:
            if key not in _KEYS:
                raise ConfigError(f'{where} has "{key}"; {did_you_mean(key, _KEYS)}')
        for key in ("task", "train", "validation"):
            if not isinstance(given.get(key), str):
                raise ConfigError(f'{where} lacks {key} = "..."')
        weight = given.get("weight", 1.0)
        if not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ConfigError(f"{where} has weight = {weight}; allowed: above 0")
        sections = {key: given[key] for key in ("data", "model") if key in given}
        task = given["task"]
        built = task_class(task)
        config = resolve(FinetuneConfig, [*finetune_defaults(task), (where, sections)])
        check_options(built, config)
        learned, examples = built.from_training(given["train"], config)
        validation = learned.read(given["validation"], config.data)
        before = next(iter(parts.values()), None)
        if before is not None and _adapter(before.config) != _adapter(config):
            raise ConfigError(
                f"{where} has another model.adapter than the tasks before it; the layers are one "
                "set of weights: give all tasks the same adapter and lora_ fields"
            )
        parts[name] = Part(TaskData(learned, examples, validation), config, float(weight))
        facts[f"{name}.train"] = identity(given["train"])
        facts[f"{name}.validation"] = identity(given["validation"])
        facts[f"{name}.settings"] = str({"task": task, "weight": weight, **sections})
    return SeveralTasks(parts), facts


def _adapter(config: FinetuneConfig) -> dict[str, Any]:
    fields = dataclasses.asdict(config.model)
    return {k: v for k, v in fields.items() if k == "adapter" or k.startswith("lora_")}
