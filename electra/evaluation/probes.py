"""How far pretraining is, on held-out text: fixed rows, fixed masks, fixed noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from electra.evaluation.metrics import auc
from electra.objectives.objective import ProbeOutput, SeenText
from electra.training.loop import Batch
from electra.training.noise import Noise


class Probed(Protocol):
    """An objective that can be probed."""

    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Sums and scores of one batch."""


def probe(
    objective: Probed,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    show: Callable[[Batch, SeenText], None] | None = None,
) -> dict[str, float]:
    """Means over the batches; with a discriminator its AUC, precision, recall and accuracy.

    `majority` is the accuracy of calling every token original: a discriminator must be read
    against it. Precision and recall are those of `replaced` at probability 0.5. `show` is called
    with the first batch, where a discriminator reads it, and what was read.
    """
    sums: dict[str, list[Tensor | float]] = {}
    scores: list[Tensor] = []
    truth: list[Tensor] = []
    rows = 0
    for batch in batches:
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        output = objective.probe(moved, Noise(0, rows))
        for name, (total, count) in output.means.items():
            pair = sums.setdefault(name, [0.0, 0.0])
            pair[0] += total
            pair[1] += count
        if output.replaced_scores is not None and output.is_replaced is not None:
            scores.append(output.replaced_scores.cpu())
            truth.append(output.is_replaced.cpu())
        if rows == 0 and show is not None and output.seen is not None:
            show(batch, output.seen)
        rows += len(batch["input_ids"])
    result = {name: float(total) / max(float(count), 1.0) for name, (total, count) in sums.items()}
    if scores:
        result |= _discriminator_metrics(torch.cat(scores), torch.cat(truth))
    return result


def _discriminator_metrics(scores: Tensor, truth: Tensor) -> dict[str, float]:
    said = scores > 0
    hits = float((said & truth).sum())
    return {
        "discriminator_auc": auc(truth.tolist(), scores.tolist()) or 0.5,
        "discriminator_precision": hits / max(float(said.sum()), 1.0),
        "discriminator_recall": hits / max(float(truth.sum()), 1.0),
        "discriminator_accuracy": float((said == truth).float().mean()),
        "majority": float((~truth).float().mean()),
    }
