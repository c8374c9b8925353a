"""Answers beside the truth, in the form a report for people shows them in."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from electra.evaluation.answers import score_answer
from electra.evaluation.calibration import squared_error

MISSED, SPURIOUS, BORDERS = "(missed)", "(spurious)", "(other borders)"
"""Where one side of a confusion is nothing, or the same entity with another beginning or end."""
NOTHING = "(none)"
_SHOWN = 220
"""Characters of a context around an answer."""

Found = tuple[int, int, str]
"""Start, end and label of an entity."""


@dataclass(frozen=True)
class Case:
    """One example, what is true of it, and what the model says."""

    text: str
    truth: str
    answer: str
    credit: float | None
    """1 right, 0 wrong, between them partly right; None where the answer is a number."""
    score: float | None = None
    """The model's probability of its answer; None where it gives none."""
    verdict: str = ""
    """The kind of right or wrong it is; empty: told by `credit`."""
    confusions: tuple[tuple[str, str], ...] = ()
    """(truth, answer) of every label there is to confuse, the right ones too."""
    judged: tuple[tuple[float, bool], ...] = ()
    """Probability and truth of what calibration counts; mostly `score` and whether it is right."""
    squared_error: float | None = None
    """Of the probabilities of all labels; its mean is Brier's score."""
    numbers: tuple[float, float] | None = None
    """Truth and answer where both are numbers."""

    @property
    def outcome(self) -> str:
        """`verdict`, or `right`, `partly right`, `wrong`; empty for a number."""
        if self.verdict or self.credit is None:
            return self.verdict
        return "right" if self.credit == 1 else "partly right" if self.credit > 0 else "wrong"


def labelled_cases(examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]]) -> list[Case]:
    """Of texts with a label, with several, or with a number, told apart by the predictions' keys.

    Args:
        examples: with `text` and `label` or `labels`; `text_pair`, and `head` and `tail` (start,
            end) of two entities, where they have them.
        predictions: of `text-classification` or `relation-extraction`.
    """
    cases = []
    for example, prediction in zip(examples, predictions, strict=True):
        text = _text_of(example)
        label, several = getattr(example, "label", None), getattr(example, "labels", None)
        if "labels" in prediction:
            cases.append(_label_set(text, _names(several or label), prediction))
        elif prediction.get("label") is None:
            cases.append(_number(text, label, prediction))
        else:
            cases.append(_label(text, _joined(_names(label or several)), prediction))
    return cases


def entity_cases(examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]]) -> list[Case]:
    """Of sentences with entities; a sentence's score is the mean of those of its entities.

    Args:
        examples: `TaggedExample`.
        predictions: of `token-classification`; `intent` among them is half of the credit.
    """
    cases = []
    for example, prediction in zip(examples, predictions, strict=True):
        truth: set[Found] = {(e[0], e[1], e[2]) for e in example.entities or ()}
        scores = {
            (e["start"], e["end"], e["label"]): float(e["score"]) for e in prediction["entities"]
        }
        found = set(scores)
        total = len(truth) + len(found)
        credit = 2 * len(truth & found) / total if total else 1.0
        confusions = _entity_confusions(truth, found)
        shown = [_entities(example.text, entities) for entities in (truth, found)]
        if "intent" in prediction:
            intents = str(example.intent), str(prediction["intent"])
            credit = (credit + (intents[0] == intents[1])) / 2
            confusions.append((f"intent {intents[0]}", f"intent {intents[1]}"))
            shown = [f"{i}: {entities}" for i, entities in zip(intents, shown, strict=True)]
        cases.append(
            Case(
                text=example.text,
                truth=shown[0],
                answer=shown[1],
                credit=credit,
                score=sum(scores.values()) / len(scores) if scores else None,
                confusions=tuple(confusions),
                judged=tuple((score, entity in truth) for entity, score in scores.items()),
            )
        )
    return cases


def answer_cases(
    examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]], language: str
) -> list[Case]:
    """Of questions about a text: an exact match is right, any F1 above 0 partly right.

    Args:
        examples: `Question`.
        predictions: of `question-answering`.
        language: whose scorer compares, as in `score_answer`.
    """
    cases = []
    for example, prediction in zip(examples, predictions, strict=True):
        answer, truths = str(prediction["answer"]), example.truths
        exact, f1 = score_answer(answer, truths, language)
        if not truths:
            verdict = "rightly no answer" if exact else "answered, but there is no answer"
        elif exact:
            verdict = "exact"
        elif not answer:
            verdict = "no answer, but there is one"
        else:
            verdict = "near: some of it is right" if f1 else "wrong"
        starts = [a.start for a in example.answers or () if a.start is not None]
        place = starts[0] if starts else int(prediction["start"])
        score = _score(prediction)
        cases.append(
            Case(
                text=f"{example.question} | {_around(example.context, place)}",
                truth=" / ".join(dict.fromkeys(truths)) or NOTHING,
                answer=answer or NOTHING,
                credit=1.0 if exact else min(f1, 0.99),  # all the words may be there, in disorder
                score=score,
                verdict=verdict,
                judged=_judged(score, bool(exact)),
            )
        )
    return cases


