"""Which documents are kept, and in what form; everything removed is counted by its reason."""

from __future__ import annotations

import hashlib
from collections import Counter

from electra.corpus.cleaning.characters import tidy
from electra.corpus.cleaning.cleaner import Cleaner, merge_reports, write_contamination

__all__ = [
    "Cleaner",
    "Filter",
    "document_digest",
    "document_digest_of",
    "merge_reports",
    "uniform",
    "write_contamination",
]


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
        text = tidy(text)
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
    return document_digest_of(text.encode("utf-8"))


def document_digest_of(data: bytes) -> bytes:
    """The digest of a document that is UTF-8 already."""
    return hashlib.blake2b(data, digest_size=16).digest()


def uniform(digest: bytes) -> float:
    """A number in [0, 1) from the first 8 bytes of a digest."""
    return int.from_bytes(digest[:8], "big") / 2**64
