"""Replace MLM (Clark et al. 2020, section 3.4): masked LM that never sees a [MASK].

    loss = generator_weight * mean over masked positions of -log p_G(original token | masked text)
         +                    mean over masked positions of -log p(original token | corrupted text)

The chosen tokens are replaced by samples of a generator instead of [MASK], so that pretraining and
fine-tuning read the same kind of text. An ablation of how much that mismatch costs.

Cost: generator and encoder read every token; both meet the vocabulary at the masked positions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from electra.config import ObjectiveConfig
from electra.objectives.masked_lm import masked_lm_loss, masked_lm_means, masked_logits
from electra.objectives.masking import with_masks
from electra.objectives.objective import Networks, ProbeOutput, count_real
from electra.objectives.proposals import ProposingObjective
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


class ReplaceMLM(ProposingObjective):
    """Predicts the original tokens from text in which they were replaced."""

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """A masked-LM head on the encoder, and the generator."""
        return Networks(masked_lm=True, generator=config.generator == "masked_lm")

    @property
    def keeps_masked_lm(self) -> bool:
        """Not: the head has never seen a [MASK], and could not fill one."""
        return False

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of both networks."""
        return {"generator_loss": self.config.generator_weight, "encoder_mlm_loss": 1.0}

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Choose and hide tokens."""
        special, share = self.model.special, self.mask_prob
        batch = with_masks(batch, special, self.config, noise, share, idle_slots=self.idle_slots)
        counts = {"encoder_mlm_loss": batch["masked_weights"].sum()}
        if self.trains_generator:
            counts["generator_loss"] = batch["masked_weights"].sum()
        return batch, counts

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Both losses, summed over the masked positions."""
        generator_logits = self.generator_logits(batch)
        corrupted, is_replaced = self.corrupt(batch, generator_logits, noise)  # (B, L)
        logits = masked_logits(
            self.model, self.model.encoder_hidden(corrupted, batch), batch
        )  # (B, P, V)
        output = StepOutput({"encoder_mlm_loss": masked_lm_loss(logits, batch)})
        if generator_logits is not None:
            output.losses["generator_loss"] = masked_lm_loss(generator_logits, batch)
        output.metrics["replaced_share"] = (is_replaced.sum(), count_real(batch))
        return output

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Loss and accuracy of both networks on held-out text."""
        batch, _ = self.prepare(batch, noise)
        generator_logits = self.generator_logits(batch)
        corrupted, _ = self.corrupt(batch, generator_logits, noise)
        means = masked_lm_means(
            "encoder_mlm",
            masked_logits(self.model, self.model.encoder_hidden(corrupted, batch), batch),
            batch,
        )
        if generator_logits is not None:
            means |= masked_lm_means("generator", generator_logits, batch)
        return ProbeOutput(means)


OBJECTIVE = ReplaceMLM
