"""Attention as plain matrix products with bit dropout: the fastest way to train on a CPU.

Registered with transformers' attention interface, so no network is changed and a saved folder
knows nothing of it. The fused kernel of a CPU has no dropout, and its backward pass is slower at
short lengths (docs/lab_log.md); transformers' own plain attention spends most of its time on
drawing dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from electra.model.dropout import bit_dropout

NAME = "plain_attention"
"""Of the kernel in transformers' attention interface."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, Tensor]:
    """softmax(query key^T scaling + mask) value, with A heads.

    Args:
        module: the layer.
        query: (B, A, L, H / A), as key and value.
        key: as the query.
        value: as the query.
        attention_mask: added to the scores, (B, 1, L, L); None: all is seen.
        scaling: of the scores; none: one over the root of H / A.
        dropout: share of the weights that is dropped in training.
        more: what other kernels take.

    Returns:
        (B, L, A, H / A), and the weights (B, A, L, L).
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    weights = bit_dropout(weights, dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def use_attention(network: Any, name: str) -> None:
    """Choose the kernel of a network of transformers; `eager` where its code has only its own."""
    network.set_attn_implementation(name if network._supports_attention_backend else "eager")


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)
