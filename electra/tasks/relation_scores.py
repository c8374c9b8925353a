"""Scores of relations: SemEval-2010 Task 8's official one, and TACRED's micro average.

Direction is read from the label: `Cause-Effect(e1,e2)` and `Cause-Effect(e2,e1)` are one relation,
and an answer in the wrong direction is wrong, a false answer and a missed one. What says that there
is no relation (`Other`, `no_relation`, `NA`) is in no average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

DIRECTIONS = ("(e1,e2)", "(e2,e1)")
NO_RELATION = {"other", "no_relation", "na"}


def relation_of(label: str) -> str:
    """The label without its direction."""
    for direction in DIRECTIONS:
        label = label.removesuffix(direction)
    return label


def is_relation(label: str) -> bool:
    """Whether the label says more than that there is none."""
    return label.casefold() not in NO_RELATION


def relation_table(truth: Sequence[str], predicted: Sequence[str]) -> list[dict[str, Any]]:
    """`label` (without direction), `precision`, `recall`, `f1`, `support`; inputs [N].

    A row for each relation of the truth, as in the official scorer's table.
    """
    true = Counter(map(relation_of, truth))
    answered = Counter(map(relation_of, predicted))
    hit = Counter(relation_of(t) for t, p in zip(truth, predicted, strict=True) if t == p)
    rows = []
    for name in sorted(true):
        scores = _scores(hit[name], answered[name], true[name])
        rows.append({"label": name, **scores, "support": true[name]})
    return rows


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Mean F1 over the relations of the truth; both [N].

    For SemEval-2010 Task 8 this is the official score: "(9+1)-way evaluation with directionality
    taken into account" (Hendrickx et al., 2010, section 4, and semeval2010_task8_scorer-v1.2).
    """
    scores = [row["f1"] for row in relation_table(truth, predicted) if is_relation(row["label"])]
    return sum(scores) / len(scores) if scores else 0.0


def micro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """F1 over all relations together, as TACRED's scorer; both [N]."""
    hits = sum(t == p and is_relation(t) for t, p in zip(truth, predicted, strict=True))
    answered, true = sum(map(is_relation, predicted)), sum(map(is_relation, truth))
    return _scores(hits, answered, true)["f1"]


def _scores(hits: int, answered: int, true: int) -> dict[str, float]:
    return {
        "precision": hits / answered if answered else 0.0,
        "recall": hits / true if true else 0.0,
        "f1": 2 * hits / (answered + true) if answered + true else 0.0,
    }
