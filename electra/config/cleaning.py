"""Which documents of a corpus are kept, and what is changed in them."""

from __future__ import annotations

import dataclasses

from electra.config.option import require

NORMALIZATIONS = ("NFC", "NFKC", "none")
LANGUAGE_MODELS = ("auto", "script", "py3langid")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleaningSettings:
    """Which documents are kept; every rule that removes some is counted in the manifest.

    Line ends, control and zero-width characters and spaces are always tidied.

    Parameters
    ----------
    normalization
        Unicode form of the text: NFC, NFKC (also full-width letters, ligatures) or none.
    symbols
        Leave out documents of hashes, ellipses, bullet lists and words without letters (Gopher).
    markup
        Remove HTML tags and entities, and the marks of wiki text.
    c4
        C4's rules: keep lines that end as sentences do; five sentences or more in a document.
    repetition
        Leave out documents that repeat lines, paragraphs or n-grams of words (Gopher, table A1).
    gopher
        Gopher's quality rules: number of words, their mean length, stop words.
    fineweb
        FineWeb's three rules: lines without punctuation, repeated lines, short lines.
    languages
        Keep documents of these only: codes with commas between, as en,zh.
    language_share
        Documents go where less than this of their letters (or of the model's probability) is in
        the languages kept.
    language_model
        auto: py3langid where it is installed (extra language), else by script; script: never;
        py3langid: always.
    personal_data
        Put email@example.com, 22.214.171.124 and 2001:db8::1 for e-mail and public IP addresses.
    contaminated
        Files of evaluation texts: documents that share a run of words with one of them go.
    contamination_words
        Length of that run; twice as many characters where there are no spaces.
    """

    normalization: str = "NFC"
    symbols: bool = True
    markup: bool = False
    c4: bool = False
    repetition: bool = False
    gopher: bool = False
    fineweb: bool = False
    languages: str | None = None
    language_share: float = 0.5
    language_model: str = "auto"
    personal_data: bool = False
    contaminated: tuple[str, ...] = ()
    contamination_words: int = 13

    def __post_init__(self) -> None:
        require(
            self.normalization in NORMALIZATIONS,
            "cleaning.normalization",
            self.normalization,
            ", ".join(NORMALIZATIONS),
        )
        require(
            0 < self.language_share <= 1, "cleaning.language-share", self.language_share, "0 to 1"
        )
        require(
            self.language_model in LANGUAGE_MODELS,
            "cleaning.language-model",
            self.language_model,
            ", ".join(LANGUAGE_MODELS),
        )
        require(
            2 <= self.contamination_words <= 100,
            "cleaning.contamination-words",
            self.contamination_words,
            "2 to 100",
        )
