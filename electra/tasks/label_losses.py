"""Losses of labels, summed, and weights that make rare labels count as much as frequent ones.

A weighted cross-entropy is divided by the sum of the weights of its targets, and a binary one by
rows times labels: what torch's `CrossEntropyLoss(weight)` and `BCEWithLogitsLoss(pos_weight)` do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from electra.tasks.task import TaskLoss

MOST_WEIGHT = 100.0
"""Of a label's positives, so that a label of one row in ten thousand does not rule the loss."""


def balanced_weights(given: Sequence[str | None], labels: Sequence[str]) -> tuple[float, ...]:
    """N / (K n_c) for each label, scikit-learn's "balanced"; 1 for a label that is never given.

    Args:
        given: the label of each row.
        labels: in the order of the outputs; K is how many of them occur.
    """
    counts = Counter(given)
    present = sum(counts[name] > 0 for name in labels)
    total = sum(counts[name] for name in labels)
    return tuple(total / (present * counts[name]) if counts[name] else 1.0 for name in labels)


def positive_weights(given: Iterable[Collection[str]], labels: Sequence[str]) -> tuple[float, ...]:
    """Rows without a label over rows with it, torch's `pos_weight`, within 1/100 and 100.

    Args:
        given: the label set of each row.
        labels: in the order of the outputs.
    """
    rows = [set(names) for names in given]
    counts = Counter(name for names in rows for name in names)
    return tuple(
        min(max((len(rows) - counts[name]) / max(counts[name], 1), 1 / MOST_WEIGHT), MOST_WEIGHT)
        for name in labels
    )


def weight_of(targets: Tensor, weights: Sequence[float]) -> Tensor:
    """The sum of the weights of targets [B]; B where `weights` is empty."""
    if not weights:
        return torch.tensor(len(targets), device=targets.device)
    return _tensor(weights, targets)[targets].sum()


def cross_entropy(
    logits: Tensor, targets: Tensor, weights: Sequence[float] = (), *, label_smoothing: float = 0.0
) -> TaskLoss:
    """Of logits [B, K] and label numbers [B], summed over B; with `accuracy`.

    Divided by `weight_of` it is the mean of torch's `CrossEntropyLoss`, smoothed or not.
    """
    weight = _tensor(weights, logits) if weights else None
    total = F.cross_entropy(
        logits, targets, weight, reduction="sum", label_smoothing=label_smoothing
    )
    correct = (logits.argmax(-1) == targets).sum()
    return TaskLoss(total, {"accuracy": (correct, len(targets))})


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Sequence[float] = (), *, label_smoothing: float = 0.0
) -> TaskLoss:
    """Of logits and 0 or 1, both [B, K], summed over both; with `subset_accuracy` at 0.5.

    Smoothing moves 0 and 1 towards one half. `weights` are those of the positives.
    """
    weight = _tensor(weights, logits) if weights else None
    smoothed = targets * (1 - label_smoothing) + label_smoothing / 2
    total = F.binary_cross_entropy_with_logits(logits, smoothed, pos_weight=weight, reduction="sum")
    right = ((logits > 0) == (targets > 0.5)).all(-1).sum()
    return TaskLoss(total, {"subset_accuracy": (right, len(targets))})


def _tensor(weights: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(weights, dtype=torch.float32, device=like.device)
