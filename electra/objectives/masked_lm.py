"""Masked language modelling on the encoder itself: the BERT baseline (Devlin et al. 2019).

loss = mean over the masked positions of -log p(original token | masked text)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import PretrainingModel, gather
from electra.objectives.masking import choose_and_mask
from electra.objectives.probe_output import ProbeOutput
from electra.training.loop import Batch, StepOutput


class MaskedLM(nn.Module):
    """Predicts the masked tokens with the encoder; only masked positions meet the vocabulary."""

    loss_weights: Mapping[str, float] = {"encoder_mlm_loss": 1.0}

    def __init__(self, model: PretrainingModel, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def begin_step(self, progress: float) -> None:
        """Nothing changes over the run."""

    def prepare(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, dict[str, Tensor]]:
        """Choose and hide tokens; P slots a sequence."""
        batch = with_masks(batch, self.model, self.config, generator)
        return batch, {"encoder_mlm_loss": batch["masked_weights"].sum()}

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Cross-entropy summed over the masked positions."""
        hidden = self.model.encoder_hidden(batch["masked_input_ids"], batch)
        logits = self.model.encoder_token_logits(gather(hidden, batch["masked_positions"]))
        return StepOutput({"encoder_mlm_loss": masked_lm_loss(logits, batch)})

    @torch.no_grad()
    def probe(self, batch: Batch, generator: torch.Generator) -> ProbeOutput:
        """Loss and accuracy on held-out text."""
        batch, _ = self.prepare(batch, generator)
        hidden = self.model.encoder_hidden(batch["masked_input_ids"], batch)
        logits = self.model.encoder_token_logits(gather(hidden, batch["masked_positions"]))
        return ProbeOutput(masked_lm_means("encoder_mlm", logits, batch))


def with_masks(
    batch: Batch, model: PretrainingModel, config: ObjectiveConfig, generator: torch.Generator
) -> Batch:
    """The batch and the fields of `Masked`."""
    masked = choose_and_mask(
        batch["input_ids"],
        batch.get("attention_mask"),
        model.special,
        mask_prob=config.mask_prob,
        mask_token_prob=config.mask_token_prob,
        generator=generator,
    )
    return {**batch, **vars(masked)}


def masked_lm_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy summed over the used slots, from logits (B, P, V)."""
    targets = batch["original_ids"].flatten()
    losses = F.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="none")
    return (losses * batch["masked_weights"].flatten()).sum()


def masked_lm_means(
    name: str, logits: Tensor, batch: Batch
) -> dict[str, tuple[Tensor, Tensor | float]]:
    """`{name}_loss` and `{name}_accuracy` of held-out text, as sums and counts.

    Accuracy is not worth its price in training: the argmax takes a tenth of a small step.
    """
    weights = batch["masked_weights"]
    correct = ((logits.argmax(-1) == batch["original_ids"]) * weights).sum()
    return {
        f"{name}_loss": (masked_lm_loss(logits, batch), weights.sum()),
        f"{name}_accuracy": (correct, weights.sum()),
    }
