"""Where words begin: by the tokenizer's own marks, or by a segmenter where there are no spaces."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from typing import Any, Literal

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

_CLASS = re.compile(r"\[[^\s\\\]^]+\]")  # of characters that are no spaces
# bytes that characters from U+3000 to U+9FFF begin with, as byte-level tokenizers write them
_BYTES_OF_CJK = tuple("\xe3\xe4\xe5\xe6\xe7\xe8\xe9")
_LINE_BY_LINE = ("BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")
_ONE_SPACE = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}


def word_starts(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Whether each piece of the vocabulary begins a word, (V,); special tokens do.

    WordPiece: pieces without the continuing prefix (`##`), so that punctuation and each Han
    character are words of their own. Byte-level BPE and SentencePiece: pieces that begin with the
    mark of a space, so that a word keeps the punctuation behind it; and pieces that begin with a
    Chinese or Japanese character, since no spaces tell words there. Otherwise every piece is a
    word.
    """
    kind = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    starts = np.ones(num_ids(tokenizer), dtype=np.bool_)
    special = {token["id"] for token in kind["added_tokens"]}
    prefix = kind["model"].get("continuing_subword_prefix")
    pre_tokenizers = _types(kind["pre_tokenizer"])
    marks: tuple[str, ...] = ()
    if "ByteLevel" in pre_tokenizers:
        marks = (*_BYTE_LEVEL_SPACES, *_BYTES_OF_CJK)
    elif "Metaspace" in pre_tokenizers:
        marks = ("\u2581",)
    for piece, number in vocabulary.items():
        if number in special:
            continue
        if kind["model"]["type"] == "WordPiece" and prefix:
            starts[number] = not piece.startswith(prefix)
        elif marks:
            starts[number] = piece.startswith(marks) or "\u3000" < piece[:1] < "\ua000"
    return starts


def is_word_piece(tokenizer: Tokenizer) -> bool:
    """Whether words are split off before pieces, at white space, as BERT's are."""
    kind = json.loads(tokenizer.to_str())
    return (
        all(map(_keeps_lines, parts_of(kind["normalizer"])))
        and kind["model"]["type"] == "WordPiece"
        and _types(kind["pre_tokenizer"]) == {"BertPreTokenizer"}
    )


def line_encoding(tokenizer: Tokenizer) -> Literal["without_ends", "with_ends", "whole"]:
    """How the tokens of a document are those of its lines, one after another.

    `without_ends`: of its lines without their ends, of any text (WordPiece with BERT's
    pre-tokenizer; Unigram as it is trained here). `with_ends`: of its lines, each with the newline
    character behind it, of cleaned text, where no two spaces or line ends follow one another
    (byte-level BPE with the pattern of GPT-2). In both cases a line may also be cut before a space.
    `whole`: nothing is known of it.
    """
    if is_word_piece(tokenizer):
        return "without_ends"
    kind = json.loads(tokenizer.to_str())
    steps, cutters = parts_of(kind["normalizer"]), parts_of(kind["pre_tokenizer"])
    if len(cutters) != 1:
        return "whole"
    (cutter,) = cutters
    if cutter["type"] == "ByteLevel" and not cutter["add_prefix_space"] and cutter["use_regex"]:
        return "with_ends" if all(map(_keeps_lines, steps)) else "whole"
    if cutter["type"] == "Metaspace" and cutter["prepend_scheme"] == "always" and cutter["split"]:
        strips = steps[-2:] == [
            _ONE_SPACE,
            {"type": "Strip", "strip_left": True, "strip_right": True},
        ]
        return "without_ends" if strips and all(map(_keeps_lines, steps[:-2])) else "whole"
    return "whole"


def parts_of(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What a normalizer or pre-tokenizer is made of, in order."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [
        p
        for inner in (*part.get("normalizers", ()), *part.get("pretokenizers", ()))
        for p in parts_of(inner)
    ]


def _keeps_lines(step: dict[str, Any]) -> bool:
    """Whether a normalizer does to a text what it does to the lines of it."""
    if step["type"] == "Replace":
        old, class_ = step["pattern"].get("String", ""), step["pattern"].get("Regex", "[]")
        plain = not any(map(str.isspace, old + step["content"]))
        return plain and bool(old or _CLASS.fullmatch(class_))
    return step["type"] in _LINE_BY_LINE


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
