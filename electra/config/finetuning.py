"""Everything that defines a fine-tuning run, apart from the data."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from electra.config.option import option, positive, require
from electra.config.training import (
    BUDGETS,
    LoggingConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
)
from electra.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What a task puts on the encoder."""

    dropout: float | None = option(None, "dropout before the head; none: the encoder's own")
    pooling: Literal["auto", "cls", "mean"] = option(
        "auto", "what a sentence is read from, modern family only; auto: mean"
    )
    head: Literal["plain", "joint"] = option(
        "plain",
        "question answering: plain, start and end apart; joint, the end given the start, and "
        "answerability",
    )
    adapter: Literal["none", "lora"] = option(
        "none",
        "lora: the encoder stays as it is and low-rank matrices beside its layers learn; wants a "
        "learning rate some times higher (its paper: 4e-4 to 5e-4)",
    )
    lora_r: int = option(8, "rank of the adapters")
    lora_alpha: float = option(16.0, "adapters count alpha / r times")
    lora_dropout: float = option(0.0, "dropout before the adapters")
    lora_targets: Literal["attention", "all"] = option(
        "attention", "which linear layers get adapters; all: the feed-forward's, too"
    )

    def __post_init__(self) -> None:
        require(0 <= (self.dropout or 0.0) < 1, "model.dropout", self.dropout, "[0, 1)")
        require(self.lora_r >= 1, "model.lora-r", self.lora_r, "1 or more")
        require(self.lora_alpha > 0, "model.lora-alpha", self.lora_alpha, "above 0")
        require(0 <= self.lora_dropout < 1, "model.lora-dropout", self.lora_dropout, "[0, 1)")
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), f"model.{field.name.replace('_', '-')}"
            alone = self.adapter == "none" and field.name.startswith("lora_")
            if alone and value != field.default:
                raise ConfigError(f"--{flag} is {value}, which is for --model.adapter lora alone")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneTrainingConfig(TrainingConfig):
    """As in pretraining, with epochs as one more budget."""

    global_batch_size: int = option(32, "examples a step, over all devices")
    epochs: float | None = option(
        None, "budget: passes over the training file; none: 3 to 20 by its size"
    )
    train_encoder: bool = option(True, "false: only the head learns")
    label_smoothing: float = option(0.0, "share of the target spread over all labels")
    class_weights: Literal["none", "balanced"] = option(
        "none", "balanced: labels count by the inverse of how often training has them"
    )
    metric_for_best_model: str | None = option(
        None, "the metric that the best is chosen by, higher is better; none: the task's own"
    )
    early_stopping_patience: int | None = option(
        None, "evaluations without a better one after which a run ends; none: the whole budget"
    )
    restarts: int = option(
        1, "runs with another seed where one ends answering the same to everything"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.average_last,
            "training.average-last",
            self.average_last,
            "0 in fine-tuning, which keeps its best evaluation (--seeds also averages the runs)",
        )
        require(
            self.compile is not True,
            "training.compile",
            "true",
            "false in fine-tuning, whose batches have many lengths",
        )
        require(
            self.sharding == "none",
            "training.sharding",
            self.sharding,
            "none in fine-tuning, where each process has the whole model",
        )
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "training.label-smoothing", smoothing, "[0, 1)")
        positive(self, "training", "early_stopping_patience")
        require(self.restarts >= 0, "training.restarts", self.restarts, "0 or more")
        if self.epochs is not None:
            require(self.epochs > 0, "training.epochs", self.epochs, "above 0")
            if any(getattr(self, name) is not None for name in BUDGETS):
                raise ConfigError(
                    "exactly one budget is allowed, got --training.epochs and another"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledDataConfig:
    """Where the text and the labels stand in the files."""

    text_column: str | None = option(
        None, "name or 0-based number; none: text, sentence, sentence1, ..., or the first column"
    )
    text_pair_column: str | None = option(
        None, "second sentence; none: sentence2 and its like beside sentence1, else no second one"
    )
    label_column: str | None = option(
        None, "none: label, labels, category, ..., or the last column"
    )
    label_separator: str | None = option(
        None, "splits a text in the label column into several labels; lists are several anyway"
    )
    out_of_scope_label: str | None = option(
        None, "text classification: the label of what is none of the others; adds its metrics"
    )
    header: Literal["auto", "true", "false"] = option("auto", "whether CSV and TSV have one")
    max_length: int = option(128, "tokens of an example; longer ones are cut")
    long_texts: Literal["cut", "windows"] = option(
        "cut", "text classification: windows reads all of a long text, and averages the answers"
    )
    doc_stride: int = option(
        128,
        "tokens that a window of a long text or (question answering) context shares with the next; "
        "at most half of one",
    )
    max_answer_length: int | None = option(
        None, "question answering: tokens of an answer; none: 30, in Chinese 50"
    )
    lost_answers: Literal["drop", "search", "refuse"] = option(
        "drop",
        "question answering: answers that do not occur at their offset; drop: not trained on; "
        "search: looked for in the whole context",
    )
    language: Literal["auto", "en", "zh"] = option(
        "auto", "question answering: whose scorer compares answers; auto: zh where most is Han"
    )

    def __post_init__(self) -> None:
        require(self.max_length >= 4, "data.max-length", self.max_length, "4 or more")
        require(self.doc_stride >= 0, "data.doc-stride", self.doc_stride, "0 or more")
        positive(self, "data", "max_answer_length")
        separator = self.label_separator
        require(separator != "", "data.label-separator", '""', "one character or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Everything that defines a fine-tuning run, apart from the data."""

    model: HeadConfig = dataclasses.field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    training: FinetuneTrainingConfig = dataclasses.field(default_factory=FinetuneTrainingConfig)
    data: LabelledDataConfig = dataclasses.field(default_factory=LabelledDataConfig)
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        if self.model.adapter != "none" and not self.training.train_encoder:
            raise ConfigError(
                f"--model.adapter is {self.model.adapter} and --training.train-encoder false; an "
                "adapter is how the encoder learns, so give one"
            )
        if self.optimizer.name == "muon" and (
            self.model.adapter != "none" or not self.training.train_encoder
        ):
            raise ConfigError(
                "--optimizer.name muon is for the encoder's matrices, which neither "
                "--model.adapter nor --training.train-encoder false trains: leave it out"
            )
        for name in ("batch_ramp", "length_ramp"):
            if getattr(self.schedule, name):
                raise ConfigError(
                    f"--schedule.{name.replace('_', '-')} is for pretraining: leave it out; "
                    "fine-tuning takes decay, decay-start, decay-form and warmup"
                )


FINETUNE_DEFAULTS: dict[str, dict[str, Any]] = {
    "optimizer": {"learning_rate": 1e-4, "layerwise_lr_decay": 0.9},
    "schedule": {"warmup_ratio": 0.1},
}
"""The layer below the user's flags in fine-tuning; the budget comes from the size of the data.

The learning rate is the reference code's for small and base encoders; the paper's 3e-4 for small
ones (table 7) is for encoders trained for days. Its layer-wise decay of 0.8 is for 12 layers.
"""

TASK_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "multiple-choice": {
        "data": {"max_length": 512},
        "training": {"global_batch_size": 16},
        "optimizer": {"learning_rate": 5e-5},
    },
    "question-answering": {"data": {"max_length": 384}},
}
"""What a task has otherwise than `FINETUNE_DEFAULTS`, by its name."""


def finetune_defaults(task: str) -> list[tuple[str, dict[str, Any]]]:
    """The layers below the user's flags, for `electra.recipe.resolve`."""
    return [("defaults", FINETUNE_DEFAULTS), (f"defaults of {task}", TASK_DEFAULTS.get(task, {}))]
