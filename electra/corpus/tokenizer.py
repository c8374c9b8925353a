"""Tokenizers: trained here as WordPiece (Wu et al. 2016, as in BERT), or taken from elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from electra.errors import ConfigError, DataError, did_you_mean

LONGEST_WORD = 100
"""Characters; a longer word is [UNK], as in BERT."""
# what may be a word too long: no white space and punctuation of ASCII, no Han; 34, since one
# character can become three (the parts of a Hangul syllable, where accents are stripped)
_MAYBE_LONG = re.compile(r"[^ \t\n\r!-/:-@\[-`{-~\u3400-\u4dbf\u4e00-\u9fff]{34,}")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROLES = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}


@dataclass(frozen=True)
class LanguageDefaults:
    """What a language asks of a WordPiece tokenizer."""

    lowercase: bool
    strip_accents: bool
    alphabet: int
    """Most characters kept; the rest become [UNK]."""


LANGUAGES = {
    "en": LanguageDefaults(lowercase=True, strip_accents=True, alphabet=1000),
    "zh": LanguageDefaults(lowercase=True, strip_accents=False, alphabet=8000),
    "ja": LanguageDefaults(lowercase=True, strip_accents=False, alphabet=8000),
    "ko": LanguageDefaults(lowercase=True, strip_accents=False, alphabet=4000),
    # dotless i and umlauts carry meaning; German nouns are capitalised
    "tr": LanguageDefaults(lowercase=False, strip_accents=False, alphabet=1000),
    "ar": LanguageDefaults(lowercase=False, strip_accents=False, alphabet=1000),
    "de": LanguageDefaults(lowercase=False, strip_accents=False, alphabet=1000),
    "other": LanguageDefaults(lowercase=False, strip_accents=False, alphabet=6000),
}


def language_defaults(language: str) -> LanguageDefaults:
    """Casing, accents and alphabet of a language; `other` stands for those not listed.

    Raises:
        ConfigError: the language is not listed.
    """
    if language not in LANGUAGES:
        raise ConfigError(
            f"--language is {language}; {did_you_mean(language, LANGUAGES)} "
            f"(listed: {', '.join(LANGUAGES)})"
        )
    return LANGUAGES[language]


def train_word_piece(
    texts: Iterable[str],
    *,
    vocab_size: int,
    lowercase: bool,
    strip_accents: bool,
    alphabet: int = 1000,
) -> Tokenizer:
    """Train a WordPiece vocabulary; Han characters are split, each a word of its own.

    The same texts give the same vocabulary, ids included. The trainer alone does not: it numbers
    the pieces of one character in the order of a hash table that differs from run to run, and
    breaks ties between merges by those numbers. So they are numbered for it.

    Args:
        texts: held in memory while training.
        vocab_size: word pieces, the special tokens counted.
        lowercase: lower the case.
        strip_accents: remove accents.
        alphabet: the most frequent characters kept; the rest become [UNK].

    Raises:
        DataError: there is no text.
    """
    texts = list(texts)
    tokenizer = _empty_word_piece(
        {t: i for i, t in enumerate(SPECIAL_TOKENS)}, lowercase, strip_accents
    )
    characters = _alphabet(texts, tokenizer, alphabet)
    inside = [f"##{c}" for c in characters if not _stands_alone(c)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(vocab_size, len(SPECIAL_TOKENS) + len(inside) + len(characters)),
        special_tokens=[*SPECIAL_TOKENS, *inside],
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    # they are [UNK] whatever is learned, and training takes the square of their length; done before
    # training, which locks the tokenizer
    texts = [_without_long_words(text, tokenizer) for text in texts]
    tokenizer.train_from_iterator(texts, trainer)
    # the trainer has made special tokens of `inside`: take the vocabulary alone
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return with_template(_empty_word_piece(vocabulary, lowercase, strip_accents))


def read_vocabulary(file: Path, *, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """A tokenizer from BERT's and ELECTRA's vocab.txt: a word piece a line, its id the row.

    Raises:
        DataError: the file cannot be read, or lacks one of the special tokens.
    """
    try:
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--vocab {file} cannot be read as UTF-8 text: {error}") from None
    # of a piece that stands there twice the later row counts, as in the reference
    vocabulary = {line.strip(): i for i, line in enumerate(lines)}
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise DataError(
            f"--vocab {file} lacks {', '.join(missing)}; a vocab.txt has one word piece a line, "
            "special tokens among them"
        )
    return with_template(_empty_word_piece(vocabulary, lowercase, strip_accents))


def _empty_word_piece(
    vocabulary: dict[str, int], lowercase: bool, strip_accents: bool
) -> Tokenizer:
    model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _without_long_words(text: str, tokenizer: Tokenizer) -> str:
    """The text without words over `LONGEST_WORD`, words being the tokenizer's."""

    def kept(match: re.Match[str]) -> str:
        run = match.group()
        parts = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(run))
        words = [word for word, _ in parts if len(word) <= LONGEST_WORD]
        return run if len(words) == len(parts) else " ".join(words)

    return _MAYBE_LONG.sub(kept, text)


