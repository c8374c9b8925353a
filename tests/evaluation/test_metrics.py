import math

import numpy as np
import pytest

from electra.evaluation import metrics


def test_accuracy_counts_equal_pairs() -> None:
    assert metrics.accuracy(["a", "b", "b", "a"], ["a", "b", "a", "a"]) == 0.75


def test_macro_f1_by_hand() -> None:
    # a: precision 2/3, recall 1 -> 4/5; b: precision 1, recall 1/2 -> 2/3
    value = metrics.macro_f1(["a", "a", "b", "b"], ["a", "a", "b", "a"])
    assert value == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_macro_f1_of_a_label_never_hit_is_zero_and_silent() -> None:
    assert metrics.macro_f1(["a", "b"], ["a", "a"]) == pytest.approx((2 / 3) / 2)


def test_mcc_by_hand() -> None:
    truth = ["1"] * 6 + ["0"] * 6
    predicted = ["1"] * 4 + ["0"] * 2 + ["0"] * 5 + ["1"]
    expected = (4 * 5 - 1 * 2) / math.sqrt(5 * 6 * 6 * 7)
    assert metrics.mcc(truth, predicted) == pytest.approx(expected)
    assert metrics.mcc(["a", "b"], ["a", "a"]) == 0.0
    assert metrics.mcc(["a", "a"], ["a", "a"]) == 0.0  # scikit-learn warns of it


def test_auc_is_the_share_of_ordered_pairs() -> None:
    truth, scores = [True, True, False, False], [0.9, 0.4, 0.5, 0.1]
    assert metrics.auc(truth, scores) == pytest.approx(3 / 4)
    assert metrics.auc([True, True], [0.1, 0.2]) is None


def test_correlations() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.pearson(x, 3 * x + 1) == pytest.approx(1)
    assert metrics.spearman(x, np.exp(x)) == pytest.approx(1)
    assert metrics.pearson(x, np.exp(x)) < 0.95
    assert metrics.pearson(x, -x) == pytest.approx(-1)


def test_a_constant_side_gives_zero_and_no_warning() -> None:
    assert metrics.pearson([1, 2, 3], [5, 5, 5]) == 0.0
    assert metrics.spearman([1, 1, 1], [1, 2, 3]) == 0.0
    assert metrics.pearson([1.0], [2.0]) == 0.0
    assert metrics.pearson([1, 2, 3], [5, 5 + 1e-15, 5]) == 0.0


def test_per_class_rows() -> None:
    rows = metrics.per_class(["a", "b", "b"], ["a", "b", "a"], ["a", "b", "c"])
    assert rows[0] == {
        "label": "a",
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "support": 1,
    }
    assert rows[1]["recall"] == 0.5
    assert rows[2]["support"] == 0
