"""The language of a document: by the scripts of its letters, and by a small model if there is one.

The model is py3langid's (Lui and Baldwin 2012, "langid.py"; 140 languages, retrained), which lies
in its package: nothing is fetched.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from typing import Any

from electra.corpus.cleaning.writing import sample, script_letters
from electra.errors import ConfigError

_BY_SCRIPT = {
    "Latin": "en de fr es it pt nl sv da no fi is et lv lt pl cs sk sl hr bs ro hu sq tr az id ms "
    "vi ca eu gl ga cy af sw tl la eo",
    "Cyrillic": "ru uk be bg mk sr kk ky mn tg",
    "Arabic": "ar fa ur ps",
    "Hebrew": "he",
    "Devanagari": "hi mr ne sa",
    "Greek": "el",
    "Armenian": "hy",
    "Georgian": "ka",
    "Bengali": "bn",
    "Gurmukhi": "pa",
    "Gujarati": "gu",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Thai": "th",
    "Lao": "lo",
    "Tibetan": "bo",
    "Myanmar": "my",
    "Ethiopic": "am",
    "Khmer": "km",
    "Hangul": "ko",
    "Kana": "ja",
    "Han": "zh",
}
SCRIPT_OF = {code: script for script, codes in _BY_SCRIPT.items() for code in codes.split()}
_SHARED = ("Latin", "Cyrillic", "Arabic", "Devanagari")
"""Scripts of several languages, which the script alone cannot tell apart."""
_KANA_IN_JAPANESE = 0.05
"""Of Han and Kana together: what Japanese prose always has, and Chinese names of films do not."""
_HAN_WEIGHT = 2
"""A Han character says as much as two letters."""
_FEWEST_LETTERS = 40
"""Below, the model guesses."""
_MODEL_WINDOW = 150
"""Characters of each of three windows: more cost time, as the model goes byte by byte."""


class LanguageRule:
    """Keeps documents in some languages; simplified and traditional Chinese are both zh."""

    def __init__(self, languages: str, *, share: float, model: str = "auto") -> None:
        """Take the languages.

        Args:
            languages: codes of ISO 639-1 with commas between.
            share: least share of the letters, and of the model's probability.
            model: `auto`, `script` or `py3langid`.

        Raises:
            ConfigError: a code that is not known, or a model that is not installed.
        """
        self._wanted = [code.strip() for code in languages.split(",") if code.strip()]
        self._share = share
        for code in self._wanted:
            if code not in SCRIPT_OF:
                raise ConfigError(
                    f"--cleaning.languages has {code}; codes of two letters are wanted, commas "
                    f"between, as en,zh (allowed: {', '.join(sorted(SCRIPT_OF))})"
                )
        if not self._wanted:
            raise ConfigError("--cleaning.languages is empty; codes are wanted, as en,zh")
        self._scripts = {SCRIPT_OF[code] for code in self._wanted}
        self._model: Any = None
        self.judged_by = "script"
        """`script`, or the model beside it with its version; or that `auto` found no model."""
        if model != "script" and self._scripts.intersection(_SHARED):
            self._model = _load_model(required=model == "py3langid")
            if self._model is None and model == "auto":
                self.judged_by = "script (auto: py3langid is not installed)"
        if self._model is not None:
            self.judged_by = f"script and py3langid {importlib.metadata.version('py3langid')}"

    def __call__(self, text: str) -> bool:
        """Whether the document is kept; one without letters is not."""
        letters = script_letters(sample(text, 1000))
        han, kana = letters.pop("Han", 0), letters.pop("Kana", 0)
        japanese = kana > _KANA_IN_JAPANESE * (han + kana)
        letters["Kana" if japanese else "Han"] = _HAN_WEIGHT * (han + kana)
        total = sum(letters.values())
        if not total or sum(letters.get(s, 0) for s in self._scripts) < self._share * total:
            return False
        most = max(letters, key=letters.__getitem__)
        if self._model is None or most not in _SHARED or total < _FEWEST_LETTERS:
            return True
        probability = dict(self._model.rank(sample(text, _MODEL_WINDOW)))
        return bool(sum(probability.get(code, 0.0) for code in self._wanted) >= self._share)


def _load_model(*, required: bool) -> Any:
    try:
        package = importlib.import_module("py3langid.langid")
    except ImportError:
        if not required:
            return None
        raise ConfigError(
            "--cleaning.language-model py3langid needs py3langid, which is not installed: "
            'pip install "electra[language]"'
        ) from None
    return _read_model(package)


@functools.cache
def _read_model(package: Any) -> Any:
    """Once a process: it takes most of a second."""
    return package.LanguageIdentifier.from_model_file(package.MODEL_FILE, norm_probs=True)
