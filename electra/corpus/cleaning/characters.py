"""Unicode forms, line ends, control and zero-width characters, spaces."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, cast

_LINE_ENDS = ("\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029")
# C0 and C1 controls but tab and newline; marks that split words unseen (soft hyphen, zero-width
# space, word joiner); marks of direction; BOM, annotation marks, U+FFFE/F; halves of surrogate
# pairs. The joiners U+200C and U+200D stay: Persian, Indic scripts and emoji are spelled with them
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
# all that str.isspace() says, but the space, ends of lines and what `_CONTROL` takes
_WHITE = "\t\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u202f\u205f\u3000"


def tidy(text: str, normalization: str = "NFC") -> str:
    """One kind of line end, no control characters, single spaces, no blank lines.

    A text that is tidy is returned itself, after a few passes in C. Doing it twice changes nothing.

    Args:
        text: any text, halves of surrogate pairs too.
        normalization: `NFC`, `NFKC` or `none`.
    """
    flat = text.replace("\n", " ")
    printable = flat.isprintable()  # false for every white space but " ", controls, zero-width
    form = cast(Literal["NFC", "NFKC"], normalization)
    if (
        printable
        and "  " not in flat
        and flat[:1] != " "
        and flat[-1:] != " "
        and (normalization == "none" or unicodedata.is_normalized(form, text))
    ):
        return text
    if not printable:
        text = _CONTROL.sub("", one_line_end(text))
    if normalization != "none":
        text = unicodedata.normalize(form, text)  # last: removing may bring a letter and its accent
    # passes over the whole: a str for each word of a long text would take ten times its memory
    for character in () if printable else _WHITE:
        text = text.replace(character, " ")
    for many, one in (("  ", " "), (" \n", "\n"), ("\n ", "\n"), ("\n\n", "\n")):
        while many in text:
            text = text.replace(many, one)
    return text.strip(" \n")


def one_line_end(text: str) -> str:
    r"""The text with all lines ended by `\n`; a form feed ends a line too."""
    for end in _LINE_ENDS:
        text = text.replace(end, "\n")
    return text
