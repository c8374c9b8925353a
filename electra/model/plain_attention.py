"""Attention as plain matrix products with bit dropout: the fastest way to train on a CPU.

Registered with transformers' attention interface, so a saved folder knows nothing of it. The fused
kernel of a CPU has no dropout, and its backward pass is slower at short lengths
(docs/lab_log.md); transformers' own plain attention spends most of its time on
drawing dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.modernbert.modeling_modernbert import ModernBertAttention

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
    weights = scores.softmax(-1)  # in float32 inside, whatever the scores are
    weights = bit_dropout(weights, dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class RotaryHeads(torch.autograd.Function):
    """(B, L, 3 A D) -> queries, keys and values (B, A, L, D), the first two rotated."""

    @staticmethod
    def forward(
        ctx: Any, fused: Tensor, cos: Tensor, sin: Tensor, heads: int
    ) -> tuple[Tensor, ...]:
        """Angles (1 or B, L, D), both halves of D alike."""
        batch, length, _ = fused.shape
        split = fused.view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        half = split.shape[-1] // 2
        cos, sin = (angle[:, None, :, :half] for angle in (cos, sin))  # (1 or B, 1, L, D / 2)
        _rotate(split[:2], cos, sin, into=split[:2])
        ctx.save_for_backward(cos, sin)
        return split[0], split[1], split[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Turned back by the same angles."""
        cos, sin = ctx.saved_tensors
        batch, heads, length, width = gradients[0].shape
        fused = gradients[0].new_empty(batch, length, 3, heads, width)
        split = fused.permute(2, 0, 3, 1, 4)
        for gradient, into in zip(gradients[:2], split[:2], strict=True):
            _rotate(gradient, cos, -sin, into=into)
        split[2] = gradients[2]
        return fused.flatten(2), None, None, None


def _rotate(states: Tensor, cos: Tensor, sin: Tensor, *, into: Tensor) -> None:
    """Each pair of components, one of either half, by its angle, in float32 as transformers."""
    half = states.shape[-1] // 2
    wide = states.float()
    first, second = wide[..., :half], wide[..., half:]
    turned = torch.addcmul(first * cos, second, sin, value=-1)
    into[..., half:] = torch.addcmul(second * cos, first, sin)
    into[..., :half] = turned


class RotaryHeadsAttention(ModernBertAttention):
    """ModernBERT's, its heads cut out and rotated in one operation.

    transformers does it in a dozen, whose backward passes fill and add up as many buffers: a tenth
    of a step of `tiny`. Weights and results are the same.
    """

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        **more: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, L, H) -> (B, L, H), and the weights (B, A, L, L)."""
        assert position_embeddings is not None
        fused, (cos, sin) = self.Wqkv(hidden_states), position_embeddings
        query, key, value = RotaryHeads.apply(  # type: ignore[no-untyped-call]
            fused, cos, sin, self.config.num_attention_heads
        )
        dropout = self.attention_dropout if self.training else 0.0
        attended, weights = attend(self, query, key, value, attention_mask, dropout=dropout)
        return self.out_drop(self.Wo(attended.flatten(2))), weights


def use_attention(network: Any, name: str) -> None:
    """Choose the kernel of a network of transformers; `eager` where its code has only its own."""
    network.set_attn_implementation(name if network._supports_attention_backend else "eager")
    for module in network.modules():
        if isinstance(module, ModernBertAttention):
            module.__class__ = RotaryHeadsAttention if name == NAME else ModernBertAttention


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)
