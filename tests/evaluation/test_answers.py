"""Worked cases of the official scorers, written out by hand from what they do."""

import itertools
import random

import numpy as np
import pytest

from electra.evaluation.answers import (
    CHINESE,
    ENGLISH,
    answer_metrics,
    best_null_threshold,
    language_of,
    normalized,
    score_answer,
    units,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat's\tHat!", "cats hat"),
        ("an apple a day", "apple day"),
        ("theatre and anagram", "theatre and anagram"),
        ("U.S.", "us"),
        ("1,000.5%", "10005"),
        ("the", ""),
        ("A — dash", "— dash"),  # not in string.punctuation, so it stays
        ("co-operate", "cooperate"),
    ],
)
def test_english_normalization(text: str, expected: str) -> None:
    assert normalized(text, ENGLISH) == expected


@pytest.mark.parametrize(
    ("answer", "truths", "exact", "f1"),
    [
        ("The Denver Broncos!", ["Denver Broncos"], 1, 1),
        ("Broncos", ["Denver Broncos", "The Denver Broncos"], 0, 2 / 3),  # 1 of 1, 1 of 2
        ("in the city of Paris", ["Paris, France"], 0, 1 / 3),  # 1 of 4 and 1 of 2
        ("to be or not to be", ["be be be"], 0, 4 / 9),  # a bag: 2 of 6 and 2 of 3
        ("Berlin", ["Paris"], 0, 0),
        ("", ["Paris"], 0, 0),
        ("the", ["Paris"], 0, 0),
        ("", [], 1, 1),
        ("Paris", [], 0, 0),
        ("the", [], 1, 1),  # v2.0: nothing is left of it, as nothing is wanted
        ("", ["the"], 1, 1),  # v2.0 drops truths of which nothing is left
        ("Paris", ["the", "Paris"], 1, 1),
    ],
)
def test_squad(answer: str, truths: list[str], exact: float, f1: float) -> None:
    assert score_answer(answer, truths, ENGLISH) == (exact, pytest.approx(f1))


def test_exact_match_and_f1_may_come_from_different_truths() -> None:
    # precision 1, recall 1/2 against one; against the other 1 and 2/3
    assert score_answer("green park", ["green", "green park road"], ENGLISH)[1] == pytest.approx(
        0.8
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("《战国无双3》", ["战", "国", "无", "双", "3"]),
        ("2010年8月，", ["2010", "年", "8", "月"]),
        ("WWE冠军 John Cena", ["wwe", "冠", "军", "john", "cena"]),
        ("3.5%、1,000元", ["3.5", "%", "1,000", "元"]),
        ("A-B", ["ab"]),  # the mark goes before words are cut, as officially
        ("", []),
    ],
)
def test_mixed_segmentation(text: str, expected: list[str]) -> None:
    assert list(units(text, CHINESE)) == expected


@pytest.mark.parametrize(
    ("answer", "truths", "exact", "f1"),
    [
        ("光荣和ω-force", ["光荣和ω-force"], 1, 1),
        ("《北京》。", ["北京"], 1, 1),
        ("在北京市", ["北京"], 0, 2 / 3),  # 2 of 4, 2 of 2
        ("北方京城", ["北京"], 0, 1 / 3),  # a substring, not a subsequence: 1 of 4, 1 of 2
        ("京北", ["北京"], 0, 1 / 2),
        ("上海", ["北京", "上海市"], 0, 0.8),
        ("", ["北京"], 0, 0),
        ("，", ["北京"], 0, 0),
        ("东京", ["北平"], 0, 0),
        ("The Beatles", ["the beatles"], 1, 1),
        ("Beatles", ["the Beatles"], 0, 2 / 3),  # articles count here
        ("北京!", ["北京"], 0, 0.8),  # a mark that is not in the official list stays
    ],
)
def test_cmrc(answer: str, truths: list[str], exact: float, f1: float) -> None:
    assert score_answer(answer, truths, CHINESE) == (exact, pytest.approx(f1))


def test_longest_common_substring_against_every_substring() -> None:
    generator = random.Random(0)
    for _ in range(200):
        a = "".join(generator.choices("东西南北", k=generator.randint(1, 8)))
        b = "".join(generator.choices("东西南北", k=generator.randint(1, 8)))
        pieces = {a[i:j] for i, j in itertools.combinations(range(len(a) + 1), 2)}
        same = max((len(piece) for piece in pieces if piece in b), default=0)
        assert score_answer(a, [b], CHINESE)[1] == pytest.approx(2 * same / (len(a) + len(b)))


def test_answerable_and_unanswerable_questions_apart() -> None:
    metrics = answer_metrics(
        ["Paris", "", "Rome", "", "Bonn"], [["Paris"], ["Oslo"], [], [], ["in Bonn"]], ENGLISH
    )
    assert metrics == {
        "exact_match": pytest.approx(2 / 5),
        "f1": pytest.approx((1 + 0 + 0 + 1 + 2 / 3) / 5),
        "has_answer_exact_match": pytest.approx(1 / 3),
        "has_answer_f1": pytest.approx((1 + 2 / 3) / 3),
        "no_answer_accuracy": 0.5,
    }
    assert set(answer_metrics(["Paris"], [["Paris"]], ENGLISH)) == {"exact_match", "f1"}
    assert set(answer_metrics([""], [[]], ENGLISH)) == {"exact_match", "f1", "no_answer_accuracy"}


def test_language_by_the_letters() -> None:
    assert language_of(["The cat", "年"]) == ENGLISH
    assert language_of(["《战国无双3》是由光荣和ω-force开发"]) == CHINESE
    assert language_of(["12, 13"]) == ENGLISH
    assert language_of(["ab北京"]) == ENGLISH  # half is not more than half


def test_threshold_against_every_threshold() -> None:
    random_numbers = np.random.default_rng(1)
    for _ in range(100):
        size = int(random_numbers.integers(1, 12))
        nulls = random_numbers.integers(-4, 5, size) / 2  # with ties
        if_empty = random_numbers.integers(0, 2, size).astype(float)
        if_answered = np.where(if_empty == 1, 0.0, random_numbers.integers(0, 4, size) / 3)

        def total(
            threshold: float,
            nulls: np.ndarray = nulls,
            one: np.ndarray = if_answered,
            other: np.ndarray = if_empty,
        ) -> float:
            return float(np.where(nulls > threshold, other, one).sum())

        best = max(total(t) for t in np.arange(-4, 4.1, 0.25))
        found = best_null_threshold(nulls, if_answered, if_empty)
        assert total(found) == pytest.approx(best)
        assert found not in nulls  # between scores, never on one


def test_threshold_where_all_or_none_should_be_answered() -> None:
    assert best_null_threshold([1.0, 2.0], [1, 1], [0, 0]) > 2
    assert best_null_threshold([1.0, 2.0], [0, 0], [1, 1]) < 1
    assert best_null_threshold([1.0, 2.0], [1, 0], [0, 1]) == pytest.approx(1.5)
