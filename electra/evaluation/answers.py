"""Exact match and F1 of extracted answers, by the rules of the official scorers.

English: `evaluate-v1.1.py` and `evaluate-v2.0.py` of SQuAD (lower case, no punctuation, no
articles; F1 over the bag of words). Chinese: `cmrc2018_evaluate.py` of CMRC 2018 (Han characters
and words of other scripts are the units; F1 over the longest common substring). The latter cuts
words of other scripts by NLTK's tokenizer; here a regular expression does, which agrees on words,
numbers and punctuation but leaves "don't" whole.

Everything is a fraction from 0 to 1. An unanswerable question has no truths, and "" is right.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

ENGLISH, CHINESE = "en", "zh"
_HAN = re.compile("[\u4e00-\u9fff\u3400-\u4dbf]")
_LETTER = re.compile(r"[^\W\d_]")
_ARTICLE = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""`sp_char` of the official scorer; its two-character "……" never equals a character there."""
_CMRC_HAN = re.compile("[\u4e00-\u9fa5]")
_WORD = re.compile(r"\w+(?:\.\w+|,\d+)*|[^\w\s]")


def language_of(texts: Iterable[str]) -> str:
    """`zh` where more than half of the letters of the texts are Han characters, else `en`."""
    han = letters = 0
    for text in texts:
        han += len(_HAN.findall(text))
        letters += len(_LETTER.findall(text))
    return CHINESE if 2 * han > letters else ENGLISH


@lru_cache(maxsize=1 << 16)
def normalized(text: str, language: str) -> str:
    """What is compared for an exact match."""
    text = text.lower()
    if language == CHINESE:
        return "".join(c for c in text.strip() if c not in _MARKS)
    return " ".join(_ARTICLE.sub(" ", text.translate(_NO_PUNCTUATION)).split())


@lru_cache(maxsize=1 << 16)
def units(text: str, language: str) -> tuple[str, ...]:
    """What F1 counts: words, in Chinese characters and words of other scripts."""
    if language != CHINESE:
        return tuple(normalized(text, language).split())
    found: list[str] = []
    other = ""
    for character in text.lower().strip():
        if character in _MARKS:
            continue
        if _CMRC_HAN.match(character):
            found += [*_WORD.findall(other), character]
            other = ""
        else:
            other += character
    return (*found, *_WORD.findall(other))


def score_answer(answer: str, truths: Sequence[str], language: str) -> tuple[float, float]:
    """Exact match and F1 of one answer: the best over the truths, each by itself."""
    if language != CHINESE:  # as evaluate-v2.0.py: an answer of articles alone is none
        truths = [truth for truth in truths if normalized(truth, language)]
    found = normalized(answer, language)
    if not truths:
        return float(not found), float(not found)
    exact = any(found == normalized(truth, language) for truth in truths)
    return float(exact), max(_f1(answer, truth, language) for truth in truths)


def answer_metrics(
    answers: Sequence[str], truths: Sequence[Sequence[str]], language: str
) -> dict[str, float]:
    """`exact_match` and `f1` over all questions.

    Where some questions have no answer, also `has_answer_exact_match`, `has_answer_f1` and
    `no_answer_accuracy`, over questions with and without one.

    Args:
        answers: [N], "" where the model gives none; N at least 1.
        truths: [N]; none for an unanswerable question.
        language: `en` or `zh`.
    """
    scores = np.array(
        [score_answer(a, t, language) for a, t in zip(answers, truths, strict=True)]
    )  # [N, 2]
    result = {"exact_match": float(scores[:, 0].mean()), "f1": float(scores[:, 1].mean())}
    has_answer = np.array([bool(t) for t in truths])
    if has_answer.all():
        return result
    if has_answer.any():
        result["has_answer_exact_match"] = float(scores[has_answer, 0].mean())
        result["has_answer_f1"] = float(scores[has_answer, 1].mean())
    result["no_answer_accuracy"] = float(scores[~has_answer, 0].mean())
    return result


def best_null_threshold(
    null_scores: ArrayLike, if_answered: ArrayLike, if_empty: ArrayLike
) -> float:
    """The threshold above which a null score makes the answer empty, by the best mean score.

    As `find_best_thresh_v2` of SQuAD's scorer, but between two scores instead of on the lower one:
    the last digit of a score depends on how a batch was made up.

    Args:
        null_scores: [N], higher where an answer is less likely.
        if_answered: [N], the score of giving the best answer.
        if_empty: [N], the score of giving none.

    Returns:
        the lowest threshold of the best ones.
    """
    nulls = np.asarray(null_scores, dtype=np.float64)
    order = np.argsort(nulls, kind="stable")
    nulls = nulls[order]
    gains = (np.asarray(if_answered, dtype=np.float64) - np.asarray(if_empty))[order]
    totals = np.concatenate([[0.0], np.cumsum(gains)])  # [N + 1], by how many are answered
    edges = np.concatenate([[nulls[0] - 2], nulls, [nulls[-1] + 2]])
    totals[1:-1][nulls[1:] == nulls[:-1]] = -np.inf  # equal scores fall on one side
    best = int(np.argmax(np.round(totals, 9)))
    return float((edges[best] + edges[best + 1]) / 2)


def _f1(answer: str, truth: str, language: str) -> float:
    found, wanted = units(answer, language), units(truth, language)
    if not found or not wanted:
        return float(language != CHINESE and found == wanted)
    if language == CHINESE:
        matcher = SequenceMatcher(None, found, wanted, autojunk=False)
        same = matcher.find_longest_match().size
    else:
        same = (Counter(found) & Counter(wanted)).total()
    return 2 * same / (len(found) + len(wanted))
