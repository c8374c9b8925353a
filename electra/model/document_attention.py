"""Attention that stays inside each document of a packed row.

A batch says where documents begin, `document_starts` (B, D) (`corpus.examples`). On a GPU that
becomes the cumulative lengths of torch's variable-length attention, which reads no other document
and builds no mask; the kernel is registered with transformers' attention interface, so no network
is changed, and a saved folder knows nothing of it. Everywhere else the same attention comes from a
mask of blocks. The number of lengths is B D + 1 whatever the rows hold, the surplus being documents
of no tokens: shapes stay, as compiled steps want it.

B sequences, L tokens, D documents at most in a sequence, H hidden size, A heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from electra.model import plain_attention

NAME = "document_attention"
"""Of the kernel in transformers' attention interface."""


def kernel_for(device: torch.device, otherwise: str, *, dropout: float) -> str:
    """The attention kernel for rows of documents; `otherwise` where the registered one cannot be.

    Args:
        device: where to train; the kernel is for GPUs.
        otherwise: the kernel for rows without documents, which is given a mask.
        dropout: of attention weights, which the kernel cannot have.
    """
    return NAME if device.type == "cuda" and not dropout else otherwise


def document_ids(starts: Tensor, length: int) -> Tensor:
    """Number of the document in its row of each token, (B, D) -> (B, L)."""
    place = torch.arange(length, device=starts.device)
    return (place >= starts.unsqueeze(-1)).sum(1) - 1


def restarted_positions(starts: Tensor, length: int) -> Tensor:
    """Positions that begin anew in each document, (B, D) -> (B, L): 0 is the [CLS]'s.

    Only the first document of a row has one; the others count from 1, as their words would behind
    theirs.
    """
    begin = starts.gather(1, document_ids(starts, length))  # (B, L)
    return torch.arange(length, device=starts.device) - begin + (begin > 0)


def cumulative_lengths(starts: Tensor, length: int) -> Tensor:
    """Where each document begins in the tokens of all rows, and the end.

    (B, D) -> (B D + 1,) int32. What stands for no document is the beginning of the next row.
    """
    rows = len(starts)
    first = torch.arange(rows, device=starts.device).unsqueeze(1) * length
    return F.pad((starts + first).flatten(), (0, 1), value=rows * length).int()


def within_documents(encoder: Any, starts: Tensor, length: int) -> tuple[dict[str, Any], Any]:
    """How a network of transformers is told to attend within documents.

    Args:
        encoder: the network.
        starts: (B, D).
        length: L.

    Returns:
        keyword arguments for its forward pass, and an attention mask (B, 1, L, L) as its kernel
        wants it; None for the registered one, which needs none where products are in half
        precision (it has no other).
    """
    kernel = encoder.config._attn_implementation
    if kernel == NAME and torch.is_autocast_enabled(starts.device.type):
        ends = cumulative_lengths(starts, length)
        ends_of = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
        return {**ends_of, "max_length_q": length, "max_length_k": length}, None
    ids = document_ids(starts, length)
    return {}, as_mask(ids[:, None, :, None] == ids[:, None, None, :], kernel)


def as_mask(seen: Tensor, kernel: str) -> Tensor:
    """A mask (B, 1, L, L), true where a token may look, as a kernel wants it."""
    if kernel not in ("eager", plain_attention.NAME):
        return seen
    lowest = torch.finfo(torch.float32).min  # added to the scores
    return torch.zeros_like(seen, dtype=torch.float32).masked_fill(~seen, lowest)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """The registered kernel: `varlen_attn` where lengths are given, else `sdpa`.

    Args:
        module: the layer.
        query: (B, A, L, H / A), as key and value.
        key: as the query.
        value: as the query.
        attention_mask: for `sdpa`.
        scaling: of the scores; one over the root of H / A, the only one there is.
        dropout: none where lengths are given.
        sliding_window: one more than the tokens either side that are seen; none: all.
        cu_seq_lens_q: (N + 1,) int32, of N documents over all rows; of the keys the same.
        cu_seq_lens_k: as that of the queries.
        max_length_q: tokens of the longest document at most; of the keys the same.
        max_length_k: as that of the queries.
        more: what other kernels take.

    Returns:
        (B, L, A, H / A), and no weights.
    """
    if cu_seq_lens_q is None or cu_seq_lens_k is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    assert max_length_q is not None, "lengths come with the longest of them"
    assert max_length_k is not None, "of keys, too"
    assert not dropout, "varlen_attn has none: `kernel_for` chooses another"
    rows, _, length, _ = query.shape
    window = {} if sliding_window is None else {"window_size": (sliding_window - 1,) * 2}
    kernel: Any = varlen_attn  # that of torch 2.11 knows no windows
    output: Any = kernel(
        *(states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)),  # (B L, A, H/A)
        *(cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k),
        **window,
    )
    return output.unflatten(0, (rows, length)), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)  # for batches without documents
