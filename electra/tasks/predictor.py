"""Predictions of a fine-tuned model: batches of like length, the order of the inputs kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from electra.tasks.batches import Feature, pad
from electra.tasks.model_folder import load_tokenizer, longest_input, reads_token_types
from electra.tasks.task import Logits, Prediction, Task, load_task
from electra.training.device import autocast, inference_dtype, pick_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int], None]
"""Called with the number of inputs done and of all."""


class Predictor:
    """A task, its model and its tokenizer; `open` makes one from a model folder."""

    def __init__(
        self,
        task: Task[Any],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 32,
    ) -> None:
        """The model must be on `device` already; `dtype` is that of matrix products."""
        assert batch_size > 0, "a batch holds something"
        self.task = task
        self.model = model
        self.tokenizer = tokenizer
        self.device = device or torch.device("cpu")
        self.dtype = dtype
        self.batch_size = batch_size

    @classmethod
    def open(cls, folder: str | Path, *, device: str = "auto", batch_size: int = 32) -> Predictor:
        """From a folder that `finetune` wrote.

        Raises:
            DataError: it is not one, or damaged.
            ConfigError: the device is not there.
        """
        path = Path(folder)
        task = load_task(path)
        on = pick_device(device)
        model = task.load_model(path)
        model.to(on)  # type: ignore[arg-type]
        tokenizer = load_tokenizer(str(path))
        return cls(
            task, model, tokenizer, device=on, dtype=inference_dtype(on), batch_size=batch_size
        )

    def predict(self, texts: Sequence[Any], progress: Progress | None = None) -> list[Prediction]:
        """A prediction for each input: a text, or what else the task's `of_texts` takes.

        Raises:
            DataError: an input of another form than the task reads.
        """
        return self.predict_examples(self.task.of_texts(texts), progress)

    def predict_examples(
        self, examples: Sequence[Any], progress: Progress | None = None
    ) -> list[Prediction]:
        """A prediction for each example of the task, in their order."""
        features = self.features(examples)
        return self.task.decode(examples, features, self.logits(features, progress))

    def features(self, examples: Sequence[Any]) -> list[Feature]:
        """The examples tokenized for this model."""
        return self.task.features(
            examples,
            self.tokenizer,
            token_types=reads_token_types(self.model),
            max_length=longest_input(self.model.config),
        )

    @torch.inference_mode()
    def logits(self, features: Sequence[Feature], progress: Progress | None = None) -> list[Logits]:
        """The model's answer to each feature, float32, in their order.

        The model is left in the mode, training or evaluation, that it was found in.
        """
        pad_token_id = self.tokenizer.pad_token_id
        assert isinstance(pad_token_id, int), "load_tokenizer refuses a tokenizer without padding"
        order = np.argsort([-len(f.input_ids) for f in features], kind="stable")
        answers: list[Logits] = [np.empty(0, dtype=np.float32)] * len(features)
        was_training = self.model.training
        self.model.train(False)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size].tolist()
            batch = pad([features[i] for i in rows], pad_token_id)
            batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with autocast(self.device, self.dtype):
                output = self.task.logits(self.model, batch)
            for row, answer in zip(rows, output.float().cpu().numpy(), strict=True):
                answers[row] = answer
            if progress is not None:
                progress(min(start + self.batch_size, len(order)), len(order))
        self.model.train(was_training)
        return answers
