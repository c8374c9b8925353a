"""What a language asks of a tokenizer that is trained: casing, accents, normal form, alphabet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tokenizers import Regex, normalizers

from electra.errors import ConfigError, did_you_mean

# short vowels and doubling (U+064B-U+0652), the small alef (U+0670), and tatweel (U+0640), which
# stretches a line; letters with hamza and madda are letters of their own and stay
ARABIC_MARKS = "[\u0640\u064b-\u0652\u0670]"
_TURKISH_LOWER = (("\u0130", "i"), ("I", "\u0131"))


@dataclass(frozen=True)
class LanguageSettings:
    """How text of a language is normalised before it is split."""

    language: str
    lowercase: bool
    """Turkish: I becomes dotless \u0131, \u0130 becomes i."""
    strip_accents: bool
    """Remove accents; Arabic: short vowels and tatweel alone, as AraBERT does."""
    form: str
    """Unicode's normal form: NFC; NFKC also makes full-width and half-width characters one."""
    alphabet: int
    """Most characters kept by WordPiece and Unigram; the rest become [UNK]."""
    reason: str
    """Why so: which well-known encoders do."""


def _table(*rows: LanguageSettings) -> dict[str, LanguageSettings]:
    return {row.language: row for row in rows}


LANGUAGES = _table(
    LanguageSettings("en", True, True, "NFC", 1000, "as BERT uncased and ELECTRA"),
    LanguageSettings(
        "zh",
        *(True, False, "NFC", 8000),
        "Latin letters are few, as in BERT-base-Chinese; full-width punctuation is the usual one",
    ),
    LanguageSettings(
        "zh-hant",
        *(True, False, "NFC", 10_000),
        "as zh; the traditional script has more characters in use",
    ),
    LanguageSettings(
        "ja",
        *(False, False, "NFKC", 8000),
        "as Tohoku's BERT: cased, full and half width made one; accents hold the voicing marks",
    ),
    LanguageSettings(
        "ko",
        *(False, False, "NFC", 4000),
        "as KLUE-BERT and KoELECTRA: cased; removing accents would take syllables to parts",
    ),
    LanguageSettings(
        "tr",
        *(False, False, "NFC", 1000),
        "as BERTurk cased: the dots of i and \u0131, \u00f6 and \u00fc tell words apart",
    ),
    LanguageSettings(
        "ar",
        *(False, False, "NFC", 1000),
        "no case in the script; --strip-accents removes short vowels and tatweel, as AraBERT does",
    ),
    LanguageSettings(
        "de", False, False, "NFC", 1000, "as GELECTRA: nouns are capitalised, umlauts are letters"
    ),
    LanguageSettings(
        "other", False, False, "NFC", 6000, "nothing is known of it, so nothing is taken away"
    ),
)


def language_defaults(language: str) -> LanguageSettings:
    """The settings of a language; `other` stands for those not listed.

    Raises:
        ConfigError: the language is not listed.
    """
    if language not in LANGUAGES:
        raise ConfigError(f"--language is {language}; {did_you_mean(language, LANGUAGES)}")
    return LANGUAGES[language]


def language_settings(
    language: str, *, lowercase: bool | None = None, strip_accents: bool | None = None
) -> LanguageSettings:
    """The settings of a language, with what was chosen otherwise.

    Args:
        language: a name in `LANGUAGES`.
        lowercase: none: as the language has it.
        strip_accents: none: as the language has it.

    Raises:
        ConfigError: the language is not listed.
    """
    settings = language_defaults(language)
    if lowercase is not None:
        settings = replace(settings, lowercase=lowercase)
    if strip_accents is not None:
        settings = replace(settings, strip_accents=strip_accents)
    return settings


def language_facts(settings: LanguageSettings, kind: str) -> dict[str, Any]:
    """What a manifest says of the normalisation, ready for JSON.

    Args:
        settings: the language's.
        kind: word_piece, bpe or unigram.
    """
    arabic = settings.language == "ar"
    strips = "short vowels and tatweel" if arabic else "all"
    turkish = settings.language == "tr"
    return {
        "language": settings.language,
        "kind": kind,
        "lowercase": settings.lowercase,
        "lowercase_rule": "turkish" if turkish and settings.lowercase else "unicode",
        "strip_accents": settings.strip_accents,
        "stripped_accents": strips if settings.strip_accents else "none",
        "normal_form": settings.form,
        "han_characters": "each a word" if kind == "word_piece" else "in pieces of any length",
        "alphabet": 256 if kind == "bpe" else settings.alphabet,
        "alphabet_of": "bytes" if kind == "bpe" else "characters",
        "reason": settings.reason,
    }


def normalizer_of(settings: LanguageSettings, kind: str) -> normalizers.Normalizer:
    """The normalizer of a tokenizer that is trained.

    WordPiece of English and its like is BERT's alone, so that vocab.txt says all. Unigram also
    makes white space single spaces, as SentencePiece does; byte-level BPE keeps it.
    """
    steps: list[normalizers.Normalizer] = []
    bert = kind == "word_piece"
    arabic = settings.language == "ar"
    strips_all = settings.strip_accents and not arabic
    if settings.form == "NFKC" or not (bert and strips_all):
        steps.append(normalizers.NFKC() if settings.form == "NFKC" else normalizers.NFC())
    if settings.strip_accents and arabic:
        steps.append(normalizers.Replace(Regex(ARABIC_MARKS), ""))
    if settings.lowercase and settings.language == "tr":
        steps += [normalizers.Replace(old, new) for old, new in _TURKISH_LOWER]
    if bert:
        steps.append(
            normalizers.BertNormalizer(
                clean_text=True,
                handle_chinese_chars=True,
                strip_accents=strips_all,
                lowercase=settings.lowercase,
            )
        )
        return steps[0] if len(steps) == 1 else normalizers.Sequence(steps)
    if strips_all:
        again = normalizers.NFKC() if settings.form == "NFKC" else normalizers.NFC()
        steps += [normalizers.NFD(), normalizers.StripAccents(), again]
    if settings.lowercase:
        steps.append(normalizers.Lowercase())
    if kind == "unigram":
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence(steps)
