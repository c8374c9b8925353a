"""Precision, recall and F1 of entities, as conlleval counts them: right is right in every part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

Found = tuple[Hashable, Hashable, str]
"""Where an entity begins and ends, and its label."""


def both(
    examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]]
) -> tuple[list[set[Found]], list[set[Found]]]:
    """Entities that are there and that were found, of each `TaggedExample` and its prediction."""
    truth = [{(e[0], e[1], e[2]) for e in example.entities or ()} for example in examples]
    found = [{(f["start"], f["end"], f["label"]) for f in p["entities"]} for p in predictions]
    return truth, found


def micro(
    truth: Sequence[Collection[Found]], predicted: Sequence[Collection[Found]]
) -> dict[str, float]:
    """`precision`, `recall` and `f1` over all entities; what has no denominator is 0. Both [N]."""
    right, found, wanted = _counts(truth, predicted)
    precision, recall, f1 = _rates(right.total(), found.total(), wanted.total())
    return {"f1": f1, "precision": precision, "recall": recall}


def per_class(
    truth: Sequence[Collection[Found]], predicted: Sequence[Collection[Found]]
) -> list[dict[str, Any]]:
    """`label`, `precision`, `recall`, `f1`, `support` of each label that occurs, sorted."""
    right, found, wanted = _counts(truth, predicted)
    rows = []
    for label in sorted(found.keys() | wanted.keys()):
        precision, recall, f1 = _rates(right[label], found[label], wanted[label])
        rows.append(
            {
                "label": label,
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "support": wanted[label],
            }
        )
    return rows


def _counts(
    truth: Sequence[Collection[Found]], predicted: Sequence[Collection[Found]]
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Label -> entities found rightly, found, and there."""
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for true, guessed in zip(truth, predicted, strict=True):
        right.update(label for *_, label in set(true) & set(guessed))
        found.update(label for *_, label in set(guessed))
        wanted.update(label for *_, label in set(true))
    return right, found, wanted


def _rates(right: int, found: int, wanted: int) -> tuple[float, float, float]:
    precision = right / found if found else 0.0
    recall = right / wanted if wanted else 0.0
    both = found + wanted
    return precision, recall, 2 * right / both if both else 0.0