def choice_cases(examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]]) -> list[Case]:
    """Of questions with options.

    Args:
        examples: `ChoiceExample`.
        predictions: of `multiple-choice`.
    """
    cases = []
    for example, prediction in zip(examples, predictions, strict=True):
        right = prediction["choice"] == example.label
        score = _score(prediction)
        chances = {str(i): float(chance) for i, chance in enumerate(prediction["scores"])}
        options = " / ".join(example.choices)
        parts = (example.question, options, example.context)
        cases.append(
            Case(
                text=" | ".join(part for part in parts if part.strip()),
                truth=NOTHING if example.label is None else example.choices[example.label],
                answer=str(prediction["text"]),
                credit=float(right),
                score=score,
                judged=_judged(score, right),
                squared_error=squared_error(chances, {str(example.label)}),
            )
        )
    return cases


def _label(text: str, truth: str, prediction: Mapping[str, Any]) -> Case:
    answer, score = str(prediction["label"]), _score(prediction)
    chances = prediction.get("scores") or {}
    return Case(
        text=text,
        truth=truth,
        answer=answer,
        credit=float(truth == answer),
        score=score,
        confusions=((truth, answer),),
        judged=_judged(score, truth == answer),
        squared_error=squared_error(chances, {truth}) if chances else None,
    )


def _label_set(text: str, truth: set[str], prediction: Mapping[str, Any]) -> Case:
    """Calibration is over labels, and Brier's score a mean over them."""
    found, score = set(map(str, prediction["labels"])), _score(prediction)
    if score is not None and not found:
        score = 1 - score  # what is given is the probability of the likeliest label
    chances = prediction.get("scores") or {}
    total = len(truth) + len(found)
    return Case(
        text=text,
        truth=_joined(truth) or NOTHING,
        answer=_joined(found) or NOTHING,
        credit=2 * len(truth & found) / total if total else 1.0,
        score=score,
        confusions=(
            *((name, name) for name in sorted(truth & found)),
            *((name, MISSED) for name in sorted(truth - found)),
            *((SPURIOUS, name) for name in sorted(found - truth)),
        ),
        judged=tuple((float(chance), name in truth) for name, chance in chances.items()),
        squared_error=squared_error(chances, truth) / len(chances) if chances else None,
    )


def _number(text: str, truth: Any, prediction: Mapping[str, Any]) -> Case:
    answer = float(prediction["score"])
    try:
        wanted = float(truth)
    except (TypeError, ValueError):
        wanted = math.nan
    return Case(text, f"{wanted:.4g}", f"{answer:.4g}", None, numbers=(wanted, answer))


def _score(prediction: Mapping[str, Any]) -> float | None:
    score = prediction.get("score")
    return None if score is None else float(score)


def _judged(score: float | None, right: bool) -> tuple[tuple[float, bool], ...]:
    return () if score is None else ((score, right),)


def _names(truth: Any) -> set[str]:
    if truth is None:
        return set()
    return set(map(str, truth if isinstance(truth, list | tuple | set | frozenset) else [truth]))


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _text_of(example: Any) -> str:
    """The text; two sentences with a bar between them; both entities in brackets."""
    text, pair = str(example.text), getattr(example, "text_pair", None)
    head, tail = getattr(example, "head", None), getattr(example, "tail", None)
    if head is not None and tail is not None:
        end, parts = 0, []
        for (start, stop), name in sorted([(head, "E1"), (tail, "E2")]):
            parts += [text[end:start], f"[{name} {text[start:stop]}]"]
            end = stop
        text = "".join([*parts, text[end:]])
    return text if pair is None else f"{text} | {pair}"


def _entities(text: str, entities: Iterable[Found]) -> str:
    return ", ".join(f"{text[s:e]} [{label}]" for s, e, label in sorted(entities)) or NOTHING


def _around(text: str, place: int) -> str:
    start = max(0, min(place - _SHOWN // 2, len(text) - _SHOWN))
    shown = text[start : start + _SHOWN]
    return ("…" if start else "") + shown + ("…" if start + _SHOWN < len(text) else "")


def _entity_confusions(truth: Collection[Found], found: Collection[Found]) -> list[tuple[str, str]]:
    """A pair for each entity: with what stands in its place, else with what overlaps it."""
    pairs = [(label, label) for *_, label in sorted(set(truth) & set(found))]
    missed, spurious = sorted(set(truth) - set(found)), sorted(set(found) - set(truth))
    for exactly in (True, False):
        for true in list(missed):
            for other in spurious:
                same = true[:2] == other[:2]
                if same if exactly else true[0] < other[1] and other[0] < true[1]:
                    pairs.append((true[2], other[2] if true[2] != other[2] else BORDERS))
                    missed.remove(true)
                    spurious.remove(other)
                    break
    pairs += [(label, MISSED) for *_, label in missed]
    return pairs + [(SPURIOUS, label) for *_, label in spurious]
