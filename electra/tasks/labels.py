"""What kind of labels the training data have, and whether those of another file fit.

Names are kept as written; 1, 1.0 and "1" are one label. Lists, or texts that a separator splits,
are sets of labels; numbers of which one is not whole are regression.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from electra.errors import DataError
from electra.tasks.labelled_data import LabelledExample

CLASSIFICATION = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"
"""The three are values of `problem_type`, as in transformers' configurations."""


def number(text: str | None) -> float | None:
    """The finite number that a label is, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def learn_labels(examples: Sequence[LabelledExample], place: str) -> tuple[str, tuple[str, ...]]:
    """`problem_type`, and the labels: sorted, by number where all are whole; none in regression.

    Args:
        examples: the training data, at least one.
        place: file and column, for messages.

    Raises:
        DataError: there is one label alone, or another in every second row; one row has a list and
            another has not; names or NaN stand among numbers that are not whole.
    """
    sets = [e for e in examples if e.labels is not None]
    if sets:
        return MULTI_LABEL, _of_sets(sets, examples, place)
    names = {e.label for e in examples if e.label is not None}
    if _is_regression(names, examples):
        return REGRESSION, ()
    if len(names) == 1:
        raise DataError(f'{place} holds one label alone, "{names.pop()}"; two or more are wanted')
    if len(names) > max(20, len(examples) // 2):
        raise DataError(
            f"{place} holds {len(names)} values in {len(examples)} rows, too many to be labels; "
            "name the label's column with --data.label-column"
        )
    return CLASSIFICATION, _in_order(names)


def _of_sets(
    sets: Sequence[LabelledExample], examples: Sequence[LabelledExample], place: str
) -> tuple[str, ...]:
    if len(sets) < len(examples):
        single = next(e for e in examples if e.labels is None)
        raise DataError(
            f'{single.place} has the label "{single.label}", {sets[0].place} a list of labels; '
            "every row must have a list, or give --data.label-separator"
        )
    names = {name for e in sets for name in e.labels or ()}
    if not names:
        raise DataError(f"{place} holds empty lists alone; some labels are wanted")
    if len(names) == 1 and all(e.labels for e in sets):
        raise DataError(f'{place} holds one label alone, "{names.pop()}", in every row')
    return _in_order(names)


def _is_regression(names: set[str], examples: Sequence[LabelledExample]) -> bool:
    numbers = {name: number(name) for name in names}
    found = [x for x in numbers.values() if x is not None]
    fractional = any(x != int(x) for x in found)
    others = {name for name, x in numbers.items() if x is None}
    odd = next((e for e in examples if e.label in others), None)
    if odd is None or not found:
        return fractional
    if all(map(_is_float, others)):  # nan, inf, 1e999
        raise DataError(
            f'{odd.place} has the label "{odd.label}", which is no finite number; all the other '
            "labels are numbers"
        )
    if fractional:
        some = next(name for name, x in numbers.items() if x is not None and x != int(x))
        raise DataError(
            f'{odd.place} has the label "{odd.label}" where other rows have numbers ("{some}"); '
            "numbers alone are wanted for regression, names alone for classification"
        )
    return False


def _is_float(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _in_order(names: set[str]) -> tuple[str, ...]:
    whole = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name)) if whole else sorted(names))


def check_label(example: LabelledExample, problem_type: str, labels: Sequence[str]) -> None:
    """Refuse what the training data did not have.

    Raises:
        DataError: a label of another kind, or one that is not known.
    """
    if problem_type == MULTI_LABEL and example.labels is None:
        raise DataError(
            f'{example.place} has the label "{example.label}"; the training data has lists of '
            "labels (or give --data.label-separator)"
        )
    if problem_type != MULTI_LABEL and example.labels is not None:
        raise DataError(
            f"{example.place} has a list of labels; the training data has one label a row"
        )
    if problem_type == REGRESSION:
        if number(example.label) is None:
            raise DataError(
                f'{example.place} has the label "{example.label}"; the training data has finite '
                "numbers (regression)"
            )
        return
    for name in [example.label or ""] if example.labels is None else example.labels:
        require_known(name, labels, example.place)


def require_known(name: str | None, labels: Sequence[str], place: str) -> None:
    """Refuse a label that is not among `labels`.

    Raises:
        DataError: naming the place and what is known.
    """
    if name not in labels:
        raise DataError(
            f'{place} has the label "{name}", which the training data does not have; known '
            f"labels: {listed(labels)}"
        )


def kinds_note(examples: Sequence[LabelledExample]) -> list[str]:
    """A line where some labels are numbers and others names, as after a slip."""
    names = sorted({e.label for e in examples if e.label is not None})
    numbers = [name for name in names if number(name) is not None]
    words = [name for name in names if number(name) is None]
    if not numbers or not words:
        return []
    file = examples[0].place.rpartition(" row ")[0]
    return [f"{file}: labels are numbers ({listed(numbers, 3)}) and names ({listed(words, 3)})"]


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message; of many the first."""
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
