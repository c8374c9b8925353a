"""Several labels for one input: a probability for each, one threshold for all, the scores."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from electra.evaluation import metrics
from electra.tasks.task import Logits, Prediction

DEFAULT_THRESHOLD = 0.5


def sigmoid(logits: Sequence[Logits] | Logits) -> NDArray[np.float64]:
    """Probabilities float64, of the shape of the logits: [K], or [N, K] of N rows."""
    from scipy.special import expit

    found: NDArray[np.float64] = expit(np.asarray(logits, dtype=np.float64))
    return found


def best_threshold(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """The threshold of the largest micro-F1; of several the nearest to 0.5, which wins a tie.

    A label is given where its probability is the threshold or more. Thresholds other than 0.5 lie
    midway between two probabilities.

    Args:
        truth: [N, K].
        scores: probabilities, [N, K].
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, right = scores.reshape(-1)[order], truth.reshape(-1)[order]
    given = np.arange(1, len(ranked) + 1)
    f1 = 2 * right.cumsum() / (given + max(1, right.sum()))
    below = np.append(ranked[1:], 0.0)
    thresholds = (ranked + below) / 2
    # equal probabilities cannot be told apart; between neighbouring floats there is no middle
    apart = (thresholds < ranked) & (thresholds > below)
    at_half = int((ranked >= DEFAULT_THRESHOLD).sum())
    f1_at_half = f1[at_half - 1] if at_half else 0.0
    if not apart.any() or f1[apart].max() <= f1_at_half:
        return DEFAULT_THRESHOLD
    best = thresholds[apart & (f1 == f1[apart].max())]
    return float(best[np.abs(best - DEFAULT_THRESHOLD).argmin()])


def set_prediction(
    labels: Sequence[str], scores: NDArray[np.float64], threshold: float
) -> Prediction:
    """`labels` from the threshold up, `score`, and `scores` of all labels; `scores` is [K].

    `score` is the smallest probability of the labels given; where none is given, the largest of
    all, which is then below the threshold.
    """
    given = [i for i, p in enumerate(scores) if p >= threshold]
    return {
        "labels": [labels[i] for i in given],
        "score": float(scores[given].min() if given else scores.max()),
        "scores": dict(zip(labels, scores.tolist(), strict=True)),
    }


def set_metrics(
    truth: Sequence[Collection[str]], predictions: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, float]:
    """micro_f1, macro_f1, subset_accuracy; mean_average_precision where any label is true."""
    right = metrics.label_matrix(truth, labels)
    answers = metrics.label_matrix([p["labels"] for p in predictions], labels)
    found = {
        "micro_f1": metrics.micro_f1_of_sets(right, answers),
        "macro_f1": metrics.macro_f1_of_sets(right, answers),
        "subset_accuracy": float((right == answers).all(axis=1).mean()),
    }
    scores = np.array([[p["scores"][name] for name in labels] for p in predictions])
    precision = metrics.mean_average_precision(right, scores)
    return found if precision is None else found | {"mean_average_precision": precision}


def set_table(
    truth: Sequence[Collection[str]], predictions: Sequence[Prediction], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """`label`, `precision`, `recall`, `f1`, `support` of each label."""
    answers = metrics.label_matrix([p["labels"] for p in predictions], labels)
    return metrics.per_label(metrics.label_matrix(truth, labels), answers, labels)
