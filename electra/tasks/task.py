"""What a task is: everything between a raw row and a prediction, in one file for each task.

    columns -> examples -> features -> head -> loss -> predictions -> metrics

A task is made from training data (`from_training`) or from the `task.json` of a model folder
(`load_task`) and does not change after that. Verbs and the predictor know this interface alone.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig
from electra.errors import ConfigError, DataError, did_you_mean
from electra.tasks.batches import Feature
from electra.tasks.cases import Case, labelled_cases
from electra.training.loop import Batch
from electra.training.run_folder import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TASKS = {
    "text-classification": "electra.tasks.text_classification:TextClassification",
    "token-classification": "electra.tasks.token_classification:TokenClassification",
    "question-answering": "electra.tasks.question_answering:QuestionAnswering",
    "relation-extraction": "electra.tasks.relation_extraction:RelationExtraction",
    "multiple-choice": "electra.tasks.multiple_choice:MultipleChoice",
}
"""Name -> import path of the class."""
TASK_FILE = "task.json"

E = TypeVar("E")
"""An example of the task: what its `read` gives for a row."""
Prediction = dict[str, Any]
"""Ready for JSON; which keys it has is the task's contract (`predict --json`)."""
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a batch."""

    total: Tensor
    """Summed over the targets."""
    metrics: dict[str, tuple[Tensor, Tensor | float]] = field(default_factory=dict)
    """Sums and counts for the training log, such as accuracy."""


class Task(ABC, Generic[E]):
    """A fine-tuning task; see the module's docstring for the way data takes through it."""

    name: ClassVar[str]
    """As on the Hub: `text-classification`, ..."""
    special_tokens: ClassVar[tuple[str, ...]] = ()
    """What the task writes into texts; made tokens of their own before training."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """The metric a model is chosen by; higher is better."""

    @property
    def averages_logits(self) -> bool:
        """Whether the logits of several models for one feature may be averaged."""
        return True

    @classmethod
    @abstractmethod
    def from_training(cls, source: str, config: FinetuneConfig) -> tuple[Self, list[E]]:
        """Read the training data; learn columns and labels from it.

        Raises:
            DataError: what is missing or wrong, by file and row.
        """

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The inverse of `settings`; KeyError, TypeError or ValueError where it does not fit."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that the task is, ready for JSON."""

    @abstractmethod
    def read(
        self, source: str, data: LabelledDataConfig | None = None, *, labelled: bool = True
    ) -> list[E]:
        """Examples of a further file or Hub data set.

        Args:
            source: a path, or `ID:split` of the Hub.
            data: columns and header; none: the columns of the training data where they are there.
            labelled: whether labels are wanted.

        Raises:
            DataError: what is missing or wrong, by file and row.
        """

    @abstractmethod
    def of_texts(self, texts: Sequence[Any]) -> list[E]:
        """Examples without labels from what `Predictor.predict` is given.

        Raises:
            DataError: an input of another form than the task reads.
        """

    def of_arguments(self, texts: Sequence[str]) -> list[E]:
        """Examples from the texts of a command line; where one takes several, they come in turn.

        Raises:
            DataError: too few or too many, naming the columns of a file that would do.
        """
        return self.of_texts(texts)

    @abstractmethod
    def open_unlabelled(
        self, input: str, data: LabelledDataConfig, stdin: TextIO | None = None
    ) -> tuple[Iterator[E], int]:
        """Examples without labels of a file or, for `-`, of standard input, read as they are taken.

        Returns:
            the examples, each with an `id`, and how many to answer together.

        Raises:
            DataError: what is missing or wrong, by file and row.
        """

    @abstractmethod
    def build_model(
        self, encoder: str, head: HeadConfig, *, from_scratch: bool = False
    ) -> PreTrainedModel:
        """The encoder with the task's head, from a folder or a Hub id, in float32.

        Args:
            encoder: what was given as --model.
            head: dropout and pooling.
            from_scratch: fresh weights of the same shape.
        """

    @abstractmethod
    def load_model(self, folder: Path) -> PreTrainedModel:
        """A fine-tuned model as saved."""

    @abstractmethod
    def features(
        self,
        examples: Sequence[E],
        tokenizer: PreTrainedTokenizerBase,
        *,
        token_types: bool,
        max_length: int | None = None,
    ) -> list[Feature]:
        """Tokenize; one feature or more for each example, in order.

        Args:
            examples: with labels or without.
            tokenizer: a fast one.
            token_types: whether the model reads `token_type_ids`.
            max_length: none: the task's own.
        """

    @abstractmethod
    def targets(self, features: Sequence[Feature], length: int) -> Tensor:
        """The targets of a batch whose inputs are [B, length]; first dimension B."""

    def logits(
        self, model: PreTrainedModel, inputs: Batch, targets: Tensor | None = None
    ) -> Tensor:
        """What the model says of a batch, first dimension B.

        Args:
            model: from `build_model` or `load_model`.
            inputs: of `pad`.
            targets: in training, for a head that is told a part of the answer.
        """
        answer: Tensor = model(**inputs).logits
        return answer

    def start_head(self, model: PreTrainedModel, features: Sequence[Feature]) -> None:
        """Set what of a fresh head the training data tell; nothing as a rule."""

    @abstractmethod
    def num_targets(self, targets: Tensor) -> Tensor:
        """How many targets the loss is divided by; a scalar."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> TaskLoss:
        """The loss of a batch, summed over targets."""

    def tuned(
        self, examples: Sequence[E], features: Sequence[Feature], logits: Sequence[Logits]
    ) -> Self:
        """The task with what decoding takes from validation data, such as a threshold."""
        return self

    @abstractmethod
    def decode(
        self, examples: Sequence[E], features: Sequence[Feature], logits: Sequence[Logits]
    ) -> list[Prediction]:
        """A prediction for each example, from the logits of each of its features."""

    @abstractmethod
    def metrics(self, examples: Sequence[E], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Metrics of the predictions for labelled examples; `metric` is among them."""

    def notes(self, examples: Sequence[E]) -> list[str]:
        """Lines for the person about what reading had to put up with."""
        return []

    def per_class(
        self, examples: Sequence[E], predictions: Sequence[Prediction]
    ) -> list[dict[str, Any]]:
        """`label`, `precision`, `recall`, `f1`, `support` of each class, where there are any."""
        return []

    def cases(self, examples: Sequence[E], predictions: Sequence[Prediction]) -> list[Case]:
        """Each labelled example beside its answer, for a report; by `label` as it is here."""
        return labelled_cases(examples, predictions)

    @abstractmethod
    def collapsed(self, examples: Sequence[E], predictions: Sequence[Prediction]) -> str | None:
        """A line that says so where the model answers the same whatever it reads, else None."""


