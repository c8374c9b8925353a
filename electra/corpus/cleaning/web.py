"""The rules of two web corpora: C4 changes and removes documents, FineWeb removes them.

C4: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", section 2.2, and the code behind it (`c4_utils.py` of TensorFlow Datasets), in its
order. FineWeb: Penedo et al. 2024, "The FineWeb Datasets", section 3.6.
"""

from __future__ import annotations

import re

FEWEST_SENTENCES = 5
FEWEST_LINE_WORDS = 3
LONGEST_LINE_WORD = 1000
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
LEAST_PUNCTUATED = 0.12
MOST_REPEATED_CHARACTERS = 0.1
MOST_SHORT_LINES = 0.67
SHORT_LINE = 30
# of Latin, Chinese and Japanese, Arabic, Urdu, Indic, Burmese, Ethiopic and Khmer texts
_FULL_STOPS = "!.?\u2026\u3002\uff0e\uff01\uff1f\uff61\u061f\u06d4\u0964\u0965\u104b\u1362\u17d4"
_QUOTES = "\"'\u201d\u2019\u300d\u300f\u00bb"
_ENDS = tuple(_FULL_STOPS + _QUOTES)
_SENTENCE_END = re.compile(
    rf"[{_FULL_STOPS}]+[{_QUOTES})\]]*(?=\s|$)|[\u3002\uff0e\uff01\uff1f\uff61]+[{_QUOTES}]*"
)
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


def c4_lines(text: str, *, spaces: bool) -> tuple[str, str | None, int]:
    """C4's rules: the lines that stay, the reason to drop the document, and how many lines went.

    A line goes that does not end in terminal punctuation (of any script here) or ends in an
    ellipsis, has under 3 words (where there are spaces), a word over 1000 characters, "javascript"
    or the phrases of a cookie notice; citations of Wikipedia are taken out. The document goes for
    "lorem ipsum", a curly bracket, or under 5 sentences; sentences are counted by their full stops
    (datatrove: NLTK or spaCy), so that "Mr." is one. The list of bad words is not here.

    Args:
        text: as `tidy` makes it.
        spaces: whether spaces stand between words.
    """
    kept: list[str] = []
    lines = text.split("\n")
    for line in lines:
        if spaces and len(line) > LONGEST_LINE_WORD:
            if max(map(len, line.split())) > LONGEST_LINE_WORD:
                continue
        while "[" in line:
            line, found = _CITATION.subn("", line)
            if not found:
                break
        line = " ".join(line.split())
        if not line.endswith(_ENDS) or line.endswith(("...", "\u2026")):
            continue
        if spaces and line.count(" ") + 1 < FEWEST_LINE_WORDS:
            continue
        lower = line.lower()
        if "lorem ipsum" in lower:
            return text, "c4: lorem ipsum", 0
        if "javascript" in lower:
            continue
        if "{" in line:
            return text, "c4: curly bracket", 0
        if any(phrase in lower for phrase in POLICIES):
            continue
        kept.append(line)
    if sum(max(1, len(_SENTENCE_END.findall(line))) for line in kept) < FEWEST_SENTENCES:
        return text, f"c4: under {FEWEST_SENTENCES} sentences", 0
    return "\n".join(kept), None, len(lines) - len(kept)


def fineweb_reason(text: str, *, spaces: bool) -> str | None:
    """The rule of FineWeb that a text breaks, or None.

    Lines that end in punctuation under 12 %; characters in lines that came before over 10 % (the
    paper; datatrove's default is 1 %); lines of 30 characters or fewer over 67 % (15 where there
    are no spaces, our choice). At equality a document stays, as in datatrove; a quotation mark
    after the full stop counts as punctuation, there it does not. Its fourth rule, new lines a word,
    is not in the paper.
    """
    lines = text.split("\n")
    if sum(line.endswith(_ENDS) for line in lines) / len(lines) < LEAST_PUNCTUATED:
        return "fineweb: lines without punctuation"
    short = SHORT_LINE if spaces else SHORT_LINE // 2
    if sum(len(line) <= short for line in lines) / len(lines) > MOST_SHORT_LINES:
        return "fineweb: short lines"
    characters = sum(map(len, lines))
    again = characters - sum(map(len, set(lines)))
    if again / max(1, characters) > MOST_REPEATED_CHARACTERS:
        return "fineweb: repeated lines"
    return None
