"""Metrics of text classification and regression: fractions from 0 to 1, correlations from -1 to 1.

The arithmetic is scikit-learn's and scipy's; this file decides what a degenerate input gives, so
that a run that has learned nothing gets a number and not a warning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def accuracy(truth: Sequence[object], predicted: Sequence[object]) -> float:
    """Share of equal pairs; both [N], N at least 1."""
    _check(truth, predicted)
    return sum(t == p for t, p in zip(truth, predicted, strict=True)) / len(truth)


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Mean F1 over the labels that occur in either; a label never hit counts 0. Both [N]."""
    from sklearn.metrics import f1_score

    _check(truth, predicted)
    codes = _codes(truth, predicted)
    return float(f1_score(*codes, average="macro", zero_division=0))


def mcc(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Matthews correlation (CoLA's metric), any number of labels; 0 where one side is constant."""
    from sklearn.metrics import matthews_corrcoef

    _check(truth, predicted)
    return float(matthews_corrcoef(*_codes(truth, predicted)))


def auc(is_positive: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Area under the ROC curve, both [N]; None where only one of the two classes occurs."""
    from sklearn.metrics import roc_auc_score

    _check(is_positive, scores)
    if len(set(is_positive)) < 2:
        return None
    return float(roc_auc_score(is_positive, scores))


def pearson(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Linear correlation of two [N]; 0 where one side is constant or N is below 2."""
    from scipy.stats import pearsonr

    pair = _varying(truth, predicted)
    return float(pearsonr(*pair).statistic) if pair else 0.0


def spearman(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Rank correlation of two [N]; 0 where one side is constant or N is below 2."""
    from scipy.stats import spearmanr

    pair = _varying(truth, predicted)
    return float(spearmanr(*pair).statistic) if pair else 0.0


def per_class(
    truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> list[dict[str, str | float | int]]:
    """A row for each label: `label`, `precision`, `recall`, `f1`, `support`; inputs [N]."""
    from sklearn.metrics import precision_recall_fscore_support

    _check(truth, predicted)
    code = {label: i for i, label in enumerate(labels)}
    columns = precision_recall_fscore_support(
        [code[t] for t in truth],
        [code[p] for p in predicted],
        labels=range(len(labels)),
        zero_division=0,
    )
    return [
        {
            "label": name,
            "precision": float(p),
            "recall": float(r),
            "f1": float(f),
            "support": int(n),
        }
        for name, p, r, f, n in zip(labels, *columns, strict=True)
    ]


def _check(truth: Sequence[object], predicted: Sequence[object]) -> None:
    assert len(truth) == len(predicted) > 0, "one prediction for each of at least one example"


def _codes(*sides: Sequence[str]) -> list[list[int]]:
    """Labels as numbers: scikit-learn is much slower on strings."""
    code = {label: i for i, label in enumerate(sorted(set().union(*sides)))}
    return [[code[label] for label in side] for side in sides]


def _varying(
    truth: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    true, guess = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    assert (true.ndim, true.shape) == (1, guess.shape), "two vectors of one length are wanted"

    def constant(x: NDArray[np.float64]) -> bool:
        # scipy warns about near-constant input by this very bound
        return bool(np.linalg.norm(x - x.mean()) < 1e-13 * abs(x.mean()) or np.ptp(x) == 0)

    return None if len(true) < 2 or constant(true) or constant(guess) else (true, guess)
