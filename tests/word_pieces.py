"""WordPiece of no language in particular."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer

from electra.corpus.languages import LanguageSettings
from electra.corpus.tokenizer_training import train_tokenizer


def train_word_piece(
    texts: Iterable[str],
    *,
    vocab_size: int,
    lowercase: bool,
    strip_accents: bool,
    alphabet: int = 1000,
) -> Tokenizer:
    """`train_tokenizer` with the settings given one by one."""
    settings = LanguageSettings("other", lowercase, strip_accents, "NFC", alphabet, "as asked for")
    return train_tokenizer(texts, kind="word_piece", vocab_size=vocab_size, settings=settings)
