"""ELECTRA 15 % (Clark et al. 2020, section 3.4): the discriminator's loss on chosen tokens alone.

    loss = generator_weight     * mean over masked positions of -log p_G(original token)
         + discriminator_weight * mean over masked positions of BCE(is_replaced, D(corrupted text))

An ablation: what is left of the gain when the binary task is not learned from every token.

Cost: that of replaced token detection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from electra.objectives.replaced_token_detection import ReplacedTokenDetection
from electra.training.loop import Batch


class Electra15Percent(ReplacedTokenDetection):
    """Replaced token detection that learns from the masked positions alone."""

    def judged_tokens(self, batch: Batch) -> Tensor:
        """(B, L) bool: the chosen tokens."""
        chosen = torch.zeros_like(batch["input_ids"], dtype=batch["masked_weights"].dtype)
        # unused slots add 0 to position 0
        chosen.scatter_add_(1, batch["masked_positions"], batch["masked_weights"])
        return chosen > 0


OBJECTIVE = Electra15Percent
