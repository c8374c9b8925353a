"""Fine-tuning as the one loop sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from electra.tasks.task import Task
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
    ) -> None:
        """Take a task and its model.

        Args:
            task: what is learned.
            model: from the task's `build_model`.
            label_smoothing: share of the target spread over all labels.
            train_encoder: false: only the head gets gradients.
        """
        super().__init__()
        self.task = task
        self.model = model
        self.label_smoothing = label_smoothing
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
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        logits = self.task.logits(self.model, inputs, batch["labels"]).float()
        loss = self.task.loss(logits, batch["labels"], label_smoothing=self.label_smoothing)
        return StepOutput(losses={_LOSS: loss.total}, metrics=loss.metrics)
