"""Gopher's rules about symbols, by counts over the whole text.

MassiveText's quality filter (Rae et al. 2021, "Scaling Language Models: Methods, Analysis &
Insights from Training Gopher", appendix A.1.1). The texts are those that `tidy` makes: single
spaces, lines without spaces around them.
"""

from __future__ import annotations

import string

FEWEST_WORDS = 50
"""Gopher's shortest document; on shorter ones, which `min_chars` judges, its shares say little."""
FEWEST_LINES = 4
"""From here on lines are judged, so that no line alone decides."""
MOST_SYMBOLS = 0.1
MOST_BULLET_LINES = 0.9
MOST_ELLIPSIS_LINES = 0.3
FEWEST_ALPHABETIC = 0.8
_BULLETS = ("•", "‣", "◦", "●", "-", "*")
_ELLIPSES = ("...", "…")
_LETTERS = string.ascii_letters.encode()
# ASCII letters and all bytes of other characters to "a", ends of lines to spaces
_AS_WORDS = bytes(97 if c in _LETTERS or c > 127 else 32 if c == 10 else c for c in range(256))
_NO_LETTERS = bytes(c for c in range(128) if c not in _LETTERS and c not in b" \n")


def num_words(text: str, *, spaces: bool) -> int:
    """Words of a tidy text; where there are no spaces, two characters are counted as one."""
    return text.count(" ") + text.count("\n") + 1 if spaces else len(text) // 2


def symbols_reason(text: str, *, spaces: bool) -> str | None:
    """The rule that a tidy text breaks, or None.

    Hashes or ellipses above 0.1 a word; words without a letter above 20 %; lines that begin with
    a bullet above 90 %, or that end in an ellipsis above 30 %. The rules about words are for texts
    with spaces. Marks outside ASCII pass as letters; more marks are bullets than in datatrove.

    Args:
        text: as `tidy` makes it.
        spaces: whether spaces stand between words.
    """
    words = num_words(text, spaces=spaces)
    if words < FEWEST_WORDS:
        return None
    lines = text.count("\n") + 1
    ellipses = sum(map(text.count, _ELLIPSES))
    if lines >= FEWEST_LINES:
        # single characters are counted fastest, and tell most texts apart
        if sum(map(text.count, _BULLETS)) / lines > MOST_BULLET_LINES:
            bullets = sum(text.count(f"\n{mark}") for mark in _BULLETS) + text.startswith(_BULLETS)
            if bullets / lines > MOST_BULLET_LINES:
                return "symbols: lines that begin with a bullet"
        if ellipses / lines > MOST_ELLIPSIS_LINES:
            ends = sum(text.count(f"{mark}\n") for mark in _ELLIPSES) + text.endswith(_ELLIPSES)
            if ends / lines > MOST_ELLIPSIS_LINES:
                return "symbols: lines that end in an ellipsis"
    if not spaces:
        return None
    if text.count("#") / words > MOST_SYMBOLS:
        return "symbols: hashes"
    if ellipses / words > MOST_SYMBOLS:
        return "symbols: ellipses"
    # a word without letters leaves nothing between its spaces; k such words, k + 1 spaces
    data = text.encode("utf-8", "surrogatepass")
    flat = data.translate(_AS_WORDS, _NO_LETTERS)
    most_without = (1 - FEWEST_ALPHABETIC) * words
    if len(data) - len(flat) >= most_without and 2 * flat.count(b"  ") + 2 >= most_without:
        alphabetic = flat.count(b" a") + flat.startswith(b"a")
        if alphabetic / words < FEWEST_ALPHABETIC:
            return "symbols: words without letters"
    return None
