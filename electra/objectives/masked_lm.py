"""Masked language modelling on the encoder itself: the BERT baseline (Devlin et al. 2019).

loss = mean over the masked positions of -log p(original token | masked text)

Where a trained encoder gets a fresh head, the head can learn alone for a first share of the budget
(`head_share`), so that the gradients of a random head do not reach the encoder (LP-FT, Kumar et al.
2022, does so in fine-tuning).

Causal start: for a first share of the budget the encoder predicts the next token, each seeing what
stands before it (Gisserot-Boukhlef et al. 2026; early in a budget that goes further).

Cost: the encoder, and the vocabulary at the masked positions; in a causal start at all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import PretrainingModel, gather
from electra.objectives.masking import with_masks
from electra.objectives.objective import Networks, PretrainingObjective, ProbeOutput, real_tokens
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


class MaskedLM(PretrainingObjective):
    """Predicts the masked tokens with the encoder; only masked positions meet the vocabulary."""

    _causal = False
    _head_alone = False

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """A masked-LM head on the encoder."""
        return Networks(masked_lm=True)

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """One loss, and that of repetition."""
        name = "causal_lm_loss" if self._causal else "encoder_mlm_loss"
        return {name: 1.0, "repetition_loss": self.config.repetition_weight}

    def begin_step(self, progress: float) -> None:
        """Let the encoder learn, too, when the head's share of the budget is used; see both ways
        when that of the causal start is.
        """
        super().begin_step(progress)
        self._causal = progress < self.config.causal_start
        self._head_alone = progress < self.config.head_share

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Choose and hide tokens; P slots a sequence."""
        if self._causal:
            batch, counts = self.ask(batch, batch["input_ids"])
            return batch, counts | {"causal_lm_loss": real_tokens(batch)[:, 1:].sum()}
        special, share = self.model.special, self.mask_prob
        batch = with_masks(batch, special, self.config, noise, share, idle_slots=self.idle_slots)
        batch, counts = self.ask(batch, batch["masked_input_ids"])
        return batch, counts | {"encoder_mlm_loss": batch["masked_weights"].sum()}

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Cross-entropy summed over the masked positions."""
        if self._causal:
            return StepOutput(self.causal_losses(batch))
        read = batch["masked_input_ids"]
        hidden = self._read(read, batch)
        logits = masked_logits(self.model, hidden, batch, learns_table=not self._head_alone)
        losses = {"encoder_mlm_loss": masked_lm_loss(logits, batch)}
        return StepOutput(losses | self.repetition_losses(hidden, read, batch))

    def _read(self, ids: Tensor, batch: Batch) -> Tensor:
        """The encoder's reading, (B, L) -> (B, L, H), without gradient while the head is alone."""
        hidden = self.model.encoder_hidden(ids, batch)
        return hidden.detach() if self._head_alone else hidden

    def causal_losses(self, batch: Batch) -> dict[str, Tensor]:
        """-log p(token | the tokens before it), summed over real tokens but the first; repetition
        of a token before.
        """
        ids = batch["input_ids"]
        seen = {**batch, "causal": torch.ones((), device=ids.device)}
        hidden = self._read(ids, seen)
        rows, learns = hidden[:, :-1], not self._head_alone
        logits = self.model.encoder_token_logits(rows, learns_table=learns).flatten(0, 1).float()
        losses = F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
        loss = (losses * real_tokens(batch)[:, 1:].flatten()).sum()
        return {"causal_lm_loss": loss} | self.repetition_losses(hidden, ids, batch, before=True)

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Loss and accuracy on held-out text."""
        batch, counts = self.prepare(batch, noise)
        if self._causal:
            losses = self.causal_losses(batch)
            return ProbeOutput({name: (loss, counts[name]) for name, loss in losses.items()})
        read = batch["masked_input_ids"]
        hidden = self.model.encoder_hidden(read, batch)
        means = masked_lm_means("encoder_mlm", masked_logits(self.model, hidden, batch), batch)
        return ProbeOutput(means | self.repetition_means(hidden, read, batch))


OBJECTIVE = MaskedLM


def masked_logits(
    model: PretrainingModel, hidden: Tensor, batch: Batch, *, learns_table: bool = True
) -> Tensor:
    """Vocabulary logits of the encoder's head at the masked positions, (B, L, H) -> (B, P, V).

    Without `learns_table` no gradient reaches the table that is the encoder's embeddings, too.
    """
    rows = gather(hidden, batch["masked_positions"])  # (B, P, H)
    return model.encoder_token_logits(rows, learns_table=learns_table)


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
