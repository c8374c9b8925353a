"""Documents to tokens, with their lines and, where a segmenter is given, their words."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from electra.corpus.pieces import grouped, pieces_of
from electra.corpus.words import (
    Segmenter,
    is_word_piece,
    line_encoding,
    parts_of,
    word_starts,
)
from electra.errors import ConfigError

_GROUP = 1_000_000
"""Characters encoded in parallel at once; each token takes over 100 bytes until its ids are out."""
_PIECE = 100_000
"""Characters from which on a line is cut, for the same reason."""


@dataclass(frozen=True)
class EncodedDocument:
    """Tokens of one document, special ones not added."""

    ids: NDArray[np.uint32]
    line_lengths: list[int]
    """Tokens of each line, in sum as many as `ids`."""
    starts_word: NDArray[np.bool_] | None
    """(len(ids),) by the segmenter; None without one."""


class DocumentEncoder:
    """Tokenizes documents in parallel and finds where their lines begin.

    Where the tokens of a document are those of its lines, one after another (`line_encoding`),
    lines are what the tokenizer is given, some at a time, so that memory does not depend on the
    length of a document. Long lines are cut before spaces, and where it is safe (`_has_han_apart`)
    before Chinese characters. Other tokenizers get the document whole, and a line begins with the
    first token that reaches into it.
    """

    def __init__(self, tokenizer: Tokenizer, segmenter: Segmenter | None = None) -> None:
        """Take the tokenizer.

        Raises:
            ConfigError: a segmenter beside a tokenizer whose pieces are no parts of its words.
        """
        self._tokenizer, self._segmenter = tokenizer, segmenter
        lines = line_encoding(tokenizer)
        self._by_lines = lines != "whole" and segmenter is None
        self._end = "\n" if lines == "with_ends" else ""
        self._cuts_han = _has_han_apart(tokenizer)
        self._pieces_start = word_starts(tokenizer)
        if segmenter is not None and not is_word_piece(tokenizer):
            raise ConfigError(
                "--segmenter needs a WordPiece tokenizer with BERT's pre-tokenizer, whose Han "
                "characters are tokens; the one given by --tokenizer is another"
            )

    def encode(self, texts: Sequence[str]) -> Iterator[EncodedDocument]:
        """Tokens of each document; the lines of a text end at newline characters."""
        return self._encode_lines(texts) if self._by_lines else self._encode_whole(texts)

    def _encode_lines(self, texts: Sequence[str]) -> Iterator[EncodedDocument]:
        lines = (line for text in texts for line in self._lines(text))
        encoded = self._ids_of(piece for line in lines for piece in self._pieces(line))
        for text in texts:
            ids = array("I")
            lengths = []
            for line in self._lines(text):
                before = len(ids)
                for _ in self._pieces(line):
                    ids.extend(next(encoded))
                lengths.append(len(ids) - before)
            yield EncodedDocument(np.asarray(ids, dtype=np.uint32), lengths, None)

    def _pieces(self, line: str) -> Iterator[str]:
        return pieces_of(line, _PIECE, before_han=self._cuts_han)

    def _lines(self, text: str) -> list[str]:
        """The lines, with their ends where these are tokens."""
        lines = text.split("\n")
        return [*(line + self._end for line in lines[:-1]), lines[-1]]

    def _ids_of(self, pieces: Iterable[str]) -> Iterator[list[int]]:
        for group in grouped(((piece, len(piece)) for piece in pieces), _GROUP):
            for encoding in self._tokenizer.encode_batch_fast(group, add_special_tokens=False):
                yield encoding.ids

    def _encodings_of(self, texts: Sequence[str]) -> Iterator[tuple[str, Encoding]]:
        for group in grouped(((text, len(text)) for text in texts), _GROUP):
            encode = self._tokenizer.encode_batch  # in one expression: all are let go together
            yield from zip(group, encode(group, add_special_tokens=False), strict=True)

    def _encode_whole(self, texts: Sequence[str]) -> Iterator[EncodedDocument]:
        for text, encoding in self._encodings_of(texts):
            offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)  # in code points
            ends = _positions(len(line) + 1 for line in text.split("\n"))
            firsts = np.searchsorted(offsets[:, 1], ends[:-1], side="right")
            lengths = np.diff(firsts, prepend=0, append=len(offsets)).tolist()
            starts = None
            if self._segmenter is not None:
                words = _positions(map(len, self._segmenter(text)))
                word = np.searchsorted(words, offsets[:, 0], side="right")
                starts = np.diff(word, prepend=-1) > 0
                starts &= self._pieces_start[encoding.ids]
            yield EncodedDocument(np.array(encoding.ids, dtype=np.uint32), lengths, starts)


def _has_han_apart(tokenizer: Tokenizer) -> bool:
    """Whether the tokens of a line are those of its pieces, also when cut before Han characters.

    So it is where `is_word_piece` and BERT's normalizer sets spaces around these characters, if
    nothing replaces them.
    """
    steps = parts_of(json.loads(tokenizer.to_str())["normalizer"])
    apart = any(s["type"] == "BertNormalizer" and s["handle_chinese_chars"] for s in steps)
    replaced = (
        p.get("Regex", "") + p.get("String", "")
        for p in (s["pattern"] for s in steps if s["type"] == "Replace")
    )
    # classes are ranges of characters, so below these their ends are, too
    return apart and is_word_piece(tokenizer) and all(max(p) < "\u2e80" for p in replaced if p)


def _positions(lengths: Iterator[int]) -> NDArray[np.int64]:
    """Where things of these lengths end."""
    return np.cumsum(np.fromiter(lengths, dtype=np.int64))
