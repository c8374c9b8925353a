"""MinHash: documents that share most of their word n-grams get equal band keys.

Broder 1997, "On the resemblance and containment of documents"; bands of rows as in Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4. The defaults are FineWeb's (Penedo
et al. 2024, section 3.4): 5-grams of words, 14 bands of 8 rows.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from electra.errors import ConfigError

# scripts without spaces: a character each; Thai and Lao, Myanmar, Khmer, kana, Han
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_WORDS = re.compile(r"\w+")
_WORDS_AND_CHARACTERS = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")
_WORD_END = re.compile(r"\W")
_PIECE = 2**20
"""Characters of a document whose words are held at once."""
_BLOCK = 256
"""Shingles hashed at once: the table of all permutations stays in the cache."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_MOST = 2**64 - 1


@dataclass(frozen=True)
class MinHash:
    """How documents are compared.

    Two documents of Jaccard similarity s (of their sets of shingles) become candidates with the
    probability 1 - (1 - s^rows)^bands: at the defaults 5 % at s = 0.5, 56 % at 0.7, 77 % at 0.75,
    92 % at 0.8, 99.96 % at 0.9, and 0.1 % at 0.3. Candidates are taken for duplicates unseen.

    Parameters
    ----------
    bands
        Keys of a document; one key in common makes two documents candidates.
    rows
        Permutations that have to agree for a key.
    shingle
        Words in a row that are one element of the set. A character of a script without spaces
        (Han, kana, Thai, Lao, Khmer, Myanmar) is a word of its own.
    """

    bands: int = 14
    rows: int = 8
    shingle: int = 5

    def __post_init__(self) -> None:
        for name, most in (("bands", 256), ("rows", 64), ("shingle", 64)):
            if not 1 <= getattr(self, name) <= most:
                given = getattr(self, name)
                raise ConfigError(f"MinHash: {name} is {given}; allowed: 1 to {most}")

    def candidate_probability(self, similarity: float) -> float:
        """How likely two documents of that Jaccard similarity, 0 to 1, share a key."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)

    def signature(self, text: str) -> NDArray[np.uint32]:
        """The least hash of the shingles under each permutation, shape (bands * rows,).

        The share of equal entries of two signatures estimates the Jaccard similarity, with the
        standard error sqrt(s (1 - s) / (bands * rows)). Case and punctuation do not count. A text
        shorter than a shingle is one shingle, and so is a text without words.

        A permutation is ((a x + b) mod 2^64) div 2^32 of 32 bits x, strongly universal
        (Dietzfelbinger 1996; Thorup 2015, "High speed hashing for integers and strings").
        """
        return self._least(text).astype(np.uint32)

    def band_keys(self, text: str) -> NDArray[np.uint64]:
        """One key of 64 bits a band, shape (bands,); equal where all rows of the band agree.

        A key is a random combination of its rows mod 2^64 (multilinear hashing; Lemire and Kaser
        2014): keys of rows that differ agree once in some 2^64 pairs.
        """
        rows = self._least(text).reshape(self.bands, self.rows)
        keys: NDArray[np.uint64] = (rows * _permutations(self.rows)[0]).sum(axis=1, dtype=np.uint64)
        return keys

    def _least(self, text: str) -> NDArray[np.uint64]:
        """`signature` in 64 bits."""
        scale, shift = _permutations(self.bands * self.rows)
        least = np.full(len(scale), _MOST, dtype=np.uint64)
        held = np.empty(0, dtype=np.uint64)
        found = False
        for hashes in _word_hashes(text):
            held = np.concatenate((held, hashes)) if len(held) else hashes
            if len(held) >= self.shingle:
                _lower(least, _shingles(held, self.shingle), scale, shift)
                found = True
            held = held[max(0, len(held) - self.shingle + 1) :]
        if not found:
            whole = held if len(held) else np.frombuffer(_word_hash(text), dtype="<u8")
            _lower(least, _shingles(whole, len(whole)), scale, shift)
        least >>= _HALF
        return least


FINEWEB = MinHash()


def signature_bands(text: str, settings: MinHash = FINEWEB) -> NDArray[np.uint64]:
    """The band keys of a text, shape (bands,)."""
    return settings.band_keys(text)


def words_of(text: str) -> list[str]:
    """The words that shingles are made of: lower case, letters, digits and underscores.

    Characters of scripts without spaces stand alone.
    """
    text = text.lower()
    return (_WORDS if text.isascii() else _WORDS_AND_CHARACTERS).findall(text)


def _word_hash(word: str) -> bytes:
    return hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()


class _WordHashes(dict[str, bytes]):
    """Hashes of the words met lately, 8 bytes each: words come again and again."""

    MOST = 2**18

    def __missing__(self, word: str) -> bytes:
        value = _word_hash(word)
        if len(self) < self.MOST and len(word) < 64:
            self[word] = value
        return value


_HASHES = _WordHashes()


def _word_hashes(text: str) -> Iterator[NDArray[np.uint64]]:
    """Hashes of the words in order, a long document in pieces that end with a word."""
    if len(_HASHES) >= _WordHashes.MOST:
        _HASHES.clear()
    start = 0
    while start < len(text):
        stop = start + _PIECE
        if stop < len(text):
            end = _WORD_END.search(text, stop)
            stop = end.start() if end else len(text)
        words = words_of(text[start:stop])
        yield np.frombuffer(b"".join(map(_HASHES.__getitem__, words)), dtype="<u8")
        start = stop


def _shingles(words: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Hashes of 32 bits of all runs of `size` words, shape (words - size + 1,)."""
    count = len(words) - size + 1
    mixed = words[:count].copy()
    for offset in range(1, size):
        mixed *= _MIX
        mixed += words[offset : offset + count]
    mixed >>= _HALF
    return mixed


@functools.cache
def _permutations(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Odd factors and summands, (count,) each; the same on every machine and version."""
    digests = b"".join(
        hashlib.blake2b(number.to_bytes(8, "little"), digest_size=16, person=b"minhash").digest()
        for number in range(count)
    )
    numbers = np.frombuffer(digests, dtype="<u8").reshape(count, 2).astype(np.uint64)
    return numbers[:, 0] | np.uint64(1), numbers[:, 1].copy()


def _lower(
    least: NDArray[np.uint64],
    shingles: NDArray[np.uint64],
    scale: NDArray[np.uint64],
    shift: NDArray[np.uint64],
) -> None:
    """Lower `least` (P,) to the least hash of (N,) shingles under each permutation, in place."""
    table = np.empty((min(_BLOCK, len(shingles)), len(scale)), dtype=np.uint64)
    for start in range(0, len(shingles), _BLOCK):
        block = shingles[start : start + _BLOCK, None]
        hashes = np.multiply(block, scale, out=table[: len(block)])
        hashes += shift
        np.minimum(least, hashes.min(axis=0), out=least)
