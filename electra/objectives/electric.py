"""Electric (Clark et al. 2020b, EMNLP): an energy for every token, by noise-contrastive estimation.

The encoder's head gives E(x)_t, the energy of the token at t in its context, and

    log p(x_t | the other tokens) = -E(x)_t

without a softmax over the vocabulary: nothing makes these probabilities sum to 1 but training.
A two-tower cloze model q (`model/two_tower.py`) predicts every token of the text and draws k of
them anew; the draws at the k chosen positions are noise, also where one equals the original. With
n tokens that could have been chosen, p and q at the token that stands at t,

    P(noise at t) = k q / (k q + (n - k) p) = sigmoid(E_t + log q_t + log k - log(n - k))

    loss = generator_weight     * mean over maskable tokens of -log q(original | original text)
         + discriminator_weight * mean over maskable tokens of BCE(is_noise, P(noise))

E is of the text with the noise in it, q of the text without (section 2.3, algorithm 2: one pass of
the encoder for all n tokens). The second loss moves E alone. Special tokens are never chosen, so
they are no targets; the reference code counts them as data, and takes mask_prob / (1 - mask_prob)
for k / (n - k).

Cost: the encoder, and two generators, which meet the vocabulary at every token.

B sequences, L tokens, P chosen positions in a sequence, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import ENERGY, gather
from electra.objectives.masking import with_masks
from electra.objectives.objective import (
    Networks,
    PretrainingObjective,
    ProbeOutput,
    SeenText,
    count_real,
    maskable,
    real_tokens,
)
from electra.objectives.sampling import corrupt, sample_tokens
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


@dataclass
class Contrasted:
    """What both networks made of a batch; all (B, L)."""

    noise_losses: Tensor
    """-log q(original token), with gradient."""
    logits: Tensor
    """Of being noise, float32."""
    is_noise: Tensor
    """Bool: a draw from q stands here."""
    is_replaced: Tensor
    """Bool: a token other than the original stands here."""
    input_ids: Tensor
    """The text with the noise in it."""


class Electric(PretrainingObjective):
    """Tells data from noise whose probability is known, and so learns that of the data."""

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """The head whose logit is the energy, and the two towers."""
        return Networks(discriminator=True, two_tower=True)

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of both networks."""
        return {
            "generator_loss": self.config.generator_weight,
            "discriminator_loss": self.config.discriminator_weight,
        }

    @property
    def discriminator_fields(self) -> Mapping[str, str]:
        """The logit of the saved discriminator is an energy."""
        return ENERGY

    def save_extra(self, folder: Path) -> None:
        """Write the two towers, which no Auto class opens."""
        self.model.two_tower.save(folder)

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Choose positions; every maskable token is a target of both networks."""
        batch = with_masks(batch, self.model.special, self.config, noise)
        count = self.targets(batch).sum()
        return batch, {"generator_loss": count, "discriminator_loss": count}

    def targets(self, batch: Batch) -> Tensor:
        """(B, L) bool: the tokens that can be chosen."""
        return maskable(batch["input_ids"], self.model.special) & real_tokens(batch)

    def contrast(self, batch: Batch, noise: Noise) -> Contrasted:
        """Predict, draw, read, and set the energy against the noise's probability."""
        originals, positions = batch["input_ids"], batch["masked_positions"]
        noise_logits = self.model.two_tower.logits(self.model.two_tower(originals, batch)).float()
        noise_losses = _cross_entropy(noise_logits, originals)
        drawn_from = gather(noise_logits.detach(), positions)  # (B, P, V)
        sampled_ids = sample_tokens(drawn_from, temperature=1.0, noise=noise)  # (B, P)
        used = batch["masked_weights"]
        noised, is_replaced = corrupt(originals, positions, used, sampled_ids)
        is_noise = torch.zeros_like(noise_losses).scatter_add_(1, positions, used) > 0
        # q of the token that stands there now: of the draw where there is one. Unused slots point
        # at position 0, [CLS], which is no target
        drawn = torch.zeros_like(noise_losses)
        drawn.scatter_(1, positions, -_cross_entropy(drawn_from, sampled_ids))
        log_q = torch.where(is_noise, drawn, -noise_losses.detach())
        hidden = self.model.encoder_hidden(noised, batch)
        energies = self.model.replaced_logits(hidden).float()
        targets = self.targets(batch)
        logits = noise_logit(energies, log_q, is_noise.sum(1), targets.sum(1))
        return Contrasted(noise_losses, logits, is_noise, is_replaced, noised)

    def discriminator_loss(self, contrasted: Contrasted, targets: Tensor) -> Tensor:
        """Binary cross-entropy, summed over the targets."""
        losses = F.binary_cross_entropy_with_logits(
            contrasted.logits, contrasted.is_noise.float(), reduction="none"
        )
        return (losses * targets).sum()

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Both losses, summed over the maskable tokens."""
        contrasted, targets = self.contrast(batch, noise), self.targets(batch)
        output = StepOutput(
            {
                "generator_loss": (contrasted.noise_losses * targets).sum(),
                "discriminator_loss": self.discriminator_loss(contrasted, targets),
            }
        )
        output.metrics["replaced_share"] = (contrasted.is_replaced.sum(), count_real(batch))
        return output

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Losses on held-out text, and the mean of -E over its tokens, undisturbed.

        The scores are those of being noise, against what is noise: draws equal to the original
        cannot be told, so the AUC stays below 1.
        """
        batch, counts = self.prepare(batch, noise)
        contrasted, targets = self.contrast(batch, noise), self.targets(batch)
        count = counts["generator_loss"]
        hidden = self.model.encoder_hidden(batch["input_ids"], batch)
        energies = self.model.replaced_logits(hidden).float()
        return ProbeOutput(
            {
                "generator_loss": ((contrasted.noise_losses * targets).sum(), count),
                "discriminator_loss": (self.discriminator_loss(contrasted, targets), count),
                "pseudo_log_likelihood": (-(energies * targets).sum(), count),
            },
            contrasted.logits[targets],
            contrasted.is_noise[targets],
            SeenText(
                contrasted.input_ids, contrasted.logits.masked_fill(~targets, -torch.inf)
            ),  # what is no target has no energy: it counts as data
        )


def noise_logit(energies: Tensor, log_q: Tensor, k: Tensor, n: Tensor) -> Tensor:
    """The logit of P(noise), (B, L).

    Args:
        energies: E of the token that stands there, (B, L).
        log_q: log of the noise's probability of that token, (B, L).
        k: how many tokens of each row are noise, (B,).
        n: how many could have been, (B,).
    """
    # a row without targets, or all of noise, must not give infinities
    odds = k.clamp(min=1).log() - (n - k).clamp(min=1).log()  # (B,)
    return energies + log_q + odds.unsqueeze(1)


def _cross_entropy(logits: Tensor, ids: Tensor) -> Tensor:
    losses = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
    return losses.view_as(ids)


OBJECTIVE = Electric
