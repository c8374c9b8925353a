"""Whether a model is right as often as it is sure: reliability, calibration error, Brier score."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15
"""Of equal width, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in (`low`, `high`]."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean probability the model gave its answers."""
    accuracy: float
    """Share of them that were right."""


def reliability(confidences: Sequence[float], right: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """The bins that hold an answer, in order: the points of a reliability diagram.

    Args:
        confidences: [N], probabilities; 0 itself lies in the first bin.
        right: [N].
        bins: of equal width between 0 and 1.
    """
    assert len(confidences) == len(right), "one confidence for each answer"
    sure, hit = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    edges = np.arange(bins + 1) / bins
    places = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    return [
        Bin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            count=int((places == place).sum()),
            confidence=float(sure[places == place].mean()),
            accuracy=float(hit[places == place].mean()),
        )
        for place in np.unique(places)
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float | None:
    """Sum over bins of count / N x |accuracy - confidence| (Guo et al., 2017, equation 3).

    None where there is no answer.
    """
    total = sum(b.count for b in bins)
    if not total:
        return None
    return sum(b.count / total * abs(b.accuracy - b.confidence) for b in bins)


def squared_error(chances: Mapping[str, float], truths: Collection[str]) -> float:
    """Sum over labels of (probability - whether it is true)^2; its mean is Brier's score (1950).

    Args:
        chances: probability of each label.
        truths: the true ones; one that is not among `chances` had the probability 0.
    """
    known = sum((chance - (label in truths)) ** 2 for label, chance in chances.items())
    return known + len(set(truths) - chances.keys())