def _alphabet(texts: list[str], tokenizer: Tokenizer, size: int) -> list[str]:
    """The most frequent characters after normalisation, sorted."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for part in tokenizer.normalizer.normalize_str(character):
            if not part.isspace():
                counts[part] += count
    if not counts:
        raise DataError("the corpus holds no text to train a tokenizer on")
    kept = sorted(counts, key=lambda c: (-counts[c], c))[:size]
    return sorted(kept)


def _stands_alone(character: str) -> bool:
    """Whether the pre-tokenizer makes a word of it: CJK ideographs and punctuation (as in BERT)."""
    if character.isascii():
        return not character.isalnum()
    category = unicodedata.category(character)
    return category.startswith("P") or unicodedata.name(character, "").startswith("CJK")


def with_template(tokenizer: Tokenizer) -> Tokenizer:
    """`[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`."""
    special = special_tokens(tokenizer)
    cls, sep = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[
            (cls, tokenizer.token_to_id(cls)),
            (sep, tokenizer.token_to_id(sep)),
        ],
    )
    return tokenizer


def load_tokenizer(source: str | Path) -> Tokenizer:
    """A fast tokenizer from a folder, a tokenizer.json, or a Hub id.

    Raises:
        DataError: there is none, or it lacks one of the five special tokens.
    """
    path = Path(source)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises bare Exception for a malformed file
            raise DataError(f"{file} is not a tokenizer: {error}") from None
    elif path.exists():
        raise DataError(f"{path} holds no tokenizer.json (a fast tokenizer is wanted)")
    else:
        try:
            tokenizer = Tokenizer.from_pretrained(str(source))
        except Exception as error:  # likewise, for whatever the Hub answered
            raise DataError(
                f"--tokenizer {source} is neither a folder nor a tokenizer of the Hub: {error}"
            ) from None
    special_tokens(tokenizer)
    # some are saved with the last call's, which would cut documents and pad them
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def num_ids(tokenizer: Tokenizer) -> int:
    """Rows an embedding table needs: the largest id and one; vocabularies may have holes."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values())) + 1


def special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """`pad_token`, `unk_token`, `cls_token`, `sep_token`, `mask_token` -> the token.

    Raises:
        DataError: a role has no token; pretraining needs all five.
    """
    found = {}
    for role, names in _ROLES.items():
        token = next((n for n in names if tokenizer.token_to_id(n) is not None), None)
        if token is None:
            raise DataError(f"the tokenizer has no {role}; one of {', '.join(names)} is wanted")
        found[role] = token
    return found


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the special tokens."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> SpecialIds:
        """Look them up in a tokenizer."""
        ids = {
            role.removesuffix("_token"): int(tokenizer.token_to_id(token) or 0)
            for role, token in special_tokens(tokenizer).items()
        }
        return cls(**ids)

    @property
    def never_masked(self) -> tuple[int, ...]:
        """[PAD], [CLS], [SEP] and [MASK]; [UNK] may be chosen, as in the reference."""
        return (self.pad, self.cls, self.sep, self.mask)


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of the tokenizer's JSON."""
    return hashlib.sha256(tokenizer.to_str().encode("utf-8")).hexdigest()


def vocabulary_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of what decides the ids that a text becomes: two tokenizers that agree are equal.

    Left out is what a file may say otherwise: padding, truncation, decoder, the template of special
    tokens (examples are built without it), and how an accent rule that is understood is written.
    """
    table = json.loads(tokenizer.to_str())
    normalizer = table["normalizer"]
    if normalizer and normalizer.get("type") == "BertNormalizer":
        # null: as lowercase
        if normalizer["strip_accents"] is None:
            normalizer["strip_accents"] = normalizer["lowercase"]
    apart = sorted(t["content"] for t in table["added_tokens"] if not t["special"])
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    model = {name: value for name, value in table["model"].items() if name != "vocab"}
    if not isinstance(table["model"]["vocab"], dict):  # unigram: pieces have scores
        model["vocab"] = table["model"]["vocab"]
    meaning = [normalizer, table["pre_tokenizer"], model, apart, vocabulary]
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def save_tokenizer(
    tokenizer: Tokenizer, folder: Path, *, max_length: int, token_types: bool
) -> None:
    """Write what `AutoTokenizer` opens, and `vocab.txt` for older tools.

    Args:
        tokenizer: the trained one.
        folder: where the model lies.
        max_length: becomes `model_max_length`.
        token_types: whether the model reads `token_type_ids`.
    """
    from transformers import PreTrainedTokenizerFast

    names = ["input_ids", *(["token_type_ids"] if token_types else []), "attention_mask"]
    fast_class: Any = PreTrainedTokenizerFast
    fast = fast_class(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        model_input_names=names,
        **special_tokens(tokenizer),
    )
    fast.save_pretrained(folder)
    save_vocabulary(tokenizer, folder)


def save_vocabulary(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `vocab.txt`, which transformers 5 leaves out, if the tokenizer is WordPiece."""
    if json.loads(tokenizer.to_str())["model"].get("type") != "WordPiece":
        return
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in tokens), encoding="utf-8")
