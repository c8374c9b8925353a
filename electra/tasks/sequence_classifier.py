"""What tasks share that give a whole input one of several labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from electra.config import HeadConfig
from electra.tasks.batches import Feature
from electra.tasks.heads import probabilities, with_text_head
from electra.tasks.label_losses import cross_entropy, weight_of
from electra.tasks.labels import CLASSIFICATION
from electra.tasks.model_folder import load_config, load_with_head
from electra.tasks.task import Logits, Prediction, Task, TaskLoss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

E = TypeVar("E")


class SequenceClassifier(Task[E]):
    """The head of `AutoModelForSequenceClassification`, cross-entropy, the likeliest label."""

    labels: tuple[str, ...]
    """Names of the outputs."""
    class_weights: tuple[float, ...]
    """Of the outputs, in training alone; none: all count alike."""

    def head_type(self) -> str:
        """`problem_type` of the model's configuration."""
        return CLASSIFICATION

    def build_model(
        self, encoder: str, head: HeadConfig, *, from_scratch: bool = False
    ) -> PreTrainedModel:
        """`AutoModelForSequenceClassification` with a fresh head.

        Raises:
            ConfigError: the encoder cannot be opened, or has no such pooling.
        """
        from transformers import AutoModelForSequenceClassification

        return with_text_head(
            AutoModelForSequenceClassification,
            encoder,
            head,
            labels=self.labels or ("score",),
            problem_type=self.head_type(),
            from_scratch=from_scratch,
        )

    def load_model(self, folder: Path) -> PreTrainedModel:
        """A fine-tuned model; its head must be there."""
        from transformers import AutoModelForSequenceClassification

        config = load_config(str(folder))
        return load_with_head(
            AutoModelForSequenceClassification, str(folder), config, fresh_head=False
        )

    def targets(self, features: Sequence[Feature], length: int) -> Tensor:
        """Label numbers int64 [B]."""
        return torch.tensor([f.target for f in features], dtype=torch.int64)

    def num_targets(self, targets: Tensor) -> Tensor:
        """B; with class weights the sum of the targets' weights, by which torch divides, too."""
        return weight_of(targets, self.class_weights)

    def loss(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> TaskLoss:
        """Cross-entropy of logits [B, labels], weighted where there are weights, summed over B."""
        return cross_entropy(logits, targets, self.class_weights, label_smoothing=label_smoothing)

    def decode(
        self, examples: Sequence[E], features: Sequence[Feature], logits: Sequence[Logits]
    ) -> list[Prediction]:
        """`label`, its probability `score`, and `scores` of all labels."""
        return [label_prediction(self.labels, row) for row in logits]


def label_prediction(labels: Sequence[str], logits: Logits) -> Prediction:
    """The likeliest `label`, its probability `score`, and the `scores` of all; logits [labels]."""
    scores = probabilities(logits)
    best = int(np.argmax(logits))
    return {
        "label": labels[best],
        "score": scores[best],
        "scores": dict(zip(labels, scores, strict=True)),
    }


def same_answer(truth: Sequence[object], answers: Sequence[object]) -> str | None:
    """A line that says so where rows that differ all get one answer, both [N], else None."""
    if len(set(truth)) < 2 or len(set(answers)) > 1:
        return None
    return (
        f"the model answers {answers[0]} to all {len(answers)} validation rows: it has not learned "
        "the task; try another seed (--seeds 3), a lower --optimizer.learning-rate, or more steps"
    )
