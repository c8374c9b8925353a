"""Masked language modelling on the encoder itself: the BERT baseline (Devlin et al. 2019).

loss = mean over the masked positions of -log p(original token | masked text)

Cost: the encoder, and the vocabulary at the masked positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import PretrainingModel, gather
from electra.objectives.masking import with_masks
from electra.objectives.objective import Networks, PretrainingObjective, ProbeOutput
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


class MaskedLM(PretrainingObjective):
    """Predicts the masked tokens with the encoder; only masked positions meet the vocabulary."""

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """A masked-LM head on the encoder."""
        return Networks(masked_lm=True)

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """One loss."""
        return {"encoder_mlm_loss": 1.0}

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Choose and hide tokens; P slots a sequence."""
        batch = with_masks(batch, self.model.special, self.config, noise, self.mask_prob)
        return batch, {"encoder_mlm_loss": batch["masked_weights"].sum()}

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Cross-entropy summed over the masked positions."""
        logits = encoder_logits(self.model, batch["masked_input_ids"], batch)
        return StepOutput({"encoder_mlm_loss": masked_lm_loss(logits, batch)})

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Loss and accuracy on held-out text."""
        batch, _ = self.prepare(batch, noise)
        logits = encoder_logits(self.model, batch["masked_input_ids"], batch)
        return ProbeOutput(masked_lm_means("encoder_mlm", logits, batch))


OBJECTIVE = MaskedLM


def encoder_logits(model: PretrainingModel, input_ids: Tensor, batch: Batch) -> Tensor:
    """Vocabulary logits of the encoder's head at the masked positions, (B, L) -> (B, P, V)."""
    hidden = model.encoder_hidden(input_ids, batch)  # (B, L, H)
    return model.encoder_token_logits(gather(hidden, batch["masked_positions"]))


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
