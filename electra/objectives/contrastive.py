"""Sequence contrastive learning, SCL (COCO-LM, Meng et al. 2021, section 3.2).

For each text the encoder reads two views, the corrupted one and a cropped one that keeps nine
tenths of the tokens; their [CLS] vectors are to be nearer to each other than to those of other
texts of the batch:

    loss = -log  exp(cos(s, s+) / tau) / sum over s' of exp(cos(s, s') / tau)

with s' over both views of every text but s itself, and each view once as s. One batch's rows are
each other's negatives, so the micro-batch decides how hard the task is.

B sequences, L tokens, H hidden size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from electra.corpus.tokenizer import SpecialIds
from electra.training.loop import Batch
from electra.training.noise import Noise

KEPT = 0.9
"""Share of the tokens that the crop keeps (COCO-LM, appendix A)."""
TAU = 1.0
"""Temperature of the cosines (same place)."""


def crop(batch: Batch, special: SpecialIds, noise: Noise) -> Batch:
    """[CLS] and a contiguous run of nine tenths of each row's tokens: `input_ids`, `attention_mask`
    and, where the batch has them, `token_type_ids`, (B, ceil(0.9 L)).
    """
    input_ids = batch["input_ids"]
    rows, length = input_ids.shape
    real = batch.get("attention_mask")
    lengths = input_ids.new_full((rows,), length) if real is None else real.sum(1)  # (B,)
    kept = (lengths * KEPT).ceil().long().clamp(min=2)
    uniform = noise.uniform((rows,), input_ids.device)
    start = 1 + (uniform * (lengths - kept + 1)).long()  # of the run, after [CLS]
    slot = torch.arange(math.ceil(KEPT * length), device=input_ids.device)
    index = (start.unsqueeze(1) + slot - 1).clamp(max=length - 1)
    index[:, 0] = 0
    mask = slot < kept.unsqueeze(1)
    cropped = input_ids.gather(1, index).masked_fill(~mask, special.pad)
    view = {"input_ids": cropped, "attention_mask": mask.long()}
    if "token_type_ids" in batch:
        view["token_type_ids"] = batch["token_type_ids"].gather(1, index) * mask
    return view


def contrastive_loss(one: Tensor, other: Tensor) -> Tensor:
    """InfoNCE over both views, (B, H) and (B, H), summed over texts and averaged over views."""
    with torch.autocast(one.device.type, enabled=False):
        views = F.normalize(torch.cat([one, other]).float(), dim=-1)  # (2B, H)
        cosines = views @ views.T / TAU
    cosines.fill_diagonal_(float("-inf"))
    rows = len(one)
    partner = torch.arange(2 * rows, device=one.device).roll(rows)
    return F.cross_entropy(cosines, partner, reduction="sum") / 2
