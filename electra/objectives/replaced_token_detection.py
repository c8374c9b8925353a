"""Replaced token detection (Clark et al. 2020): the generator proposes, the discriminator judges.

    loss = generator_weight     * mean over masked positions of -log p_G(original token)
         + discriminator_weight * mean over real tokens of BCE(is_replaced, D(corrupted text))

The generator reads the masked text; one token is drawn from it for each masked position, without
gradient, and put into the unmasked original; the discriminator reads that and says of every real
token, special ones too, whether it was replaced. A sample equal to the original is original.

Three additions, all off in the classic recipes. Warm start: for a first share of the budget the
encoder is trained as `masked_lm.py` does, causal start included, then its first layers and head
become the generator. Corrective head: the encoder also predicts the original tokens at the masked
positions from the corrupted text, which keeps lexical knowledge in it; as in COCO-LM (Meng et al.
2021, section 3.1) with `encoder_mlm_copy`, where the prediction may copy the input by the
discriminator's verdict, which gets no gradient from it. Contrastive loss (COCO-LM): see
`contrastive.py`.

Cost: generator and encoder read every token; the vocabulary is met at the masked positions (twice
with the corrective head); the contrastive loss adds nine tenths of an encoder pass.

B sequences, L tokens, P masked positions, V vocabulary, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import PretrainingModel, gather
from electra.objectives.contrastive import contrastive_loss, crop
from electra.objectives.copying import copy_loss
from electra.objectives.masked_lm import MaskedLM, masked_lm_loss, masked_lm_means
from electra.objectives.masking import with_masks
from electra.objectives.objective import Networks, ProbeOutput, SeenText, count_real, real_tokens
from electra.objectives.proposals import ProposingObjective
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


@dataclass
class Judged:
    """What both networks made of a batch."""

    generator_logits: Tensor | None
    """(B, P, V); None where the generator is fixed."""
    corrupted_input_ids: Tensor
    """(B, L)."""
    is_replaced: Tensor
    """(B, L) bool."""
    hidden: Tensor
    """(B, L, H) the encoder's reading of the corrupted text."""
    scores: Tensor
    """(B, L) float32, the logit of being replaced."""


