"""Documents to tokens, with their lines and, where a segmenter is given, their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from electra.corpus.words import Segmenter, is_word_piece, word_starts
from electra.errors import ConfigError


@dataclass(frozen=True)
class EncodedDocument:
    """Tokens of one document, special ones not added."""

    ids: list[int]
    line_lengths: list[int]
    """Tokens of each line, in sum as many as `ids`."""
    starts_word: NDArray[np.bool_] | None
    """(len(ids),) by the segmenter; None without one."""


class DocumentEncoder:
    """Tokenizes documents in parallel and finds where their lines begin.

    A WordPiece tokenizer splits at white space first, so the tokens of a document are those of its
    lines, one after another, and lines are what it is given. Others (a SentencePiece tokenizer
    marks the space at a line's end, a byte-level one keeps it as a token) get the document whole,
    and a line begins with the first token that reaches into it.
    """

    def __init__(self, tokenizer: Tokenizer, segmenter: Segmenter | None = None) -> None:
        """Take the tokenizer.

        Raises:
            ConfigError: a segmenter beside a tokenizer whose pieces are no parts of its words.
        """
        self._tokenizer, self._segmenter = tokenizer, segmenter
        self._by_lines = is_word_piece(tokenizer) and segmenter is None
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
        lines = [text.split("\n") for text in texts]
        encodings = iter(
            self._tokenizer.encode_batch_fast(
                [line for document in lines for line in document], add_special_tokens=False
            )
        )
        for document in lines:
            ids: list[int] = []
            lengths = []
            for _ in document:
                piece = next(encodings).ids
                lengths.append(len(piece))
                ids += piece
            yield EncodedDocument(ids, lengths, None)

    def _encode_whole(self, texts: Sequence[str]) -> Iterator[EncodedDocument]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for text, encoding in zip(texts, encodings, strict=True):
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
            yield EncodedDocument(encoding.ids, lengths, starts)


def _positions(lengths: Iterator[int]) -> NDArray[np.int64]:
    """Where things of these lengths end."""
    return np.cumsum(np.fromiter(lengths, dtype=np.int64))
