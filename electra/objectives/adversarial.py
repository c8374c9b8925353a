"""A generator trained against the discriminator (Clark et al. 2020, section 3.2 and appendix F).

    loss = discriminator_weight * mean over real tokens of BCE(is_replaced, D(corrupted text))
         - reinforce_weight     * mean over masked positions of log p_G(sample_t) (R_t - b_t)
         +                        mean over masked positions of the baseline's cross-entropy

    R_t = the discriminator's loss at t: -log D(t) if the sample is the original, else
          -log(1 - D(t)), D the probability of being original
    b_t = -log sigmoid(w . h_G(masked text)_t)

The generator is to raise the discriminator's loss. The samples are discrete, so it learns by
REINFORCE with the learned baseline b instead of through the discriminator. As in the paper: the
reward of a sample is the discriminator's loss at its own position (what the paper calls its
simplifying assumption: D at t does not depend on the other samples), there is one sample a
position, b has this form, and the generator gets no masked-LM loss at all, so this objective takes
no `generator_weight`.

Our reading, where the paper is brief: "trained with cross-entropy loss to match the reward" is the
cross-entropy of sigmoid(w . h) against exp(-R), the probability that D gave to the truth; it moves
w alone, not the generator; w starts at zero, where b is log 2, the loss of a discriminator that
knows nothing. All means are over the batch, and weights other than lambda are 1. With
`temperature`, p_G is the distribution that is sampled from.

The paper found it worse than maximum likelihood: the generator reaches 58 % masked-LM accuracy
instead of 65 %, its samples lack variety, and the encoder is below that of joint training, though
above BERT. ELECTRA itself is not a GAN.

Cost: that of replaced token detection.

B sequences, P masked positions, V vocabulary, H_G the generator's hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import PretrainingModel
from electra.objectives.masked_lm import masked_lm_means
from electra.objectives.objective import Networks, ProbeOutput, SeenText, count_real
from electra.objectives.replaced_token_detection import Judged, ReplacedTokenDetection
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


@dataclass
class Played(Judged):
    """What both networks made of a batch, and what the generator read."""

    generator_hidden: Tensor
    """(B, P, H_G) at the masked positions."""


class Adversarial(ReplacedTokenDetection):
    """The generator learns to raise the discriminator's loss."""

    def __init__(
        self,
        model: PretrainingModel,
        config: ObjectiveConfig,
        *,
        token_counts: Tensor | None = None,
    ) -> None:
        super().__init__(model, config, token_counts=token_counts)
        self.baseline = nn.Parameter(torch.zeros(model.generator.config.hidden_size))
        """(H_G,), the w of b."""

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """Both."""
        return Networks(discriminator=True, generator=True)

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of the discriminator, the policy gradient, and the baseline."""
        return {
            "discriminator_loss": self.config.discriminator_weight,
            "reinforce_loss": self.config.reinforce_weight,
            "baseline_loss": 1.0,
        }

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Real tokens for the discriminator, masked positions for the generator."""
        num_masked = batch["masked_weights"].sum()
        return {
            "discriminator_loss": self.judged_tokens(batch).sum(),
            "reinforce_loss": num_masked,
            "baseline_loss": num_masked,
        }

    def judge(self, batch: Batch, noise: Noise) -> Played:
        """Propose, corrupt, read, score."""
        generator_hidden = self.model.generator_hidden(
            batch["masked_input_ids"], batch, batch["masked_positions"]
        )
        logits = self.model.generator_token_logits(generator_hidden)
        corrupted, is_replaced = self.corrupt(batch, logits, noise)
        hidden = self.model.encoder_hidden(corrupted, batch)
        scores = self.model.replaced_logits(hidden).float()
        return Played(logits, corrupted, is_replaced, hidden, scores, generator_hidden)

    def rewards(self, judged: Judged, batch: Batch) -> Tensor:
        """R, (B, P) without gradient: the discriminator's loss at the masked positions."""
        losses = F.binary_cross_entropy_with_logits(
            judged.scores.detach(), judged.is_replaced.float(), reduction="none"
        )
        return losses.gather(1, batch["masked_positions"])

    def baseline_logits(self, generator_hidden: Tensor) -> Tensor:
        """The product w . h, (B, P, H_G) -> (B, P), with gradient for w alone."""
        with torch.autocast(generator_hidden.device.type, enabled=False):
            return generator_hidden.detach().float() @ self.baseline

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Losses summed over their targets."""
        played = self.judge(batch, noise)
        assert played.generator_logits is not None
        weights, positions = batch["masked_weights"], batch["masked_positions"]
        rewards = self.rewards(played, batch)  # (B, P)
        baseline = self.baseline_logits(played.generator_hidden)  # (B, P)
        advantages = rewards + F.logsigmoid(baseline.detach())
        sampled_ids = played.corrupted_input_ids.gather(1, positions)
        log_probs = (played.generator_logits.float() / self.config.temperature).log_softmax(-1)
        chosen = log_probs.gather(-1, sampled_ids.unsqueeze(-1)).squeeze(-1)  # (B, P)
        fit = F.binary_cross_entropy_with_logits(baseline, torch.exp(-rewards), reduction="none")
        return StepOutput(
            {
                "discriminator_loss": self.discriminator_loss(played, batch),
                "reinforce_loss": -(chosen * advantages * weights).sum(),
                "baseline_loss": (fit * weights).sum(),
            },
            {
                "replaced_share": (played.is_replaced.sum(), count_real(batch)),
                "reward": ((rewards * weights).sum(), weights.sum()),
            },
        )

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """The discriminator's scores, the generator as a masked LM, its reward and entropy (nats).

        An entropy that falls towards 0 is the lack of variety that the paper reports.
        """
        batch, counts = self.prepare(batch, noise)
        played = self.judge(batch, noise)
        logits = played.generator_logits
        assert logits is not None
        weights = batch["masked_weights"]
        log_probs = (logits.float() / self.config.temperature).log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)  # (B, P)
        loss = self.discriminator_loss(played, batch)
        means: dict[str, tuple[Tensor, Tensor | float]] = {
            **masked_lm_means("generator", logits, batch),
            "generator_entropy": ((entropy * weights).sum(), weights.sum()),
            "reward": ((self.rewards(played, batch) * weights).sum(), weights.sum()),
            "discriminator_loss": (loss, counts["discriminator_loss"]),
        }
        real = self.judged_tokens(batch)
        seen = SeenText(played.corrupted_input_ids, played.scores)
        return ProbeOutput(means, played.scores[real], played.is_replaced[real], seen)


OBJECTIVE = Adversarial