def task_class(name: str) -> type[Task[Any]]:
    """The class of a task.

    Raises:
        ConfigError: there is no such task; the message names the allowed ones.
    """
    if name not in TASKS:
        near = did_you_mean(name, TASKS)
        listed = "" if near.startswith("allowed") else f" (allowed: {', '.join(TASKS)})"
        raise ConfigError(f'there is no task "{name}"; {near}{listed}')
    module, _, attribute = TASKS[name].partition(":")
    found: type[Task[Any]] = getattr(importlib.import_module(module), attribute)
    return found


def save_task(task: Task[Any], folder: Path) -> None:
    """Write `task.json`."""
    record = {"task": task.name, "electra_version": metadata.version("electra"), **task.settings()}
    write_text(folder / TASK_FILE, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def load_task(folder: Path) -> Task[Any]:
    """The task of a model folder.

    Raises:
        DataError: the folder or its `task.json` is missing or damaged.
    """
    path = folder / TASK_FILE
    if not folder.is_dir():
        raise DataError(f"--model {folder} is not a folder; give one that `finetune` wrote")
    if not path.is_file():
        raise DataError(
            f"--model {folder} has no {TASK_FILE}; give a folder that `finetune` wrote"
            + (" (this one holds an encoder)" if (folder / "config.json").is_file() else "")
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        name = settings["task"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error!r}") from None
    try:
        return task_class(name).from_settings(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} does not describe a {name} task: {error!r}") from None
