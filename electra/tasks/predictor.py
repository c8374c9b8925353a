"""Predictions of a fine-tuned model: batches of like length, the order of the inputs kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from electra.errors import DataError
from electra.tasks.batches import Feature, pad
from electra.tasks.model_folder import (
    load_tokenizer,
    longest_input,
    pad_token_id,
    reads_token_types,
)
from electra.tasks.task import Logits, Prediction, Task, load_task, save_task
from electra.training.device import autocast, inference_dtype, pick_device
from electra.training.run_folder import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int], None]
"""Called with the number of inputs done and of all."""
ENSEMBLE_FILE = "ensemble.json"


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
        """From a folder that `finetune` wrote: a model, or the `ensemble/` of several seeds.

        Raises:
            DataError: it is not one, or damaged.
            ConfigError: the device is not there.
        """
        path = Path(folder)
        task = load_task(path)
        if (path / ENSEMBLE_FILE).is_file():
            found = [cls.open(f, device=device, batch_size=batch_size) for f in _members(path)]
            return Ensemble(task, found)
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
        padding = pad_token_id(self.tokenizer)
        order = np.argsort([-len(f.input_ids) for f in features], kind="stable")
        answers: list[Logits] = [np.empty(0, dtype=np.float32)] * len(features)
        was_training = self.model.training
        self.model.train(False)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size].tolist()
            batch = pad([features[i] for i in rows], padding)
            batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
            with autocast(self.device, self.dtype):
                output = self.task.logits(self.model, batch)
            for row, answer in zip(rows, output.float().cpu().numpy(), strict=True):
                answers[row] = answer
            if progress is not None:
                progress(min(start + self.batch_size, len(order)), len(order))
        self.model.train(was_training)
        return answers


class Ensemble(Predictor):
    """Models of one task with one tokenizer that answer together: by the mean of their logits."""

    def __init__(self, task: Task[Any], members: Sequence[Predictor]) -> None:
        """The task may decode otherwise than the members' own (a threshold chosen for all)."""
        first = members[0]
        super().__init__(
            task,
            first.model,
            first.tokenizer,
            device=first.device,
            dtype=first.dtype,
            batch_size=first.batch_size,
        )
        self.members = members

    def logits(self, features: Sequence[Feature], progress: Progress | None = None) -> list[Logits]:
        """The mean over the members for each feature."""
        count = len(self.members)
        sums: list[Logits] = []
        for number, member in enumerate(self.members):

            def show(done: int, total: int, before: int = number) -> None:
                if progress is not None:
                    progress(before * total + done, count * total)

            found = member.logits(features, show)
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        return [total / np.float32(count) for total in sums]


def save_ensemble(folder: Path, task: Task[Any], members: Sequence[Path]) -> None:
    """Write `ensemble.json`, the members' places as seen from the folder, and `task.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_task(task, folder)
    places = [Path(os.path.relpath(member, folder)).as_posix() for member in members]
    write_text(folder / ENSEMBLE_FILE, json.dumps({"members": places}, indent=1) + "\n")


def _members(folder: Path) -> list[Path]:
    file = folder / ENSEMBLE_FILE
    try:
        found = [folder / name for name in json.loads(file.read_text("utf-8"))["members"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read: {error!r}") from None
    missing = [str(member) for member in found if not member.is_dir()]
    if missing or not found:
        raise DataError(
            f"{file} names models that are not there ({', '.join(missing) or 'none at all'}); an "
            "ensemble is moved together with the folders beside it"
        )
    return found
