"""One vector of a text from the states of its tokens."""

from __future__ import annotations

from torch import Tensor


def mean_pooled(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Mean over the tokens that are not padding, (B, L, H) and (B, L) -> (B, H); None: all are.

    [CLS] and [SEP] count, as in Sentence-BERT (Reimers and Gurevych 2019), in SimCSE's `avg` pooler
    and in ModernBERT's `classifier_pooling="mean"`.
    """
    if attention_mask is None:
        return hidden.mean(1)
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, L, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
