"""The rules in their order, over one document after another, with counts and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from electra.config.cleaning import CleaningSettings
from electra.corpus.cleaning.characters import tidy
from electra.corpus.cleaning.contamination import Contamination
from electra.corpus.cleaning.gopher import quality_reason, repetition_reason
from electra.corpus.cleaning.languages import LanguageRule
from electra.corpus.cleaning.markup import without_markup
from electra.corpus.cleaning.personal_data import mask_personal_data
from electra.corpus.cleaning.symbols import symbols_reason
from electra.corpus.cleaning.web import c4_lines, fineweb_reason
from electra.corpus.cleaning.writing import has_spaces

EXAMPLES = 3
EXAMPLE_CHARACTERS = 200
TOO_SHORT = "shorter than min_chars"
_INDEX = "contamination"


class _Settings(Protocol):
    @property
    def cleaning(self) -> CleaningSettings: ...
    @property
    def min_chars(self) -> int: ...
    @property
    def language(self) -> str: ...


class Cleaner:
    """Cleans documents one by one; a document is removed for the first rule it breaks.

    First the text is changed (characters, markup, C4's lines, personal data), then it is judged
    (length, language, symbols, quality, repetition, FineWeb, evaluation texts). Cleaning what was
    cleaned changes nothing. Exact and near duplicates are found elsewhere, over all documents.
    """

    def __init__(
        self,
        settings: CleaningSettings | None = None,
        *,
        min_chars: int = 0,
        language: str = "en",
        contamination: Contamination | None = None,
    ) -> None:
        """Take the rules.

        Args:
            settings: which rules there are.
            min_chars: shorter documents are removed; empty ones always.
            language: one of `languages.LANGUAGES`: whose stop words are looked for.
            contamination: n-grams of evaluation texts.

        Raises:
            ConfigError: a language or its model that is not there.
        """
        self.settings = settings or CleaningSettings()
        self._min_chars = max(1, min_chars)
        self._language = language
        self._contamination = contamination
        self._in_language: LanguageRule | None = None
        if self.settings.languages is not None:
            self._in_language = LanguageRule(
                self.settings.languages,
                share=self.settings.language_share,
                model=self.settings.language_model,
            )
        self.read = self.kept = 0
        self.removed: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    @classmethod
    def of(cls, settings: _Settings, folder: Path | None = None) -> Cleaner:
        """The cleaner of a recipe, with the index that `write_contamination` left in `folder`."""
        cleaning = settings.cleaning
        index = None
        if cleaning.contaminated and folder is not None:
            index = Contamination.shared(folder / _INDEX)
        return cls(
            cleaning,
            min_chars=settings.min_chars,
            language=settings.language,
            contamination=index,
        )

    def __call__(self, text: str) -> str | None:
        """The cleaned document, or None where it is removed."""
        self.read += 1
        raw, text = text, tidy(text, self.settings.normalization)
        text, reason = self._changed(text)
        reason = reason or self._judged(text, raw)
        if reason is None:
            self.kept += 1
            return text
        self.removed[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append((text or raw)[:EXAMPLE_CHARACTERS])
        return None

    def _changed(self, text: str) -> tuple[str, str | None]:
        settings = self.settings
        if not (settings.markup or settings.c4 or settings.personal_data):
            return text, None
        if settings.markup:
            text, count, more = without_markup(text)
            if count:
                self.changed["markup removed"] += count
                text = tidy(text, settings.normalization)
            if more:
                return text, "markup: in too many layers"
        if settings.c4 and text:
            before = text
            text, reason, gone = c4_lines(text, spaces=has_spaces(text))
            if reason is not None:
                return text, reason
            if text != before:
                self.changed["c4: lines removed"] += gone
                text = tidy(text, settings.normalization)
        if settings.personal_data:
            text, masked = mask_personal_data(text)
            self.changed.update(masked)
        return text, None

    def _judged(self, text: str, raw: str) -> str | None:
        settings = self.settings
        if len(text) < self._min_chars:
            return TOO_SHORT
        if self._in_language is not None and not self._in_language(text):
            return f"language: not {settings.languages}"
        spaces = has_spaces(text)
        reason = None
        if settings.symbols:
            reason = symbols_reason(text, spaces=spaces)
        if reason is None and settings.gopher:
            reason = quality_reason(text, spaces=spaces, language=self._language)
        if reason is None and settings.repetition:
            reason = repetition_reason(text, raw=raw, spaces=spaces)
        if reason is None and settings.fineweb:
            reason = fineweb_reason(text, spaces=spaces)
        if reason is None and self._contamination is not None:
            file = self._contamination(text)
            if file is not None:
                words = self._contamination.facts["words"]
                return f"evaluation text: {words} words in {file}"
        return reason

    def report(self) -> dict[str, Any]:
        """What was done, as JSON has it; `merge_reports` adds several up."""
        return {
            "read": self.read,
            "kept": self.kept,
            "removed": dict(sorted(self.removed.items())),
            "changed": dict(sorted(self.changed.items())),
            "examples": {reason: list(self.examples[reason]) for reason in sorted(self.examples)},
            "languages_by": self._in_language.judged_by if self._in_language else None,
        }


def merge_reports(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report of several: counts added, the first three examples of each reason kept.

    The same however the reports are grouped, if their order is.
    """
    removed: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for report in reports:
        removed.update(report["removed"])
        changed.update(report["changed"])
        for reason, texts in report["examples"].items():
            held = examples.setdefault(reason, [])
            held += texts[: EXAMPLES - len(held)]
    by = sorted({report["languages_by"] for report in reports if report["languages_by"]})
    return {
        "read": sum(report["read"] for report in reports),
        "kept": sum(report["kept"] for report in reports),
        "removed": dict(sorted(removed.items())),
        "changed": dict(sorted(changed.items())),
        "examples": {reason: examples[reason] for reason in sorted(examples)},
        "languages_by": ", ".join(by) or None,
    }


def write_contamination(
    settings: CleaningSettings, folder: Path, *, encoding_errors: str = "strict"
) -> dict[str, Any] | None:
    """Build the index of evaluation texts in a work folder, once, before `Cleaner.of` opens it.

    Returns its facts for the manifest, None where no files are named.

    Raises:
        DataError: a file cannot be read, or its texts are too short.
    """
    if not settings.contaminated:
        return None
    index = Contamination.build(
        settings.contaminated, words=settings.contamination_words, encoding_errors=encoding_errors
    )
    index.save(folder / _INDEX)
    return index.facts
