"""Documents that contain evaluation texts: found by n-grams of words that they share.

After Brown et al. 2020, "Language Models are Few-Shot Learners" (GPT-3), appendix C: lower case, no
punctuation, 13 words. There the text around a match is cut out and n-grams found in over ten
documents are passed over; here the document goes, for any of them.
"""

from __future__ import annotations

import functools
import hashlib
import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from electra.corpus.cleaning.characters import tidy
from electra.corpus.cleaning.writing import num_spaceless, tokens
from electra.corpus.files import expand, read_rows
from electra.errors import DataError

CHARACTERS_A_WORD = 2
"""In scripts without spaces: 13 words are 26 characters."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_KNOWN_WORDS = 1_000_000
_NAMES = ("ngrams", "files", "table")
_MOST_FILES = 2**16 - 1
"""Their numbers are uint16."""


class _WordNumbers(dict[str, int]):
    """A word -> 64 bits, the same on every machine; forgets all when it has grown large."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _KNOWN_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = self[word] = int.from_bytes(digest, "big")
        return number


class Contamination:
    """The n-grams of evaluation texts: hashes of 64 bits in order, and a table to say no fast."""

    def __init__(self, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Taken by `build` and `open`."""
        self.facts = facts
        """`words`, `files`, `texts`, `short` (texts of fewer words, which nothing can match)."""
        self._ngrams, self._file, self._table = (arrays[name] for name in _NAMES)
        self._lengths = [facts["words"]]
        if facts["spaceless"]:
            self._lengths.append(CHARACTERS_A_WORD * facts["words"])
        self._numbers = _WordNumbers()

    @classmethod
    def build(
        cls, paths: Sequence[str | Path], *, words: int = 13, encoding_errors: str = "strict"
    ) -> Contamination:
        """Read evaluation files: every text of every row, each line of plain text.

        Args:
            paths: files, folders and globs, of the kinds that corpora are read from.
            words: n; a text mostly in a script without spaces has n-grams of 2n characters.
            encoding_errors: `strict` or `replace`.

        Raises:
            DataError: a file cannot be read, no text in any of them has n words, or there are
                too many files.
        """
        files = expand(paths)
        if len(files) > _MOST_FILES:
            raise DataError(
                f"--cleaning.contaminated holds {len(files):,} files; allowed: {_MOST_FILES:,}; "
                "join some of them to one"
            )
        numbers = _WordNumbers()
        hashes: list[NDArray[np.uint64]] = []
        sources: list[NDArray[np.uint16]] = []
        texts = short = spaceless = 0
        for number, path in enumerate(files):
            for row in read_rows(path, encoding_errors=encoding_errors):
                for text in _texts_in(list(row.values())):
                    pieces = _pieces(text)
                    without = 2 * num_spaceless(pieces) > len(pieces)
                    grams = _hashes(pieces, words * (CHARACTERS_A_WORD if without else 1), numbers)
                    texts += 1
                    short += not len(grams)
                    spaceless += without and len(grams) > 0
                    hashes.append(grams)
                    sources.append(np.full(len(grams), number, dtype=np.uint16))
        ngrams, first = np.unique(
            np.concatenate([*hashes, np.zeros(0, np.uint64)]), return_index=True
        )
        if not len(ngrams):
            raise DataError(
                f"--cleaning.contaminated: none of the {texts:,} texts in {len(files)} files has "
                f"{words} words; lower --cleaning.contamination-words, or leave the files out"
            )
        bits = max(16, len(ngrams).bit_length() + 4)
        table = np.zeros(1 << bits, dtype=np.bool_)
        table[ngrams >> np.uint64(64 - bits)] = True
        facts = {
            "words": words,
            "files": [str(path) for path in files],
            "texts": texts,
            "short": short,
            "ngrams": len(ngrams),
            "spaceless": bool(spaceless),
        }
        file = np.concatenate(sources)[first]
        return cls(facts, {"ngrams": ngrams, "files": file, "table": table})

    def save(self, folder: Path) -> None:
        """Write the index, which all worker processes share from the page cache."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in zip(_NAMES, (self._ngrams, self._file, self._table), strict=True):
            np.save(folder / f"{name}.npy", values, allow_pickle=False)
        text = json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n"
        (folder / "contamination.json").write_text(text, encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> Contamination:
        """Map a saved index.

        Raises:
            DataError: it is not there or not whole.
        """
        try:
            facts = json.loads((folder / "contamination.json").read_text(encoding="utf-8"))
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in _NAMES
            }
            return cls(facts, arrays)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder} holds no whole index of evaluation texts ({error}); remove it and "
                "prepare again"
            ) from None

    @classmethod
    def shared(cls, folder: Path) -> Contamination:
        """As `open`, but once a process: the parts it works through share what was opened."""
        file = folder / "contamination.json"
        # another index may have come to the same place
        written = file.stat().st_mtime_ns if file.is_file() else 0
        return _opened(folder, written)

    def __call__(self, text: str) -> str | None:
        """The evaluation file that a tidy text shares an n-gram with, the first found, or None."""
        pieces = tokens(text.lower())
        if len(pieces) < self._lengths[0]:
            return None
        ids = _ids(pieces, self._numbers)
        shift = np.uint64(64 - (len(self._table) - 1).bit_length())
        for n in self._lengths:
            grams = _rolled(ids, n)
            maybe = grams[self._table[grams >> shift]]
            if len(maybe):
                places = np.searchsorted(self._ngrams, maybe)
                places = places[self._ngrams[np.minimum(places, len(self._ngrams) - 1)] == maybe]
                if len(places):
                    name: str = self.facts["files"][int(self._file[places[0]])]
                    return name
        return None


@functools.lru_cache(maxsize=1)
def _opened(folder: Path, written: int) -> Contamination:
    return Contamination.open(folder)


def _texts_in(values: list[Any]) -> Iterator[str]:
    """Texts of a row, also in the lists and objects it holds."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _texts_in(list(value.values()))
        elif isinstance(value, list):
            yield from _texts_in(value)


def _pieces(text: str) -> list[str]:
    return tokens(tidy(text).lower())


def _ids(pieces: list[str], numbers: _WordNumbers) -> NDArray[np.uint64]:
    return np.frombuffer(array("Q", map(numbers.__getitem__, pieces)), dtype=np.uint64)


def _hashes(pieces: list[str], n: int, numbers: _WordNumbers) -> NDArray[np.uint64]:
    return _rolled(_ids(pieces, numbers), n) if len(pieces) >= n else np.zeros(0, np.uint64)


def _rolled(ids: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """(len(ids) - n + 1,) a hash of each run of n, its upper bits as good as any."""
    total = np.zeros(max(0, len(ids) - n + 1), dtype=np.uint64)
    for k in range(n):
        total = total * _MULTIPLIER + ids[k : k + len(total)]
    return total ^ (total >> np.uint64(32))
