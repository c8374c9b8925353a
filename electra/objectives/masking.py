"""Which tokens are chosen, and what the generator sees in their place.

B sequences, L tokens, P slots for chosen positions in a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from electra.config import ObjectiveConfig
from electra.corpus.tokenizer import SpecialIds
from electra.objectives.choice import (
    choose_spans,
    choose_tokens,
    choose_with_repeats,
    choose_words,
)
from electra.objectives.objective import maskable
from electra.training.loop import Batch
from electra.training.noise import Noise


@dataclass(frozen=True)
class Masked:
    """A batch with chosen positions; unused slots have position 0 and weight 0."""

    masked_input_ids: Tensor
    """(B, L) what the generator reads."""
    masked_positions: Tensor
    """(B, P) int64; distinct in the used slots unless repeats were asked for."""
    masked_weights: Tensor
    """(B, P) float, 1 for a used slot."""
    original_ids: Tensor
    """(B, P) the tokens that were there."""


def max_masked(max_length: int, mask_prob: float) -> int:
    """P, the slots of a sequence: int((p + 0.005) L), as in the reference (configure_pretraining).

    19 at length 128 and 79 at 512 with 15 %.
    """
    return max(1, int((mask_prob + 0.005) * max_length))


def mask_slots(max_length: int, config: ObjectiveConfig) -> int:
    """P of a recipe, that of the largest share it comes to: shapes need not change."""
    return max_masked(max_length, max(config.mask_prob, config.mask_prob_end or 0.0))


def choose_and_mask(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    special: SpecialIds,
    *,
    mask_prob: float | Tensor,
    mask_token_prob: float,
    noise: Noise,
    masking: str = "token",
    duplicate_positions: bool = False,
    starts_word: Tensor | None = None,
    slots: int | None = None,
) -> Masked:
    """Choose round(p n) of the n real tokens of each row, at least 1, at most P, without repeats.

    [CLS] and [SEP] count in n though they are never chosen (paper's code, pretrain_helpers.mask).
    There the draws are with replacement; here a position is drawn once unless
    `duplicate_positions`. Of the chosen positions a share `mask_token_prob` becomes [MASK], the
    rest is shown as it is; none is random. That is decided for each token apart, of words too (as
    BERT's whole-word masking does), and once for all of a span (as SpanBERT does).

    Args:
        input_ids: (B, L).
        attention_mask: (B, L), or None where nothing is padded.
        special: ids of the special tokens.
        mask_prob: p, share of the tokens chosen.
        mask_token_prob: share of the chosen shown as [MASK].
        noise: the only source of randomness.
        masking: `token`, `whole_word` or `span`: what is chosen together (`choice.py`). The latter
            two choose fewer than round(p n) where no word is short enough for the rest of it, and
            more where even the shortest word is longer.
        duplicate_positions: draw tokens with replacement, as the reference code does; the slots
            keep the repeats, so that their losses count as often. A position is shown as [MASK] if
            one of its draws says so.
        starts_word: (B, L) bool, whether a token begins a word; not needed for tokens.
        slots: P; none: `max_masked`.
    """
    rows, length = input_ids.shape
    slots = max_masked(length, float(mask_prob)) if slots is None else slots
    candidates = maskable(input_ids, special)  # (B, L)
    if attention_mask is None:
        num_tokens = torch.full((rows,), length, device=input_ids.device)
    else:
        candidates &= attention_mask.bool()
        num_tokens = attention_mask.sum(1)  # (B,)
    wanted = (num_tokens * mask_prob).round().clamp(1, slots).long()
    if masking == "token":
        choose = choose_with_repeats if duplicate_positions else choose_tokens
        choice = choose(candidates, wanted, slots, noise)
    else:
        assert starts_word is not None, "words are chosen by the batch's starts_word"
        choose_together = {"whole_word": choose_words, "span": choose_spans}[masking]
        choice = choose_together(candidates, wanted, slots, noise, starts_word=starts_word)
    shown = noise.uniform((rows, slots), input_ids.device) < mask_token_prob
    if choice.together is not None:
        shown = shown.gather(1, choice.together)
    return apply_masks(input_ids, choice.positions, choice.used, shown, special)


def apply_masks(
    input_ids: Tensor, positions: Tensor, used: Tensor, shown: Tensor, special: SpecialIds
) -> Masked:
    """The batch with `[MASK]` at the used positions that are to be `shown` so; all (B, P)."""
    original_ids = input_ids.gather(1, positions)  # (B, P)
    # counted, since a position may come more than once; unused slots count nothing for position 0
    hide = torch.zeros_like(input_ids).scatter_add(1, positions, (used & shown).to(input_ids.dtype))
    return Masked(
        masked_input_ids=input_ids.masked_fill(hide > 0, special.mask),
        masked_positions=positions,
        masked_weights=used.float(),
        original_ids=original_ids,
    )


def with_masks(
    batch: Batch,
    special: SpecialIds,
    config: ObjectiveConfig,
    noise: Noise,
    mask_prob: float | Tensor | None = None,
    *,
    idle_slots: bool = True,
) -> Batch:
    """The batch and the fields of `Masked`, as the recipe's section asks for.

    `mask_prob` is the share of now, where the recipe has a schedule for it. A share that falls
    leaves slots idle, which meet the vocabulary for nothing: without `idle_slots` P is what the
    fullest row uses, on a CPU, since elsewhere to learn that waits for the device.
    """
    masked = choose_and_mask(
        batch["input_ids"],
        batch.get("attention_mask"),
        special,
        mask_prob=config.mask_prob if mask_prob is None else mask_prob,
        mask_token_prob=config.mask_token_prob,
        noise=noise,
        masking=config.masking,
        duplicate_positions=config.duplicate_positions,
        starts_word=batch.get("starts_word"),
        slots=mask_slots(batch["input_ids"].shape[1], config),
    )
    fields = dict(vars(masked))
    if not idle_slots and batch["input_ids"].device.type == "cpu":
        used = max(1, int((masked.masked_weights > 0).any(0).sum()))
        slots = ("masked_positions", "masked_weights", "original_ids")
        fields |= {name: fields[name][:, :used] for name in slots}
    return {**batch, **fields}
