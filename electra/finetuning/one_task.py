"""One task in training: its data, its model, and what an evaluation of it finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from electra.artifacts.finetuned_card import write_finetuned_card
from electra.artifacts.finetuning_report import write_finetuning_report
from electra.artifacts.report import Rows
from electra.config import FinetuneConfig
from electra.errors import ConfigError
from electra.model.dropout import use_bit_dropout
from electra.model.plain_attention import use_attention
from electra.tasks.batches import LengthBatches
from electra.tasks.lora import add_lora
from electra.tasks.model_folder import (
    add_special_tokens,
    load_tokenizer,
    longest_input,
    pad_token_id,
    save_model_folder,
)
from electra.tasks.objective import FinetuneObjective
from electra.tasks.predictor import Predictor
from electra.tasks.task import Task, load_task
from electra.training.device import inference_dtype, training_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREDICTIONS = "validation_predictions.jsonl"


@dataclass(frozen=True)
class Encoder:
    """Where a model begins."""

    place: str
    """A folder or a Hub id, from `find_encoder`."""
    from_scratch: bool = False
    """Fresh weights of its shape."""


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on the validation data."""

    metrics: dict[str, float]
    note: str | None
    """Where it answers the same to everything."""
    save: Callable[[Path], None]
    """Writes the model, and what it predicted, to a folder."""


@dataclass(frozen=True)
class TaskData:
    """A task, and the examples it is learned from and judged by."""

    task: Task[Any]
    train: Sequence[Any]
    validation: Sequence[Any]
    chosen_by: str | None = None
    """A metric instead of the task's own."""

    @property
    def metric(self) -> str:
        """What the best is chosen by."""
        return self.chosen_by or self.task.metric

    @property
    def counts(self) -> dict[str, int]:
        """Examples of each kind."""
        return {"train": len(self.train), "validation": len(self.validation)}

    def build(
        self, encoder: Encoder, config: FinetuneConfig, device: torch.device, seed: int
    ) -> TrainedTask:
        """A model to be trained.

        Raises:
            ConfigError: the encoder cannot be opened or does not fit.
        """
        return TrainedTask(self, encoder, config, device, seed, self.task.special_tokens)

    def explain(
        self, folder: Path, report: dict[str, Any], rows: Rows, config: FinetuneConfig
    ) -> None:
        """`report.html` and `README.md`, from the predictions that lie in the folder.

        `rows` are those of the run's metrics.jsonl.
        """
        task = load_task(folder)
        with (folder / PREDICTIONS).open(encoding="utf-8") as file:
            predictions = [json.loads(line) for line in file]
        write_finetuning_report(
            folder / "report.html",
            task=task,
            examples=self.validation,
            predictions=predictions,
            metrics=report["metrics"],
            curves_rows=rows,
            facts={name: value for name, value in report.items() if name != "metrics"},
        )
        write_finetuned_card(folder, task=task, report=report, config=config)


class TrainedTask:
    """A model with the stream of examples that it is trained on."""

    def __init__(
        self,
        data: TaskData,
        encoder: Encoder,
        config: FinetuneConfig,
        device: torch.device,
        seed: int,
        special_tokens: Sequence[str],
    ) -> None:
        """`special_tokens` are the task's own, and those of tasks beside it."""
        task, training = data.task, config.training
        self.data, self._max_length = data, config.data.max_length
        self.model, self.tokenizer = _build(task, encoder, config, special_tokens)
        use_bit_dropout(self.model)
        self.use_training_attention(self.tokenizer.model_max_length, device)
        self.objective = FinetuneObjective(
            task,
            self.model,
            label_smoothing=training.label_smoothing,
            train_encoder=training.train_encoder,
        ).to(device)
        self.predictor = Predictor(
            task, self.model, self.tokenizer, device=device, dtype=inference_dtype(device)
        )
        train = [f for f in self.predictor.features(data.train) if f.target is not None]
        self.num_train = len(train)
        task.start_head(self.model, train)
        self.source = LengthBatches(
            train,
            task.targets,
            pad_token_id=pad_token_id(self.tokenizer),
            global_batch_size=training.global_batch_size,
            seed=seed,
        )
        self._validation = self.predictor.features(data.validation)

    def use_training_attention(self, length: int, device: torch.device) -> None:
        """Choose the attention kernel for texts of up to so many tokens."""
        config = self.model.config
        names = ("attention_probs_dropout_prob", "attention_dropout")  # not all have either
        dropout = max(float(getattr(config, name, 0.0)) for name in names)
        use_attention(self.model, training_attention(device, length, dropout=dropout))

    @property
    def notes(self) -> list[str]:
        """Lines for the person about what the encoder will not do."""
        reads, wanted = self.tokenizer.model_max_length, self._max_length
        if reads >= wanted:
            return []
        return [f"the encoder reads {reads} tokens, not the {wanted} of --data.max-length"]

    @property
    def num_layers(self) -> int:
        """Of the encoder."""
        return int(self.model.config.num_hidden_layers)

    def evaluate(self) -> Evaluation:
        """Answer the validation data; what decoding needs is chosen on them, too."""
        examples, features = self.data.validation, self._validation
        logits = self.predictor.logits(features)
        task = self.data.task.tuned(examples, features, logits)
        predictions = task.decode(examples, features, logits)

        def save(folder: Path) -> None:
            save_model_folder(folder, task, self.model, self.tokenizer)
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in predictions)
            (folder / PREDICTIONS).write_text("".join(lines), encoding="utf-8")

        metrics = task.metrics(examples, predictions)
        return Evaluation(metrics, task.collapsed(examples, predictions), save)


def _build(
    task: Task[Any], encoder: Encoder, config: FinetuneConfig, special_tokens: Sequence[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder with a fresh head, and a tokenizer that knows how much the task reads."""
    model = task.build_model(encoder.place, config.model, from_scratch=encoder.from_scratch)
    tokenizer = load_tokenizer(encoder.place)
    known = len(tokenizer)
    if known > model.config.vocab_size:
        raise ConfigError(
            f"--model {encoder.place}: its tokenizer has {known} tokens, its network "
            f"{model.config.vocab_size}; they do not belong together"
        )
    add_special_tokens(model, tokenizer, special_tokens)
    add_lora(model, config.model, new_tokens=range(known, len(tokenizer)))
    reads = longest_input(model.config) or config.data.max_length
    tokenizer.model_max_length = min(config.data.max_length, reads)
    return model, tokenizer
