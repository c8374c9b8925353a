"""Megabytes a second of each cleaning step on one core, beside datatrove's on the same text.

    python -m benchmarks.cleaning_throughput --data corpus.txt --json FILE

The text is read into documents once; then the steps take turns over all of them, `--rounds` times,
each in processor time, the best round counting. datatrove's filters need datatrove, loguru,
humanize, regex and spacy (its English word tokenizer, a blank one: nothing is fetched), and NLTK
not at all; each filter splits a document anew (in a pipeline of datatrove they share the words of
the last five); without them only our steps are measured, and it is said. They look at the text
that our characters step has tidied, as ours do.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import finish
from electra.config.cleaning import CleaningSettings
from electra.corpus.cleaning.characters import tidy
from electra.corpus.cleaning.contamination import Contamination
from electra.corpus.cleaning.gopher import quality_reason, repetition_reason
from electra.corpus.cleaning.languages import LanguageRule
from electra.corpus.cleaning.markup import without_markup
from electra.corpus.cleaning.personal_data import mask_personal_data
from electra.corpus.cleaning.symbols import symbols_reason
from electra.corpus.cleaning.web import c4_lines, fineweb_reason
from electra.corpus.documents import read_documents
from electra.corpus.filters import Cleaner, document_digest
from electra.corpus.minhash import signature_bands

Step = Callable[[str], object]
_LETTERS = "etaoinshrdlcumwfgypbvk"
_DATATROVE = ("datatrove", "loguru", "humanize", "regex", "spacy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, nargs="*", help="English text; none: made here")
    parser.add_argument("--megabytes", type=float, default=20.0, help="text read at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="2 MB, one round, to see that it runs")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.megabytes, options.rounds = 2.0, 1
    raw = documents(options.data, options.megabytes * 1e6, options.seed)
    texts = [tidy(text) for text in raw]
    megabytes = sum(len(text.encode()) for text in raw) / 1e6
    steps = {**our_steps(texts), **_datatrove()}
    best = best_seconds(steps, raw, texts, rounds=options.rounds)
    rows: list[dict[str, Any]] = [
        {
            "step": name,
            "megabytes_per_second": megabytes / seconds,
            "milliseconds_per_megabyte": 1000 * seconds / megabytes,
        }
        for name, seconds in best.items()
    ]
    summary: dict[str, Any] = {
        "megabytes": megabytes,
        "documents": len(raw),
        "rounds": options.rounds,
        "text": [path.name for path in options.data] if options.data else "made",
        "default_cleaning_megabytes_per_second": megabytes / best["default cleaning"],
    }
    for rule in ("gopher quality", "repetition", "c4", "fineweb"):
        theirs = best.get(f"datatrove {rule}")
        if theirs is not None:
            summary[f"times_as_fast_as_datatrove_{rule.replace(' ', '_')}"] = theirs / best[rule]
    if not any(name.startswith("datatrove") for name in steps):
        summary["datatrove"] = f"not measured: {', '.join(_DATATROVE)} are wanted"
    finish(rows, summary, json_file=options.json)


def best_seconds(
    steps: Mapping[str, Step], raw: Sequence[str], texts: Sequence[str], *, rounds: int
) -> dict[str, float]:
    """Processor seconds of each step over all texts, the best round; the steps take turns."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            inputs = raw if name in ("characters", "default cleaning") else texts
            start = time.process_time()
            for text in inputs:
                step(text)
            best[name] = min(best[name], time.process_time() - start)
    return best


def documents(paths: Sequence[Path] | None, most: float, seed: int) -> list[str]:
    """Documents of the files up to some bytes, or made ones."""
    found: list[str] = []
    size = 0.0
    draw = random.Random(seed)
    words = ["".join(draw.choices(_LETTERS, k=draw.randint(2, 9))) for _ in range(20_000)]
    words += [
        "the",
        "of",
        "and",
        "to",
        "in",
        "a",
        "that",
        "is",
        "was",
        "for",
        "with",
        "as",
        "on",
        "be",
        "have",
    ] * 600

    def made() -> str:
        lines = []
        for _ in range(draw.randint(2, 30)):
            line = " ".join(draw.choices(words, k=draw.randint(4, 40))).capitalize()
            lines.append(line + draw.choice((".", ".", "?", "")))
        return "\n".join(lines)

    source = (text for path in paths for text in read_documents(path)) if paths else iter(made, "")
    for text in source:
        found.append(text)
        size += len(text.encode())
        if size >= most:
            break
    return found


def our_steps(texts: list[str]) -> dict[str, Step]:
    """Our steps; evaluation texts are a thousand lines of the text itself, at its end."""
    steps: dict[str, Step] = {
        "default cleaning": Cleaner(CleaningSettings(), min_chars=20),
        "characters": tidy,
        "symbols": lambda text: symbols_reason(text, spaces=True),
        "digest": document_digest,
        "near-duplicate keys": signature_bands,
        "markup": without_markup,
        "personal data": mask_personal_data,
        "language by script": LanguageRule("en", share=0.5, model="script"),
        "gopher quality": lambda text: quality_reason(text, spaces=True, language="en"),
        "repetition": lambda text: repetition_reason(text, raw=text, spaces=True),
        "c4": lambda text: c4_lines(text, spaces=True),
        "fineweb": lambda text: fineweb_reason(text, spaces=True),
    }
    if importlib.util.find_spec("py3langid"):
        steps["language by py3langid"] = LanguageRule("en", share=0.01, model="py3langid")
    with tempfile.TemporaryDirectory() as folder:
        lines = "\n".join(texts[-200:]).split("\n")[-1000:]
        file = Path(folder) / "evaluation.txt"
        file.write_text("\n".join(lines), encoding="utf-8")
        steps["evaluation texts"] = Contamination.build([file])
    return steps


def _datatrove() -> dict[str, Step]:
    """Datatrove's filters, a document at a time; its cache of split texts is never hit twice."""
    if not all(map(importlib.util.find_spec, _DATATROVE)):
        return {}
    filters = "datatrove.pipeline.filters"
    document: Any = importlib.import_module("datatrove.data").Document
    split: Any = importlib.import_module("datatrove.utils.text").split_into_parts
    rules: dict[str, Any] = {}
    for name, module, kind in (
        ("gopher quality", "gopher_quality_filter", "GopherQualityFilter"),
        ("repetition", "gopher_repetition_filter", "GopherRepetitionFilter"),
        ("c4", "c4_filters", "C4QualityFilter"),
        ("fineweb", "fineweb_quality_filter", "FineWebQualityFilter"),
    ):
        rules[name] = getattr(importlib.import_module(f"{filters}.{module}"), kind)()

    def step(rule: Any) -> Step:
        def run(text: str) -> object:
            split.cache_clear()
            return rule.filter(document(text=text, id="0"))

        return run

    return {f"datatrove {name}": step(rule) for name, rule in rules.items()}


if __name__ == "__main__":
    main()
