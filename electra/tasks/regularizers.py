"""R-Drop (Wu et al. 2021, arXiv 2106.14448): two passes over a batch are to agree.

A batch is read twice, with other dropout, and the two answers are pulled together. The paper's loss
(equation 4) is CE1 + CE2 + alpha KL, where KL is half the sum of both directions. Here it is half
of that, so that without disagreement it is the loss of one pass, and alpha means what it means in
the paper. Both passes learn.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Divergence = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits, logits, targets -> how much the answers differ; a scalar, summed over the targets."""

_OUT = -1e4


def symmetric_kl(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """Half of KL(a || b) + KL(b || a) of distributions over the last dimension.

    Args:
        logits_a: [..., K].
        logits_b: [..., K].

    Returns:
        [...], in nats.
    """
    log_a, log_b = logits_a.log_softmax(-1), logits_b.log_softmax(-1)
    return ((log_a.exp() - log_b.exp()) * (log_a - log_b)).sum(-1) / 2


def class_divergence(logits_a: Tensor, logits_b: Tensor, targets: Tensor) -> Tensor:
    """Of one class out of K: logits [B, K]."""
    return symmetric_kl(logits_a, logits_b).sum()


def label_divergence(logits_a: Tensor, logits_b: Tensor, targets: Tensor) -> Tensor:
    """Of labels that are there or not, each by itself: logits [B, K], summed over B and K."""
    return ((logits_a.sigmoid() - logits_b.sigmoid()) * (logits_a - logits_b)).sum() / 2


OF_PROBLEM_TYPE: dict[str, Divergence] = {
    "single_label_classification": class_divergence,
    "multi_label_classification": label_divergence,
}
"""By `problem_type` of transformers' configurations; regression has none."""


def option_divergence(
    logits_a: Tensor, logits_b: Tensor, targets: Tensor, *, absent: int
) -> Tensor:
    """Of one option out of C: logits [B, C], without those whose target is `absent`."""
    out = targets == absent
    return symmetric_kl(logits_a.masked_fill(out, _OUT), logits_b.masked_fill(out, _OUT)).sum()


def tag_divergence(
    logits_a: Tensor, logits_b: Tensor, targets: Tensor, *, num_tags: int, ignored: int
) -> Tensor:
    """Of the words' tags and, where there are any, of the intents.

    Args:
        logits_a: [B, L, num_tags + intents].
        logits_b: the same.
        targets: [B, L], or [B, L + 1] with intents; words are what is not `ignored` among the L.
        num_tags: how many of the outputs are tags.
        ignored: the target of what is no word's first piece.

    Returns:
        summed over words; an intent's counts once for each word, as it does in the loss.
    """
    is_word = targets[:, : logits_a.shape[1]] != ignored  # [B, L]
    total = (symmetric_kl(logits_a[..., :num_tags], logits_b[..., :num_tags]) * is_word).sum()
    if logits_a.shape[-1] == num_tags:
        return total
    words = is_word.sum(1)  # [B]
    of_words = [(x[..., num_tags:] * is_word[..., None]).sum(1) for x in (logits_a, logits_b)]
    mean_a, mean_b = (x / words.clamp(min=1)[:, None] for x in of_words)  # [B, intents]
    return total + (symmetric_kl(mean_a, mean_b) * words).sum()
