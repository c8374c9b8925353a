"""Where words begin: by the tokenizer's own marks, or by a segmenter where there are no spaces."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from electra.corpus.tokenizer import num_ids
from electra.errors import ConfigError

SEGMENTERS = ("none", "jieba")
Segmenter = Callable[[str], list[str]]
"""A text to its words, spaces and punctuation among them; joined they are the text again."""
_BYTE_LEVEL_SPACES = ("\u0120", "\u010a", "\u0109", "\u010d")
"""Space, newline, tab and carriage return, as byte-level tokenizers write them."""


def word_starts(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Whether each piece of the vocabulary begins a word, (V,); special tokens do.

    WordPiece: pieces without the continuing prefix (`##`), so that punctuation and each Han
    character are words of their own. Byte-level BPE and SentencePiece: pieces that begin with the
    mark of a space, so that a word keeps the punctuation behind it; without spaces, as in Chinese,
    the words of these are whole phrases. Otherwise every piece is a word.
    """
    kind = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    starts = np.ones(num_ids(tokenizer), dtype=np.bool_)
    special = {token["id"] for token in kind["added_tokens"]}
    prefix = kind["model"].get("continuing_subword_prefix")
    pre_tokenizers = _types(kind["pre_tokenizer"])
    marks: tuple[str, ...] = ()
    if "ByteLevel" in pre_tokenizers:
        marks = _BYTE_LEVEL_SPACES
    elif "Metaspace" in pre_tokenizers:
        marks = ("\u2581",)
    for piece, number in vocabulary.items():
        if number in special:
            continue
        if kind["model"]["type"] == "WordPiece" and prefix:
            starts[number] = not piece.startswith(prefix)
        elif marks:
            starts[number] = piece.startswith(marks)
    return starts


def is_word_piece(tokenizer: Tokenizer) -> bool:
    """Whether words are split off before pieces, at white space, as BERT's are."""
    kind = json.loads(tokenizer.to_str())
    plain = _types(kind["normalizer"]) <= {"BertNormalizer"}
    return (
        plain
        and kind["model"]["type"] == "WordPiece"
        and _types(kind["pre_tokenizer"]) == {"BertPreTokenizer"}
    )


def _types(part: dict[str, Any] | None) -> set[str]:
    """Names of a normalizer or pre-tokenizer and of what it is made of."""
    if part is None:
        return set()
    inside = [*part.get("normalizers", ()), *part.get("pretokenizers", ())]
    return set().union(*map(_types, inside)) if inside else {part["type"]}


def load_segmenter(name: str) -> Segmenter | None:
    """The segmenter of that name; None for `none`.

    Raises:
        ConfigError: there is no such segmenter, or its package is not installed.
    """
    if name not in SEGMENTERS:
        raise ConfigError(f"--segmenter is {name}; allowed: {', '.join(SEGMENTERS)}")
    if name == "none":
        return None
    try:
        package = importlib.import_module("rjieba")
    except ImportError:
        raise ConfigError(
            '--segmenter jieba needs rjieba, which is not installed: pip install "electra[zh]"'
        ) from None
    segmenter: Segmenter = package.Jieba().cut
    return segmenter
