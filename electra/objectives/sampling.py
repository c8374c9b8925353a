"""Drawing the generator's proposals and writing them into the text."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_tokens(logits: Tensor, *, temperature: float, generator: torch.Generator) -> Tensor:
    """One token a row by the Gumbel-max trick, in float32, without gradient: (..., V) -> (...).

    argmax(logits / T - log(-log U)) with U uniform draws from the softmax (Maddison et al. 2014).
    Here -log U is drawn as an exponential variable.
    """
    with torch.no_grad():
        exponential = torch.empty_like(logits, dtype=torch.float32)
        exponential.exponential_(generator=generator)
        return exponential.log_().neg_().add_(logits.float(), alpha=1 / temperature).argmax(-1)


def corrupt(
    input_ids: Tensor, positions: Tensor, weights: Tensor, sampled_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Put the samples into the original text; say where it changed.

    Args:
        input_ids: (B, L), unmasked.
        positions: (B, P) distinct where used.
        weights: (B, P), 0 for unused slots.
        sampled_ids: (B, P).

    Returns:
        corrupted_input_ids (B, L), and is_replaced (B, L) bool: false too where the sample equals
        the original (paper, section 2).
    """
    used = weights > 0
    kept = torch.where(used, sampled_ids, input_ids.gather(1, positions))
    corrupted = input_ids.scatter(1, positions, kept)
    return corrupted, corrupted != input_ids
