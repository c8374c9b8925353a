"""Telling rows that are one text from rows joined of two, at every token.

Half of the rows keep their first part and get the rest of another row, each rest behind a [SEP] at
a random place. Every token says whether its row is such a one:

    loss = mean over real tokens of BCE(is_joined, head(hidden))

BERT's next sentence prediction (Devlin et al. 2019, section 3.1) asks [CLS] alone. What it needs is
what pairs of sentences need, to look from one text to the other, which single tokens hardly teach
in a small budget (docs/lab_log.md, "Two texts in a row").

B sequences, L tokens, H hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from electra.corpus.tokenizer import SpecialIds
from electra.training.loop import Batch
from electra.training.noise import Noise

JOINED_SHARE = 0.5
"""Of the rows; BERT's."""
SHORTEST, LONGEST = 0.25, 0.75
"""What share of a row its first part is."""


class SegmentHead(nn.Module):
    """(B, L, H) -> (B, L), the logit of the row being joined of two."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """One hidden layer, as the discriminator's head."""
        logits: Tensor = self.out(F.gelu(self.dense(hidden))).squeeze(-1)
        return logits

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Binary cross-entropy, summed over the real tokens of what `join_segments` made."""
        scores = self(hidden).float()
        truth = batch["is_joined"].float().unsqueeze(1).expand_as(scores)
        losses = F.binary_cross_entropy_with_logits(scores, truth, reduction="none")
        return (losses * batch["segment_weights"]).sum()

    def correct(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Tokens that are right."""
        said: Tensor = self(hidden) > 0  # (B, L)
        right = said == batch["is_joined"].unsqueeze(1)
        return (right * batch["segment_weights"]).sum()


def join_segments(batch: Batch, special: SpecialIds, noise: Noise) -> Batch:
    """The batch with rows of two parts; needs the rows' partners (`corpus.batches.as_batch`).

    Changes `input_ids` and, where there are any, `attention_mask` and `starts_word`; adds
    `is_joined` (B,) bool and `segment_weights` (B, L), 1 for real tokens. A partner that is too
    short to have a rest, or is the row itself, is not joined.
    """
    ids = batch["input_ids"]
    rows, length = ids.shape
    mask = batch.get("attention_mask", torch.ones_like(ids))
    other_mask = batch.get("partner_attention_mask", torch.ones_like(ids))
    uniform = noise.uniform((rows, 2), ids.device)
    share = SHORTEST + (LONGEST - SHORTEST) * uniform[:, 1]
    at = (mask.sum(1) * share).long().clamp(min=1)  # (B,) the column of the [SEP] between
    is_joined = (uniform[:, 0] < JOINED_SHARE) & batch["has_partner"]
    is_joined &= other_mask.sum(1) > at + 1
    column = torch.arange(length, device=ids.device)
    between = column == at.unsqueeze(1)
    taken = (column > at.unsqueeze(1)) & is_joined.unsqueeze(1)  # (B, L)
    mixed = torch.where(taken, batch["partner_input_ids"], ids)
    joined = {**batch, "input_ids": mixed.masked_fill(between, special.sep)}
    mask = torch.where(taken, other_mask, mask)
    if "attention_mask" in batch:
        joined["attention_mask"] = mask
    if "starts_word" in batch:
        starts = torch.where(taken, batch["partner_starts_word"], batch["starts_word"])
        joined["starts_word"] = starts | between
    return joined | {"is_joined": is_joined, "segment_weights": mask.float()}
