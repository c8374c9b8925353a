"""How a text is written: scripts of its letters, spaces between words or none, its words."""

from __future__ import annotations

import functools
import re

import numpy as np
from numpy.typing import NDArray

# blocks of The Unicode Standard, chapter "Blocks"; punctuation is left out where it is apart
SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "Latin": (
        (0x41, 0x5A),
        (0x61, 0x7A),
        (0xC0, 0xD6),
        (0xD8, 0xF6),
        (0xF8, 0x24F),
        (0x1E00, 0x1EFF),
        (0xFF21, 0xFF3A),
        (0xFF41, 0xFF5A),
    ),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0xA640, 0xA69F)),
    "Armenian": ((0x531, 0x588),),
    "Hebrew": ((0x5D0, 0x5F2),),
    "Arabic": (
        (0x620, 0x64A),
        (0x66E, 0x6D3),
        (0x6FA, 0x6FF),
        (0x750, 0x77F),
        (0x8A0, 0x8C9),
        (0xFB50, 0xFDFB),
        (0xFE70, 0xFEFC),
    ),
    "Devanagari": ((0x904, 0x963), (0x971, 0x97F)),
    "Bengali": ((0x980, 0x9E5),),
    "Gurmukhi": ((0xA00, 0xA7F),),
    "Gujarati": ((0xA80, 0xAFF),),
    "Tamil": ((0xB80, 0xBE5),),
    "Telugu": ((0xC00, 0xC65),),
    "Kannada": ((0xC80, 0xCE5),),
    "Malayalam": ((0xD00, 0xD65),),
    "Sinhala": ((0xD80, 0xDE5),),
    "Thai": ((0xE01, 0xE3A), (0xE40, 0xE4E)),
    "Lao": ((0xE80, 0xECF), (0xEDC, 0xEFF)),
    "Tibetan": ((0xF00, 0xF01), (0xF40, 0xFBC)),
    "Myanmar": ((0x1000, 0x103F), (0x1050, 0x108F)),
    "Georgian": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF)),
    "Ethiopic": ((0x1200, 0x135A),),
    "Khmer": ((0x1780, 0x17D3),),
    "Hangul": ((0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7A3)),
    "Kana": ((0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x31FF)),
    "Han": (
        (0x3005, 0x3007),
        (0x3400, 0x4DBF),
        (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF),
        (0x20000, 0x323AF),
    ),
}
WITHOUT_SPACES = ("Han", "Kana", "Thai", "Lao", "Tibetan", "Myanmar", "Khmer")
_SPACELESS = "".join(
    f"{chr(first)}-{chr(last)}" for name in WITHOUT_SPACES for first, last in SCRIPTS[name]
)
_SPACELESS_CHARACTER = re.compile(f"[{_SPACELESS}]")
_OTHER_LETTER = re.compile(rf"[^\W{_SPACELESS}]")
_WINDOW = 200
"""Characters of each of three windows by which it is judged whether a text has spaces."""
# a character of a script without spaces alone, or a run of letters and digits of others
_TOKEN = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")
_PUNCTUATION = {n: " " for n in range(128) if not (chr(n).isalnum() or chr(n) == "_")}


@functools.lru_cache(maxsize=1)
def _script_of() -> NDArray[np.uint8]:
    """(0x110000,) the number of each code point's script, from 1; 0 is no letter."""
    table = np.zeros(0x110000, dtype=np.uint8)
    for number, ranges in enumerate(SCRIPTS.values(), start=1):
        for first, last in ranges:
            table[first : last + 1] = number
    return table


def sample(text: str, size: int) -> str:
    """The text, or three windows of `size` characters of a long one."""
    if len(text) <= 3 * size:
        return text
    middle = (len(text) - size) // 2
    return f"{text[:size]} {text[middle : middle + size]} {text[-size:]}"


def script_letters(text: str) -> dict[str, int]:
    """Letters of each script in a text, those that occur."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    counts = np.bincount(_script_of()[points], minlength=len(SCRIPTS) + 1)[1:]
    return {name: int(n) for name, n in zip(SCRIPTS, counts, strict=True) if n}


def has_spaces(text: str) -> bool:
    """Whether words are set apart by spaces, judged by the letters and digits of the text alone.

    A character of a script without spaces counts as two others; punctuation does not count.
    """
    if text.isascii():
        return True
    window = sample(text, _WINDOW)
    without = len(_SPACELESS_CHARACTER.findall(window))
    return not without or 2 * without < len(_OTHER_LETTER.findall(window))


def tokens(text: str) -> list[str]:
    """Runs of letters and digits; of scripts without spaces each character; no punctuation."""
    if text.isascii():
        return text.translate(_PUNCTUATION).split()
    return _TOKEN.findall(text)


def num_spaceless(words: list[str]) -> int:
    """How many of `tokens` are characters of a script without spaces."""
    return sum(1 for word in words if _SPACELESS_CHARACTER.match(word))
