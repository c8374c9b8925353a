"""Two stages instead of joint training (Clark et al. 2020, section 3.2, "Training Algorithms").

    stage one: loss = generator_weight     * mean over masked positions of -log p_G(original token)
    stage two: loss = discriminator_weight * mean over real tokens of BCE(is_replaced, D(corrupted))

For `generator_share` of the budget the generator alone is trained. Then the discriminator's body
starts with the generator's weights (`start_from_generator`; its head is fresh) and is trained
alone, on text corrupted by the generator, which is frozen. The paper takes as many steps for one
as for the other, found that this does not outscore joint training, and that without the
generator's weights the discriminator sometimes never leaves the majority class.

The paper does not say whether the networks share their embeddings here. If they did, the second
stage would move the generator, so nothing may be shared (`model.weight_sharing none`). There is one
learning-rate schedule for both stages, and both networks keep their dropout, as in joint training;
on both the paper is silent.

Cost: stage one, the generator alone; stage two, the discriminator and the generator's forward pass.
The generator has to be as large as the discriminator to hand its weights over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import PretrainingModel
from electra.objectives.masked_lm import masked_lm_loss, masked_lm_means
from electra.objectives.objective import Networks, ProbeOutput, count_real
from electra.objectives.replaced_token_detection import ReplacedTokenDetection
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


class TwoStage(ReplacedTokenDetection):
    """The generator first, then the discriminator against the frozen generator."""

    first_stage: Tensor

    def __init__(
        self,
        model: PretrainingModel,
        config: ObjectiveConfig,
        *,
        token_counts: Tensor | None = None,
    ) -> None:
        super().__init__(model, config, token_counts=token_counts)
        # in the checkpoint, so that a resumed run hands over once
        self.register_buffer("first_stage", torch.tensor(True))
        self._first_stage = True

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """Both."""
        return Networks(discriminator=True, generator=True)

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """The one loss of this stage."""
        if self._first_stage:
            return {"generator_loss": self.config.generator_weight}
        return {"discriminator_loss": self.config.discriminator_weight}

    @property
    def generator_config(self) -> Any:
        """None where the discriminator starts from it: it has to be as large then."""
        return None if self.config.start_from_generator else super().generator_config

    def begin_step(self, progress: float) -> None:
        """Hand over when the generator's share of the budget is used."""
        super().begin_step(progress)
        self._first_stage = self.flag("first_stage")
        if self._first_stage and progress >= self.config.generator_share:
            if self.config.start_from_generator:
                start_encoder_from_generator(self.model)
            self.first_stage.fill_(False)
            self._first_stage = False

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Targets of this stage's loss."""
        if self._first_stage:
            return {"generator_loss": batch["masked_weights"].sum()}
        return {"discriminator_loss": self.judged_tokens(batch).sum()}

    def generator_logits(self, batch: Batch) -> Tensor | None:
        """As always; without gradient in the second stage."""
        with torch.set_grad_enabled(self._first_stage and torch.is_grad_enabled()):
            return super().generator_logits(batch)

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """This stage's loss, summed over its targets."""
        if self._first_stage:
            logits = self.generator_logits(batch)
            assert logits is not None, "a network proposes"
            return StepOutput({"generator_loss": masked_lm_loss(logits, batch)})
        judged = self.judge(batch, noise)
        output = StepOutput({"discriminator_loss": self.discriminator_loss(judged, batch)})
        output.metrics["replaced_share"] = (judged.is_replaced.sum(), count_real(batch))
        return output

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """The generator's loss and accuracy; in the second stage the discriminator's too."""
        if not self._first_stage:
            return super().probe(batch, noise)
        batch, _ = self.prepare(batch, noise)
        logits = self.generator_logits(batch)
        assert logits is not None, "a network proposes"
        return ProbeOutput(masked_lm_means("generator", logits, batch))


@torch.no_grad()
def start_encoder_from_generator(model: PretrainingModel) -> None:
    """Copy the generator's body, embeddings included, into the encoder; shapes must be equal."""
    source = model.generator.base_model.state_dict()
    for name, tensor in model.encoder.state_dict().items():
        assert source[name].shape == tensor.shape, f"{name} differs in shape"
        tensor.copy_(source[name])


OBJECTIVE = TwoStage
