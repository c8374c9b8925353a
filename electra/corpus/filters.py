"""Which documents are kept, and in what form; everything removed is counted by its reason."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter

# C0 and C1 controls but tab and newline; zero-width marks that split words unseen; BOM; U+FFFE/F
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2060\ufeff\ufffe\uffff]")
_LINE_ENDS = re.compile(r"\r\n?|\x85|\u2028|\u2029")
_SPACES = re.compile(r"[^\S\n]+")


def clean_text(text: str) -> str:
    """NFC, one kind of line end, no control characters, single spaces, no blank lines."""
    text = unicodedata.normalize("NFC", _LINE_ENDS.sub("\n", text))
    text = _SPACES.sub(" ", _CONTROL.sub("", text))
    return "\n".join(line for line in map(str.strip, text.split("\n")) if line)


class Filter:
    """Cleans documents one by one, drops short ones and exact repeats, counts both."""

    def __init__(self, *, min_chars: int, deduplicate: bool = True) -> None:
        self.min_chars = min_chars
        self.removed: Counter[str] = Counter()
        # 8 bytes of each digest as a number: the least that a set holds; two of a hundred million
        # documents agree by chance once in four thousand corpora
        self._seen: set[int] | None = set() if deduplicate else None

    def __call__(self, text: str) -> str | None:
        """The cleaned document, or None where it is dropped."""
        text = clean_text(text)
        if len(text) < self.min_chars:
            self.removed["shorter than min_chars"] += 1
            return None
        if self._seen is not None:
            digest = int.from_bytes(document_digest(text)[:8], "big")
            if digest in self._seen:
                self.removed["exact duplicate"] += 1
                return None
            self._seen.add(digest)
        return text


def document_digest(text: str) -> bytes:
    """16 bytes that stand for a document, the same on every machine."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def uniform(digest: bytes) -> float:
    """A number in [0, 1) from the first 8 bytes of a digest."""
    return int.from_bytes(digest[:8], "big") / 2**64
