"""Metrics of text classification and regression: fractions from 0 to 1, correlations from -1 to 1.

The arithmetic is scikit-learn's and scipy's; this file decides what a degenerate input gives, so
that a run that has learned nothing gets a number and not a warning.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Sized

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
    if len(set(truth)) < 2 or len(set(predicted)) < 2:
        return 0.0
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


def out_of_scope(truth: Sequence[str], predicted: Sequence[str], label: str) -> dict[str, float]:
    """in_scope_accuracy and out_of_scope_recall (Larson et al., 2019, section 4); inputs [N].

    The first is over rows of other labels than `label`, the second over rows of that one; what has
    no rows is left out.
    """
    _check(truth, predicted)
    pairs = list(zip(truth, predicted, strict=True))
    inside = [t == p for t, p in pairs if t != label]
    outside = [t == p for t, p in pairs if t == label]
    found = {"in_scope_accuracy": inside, "out_of_scope_recall": outside}
    return {name: sum(rows) / len(rows) for name, rows in found.items() if rows}


def label_matrix(sets: Sequence[Collection[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """[N, K]: whether row n has label k; every label of a row is among `labels`."""
    code = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(sets), len(labels)), dtype=np.bool_)
    for row, names in enumerate(sets):
        matrix[row, [code[name] for name in names]] = True
    return matrix


def micro_f1_of_sets(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """F1 over all labels together, both [N, K]; 0 where no label is true or predicted."""
    _check(truth, predicted)
    hits, total = (truth & predicted).sum(), truth.sum() + predicted.sum()
    return float(2 * hits / total) if total else 0.0


def macro_f1_of_sets(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Mean F1 over the labels that occur in either, both [N, K]; 0 where none does."""
    _check(truth, predicted)
    hits, total = (truth & predicted).sum(0), truth.sum(0) + predicted.sum(0)  # [K]
    return float(np.mean(2 * hits[total > 0] / total[total > 0])) if total.any() else 0.0


def mean_average_precision(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """Mean over the labels that occur of the average precision, both [N, K]; None without any."""
    from sklearn.metrics import average_precision_score

    occurring = np.flatnonzero(truth.any(axis=0))
    if not len(occurring):
        return None
    return float(np.mean([average_precision_score(truth[:, k], scores[:, k]) for k in occurring]))


def per_label(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], labels: Sequence[str]
) -> list[dict[str, str | float | int]]:
    """A row for each label as in `per_class`, of label sets [N, K]."""
    _check(truth, predicted)
    hits, answered, true = (truth & predicted).sum(0), predicted.sum(0), truth.sum(0)
    return [
        {
            "label": name,
            "precision": float(h / a) if a else 0.0,
            "recall": float(h / t) if t else 0.0,
            "f1": float(2 * h / (a + t)) if a + t else 0.0,
            "support": int(t),
        }
        for name, h, a, t in zip(labels, hits, answered, true, strict=True)
    ]


def _check(truth: Sized, predicted: Sized) -> None:
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
