"""Text of any size whose duplicates are known, made of English Wikipedia of ELECTRA_DATA."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cleaning_throughput import documents
from electra.config.cleaning import CleaningSettings
from electra.corpus.filters import Cleaner, document_digest

DATA = Path(os.environ.get("ELECTRA_DATA", Path(__file__).parents[2] / "shared" / "data"))
_REPLACED = 4
"""One word in so many is another one: no run of five words stays."""
_REPEATS = 0.02
"""Exact repeats for each document, and as many near ones."""
_REMEMBERED = 500
_DISTINCT_WORDS = 300
"""Of a document that gets repeats: one word changed leaves 97 % of its word 5-grams."""


@dataclass
class Made:
    """What a text holds, that it does not have to be counted again."""

    gigabytes: float
    seed: int
    bytes: int = 0
    documents: int = 0
    exact: int = 0
    near: int = 0


def text_in(work: Path, gigabytes: float, seed: int) -> Made:
    """Make `text.txt`, unless it is there already."""
    facts = work / "made.json"
    if facts.is_file():
        made = Made(**json.loads(facts.read_text(encoding="utf-8")))
        if (made.gigabytes, made.seed) == (gigabytes, seed):
            return made
        facts.unlink()
    files = sorted((DATA / "enwiki").glob("*.txt.gz"))
    if not files:
        sys.exit(f"no enwiki in {DATA}; set ELECTRA_DATA")
    cleaner = Cleaner(CleaningSettings(), min_chars=20)
    found = map(cleaner, documents(files, min(1e8, gigabytes * 1e9), seed))
    texts = {document_digest(text): text for text in found if text is not None}
    made = Made(gigabytes, seed)
    with (work / "text.txt").open("wb") as file:
        for text in _texts(list(texts.values()), made, cleaner):
            made.bytes += file.write(text.encode("utf-8") + b"\n\n")
            made.documents += 1
            if made.bytes >= gigabytes * 1e9:
                break
    facts.write_text(json.dumps(asdict(made)), encoding="utf-8")
    return made


def _texts(texts: Sequence[str], made: Made, cleaner: Cleaner) -> Iterator[str]:
    """Varied documents without end, repeats of earlier ones between them, counted in `made`."""
    draw = random.Random(made.seed)
    longest = max(text.count(" ") + text.count("\n") + 1 for text in texts)
    words = [word for text in texts[:2000] for word in text.split()]
    draw.shuffle(words)
    words += words[: longest // _REPLACED + 1]
    last = len(words) - longest // _REPLACED - 1
    remembered: list[str] = []
    number = 0
    while True:
        for text in texts:
            number += 1
            varied = _varied(text, number, words, draw.randrange(last), draw.randrange(_REPLACED))
            yield varied
            if draw.random() < 0.05 and len(set(varied.split())) >= _DISTINCT_WORDS:
                if cleaner(varied) is not None:  # or its repeats would not be counted as such
                    if len(remembered) < _REMEMBERED:
                        remembered.append(varied)
                    else:
                        remembered[draw.randrange(_REMEMBERED)] = varied
            luck = draw.random()
            if remembered and luck < 2 * _REPEATS:
                repeat = draw.choice(remembered)
                if luck < _REPEATS:
                    made.exact += 1
                else:
                    made.near += 1
                    line = repeat.split(" ")
                    line[len(line) // 2] = f"changed{number}"
                    repeat = " ".join(line)
                yield repeat


def _varied(text: str, number: int, words: Sequence[str], source: int, at: int) -> str:
    """The document with a number behind its title and words of others in every fourth place."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        own = line.split(" ")
        count = len(range(at, len(own), _REPLACED))
        own[at::_REPLACED] = words[source : source + count]
        source, at = source + count, (at - len(own)) % _REPLACED
        lines[index] = " ".join(own)
    lines[0] = f"{lines[0]} {number}"
    return "\n".join(lines)
