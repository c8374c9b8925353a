"""Which documents are kept, and in what form; everything removed is counted by its reason."""

from __future__ import annotations

import hashlib

from electra.corpus.cleaning.cleaner import Cleaner, merge_reports, write_contamination

__all__ = [
    "Cleaner",
    "document_digest",
    "document_digest_of",
    "merge_reports",
    "uniform",
    "write_contamination",
]


def document_digest(text: str) -> bytes:
    """16 bytes that stand for a document, the same on every machine."""
    return document_digest_of(text.encode("utf-8"))


def document_digest_of(data: bytes) -> bytes:
    """The digest of a document that is UTF-8 already."""
    return hashlib.blake2b(data, digest_size=16).digest()


def uniform(digest: bytes) -> float:
    """A number in [0, 1) from the first 8 bytes of a digest."""
    return int.from_bytes(digest[:8], "big") / 2**64
