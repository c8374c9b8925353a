"""Drawing the generator's proposals and writing them into the text."""

from __future__ import annotations

import torch
from torch import Tensor

from electra.training.noise import Noise


def sample_tokens(logits: Tensor, *, temperature: float | Tensor, noise: Noise) -> Tensor:
    """One token a row from softmax(logits / temperature), without gradient: (..., V) -> (...).

    By inverse transform in float32: the first token at which the cumulated probability exceeds a
    uniform number. The reference takes the argmax of logits + Gumbel noise, which has the same
    distribution and needs V random numbers a row instead of one; on a CPU drawing those takes
    longer than the generator itself.
    """
    with torch.no_grad():
        scaled = logits.float() if temperature == 1 else logits.float() / temperature
        cumulated = scaled.softmax(-1).cumsum(-1)  # (..., V)
        uniform = noise.uniform(logits.shape[:-1], logits.device)
        threshold = uniform.unsqueeze(-1) * cumulated[..., -1:]  # the sum is 1 up to rounding
        found = torch.searchsorted(cumulated, threshold, right=True).squeeze(-1)
        return found.clamp_(max=logits.shape[-1] - 1)


def sample_fixed(
    frequencies: Tensor,
    *,
    never: Tensor | None,
    shape: torch.Size,
    noise: Noise,
) -> Tensor:
    """Tokens from one distribution for all places, (V,) -> `shape`.

    Args:
        frequencies: (V,) probabilities that sum to 1.
        never: of `shape`, the token that must not be drawn at each place; None: all may be.
        shape: of the result.
        noise: the only source of randomness.
    """
    cumulated = frequencies.double().cumsum(0)
    point = noise.uniform(shape, frequencies.device).double()
    point *= cumulated[-1]
    if never is not None:  # take the token's stretch out of the line and close the gap
        width = frequencies.double()[never]
        point *= 1 - width / cumulated[-1]
        point += torch.where(point >= cumulated[never] - width, width, 0.0)
    return torch.searchsorted(cumulated, point, right=True).clamp_(max=len(frequencies) - 1)


def corrupt(
    input_ids: Tensor, positions: Tensor, weights: Tensor, sampled_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Put the samples into the original text; say where it changed.

    Where a position comes more than once (`objective.duplicate_positions`) the floor of the mean
    of its samples is written, some arbitrary token: so does the reference code
    (pretrain_helpers.scatter_update).

    Args:
        input_ids: (B, L), unmasked.
        positions: (B, P).
        weights: (B, P), 0 for unused slots.
        sampled_ids: (B, P).

    Returns:
        corrupted_input_ids (B, L), and is_replaced (B, L) bool: false too where the sample equals
        the original (paper, section 2).
    """
    used = (weights > 0).to(sampled_ids.dtype)
    nothing = torch.zeros_like(input_ids)
    draws = nothing.scatter_add(1, positions, used)  # (B, L)
    totals = nothing.scatter_add(1, positions, sampled_ids * used)
    corrupted = torch.where(draws > 0, totals // draws.clamp(min=1), input_ids)
    return corrupted, corrupted != input_ids
