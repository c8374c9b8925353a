"""Gopher's rules about repetition and about quality.

MassiveText (Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher"): repetition, appendix A.1.1 and table A1; quality, appendix A.1.1. Where the paper leaves
things open they are as in datatrove 0.10: the n-gram that comes first of those equally frequent;
repeated n-grams counted from left to right, none over another. Words are what stands between
spaces (repetition) or runs of letters and digits (quality); datatrove splits them by spaCy.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from electra.corpus.cleaning.characters import one_line_end
from electra.corpus.cleaning.symbols import FEWEST_WORDS

MOST_REPEATED = {"lines": 0.3, "paragraphs": 0.3}
MOST_REPEATED_CHARACTERS = {"lines": 0.2, "paragraphs": 0.2}
MOST_TOP_NGRAM = {2: 0.20, 3: 0.18, 4: 0.16}
MOST_REPEATED_NGRAM = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
MOST_WORDS = 100_000
MEAN_LENGTHS = (3, 10)
FEWEST_STOP_WORDS = 2
# en: Gopher's eight; the others are common words of each language, chosen here
STOP_WORDS = {
    "en": ("the", "be", "to", "of", "and", "that", "have", "with"),
    "de": ("der", "die", "das", "und", "in", "zu", "ist", "mit", "nicht", "ein"),
    "tr": ("ve", "bir", "bu", "için", "ile", "da", "de", "çok", "olarak"),
    "ar": ("من", "في", "على", "إلى", "أن", "عن", "هذا", "التي", "الذي", "و"),
    "zh": ("的", "了", "是", "在", "和", "不", "有", "我", "他", "這", "这"),
    "ja": ("の", "に", "は", "を", "た", "が", "で", "て", "と"),
}
STOP_WORDS["zh-hant"] = STOP_WORDS["zh"]
_WITHOUT_SPACES = ("zh", "zh-hant", "ja")
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def repetition_reason(text: str, *, raw: str, spaces: bool) -> str | None:
    """The rule of table A1 that a text breaks, or None.

    The n-gram rules are for 50 words and more, Gopher's shortest document. Where there are no
    spaces, n words are 2n characters.

    Args:
        text: as `tidy` makes it.
        raw: the same before, with the blank lines between its paragraphs.
        spaces: whether spaces stand between words.
    """
    if not text:
        return None
    raw = one_line_end(raw).strip()
    found = {"lines": text.split("\n"), "paragraphs": re.split(r"\n\s*\n", raw)}
    sizes = {"lines": len(text), "paragraphs": max(1, len(raw))}
    for name, parts in found.items():
        count, characters = _repeated(parts)
        if count / len(parts) > MOST_REPEATED[name]:
            return f"repetition: {name}"
        if characters / sizes[name] > MOST_REPEATED_CHARACTERS[name]:
            return f"repetition: characters of {name}"
    words = text.split() if spaces else list(text.replace("\n", "").replace(" ", ""))
    factor = 1 if spaces else 2
    if len(words) < FEWEST_WORDS * factor:
        return None
    ids, lengths = _numbered(words)
    for n, most in MOST_TOP_NGRAM.items():
        n, gap = (n, n - 1) if spaces else (2 * n, 0)
        if _top_characters(ids, lengths, n, gap) / len(text) > most:
            return "repetition: most frequent n-gram"
    # what longer n-grams cover, shorter ones cover too
    shortest = min(MOST_REPEATED_NGRAM) * factor
    covered = _covered(ids, lengths, _ngrams(ids, shortest), shortest)
    if covered <= min(MOST_REPEATED_NGRAM.values()) * len(text):
        return None
    for n, most in MOST_REPEATED_NGRAM.items():
        if _exceeds(ids, lengths, n * factor, most * len(text)):
            return "repetition: n-grams"
    return None


def _repeated(parts: list[str]) -> tuple[int, int]:
    """How many parts came before, and their characters."""
    unique = set(parts)
    return len(parts) - len(unique), sum(map(len, parts)) - sum(map(len, unique))


def _numbered(words: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words), start=1)}
    ids = np.fromiter(map(numbers.__getitem__, words), dtype=np.uint64, count=len(words))
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    return ids * _MULTIPLIER, lengths


def _ngrams(ids: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """(len(ids) - n + 1,) a number an n-gram, modulo 2**64; two agree by chance hardly ever."""
    total = np.zeros(max(0, len(ids) - n + 1), dtype=np.uint64)
    for k in range(n):
        total = (total ^ (total >> np.uint64(29))) * _MULTIPLIER + ids[k : k + len(total)]
    return total


def _window_lengths(lengths: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    ends = np.concatenate([[0], np.cumsum(lengths)])
    sums: NDArray[np.int64] = ends[n:] - ends[:-n]
    return sums


def _top_characters(ids: NDArray[np.uint64], lengths: NDArray[np.int64], n: int, gap: int) -> float:
    """Characters of all occurrences of the most frequent n-gram, spaces inside counted."""
    grams = _ngrams(ids, n)
    if not len(grams):
        return 0
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    most = counts.max()
    start = first[counts == most].min()
    return int(most) * (int(lengths[start : start + n].sum()) + gap)


def _covered(
    ids: NDArray[np.uint64], lengths: NDArray[np.int64], grams: NDArray[np.uint64], n: int
) -> int:
    """Characters of the words in n-grams that came before, each counted once."""
    order = np.argsort(grams, kind="stable")
    again = order[1:][grams[order][1:] == grams[order][:-1]]
    change = np.zeros(len(ids) + 1, dtype=np.int64)
    change[again] += 1
    change[again + n] -= 1
    return int(lengths[np.cumsum(change[:-1]) > 0].sum())


def _exceeds(ids: NDArray[np.uint64], lengths: NDArray[np.int64], n: int, most: float) -> bool:
    """Whether more than `most` characters are in n-grams that came before, none over another."""
    grams = _ngrams(ids, n)
    if _covered(ids, lengths, grams, n) <= most:  # never less than what is counted below
        return False
    seen: set[int] = set()
    sizes = _window_lengths(lengths, n)
    numbers = grams.tolist()
    total = position = 0
    while position < len(numbers):
        if numbers[position] in seen:
            total += int(sizes[position])
            position += n
        else:
            seen.add(numbers[position])
            position += 1
    return total > most


def quality_reason(text: str, *, spaces: bool, language: str) -> str | None:
    """The quality rule that a text breaks, or None.

    50 to 100,000 words (where there are no spaces, twice as many characters); a mean length of 3
    to 10 characters, with spaces; two stop words, where the language has a list here (en, de, tr,
    ar, zh, zh-hant, ja) and the text is written as it is, with spaces or without: a Chinese text
    among English ones is not looked at for "the". Case does not matter, as it does in datatrove.
    """
    listed = STOP_WORDS.get(language, ())
    if spaces == (language in _WITHOUT_SPACES):
        listed = ()
    if not spaces:
        count = len(re.sub(r"\s", "", text)) // 2
        mean: float = MEAN_LENGTHS[0]
        stop_words = sum(word in text for word in listed)
    else:
        words = _WORD.findall(text.lower())
        count = len(words)
        mean = sum(map(len, words)) / max(1, count)
        stop_words = len(set(words).intersection(listed))
    if count < FEWEST_WORDS:
        return f"quality: under {FEWEST_WORDS} words"
    if count > MOST_WORDS:
        return f"quality: over {MOST_WORDS:,} words"
    if mean < MEAN_LENGTHS[0]:
        return "quality: short words"
    if mean > MEAN_LENGTHS[1]:
        return "quality: long words"
    if listed and stop_words < FEWEST_STOP_WORDS:
        return "quality: no stop words"
    return None
