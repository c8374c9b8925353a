"""How text becomes tokens, and tokens sequences."""

from __future__ import annotations

import dataclasses
from typing import Literal

from electra.config.cleaning import CleaningSettings
from electra.config.option import option, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """How text becomes tokens; kept in the manifest of the corpus.

    Parameters
    ----------
    tokenizer
        Take this one (a folder or a Hub id) instead of training a WordPiece tokenizer.
    tokenizer_kind
        word_piece (as BERT), bpe (of bytes, as RoBERTa: nothing is unknown) or unigram (as ALBERT).
    vocab_size
        Pieces of the trained tokenizer.
    language
        en, zh, zh-hant, ja, ko, tr, ar, de or other: sets casing, accents, normal form, alphabet.
    lowercase
        Lower the case before tokenizing; default by language.
    strip_accents
        Remove accents before tokenizing; default by language.
    segmenter
        jieba marks the words of Chinese text for --objective.masking whole_word and span (extra
        zh); none: words are what the tokenizer's pieces say, a Han character each.
    text_column
        Where the text stands in .jsonl, .csv, .tsv, .parquet: a name or a 0-based number.
    encoding_errors
        strict stops at the first byte that is not UTF-8, replace goes on and counts.
    validation_share
        Share of the documents held out for evaluation.
    min_chars
        Shorter documents are left out.
    deduplicate
        Leave out exact repeats of a document.
    near_duplicates
        Leave out documents that share most of their word 5-grams with an earlier one (MinHash).
    cleaning
        Which documents are kept, and what is changed in them.
    licence
        Terms of the text; model cards name them.
    """

    tokenizer: str | None = None
    tokenizer_kind: str = "word_piece"
    vocab_size: int = 16_384
    language: str = "en"
    lowercase: bool | None = None
    strip_accents: bool | None = None
    segmenter: str = "none"
    text_column: str | None = None
    encoding_errors: str = "strict"
    validation_share: float = 0.01
    min_chars: int = 20
    deduplicate: bool = True
    near_duplicates: bool = False
    cleaning: CleaningSettings = dataclasses.field(default_factory=CleaningSettings)
    licence: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How the corpus becomes sequences."""

    max_length: int = option(128, "tokens in a sequence, [CLS] and [SEP] counted (L)")
    examples: Literal["packed", "documents", "two_segments"] = option(
        "packed",
        "packed: sequences run over document borders, marked by [SEP], and nothing is padded; "
        "documents: a sequence is a window of one document; two_segments: lines of one document "
        "in two segments, as the reference builds them",
    )
    document_attention: bool = option(
        False,
        "packed: a token attends to its own document alone (on a GPU by variable-length attention)",
    )

    def __post_init__(self) -> None:
        require(self.max_length >= 8, "data.max-length", self.max_length, "8 or more")
        require(
            not self.document_attention or self.examples == "packed",
            "data.document-attention",
            "true",
            f"false with --data.examples {self.examples}, whose rows hold one document each",
        )
