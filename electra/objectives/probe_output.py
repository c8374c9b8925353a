"""What an objective tells about held-out text."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class ProbeOutput:
    """Of one batch."""

    means: dict[str, tuple[Tensor, Tensor | float]]
    """Name -> sum and the count it is to be divided by."""
    replaced_scores: Tensor | None = None
    """(N,) logit of being replaced of every real token."""
    is_replaced: Tensor | None = None
    """(N,) bool, the truth."""
