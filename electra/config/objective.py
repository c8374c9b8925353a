"""What is learned."""

from __future__ import annotations

import dataclasses
from typing import Literal

from electra.config.option import option, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is learned."""

    name: Literal["replaced_token_detection", "masked_lm"] = option(
        "replaced_token_detection", "the objective"
    )
    mask_prob: float = option(0.15, "share of the tokens that is chosen (paper, section 3.1)")
    mask_token_prob: float = option(
        0.85, "share of the chosen tokens shown as [MASK]; the rest stays as it is"
    )
    generator_weight: float = option(1.0, "weight of the generator's loss")
    discriminator_weight: float = option(50.0, "weight of the discriminator's loss (lambda)")
    temperature: float = option(1.0, "of the generator's samples")
    warm_start: float = option(
        0.0, "share of the budget in which the discriminator is trained as a masked LM first"
    )
    encoder_mlm_weight: float = option(
        0.0,
        "after the warm start, weight of predicting the original tokens from the "
        "discriminator's reading of the corrupted text (corrective head)",
    )

    def __post_init__(self) -> None:
        for name, top in (("mask_prob", 0.9), ("mask_token_prob", 1.0), ("warm_start", 1.0)):
            value = getattr(self, name)
            require(0 <= value <= top, "objective." + name.replace("_", "-"), value, f"[0, {top}]")
        require(self.mask_prob > 0, "objective.mask-prob", self.mask_prob, "above 0")
        require(self.temperature > 0, "objective.temperature", self.temperature, "above 0")