class ReplacedTokenDetection(ProposingObjective, MaskedLM):
    """Generator and discriminator, trained jointly; not a GAN, the generator learns by MLM.

    During a warm start it is a masked LM in all it does.
    """

    warm: Tensor

    def __init__(
        self,
        model: PretrainingModel,
        config: ObjectiveConfig,
        *,
        token_counts: Tensor | None = None,
    ) -> None:
        super().__init__(model, config, token_counts=token_counts)
        # in the checkpoint, so that a resumed run hands over once
        self.register_buffer("warm", torch.tensor(config.warm_start > 0))
        self._warm = config.warm_start > 0

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """Both, and a masked-LM head on the encoder where one is asked for."""
        return Networks(
            discriminator=True,
            generator=config.generator == "masked_lm",
            masked_lm=config.warm_start > 0 or config.encoder_mlm_weight > 0,
        )

    @property
    def keeps_masked_lm(self) -> bool:
        """Not after a mere warm start, the encoder has moved on; nor of a corrective head alone,
        which has never seen a [MASK].
        """
        return self.config.warm_start > 0 and self.config.encoder_mlm_weight > 0

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weights of the losses that `forward` returns in this stage."""
        if self._warm:
            return super().loss_weights
        return {
            "generator_loss": self.config.generator_weight,
            "discriminator_loss": self.config.discriminator_weight,
            "encoder_mlm_loss": self.config.encoder_mlm_weight,
            "contrastive_loss": self.config.contrastive_weight,
            "repetition_loss": self.config.repetition_weight,
        }

    def begin_step(self, progress: float) -> None:
        """End the warm start when its share of the budget is used."""
        super().begin_step(progress)
        self._warm = self.flag("warm")
        if self._warm and progress >= self.config.warm_start:
            if self.trains_generator:
                self.model.start_generator_from_encoder()
            self.warm.fill_(False)
            self._warm = False

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Choose and hide tokens; count the targets of each loss."""
        if self._warm:
            return super().prepare(batch, noise)
        special, share = self.model.special, self.mask_prob
        batch = with_masks(batch, special, self.config, noise, share, idle_slots=self.idle_slots)
        batch, counts = self.ask(batch, batch["input_ids"])
        return batch, counts | self.counts(batch)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Targets of each loss but repetition's."""
        num_masked = batch["masked_weights"].sum()
        counts = {"discriminator_loss": self.judged_tokens(batch).sum()}
        if self.trains_generator:
            counts["generator_loss"] = num_masked
        if self.config.encoder_mlm_weight:
            counts["encoder_mlm_loss"] = num_masked
        if self.config.contrastive_weight:
            counts["contrastive_loss"] = torch.full_like(num_masked, len(batch["input_ids"]))
        return counts

    def judged_tokens(self, batch: Batch) -> Tensor:
        """(B, L) bool: the tokens that count in the discriminator's loss."""
        return real_tokens(batch)

    def judge(self, batch: Batch, noise: Noise) -> Judged:
        """Propose, corrupt, read, score."""
        logits = self.generator_logits(batch)
        corrupted, is_replaced = self.corrupt(batch, logits, noise)
        hidden = self.model.encoder_hidden(corrupted, batch)
        scores = self.model.replaced_logits(hidden).float()
        return Judged(logits, corrupted, is_replaced, hidden, scores)

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Losses summed over their targets."""
        if self._warm:
            return super().forward(batch, noise)
        judged = self.judge(batch, noise)
        output = StepOutput({"discriminator_loss": self.discriminator_loss(judged, batch)})
        output.metrics["replaced_share"] = (judged.is_replaced.sum(), count_real(batch))
        if judged.generator_logits is not None:
            output.losses["generator_loss"] = self.generator_loss(judged, batch)
        if self.config.encoder_mlm_weight:
            output.losses["encoder_mlm_loss"] = self.corrective_loss(judged, batch)
        if self.config.contrastive_weight:
            output.losses["contrastive_loss"] = self.contrast(judged, batch, noise)
        output.losses |= self.repetition_losses(judged.hidden, judged.corrupted_input_ids, batch)
        return output

    def generator_loss(self, judged: Judged, batch: Batch) -> Tensor:
        """Maximum likelihood, summed over the masked positions."""
        assert judged.generator_logits is not None
        return masked_lm_loss(judged.generator_logits, batch)

    def corrective_loss(self, judged: Judged, batch: Batch) -> Tensor:
        """-log p(original token), read from the corrupted text, over the masked positions."""
        positions, originals = batch["masked_positions"], batch["original_ids"]  # (B, P)
        logits = self.model.encoder_token_logits(gather(judged.hidden, positions))  # (B, P, V)
        flat = logits.flatten(0, 1).float()
        losses = F.cross_entropy(flat, originals.flatten(), reduction="none").view_as(originals)
        if self.config.encoder_mlm_copy:
            scores = judged.scores.detach().gather(1, positions)
            kept = judged.corrupted_input_ids.gather(1, positions) == originals
            losses = copy_loss(losses, scores, kept)
        return (losses * batch["masked_weights"]).sum()

    def discriminator_loss(self, judged: Judged, batch: Batch) -> Tensor:
        """Binary cross-entropy, summed over the judged tokens."""
        losses = F.binary_cross_entropy_with_logits(
            judged.scores, judged.is_replaced.float(), reduction="none"
        )
        return (losses * self.judged_tokens(batch)).sum()

    def contrast(self, judged: Judged, batch: Batch, noise: Noise) -> Tensor:
        """Contrastive loss between the corrupted text and a cropped copy, summed over rows."""
        cropped = crop(batch, self.model.special, noise)
        other = self.model.encoder_hidden(cropped["input_ids"], cropped)
        return contrastive_loss(judged.hidden[:, 0], other[:, 0])

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Losses, accuracies and the discriminator's scores on held-out text."""
        if self._warm:
            return super().probe(batch, noise)
        batch, counts = self.prepare(batch, noise)
        judged = self.judge(batch, noise)
        means = self.repetition_means(judged.hidden, judged.corrupted_input_ids, batch)
        if judged.generator_logits is not None:
            means |= masked_lm_means("generator", judged.generator_logits, batch)
        if self.config.encoder_mlm_weight:
            rows = gather(judged.hidden, batch["masked_positions"])
            token_logits = self.model.encoder_token_logits(rows)
            means |= masked_lm_means("encoder_mlm", token_logits, batch)
            loss = self.corrective_loss(judged, batch)
            means["encoder_mlm_loss"] = (loss, counts["encoder_mlm_loss"])
        if self.config.contrastive_weight:
            loss = self.contrast(judged, batch, noise)
            means["contrastive_loss"] = (loss, counts["contrastive_loss"])
        loss = self.discriminator_loss(judged, batch)
        means["discriminator_loss"] = (loss, counts["discriminator_loss"])
        real = real_tokens(batch)
        seen = SeenText(judged.corrupted_input_ids, judged.scores)
        return ProbeOutput(means, judged.scores[real], judged.is_replaced[real], seen)


OBJECTIVE = ReplacedTokenDetection
