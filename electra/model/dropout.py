"""Dropout from 16 random bits an element: on a CPU torch's own takes a quarter of a small step.

torch draws for each element by itself on one core, and keeps a float for it. Here a word of the
generator's decides on four elements, and a byte each is kept for the backward pass. The share
dropped is p up to 2**-17. On other devices, and where nothing is trained, it is torch's own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 2**16


def use_bit_dropout(module: nn.Module) -> None:
    """Make every `nn.Dropout` in the module a `BitDropout`."""
    for part in module.modules():
        if type(part) is nn.Dropout:
            part.__class__ = BitDropout


class BitDropout(nn.Dropout):
    """`nn.Dropout` by `bit_dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Some elements zero, the others over the share that is kept; any shape."""
        return bit_dropout(input, self.p, self.training)


def bit_dropout(input: Tensor, p: float, training: bool) -> Tensor:
    """`torch.nn.functional.dropout`, from torch's random state as it is."""
    dropped = round(p * _LEVELS)
    if input.device.type != "cpu" or not training or dropped in (0, _LEVELS):
        return F.dropout(input, p, training)
    result: Tensor = _Dropout.apply(input, dropped)  # type: ignore[no-untyped-call]
    return result


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, dropped: int) -> Tensor:
        words = torch.empty(math.ceil(input.numel() / 4), dtype=torch.int64)
        bits = words.random_(-(2**63), None).view(torch.int16)[: input.numel()]
        kept = (bits >= dropped - _LEVELS // 2).view(input.shape)
        ctx.save_for_backward(kept)
        ctx.scale = _LEVELS / (_LEVELS - dropped)
        return (input * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * kept).mul_(ctx.scale), None
