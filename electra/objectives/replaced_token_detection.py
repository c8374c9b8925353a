"""Replaced token detection (Clark et al. 2020): the generator proposes, the discriminator judges.

    loss = generator_weight     * mean over masked positions of -log p_G(original token)
         + discriminator_weight * mean over real tokens of BCE(is_replaced, D(corrupted text))

The generator reads the masked text; one token is drawn from it for each masked position, without
gradient, and put into the unmasked original; the discriminator reads that and says of every real
token, special ones too, whether it was replaced. A sample equal to the original is original.

Two additions, both off in the classic recipes. Warm start: for a first share of the budget the
encoder is trained as a masked LM, then its first layers and head become the generator. Corrective
head (COCO-LM, Meng et al. 2021, in its plain form): the encoder also predicts the original tokens
at the masked positions from the corrupted text, which keeps lexical knowledge in it.

B sequences, L tokens, P masked positions, V vocabulary, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import PretrainingModel, gather
from electra.objectives.masked_lm import masked_lm_loss, masked_lm_means, with_masks
from electra.objectives.probe_output import ProbeOutput
from electra.objectives.sampling import corrupt, sample_tokens
from electra.training.loop import Batch, StepOutput


class ReplacedTokenDetection(nn.Module):
    """Generator and discriminator, trained jointly; not a GAN, the generator learns by MLM."""

    warm: Tensor

    def __init__(self, model: PretrainingModel, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        # in the checkpoint, so that a resumed run hands over once
        self.register_buffer("warm", torch.tensor(config.warm_start > 0))
        self._warm = config.warm_start > 0

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Weights of the losses that `forward` returns in this stage."""
        if self._warm:
            return {"encoder_mlm_loss": 1.0}
        return {
            "generator_loss": self.config.generator_weight,
            "discriminator_loss": self.config.discriminator_weight,
            "encoder_mlm_loss": self.config.encoder_mlm_weight,
        }

    def begin_step(self, progress: float) -> None:
        """End the warm start when its share of the budget is used."""
        self._warm = bool(self.warm)
        if self._warm and progress >= self.config.warm_start:
            self.model.start_generator_from_encoder()
            self.warm.fill_(False)
            self._warm = False

    def prepare(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, dict[str, Tensor]]:
        """Choose and hide tokens; count the targets of each loss."""
        batch = with_masks(batch, self.model, self.config, generator)
        num_masked = batch["masked_weights"].sum()
        if self._warm:
            return batch, {"encoder_mlm_loss": num_masked}
        mask = batch.get("attention_mask")
        num_tokens = mask.sum() if mask is not None else torch.tensor(batch["input_ids"].numel())
        counts = {"generator_loss": num_masked, "discriminator_loss": num_tokens}
        if self.config.encoder_mlm_weight:
            counts["encoder_mlm_loss"] = num_masked
        return batch, {name: count.to(num_masked.device) for name, count in counts.items()}

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Losses summed over their targets."""
        mask, positions = batch.get("attention_mask"), batch["masked_positions"]
        if self._warm:
            hidden = self.model.encoder_hidden(batch["masked_input_ids"], batch)
            logits = self.model.encoder_token_logits(gather(hidden, positions))
            return StepOutput({"encoder_mlm_loss": masked_lm_loss(logits, batch)})
        generator_logits = self.model.generator_logits(
            batch["masked_input_ids"], batch, positions
        )  # (B, P, V)
        output = StepOutput({"generator_loss": masked_lm_loss(generator_logits, batch)})
        corrupted, is_replaced = self.corrupt(batch, generator_logits, generator)  # (B, L)
        hidden = self.model.encoder_hidden(corrupted, batch)  # (B, L, H)
        logits = self.model.replaced_logits(hidden).float()  # (B, L)
        losses = F.binary_cross_entropy_with_logits(logits, is_replaced.float(), reduction="none")
        weights = torch.ones_like(losses) if mask is None else mask.to(losses.dtype)
        output.losses["discriminator_loss"] = (losses * weights).sum()
        output.metrics["replaced_share"] = (is_replaced.sum(), weights.sum())
        if self.config.encoder_mlm_weight:
            token_logits = self.model.encoder_token_logits(gather(hidden, positions))
            output.losses["encoder_mlm_loss"] = masked_lm_loss(token_logits, batch)
        return output

    def corrupt(
        self, batch: Batch, generator_logits: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sample a token for each masked position: corrupted_input_ids and is_replaced, (B, L)."""
        sampled_ids = sample_tokens(
            generator_logits, temperature=self.config.temperature, generator=generator
        )  # (B, P)
        return corrupt(
            batch["input_ids"], batch["masked_positions"], batch["masked_weights"], sampled_ids
        )

    @torch.no_grad()
    def probe(self, batch: Batch, generator: torch.Generator) -> ProbeOutput:
        """Losses, accuracies and the discriminator's scores on held-out text."""
        batch, counts = self.prepare(batch, generator)
        mask, positions = batch.get("attention_mask"), batch["masked_positions"]
        if self._warm:
            hidden = self.model.encoder_hidden(batch["masked_input_ids"], batch)
            logits = self.model.encoder_token_logits(gather(hidden, positions))
            return ProbeOutput(masked_lm_means("encoder_mlm", logits, batch))
        generator_logits = self.model.generator_logits(batch["masked_input_ids"], batch, positions)
        means = masked_lm_means("generator", generator_logits, batch)
        corrupted, is_replaced = self.corrupt(batch, generator_logits, generator)
        hidden = self.model.encoder_hidden(corrupted, batch)
        if self.config.encoder_mlm_weight:
            token_logits = self.model.encoder_token_logits(gather(hidden, positions))
            means |= masked_lm_means("encoder_mlm", token_logits, batch)
        real = torch.ones_like(is_replaced) if mask is None else mask.bool()
        scores, truth = self.model.replaced_logits(hidden).float()[real], is_replaced[real]
        loss = F.binary_cross_entropy_with_logits(scores, truth.float(), reduction="sum")
        means["discriminator_loss"] = (loss, counts["discriminator_loss"])
        return ProbeOutput(means, scores, truth)
