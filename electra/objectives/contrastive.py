"""Telling a text's second view from other texts: the loss, and ways to make a view.

Sequence contrastive learning, SCL (COCO-LM, Meng et al. 2021, section 3.2), an addition to replaced
token detection: for each text the encoder reads two views, the corrupted one and a cropped one that
keeps nine tenths of the tokens; their [CLS] vectors are to be nearer to each other than to those of
other texts of the batch:

    loss = -log  exp(cos(s, s+) / tau) / sum over s' of exp(cos(s, s') / tau)

with s' over both views of every text but s itself, and each view once as s. SimCSE (Gao et al.
2021, formula 4; `sentence_contrast.py`) has s of first views alone, and s' over the second views.
One batch's rows are each other's negatives, so the micro-batch decides how hard the task is.

B sequences, L tokens, H hidden size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from electra.corpus.tokenizer import SpecialIds
from electra.objectives.masking import choose_and_mask
from electra.objectives.objective import real_tokens
from electra.training.loop import Batch
from electra.training.noise import Noise

KEPT = 0.9
"""Share of the tokens that the crop keeps (COCO-LM, appendix A)."""
TAU = 1.0
"""Temperature of the cosines (same place)."""
_OF_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""What a view has for each token."""


def crop(batch: Batch, special: SpecialIds, noise: Noise, kept_share: float = KEPT) -> Batch:
    """[CLS] and a contiguous run of `kept_share` of each row's tokens: `input_ids`,
    `attention_mask` and, where the batch has them, `token_type_ids`, (B, ceil(kept_share L)).
    """
    input_ids = batch["input_ids"]
    rows, length = input_ids.shape
    real = batch.get("attention_mask")
    lengths = input_ids.new_full((rows,), length) if real is None else real.sum(1)  # (B,)
    kept = (lengths * kept_share).ceil().long().clamp(min=2)
    uniform = noise.uniform((rows,), input_ids.device)
    start = 1 + (uniform * (lengths - kept + 1)).long()  # of the run, after [CLS]
    slot = torch.arange(max(2, math.ceil(kept_share * length)), device=input_ids.device)
    index = (start.unsqueeze(1) + slot - 1).clamp(max=length - 1)
    index[:, 0] = 0
    return _taken(batch, index, slot < kept.unsqueeze(1), special)


def mask_some(
    batch: Batch, special: SpecialIds, noise: Noise, share: float, masking: str = "token"
) -> Batch:
    """The rows with `share` of their tokens shown as [MASK], at least one of each: as `crop`."""
    masked = choose_and_mask(
        batch["input_ids"],
        batch.get("attention_mask"),
        special,
        mask_prob=share,
        mask_token_prob=1.0,
        noise=noise,
        masking=masking,
        starts_word=batch.get("starts_word"),
    )
    view = {name: batch[name] for name in _OF_TOKENS if name in batch}
    return view | {"input_ids": masked.masked_input_ids}


def delete_some(
    batch: Batch, special: SpecialIds, noise: Noise, share: float, masking: str = "token"
) -> Batch:
    """The rows without `share` of their tokens, at least one of each, and no gaps: as `crop`, but
    of L columns. Special tokens stay.
    """
    input_ids = batch["input_ids"]
    masked = mask_some(batch, special, noise, share, masking)["input_ids"]
    left = (masked == input_ids) & real_tokens(batch)
    index = (~left).long().argsort(dim=1, stable=True)  # (B, L) those that stay, in their order
    return _taken(batch, index, left.gather(1, index), special)


def _taken(batch: Batch, index: Tensor, mask: Tensor, special: SpecialIds) -> Batch:
    """The tokens at `index`, padding where `mask` is false; both (B, columns)."""
    ids = batch["input_ids"].gather(1, index).masked_fill(~mask, special.pad)
    view = {"input_ids": ids, "attention_mask": mask.long()}
    if "token_type_ids" in batch:
        view["token_type_ids"] = batch["token_type_ids"].gather(1, index) * mask
    return view


def contrastive_loss(
    one: Tensor, other: Tensor, *, tau: float = TAU, within_views: bool = True
) -> Tensor:
    """InfoNCE of two views of texts, (B, H) and (B, H), summed over the texts.

    Args:
        one: the vectors of a view of each text.
        other: those of another view.
        tau: temperature of the cosines.
        within_views: whether texts of the same view count against a text, too, and each view is
            asked for the other, the mean of both (SCL); else the first view is asked for the second
            among second views alone (SimCSE).
    """
    rows = len(one)
    if not within_views:
        cosines = cosine_table(one, other) / tau
        partner = torch.arange(rows, device=one.device)
        return F.cross_entropy(cosines, partner, reduction="sum")
    views = torch.cat([one, other])  # (2B, H)
    cosines = cosine_table(views, views) / tau
    cosines.fill_diagonal_(float("-inf"))
    partner = torch.arange(2 * rows, device=one.device).roll(rows)
    return F.cross_entropy(cosines, partner, reduction="sum") / 2


def cosine_table(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of each row with each, (B, H) and (C, H) -> (B, C), in float32."""
    with torch.autocast(one.device.type, enabled=False):
        return F.normalize(one.float(), dim=-1) @ F.normalize(other.float(), dim=-1).T
