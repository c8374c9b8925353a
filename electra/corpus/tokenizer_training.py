"""Tokenizers trained here: WordPiece (as BERT), byte-level BPE (as RoBERTa), Unigram (as ALBERT).

The same texts give the same vocabulary, ids included, in any process and with any number of
threads. Not all trainers of `tokenizers` do so by themselves:

- WordPiece's numbers the pieces of one character in the order of a hash table that differs from run
  to run, and breaks ties between merges by those numbers. So they are numbered for it.
- BPE's sorts its alphabet; it is repeatable as it is.
- Unigram's adds up in the order of a hash table: scores differ in their last digits, and characters
  that no piece holds get theirs in that order. So scores are rounded, those characters get the
  least one, and pieces are sorted. Only where two pieces tie at a cut up to the fifteenth digit
  could the sets differ; in trials they never did.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from electra.corpus.languages import LanguageSettings, normalizer_of
from electra.corpus.tokenizer import LONGEST_WORD, SPECIAL_TOKENS, with_template
from electra.errors import ConfigError, DataError, did_you_mean

KINDS = ("word_piece", "bpe", "unigram")
# what may be a word too long: no white space and punctuation of ASCII, no Han; 34, since one
# character can become three (the parts of a Hangul syllable, where accents are stripped)
_MAYBE_LONG = re.compile(r"[^ \t\n\r!-/:-@\[-`{-~\u3400-\u4dbf\u4e00-\u9fff]{34,}")
_LONG_RUN = re.compile(r"\S{200}(?=\S)")
_REQUIRED_STEP = 1e-4
"""Between the scores that the Unigram trainer gives to characters that no piece holds."""
_NEVER = -1e4
"""Score of special tokens in Unigram: text that looks like one is segmented otherwise."""


def train_tokenizer(
    texts: Iterable[str], *, kind: str, vocab_size: int, settings: LanguageSettings
) -> Tokenizer:
    """Train a tokenizer with the five special tokens as ids 0 to 4 and the template of `[CLS]`.

    Args:
        texts: held in memory while training.
        kind: word_piece (Wu et al. 2016; Han characters are words of their own), bpe (Sennrich et
            al. 2016, of bytes as Radford et al. 2019; nothing is unknown) or unigram (Kudo 2018).
        vocab_size: pieces, the special tokens counted; more where the alphabet alone is larger,
            fewer where the text has no more.
        settings: of the language.

    Raises:
        ConfigError: there is no such kind.
        DataError: there is no text.
    """
    if kind not in KINDS:
        raise ConfigError(f"--tokenizer-kind is {kind}; {did_you_mean(kind, KINDS)}")
    texts = list(texts)
    normalizer = normalizer_of(settings, kind)
    if kind == "bpe":
        return with_template(_train_bpe(texts, vocab_size, normalizer))
    characters = _alphabet(texts, normalizer, settings.alphabet)
    train = _train_word_piece if kind == "word_piece" else _train_unigram
    return with_template(train(texts, vocab_size, normalizer, characters))


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
    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    return with_template(_word_piece_of(vocabulary, normalizer))


def _word_piece_of(vocabulary: dict[str, int], normalizer: normalizers.Normalizer) -> Tokenizer:
    """A WordPiece tokenizer as BERT's, but for the normalizer; without a template."""
    model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _train_word_piece(
    texts: list[str],
    vocab_size: int,
    normalizer: normalizers.Normalizer,
    characters: list[str],
) -> Tokenizer:
    tokenizer = _word_piece_of({t: i for i, t in enumerate(SPECIAL_TOKENS)}, normalizer)
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
    return _word_piece_of(tokenizer.get_vocab(with_added_tokens=True), normalizer)


def _train_bpe(texts: list[str], vocab_size: int, normalizer: normalizers.Normalizer) -> Tokenizer:
    if not any(text.strip() for text in texts):
        raise _no_text()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocab_size, len(SPECIAL_TOKENS) + len(alphabet)),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    # training takes long for long words; a line end is a word of its own and changes no other
    tokenizer.train_from_iterator((_LONG_RUN.sub("\\g<0>\n", text) for text in texts), trainer)
    return tokenizer


def _train_unigram(
    texts: list[str],
    vocab_size: int,
    normalizer: normalizers.Normalizer,
    characters: list[str],
) -> Tokenizer:
    # what special tokens are spelled with is known, so that text like them is never their piece
    alphabet = sorted({*characters, *"".join(SPECIAL_TOKENS)})
    tokenizer = _unigram_of(models.Unigram(), normalizer)
    trainer = trainers.UnigramTrainer(
        vocab_size=max(vocab_size, len(SPECIAL_TOKENS) + len(alphabet) + 1),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        unk_token="[UNK]",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_within(alphabet, texts, normalizer), trainer)
    learned = json.loads(tokenizer.to_str())["model"]["vocab"]
    pieces = _repeatable([(p, s) for p, s in learned if p not in SPECIAL_TOKENS])
    vocabulary = [*((token, _NEVER) for token in SPECIAL_TOKENS), *pieces]
    tokenizer = _unigram_of(models.Unigram(vocabulary, unk_id=1), normalizer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _unigram_of(model: models.Unigram, normalizer: normalizers.Normalizer) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _repeatable(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The same pieces and scores from every run, the likeliest first."""
    least = min(score for _, score in pieces)
    reach = least + _REQUIRED_STEP * sum(len(piece) == 1 for piece, _ in pieces)
    even = [
        (piece, round(least if len(piece) == 1 and score <= reach else score, 4))
        for piece, score in pieces
    ]
    return sorted(even, key=lambda entry: (-entry[1], entry[0]))


def _within(
    alphabet: list[str], texts: list[str], normalizer: normalizers.Normalizer
) -> Iterator[str]:
    """The texts, with a space for each character that is not of the alphabet."""
    known = {*alphabet, " "}
    used = set().union(*map(set, texts))
    rare = {ord(c): " " for c in used if not known.issuperset(normalizer.normalize_str(c))}
    return (text.translate(rare) for text in texts)


def _without_long_words(text: str, tokenizer: Tokenizer) -> str:
    """The text without words over `LONGEST_WORD`, words being the tokenizer's."""

    def kept(match: re.Match[str]) -> str:
        run = match.group()
        parts = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(run))
        words = [word for word, _ in parts if len(word) <= LONGEST_WORD]
        return run if len(words) == len(parts) else " ".join(words)

    return _MAYBE_LONG.sub(kept, text)


def _alphabet(texts: list[str], normalizer: normalizers.Normalizer, size: int) -> list[str]:
    """The most frequent characters after normalisation, sorted."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for part in normalizer.normalize_str(character):
            if not part.isspace():
                counts[part] += count
    if not counts:
        raise _no_text()
    kept = sorted(counts, key=lambda c: (-counts[c], c))[:size]
    return sorted(kept)


def _no_text() -> DataError:
    return DataError("the corpus holds no text to train a tokenizer on")


def _stands_alone(character: str) -> bool:
    """Whether the pre-tokenizer makes a word of it: CJK ideographs and punctuation (as in BERT)."""
    if character.isascii():
        return not character.isalnum()
    category = unicodedata.category(character)
    return category.startswith("P") or unicodedata.name(character, "").startswith("CJK")
