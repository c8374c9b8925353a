"""Fine-tuning as the one loop sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from electra.errors import ConfigError
from electra.tasks.task import Task, TaskLoss
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOSS = "task_loss"


class FinetuneObjective(nn.Module):
    """A task's model and loss as an `Objective` of `electra.training.loop`."""

    loss_weights: Mapping[str, float] = {_LOSS: 1.0}

    def __init__(
        self,
        task: Task[Any],
        model: PreTrainedModel,
        *,
        label_smoothing: float = 0.0,
        train_encoder: bool = True,
        r_drop: float = 0.0,
    ) -> None:
        """Take a task and its model.

        Args:
            task: what is learned.
            model: from the task's `build_model`.
            label_smoothing: share of the target spread over all labels.
            train_encoder: false: only the head gets gradients.
            r_drop: alpha of R-Drop (`electra.tasks.regularizers`); 0: one pass.

        Raises:
            ConfigError: R-Drop for a task without a divergence, or a model without dropout.
        """
        super().__init__()
        self.task = task
        self.model = model
        self.label_smoothing = label_smoothing
        self.r_drop = r_drop
        self._divergence = task.divergence()
        if r_drop and self._divergence is None:
            raise ConfigError(
                f"--training.r-drop is {r_drop}, but {task.name} has no classes here whose chances "
                "two passes could differ in (allowed: 0); it is for tasks that choose among labels"
            )
        if r_drop and not _has_dropout(model):
            raise ConfigError(
                f"--training.r-drop is {r_drop}, but this {model.config.model_type} has no "
                "dropout, so that two passes answer the same; give --model.dropout 0.1"
            )
        if not train_encoder:
            model.base_model.requires_grad_(False)
            for name, parameter in model.base_model.named_parameters():
                if "pooler" in name.split("."):  # of the head, and perhaps fresh
                    parameter.requires_grad_(True)

    def begin_step(self, progress: float) -> None:
        """Nothing depends on the step."""

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """The targets are in the batch already (`labels`); count them."""
        return batch, {_LOSS: self.task.num_targets(batch["labels"])}

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """The task's loss, summed over targets; dropout draws from torch's own generator."""
        loss = self._loss(batch)
        return StepOutput(losses={_LOSS: loss.total}, metrics=loss.metrics)

    def _loss(self, batch: Batch) -> TaskLoss:
        """Of one pass, or of R-Drop's two; the metrics are the first one's."""
        first, logits = self._pass(batch)
        if not self.r_drop:
            return first
        assert self._divergence is not None, "checked when it was made"
        second, other = self._pass(batch)
        differ = self._divergence(logits, other, batch["labels"])
        total = (first.total + second.total + self.r_drop * differ) / 2
        count = self.task.num_targets(batch["labels"])
        return TaskLoss(total, first.metrics | {"divergence": (differ.detach(), count)})

    def _pass(self, batch: Batch) -> tuple[TaskLoss, Tensor]:
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = self.task.logits(self.model, inputs, batch["labels"]).float()
        loss = self.task.loss(logits, batch["labels"], label_smoothing=self.label_smoothing)
        return loss, logits


def _has_dropout(model: PreTrainedModel) -> bool:
    modules = any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
    return modules or getattr(model.config, "attention_dropout", 0.0) > 0
