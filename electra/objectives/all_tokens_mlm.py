"""All-Tokens MLM with the copy mechanism (Clark et al. 2020, section 3.4).

    p(token at t | corrupted text) = D_t [token is the input at t] + (1 - D_t) softmax_t(token)

    loss = generator_weight * mean over masked positions of -log p_G(original token | masked text)
         +                    mean over real tokens of -log p(original token | corrupted text)

The encoder predicts every original token from corrupted text; D_t, a sigmoid for each token, lets
it copy the input. It is the discriminator's head that gives D, as one minus the probability of
being replaced. Without the copy mechanism the softmax must learn to copy by itself, and the paper
found it worse.

Cost: generator and encoder read every token, and the encoder meets the vocabulary at every token,
which for small encoders is the larger part of a step.

B sequences, L tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.objectives.copying import copy_loss
from electra.objectives.masked_lm import masked_lm_loss, masked_lm_means
from electra.objectives.masking import with_masks
from electra.objectives.objective import Networks, ProbeOutput, SeenText, count_real, real_tokens
from electra.objectives.proposals import ProposingObjective
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


class AllTokensMLM(ProposingObjective):
    """Predicts every original token from text in which some were replaced."""

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """A masked-LM head on the encoder, the generator, and the head that gates the copy."""
        return Networks(
            masked_lm=True,
            generator=config.generator == "masked_lm",
            discriminator=config.copy_mechanism,
        )

    @property
    def keeps_masked_lm(self) -> bool:
        """Not: the head has never seen a [MASK], and could not fill one."""
        return False

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of both networks."""
        return {"generator_loss": self.config.generator_weight, "all_tokens_loss": 1.0}

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Choose and hide tokens; every real token is a target of the encoder."""
        special, share = self.model.special, self.mask_prob
        batch = with_masks(batch, special, self.config, noise, share, idle_slots=self.idle_slots)
        counts = {"all_tokens_loss": count_real(batch)}
        if self.trains_generator:
            counts["generator_loss"] = batch["masked_weights"].sum()
        return batch, counts

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """The generator's loss over the masked positions, the encoder's over all real tokens."""
        generator_logits = self.generator_logits(batch)
        corrupted, is_replaced = self.corrupt(batch, generator_logits, noise)  # (B, L)
        losses, _ = self.read(batch, corrupted)
        output = StepOutput({"all_tokens_loss": (losses * real_tokens(batch)).sum()})
        if generator_logits is not None:
            output.losses["generator_loss"] = masked_lm_loss(generator_logits, batch)
        output.metrics["replaced_share"] = (is_replaced.sum(), count_real(batch))
        return output

    def read(self, batch: Batch, corrupted: Tensor) -> tuple[Tensor, Tensor | None]:
        """-log p(original token) and the logit of being replaced, both (B, L)."""
        hidden = self.model.encoder_hidden(corrupted, batch)  # (B, L, H)
        logits = self.model.encoder_token_logits(hidden)  # (B, L, V)
        originals = batch["input_ids"]
        losses = F.cross_entropy(
            logits.flatten(0, 1).float(), originals.flatten(), reduction="none"
        )
        losses = losses.view_as(originals)
        if not self.config.copy_mechanism:
            return losses, None
        scores = self.model.replaced_logits(hidden).float()
        return copy_loss(losses, scores, corrupted == originals), scores

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Losses on held-out text; the copy gate is read as a discriminator."""
        batch, counts = self.prepare(batch, noise)
        generator_logits = self.generator_logits(batch)
        corrupted, is_replaced = self.corrupt(batch, generator_logits, noise)
        losses, scores = self.read(batch, corrupted)
        real = real_tokens(batch)
        means: dict[str, tuple[Tensor, Tensor | float]] = {
            "all_tokens_loss": ((losses * real).sum(), counts["all_tokens_loss"]),
            "replaced_tokens_loss": ((losses * is_replaced).sum(), is_replaced.sum()),
        }
        if generator_logits is not None:
            means |= masked_lm_means("generator", generator_logits, batch)
        if scores is None:
            return ProbeOutput(means)
        return ProbeOutput(means, scores[real], is_replaced[real], SeenText(corrupted, scores))


OBJECTIVE = AllTokensMLM
