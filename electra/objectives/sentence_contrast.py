"""Sentence contrast: a short phase after pretraining that makes vectors of sentences comparable.

Unsupervised SimCSE (Gao et al., EMNLP 2021, section 3), with the mean of all tokens' states:

    loss =                      mean over texts of
                                -log exp(cos(h, h+) / tau) / sum over h' of exp(cos(h, h') / tau)
         + encoder_mlm_weight * mean over masked positions of -log p(original token | masked text)

h is the mean of the last states of a text's first view, h+ of its second, h' of the second views of
all texts of the forward pass. Views differ by independent dropout where the encoder has any, as
published; our networks are trained without, and then each view is a run of three tenths of the
tokens, as in Contriever (Izacard et al. 2022): views that share most of their words are told from
other texts by those alone, and nothing is learned (docs/lab_log.md).

Cost: the encoder twice, a third time with the masked-LM term, which also meets the vocabulary at
the masked positions.

B sequences, L tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from electra.config import ObjectiveConfig
from electra.model.pooling import mean_pooled
from electra.model.pretraining_model import PretrainingModel
from electra.objectives.contrastive import (
    contrastive_loss,
    cosine_table,
    crop,
    delete_some,
    mask_some,
)
from electra.objectives.masked_lm import masked_lm_loss, masked_lm_means, masked_logits
from electra.objectives.masking import with_masks
from electra.objectives.objective import Networks, PretrainingObjective, ProbeOutput
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise

_DROPOUT = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("embedding_dropout", "mlp_dropout", "attention_dropout"),
)
"""Fields of configurations of transformers."""


class SentenceContrast(PretrainingObjective):
    """Draws two views of a text together and those of different texts apart."""

    def __init__(
        self,
        model: PretrainingModel,
        config: ObjectiveConfig,
        *,
        token_counts: Tensor | None = None,
    ) -> None:
        super().__init__(model, config, token_counts=token_counts)
        self._views: str = config.views
        if config.views == "auto":
            drops = any(getattr(model.encoder.config, name, None) for name in _DROPOUT)
            self._views = "dropout" if drops else "crop"

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """A masked-LM head on the encoder; without its term it gets no gradient."""
        return Networks(masked_lm=True)

    @property
    def keeps_masked_lm(self) -> bool:
        """Where the head was trained."""
        return self.config.encoder_mlm_weight > 0

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """The contrast counts once."""
        return {"contrastive_loss": 1.0, "encoder_mlm_loss": self.config.encoder_mlm_weight}

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Count the texts; with the masked-LM term choose and hide tokens."""
        ids = batch["input_ids"]
        counts = {"contrastive_loss": torch.full((), len(ids), device=ids.device)}
        if self.config.encoder_mlm_weight:
            batch = with_masks(batch, self.model.special, self.config, noise, self.mask_prob)
            counts["encoder_mlm_loss"] = batch["masked_weights"].sum()
        return batch, counts

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Losses summed over texts and over masked positions."""
        output = StepOutput({"contrastive_loss": self.contrast(*self.vectors(batch, noise))})
        if self.config.encoder_mlm_weight:
            logits = masked_logits(
                self.model, self.model.encoder_hidden(batch["masked_input_ids"], batch), batch
            )
            output.losses["encoder_mlm_loss"] = masked_lm_loss(logits, batch)
        return output

    def contrast(self, one: Tensor, other: Tensor) -> Tensor:
        """SimCSE's loss, from (B, H) and (B, H)."""
        tau = self.config.contrastive_temperature
        return contrastive_loss(one, other, tau=tau, within_views=False)

    def vectors(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """The mean state of each text's two views, (B, H) and (B, H), in one pass."""
        views = [self.view(batch, noise) for _ in range(2)]
        both = {name: torch.cat([view[name] for view in views]) for name in views[0]}  # (2B, L)
        hidden = self.model.encoder_hidden(both["input_ids"], both)  # (2B, L, H)
        one, other = mean_pooled(hidden, both.get("attention_mask")).chunk(2)
        return one, other

    def view(self, batch: Batch, noise: Noise) -> Batch:
        """What the encoder reads of each text, each time another. Without dropout, as in
        evaluation, a crop stands in for it: views would be equal.
        """
        special, share, masking = self.model.special, self.config.view_share, self.config.masking
        if self._views == "deletion":
            return delete_some(batch, special, noise, share, masking)
        if self._views == "masking":
            return mask_some(batch, special, noise, share, masking)
        if self._views == "crop" or not self.training:
            return crop(batch, special, noise, 1 - share)
        wanted = ("input_ids", "attention_mask", "token_type_ids")
        return {name: batch[name] for name in wanted if name in batch}

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Losses on held-out text; the share of texts whose own second view is the nearest of the
        batch, and the mean cosine of different texts (`anisotropy`).
        """
        batch, counts = self.prepare(batch, noise)
        one, other = self.vectors(batch, noise)
        cosines = cosine_table(one, other)
        rows = len(cosines)
        nearest = cosines.argmax(1) == torch.arange(rows, device=cosines.device)
        means: dict[str, tuple[Tensor, Tensor | float]] = {
            "contrastive_loss": (self.contrast(one, other), counts["contrastive_loss"]),
            "contrastive_accuracy": (nearest.sum(), rows),
            "anisotropy": (cosines.sum() - cosines.diagonal().sum(), rows * (rows - 1)),
        }
        if self.config.encoder_mlm_weight:
            logits = masked_logits(
                self.model, self.model.encoder_hidden(batch["masked_input_ids"], batch), batch
            )
            means |= masked_lm_means("encoder_mlm", logits, batch)
        return ProbeOutput(means)


OBJECTIVE = SentenceContrast
