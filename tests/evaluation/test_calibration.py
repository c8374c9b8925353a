import math
import random

import pytest
from sklearn.metrics import brier_score_loss

from electra.evaluation.calibration import expected_calibration_error, reliability, squared_error


def slow_error(confidences: list[float], right: list[bool], bins: int) -> float:
    """Guo et al. (2017), equation 3, written down bin by bin."""
    error = 0.0
    for m in range(bins):
        inside = [
            i
            for i, p in enumerate(confidences)
            if (m / bins < p <= (m + 1) / bins) or (m == 0 and p == 0)
        ]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            confidence = sum(confidences[i] for i in inside) / len(inside)
            error += len(inside) / len(confidences) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_the_paper_s(seed: int) -> None:
    chance = random.Random(seed)
    confidences = [chance.random() for _ in range(200)] + [0.0, 1.0, 1 / 15, 0.2, 1 / 3]
    right = [chance.random() < p for p in confidences]
    found = expected_calibration_error(reliability(confidences, right))
    assert found == pytest.approx(slow_error(confidences, right, 15), abs=1e-12)


def test_worked_cases() -> None:
    # two answers of 0.9, one of them right: |0.5 - 0.9|; two of 0.6, both right: |1 - 0.6|
    bins = reliability([0.9, 0.6, 0.9, 0.6], [True, True, False, True])
    assert [(b.count, b.accuracy) for b in bins] == [(2, 1.0), (2, 0.5)]
    assert bins[0].low < 0.6 <= bins[0].high
    assert expected_calibration_error(bins) == pytest.approx(0.4)
    assert expected_calibration_error(reliability([1.0, 0.0], [True, False])) == 0
    assert expected_calibration_error(reliability([1.0], [False])) == 1
    assert expected_calibration_error(reliability([], [])) is None


def test_a_border_belongs_to_the_bin_below() -> None:
    assert [(b.low, b.high) for b in reliability([0.5, 0.0], [True, True], bins=2)] == [(0.0, 0.5)]


def test_squared_error_is_brier_s() -> None:
    assert squared_error({"a": 0.7, "b": 0.2, "c": 0.1}, {"a"}) == pytest.approx(0.14)
    assert squared_error({"a": 1.0, "b": 0.0}, {"b"}) == 2
    assert squared_error({"a": 1.0, "b": 0.0}, {"a"}) == 0
    # a label the model does not know had the probability 0
    assert squared_error({"a": 1.0}, {"z"}) == 2
    assert squared_error({"a": 0.5, "b": 0.5}, set()) == 0.5
    assert math.isnan(squared_error({"a": math.nan}, {"a"}))


def test_squared_error_agrees_with_scikit_learn() -> None:
    chance = random.Random(1)
    truth, rows = [], []
    for _ in range(50):
        weights = [chance.random() for _ in range(4)]
        rows.append([w / sum(weights) for w in weights])
        truth.append(chance.choice("abcd"))
    mean = sum(
        squared_error(dict(zip("abcd", row, strict=True)), {t})
        for row, t in zip(rows, truth, strict=True)
    ) / len(rows)
    expected = brier_score_loss(truth, rows, labels=list("abcd"), scale_by_half=False)
    assert mean == pytest.approx(expected)
