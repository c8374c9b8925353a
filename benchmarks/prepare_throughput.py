"""Megabytes a second of `electra prepare`, beside `tokenizers` alone on the same text.

    python -m benchmarks.prepare_throughput --json FILE

English Wikipedia of ELECTRA_DATA, some 30 MB of plain text. Three take turns, the medians of
`--rounds` count:

- `electra prepare` with a tokenizer that is given: the whole command in a process of its own, its
  start counted, with default cleaning and exact duplicates;
- `tokenizers` alone: the documents that prepare keeps, cleaned and cut into the same groups of
  lines, in memory; nothing but `encode_batch_fast`, whose ids are not even taken out;
- `electra prepare` that trains its tokenizer, too.

All use all cores, and megabytes are those of the raw text. That both have made the same tokens is
checked. The other cleaning steps are measured apart, in processor time of one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.cleaning_throughput import best_seconds, documents, our_steps
from benchmarks.large_text import DATA
from benchmarks.prepare_memory import prepare_command, watch
from benchmarks.record import finish
from electra.config.cleaning import CleaningSettings
from electra.corpus import encoding
from electra.corpus.cleaning.characters import tidy
from electra.corpus.filters import Cleaner, document_digest
from electra.corpus.languages import language_settings
from electra.corpus.pieces import grouped, pieces_of
from electra.corpus.tokenizer import load_tokenizer
from electra.corpus.tokenizer_training import train_tokenizer

GIVEN, TRAINED, ALONE = "prepare, tokenizer given", "prepare, tokenizer trained", "tokenizers alone"
_CLEANING_MEGABYTES = 10.0
"""Text that the cleaning steps are measured on."""

Took = tuple[float, float | None]
"""Seconds, and resident megabytes at most."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=float, default=30.0, help="raw text")
    parser.add_argument("--vocab-size", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="of prepare; none: as it chooses")
    parser.add_argument("--quick", action="store_true", help="2 MB, one round, to see that it runs")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.quick:
        given.megabytes, given.rounds, given.vocab_size = 2.0, 1, 2_000
    files = sorted((DATA / "enwiki").glob("*.txt.gz"))
    if not files:
        sys.exit(f"no enwiki in {DATA}; set ELECTRA_DATA")
    raw = documents(files, given.megabytes * 1e6, 0)
    kept = _kept(raw)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        text = work / "text.txt"
        text.write_text("".join(f"{document}\n\n" for document in raw), encoding="utf-8")
        megabytes = text.stat().st_size / 1e6
        begin = time.perf_counter()
        tokenizer = train_tokenizer(
            kept, kind="word_piece", vocab_size=given.vocab_size, settings=language_settings("en")
        )
        training = time.perf_counter() - begin
        (work / "tokenizer").mkdir()
        tokenizer.save(str(work / "tokenizer" / "tokenizer.json"))
        groups = _groups(kept)
        command = prepare_command(text, work / "corpus", workers=given.workers)
        ways: dict[str, Callable[[], Took]] = {
            TRAINED: lambda: _prepare([*command, "--vocab-size", str(given.vocab_size)], work),
            ALONE: lambda: _alone(work / "tokenizer", groups),
            GIVEN: lambda: _prepare([*command, "--tokenizer", str(work / "tokenizer")], work),
        }
        took: dict[str, list[Took]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                took[name].append(way())
        _check_tokens(work / "corpus", tokenizer, groups)
    rows = [_row(name, megabytes, rounds) for name, rounds in took.items()]
    rows.append(_row("training the tokenizer", megabytes, [(training, None)]))
    rows += _cleaning(raw, given.rounds)
    speed = {row["step"]: row["megabytes_per_second"] for row in rows}
    peaks = [peak for name in (GIVEN, TRAINED) for _, peak in took[name] if peak is not None]
    summary = {
        "megabytes_per_second": speed[GIVEN],
        "ratio_to_tokenizers": speed[GIVEN] / speed[ALONE],
        "peak_resident_megabytes": max(peaks),
        "megabytes_per_second_tokenizer_trained": speed[TRAINED],
        "tokenizer_training_seconds": training,
        "megabytes": megabytes,
        "documents": len(raw),
        "rounds": given.rounds,
    }
    finish(rows, summary, json_file=given.json)


def _kept(raw: Sequence[str]) -> list[str]:
    """What default cleaning keeps, the first of equal documents."""
    cleaner = Cleaner(CleaningSettings(), min_chars=20)
    texts = (text for text in map(cleaner, raw) if text is not None)
    first: dict[bytes, str] = {}
    for text in texts:
        first.setdefault(document_digest(text), text)
    return list(first.values())


def _groups(texts: Sequence[str]) -> list[list[str]]:
    """Lines in the groups that `DocumentEncoder` gives to the tokenizer."""
    lines = (line for text in texts for line in text.split("\n"))
    pieces = (piece for line in lines for piece in pieces_of(line, encoding._PIECE))
    return list(grouped(((piece, len(piece)) for piece in pieces), encoding._GROUP))


def _prepare(command: Sequence[str], work: Path) -> Took:
    """The command, to a new folder."""
    shutil.rmtree(work / "corpus", ignore_errors=True)
    ended = watch(command, work / "log")
    return ended.seconds, ended.peak_megabytes


def _alone(folder: Path, groups: Sequence[list[str]]) -> Took:
    tokenizer = load_tokenizer(folder)
    tokenizer.encode_special_tokens = True
    begin = time.perf_counter()
    for group in groups:
        tokenizer.encode_batch_fast(group, add_special_tokens=False)
    return time.perf_counter() - begin, None


def _check_tokens(corpus: Path, tokenizer: Tokenizer, groups: Sequence[list[str]]) -> None:
    """Prepare has written as many tokens as the groups hold."""
    tokenizer.encode_special_tokens = True
    expected = sum(
        len(encoded)
        for group in groups
        for encoded in tokenizer.encode_batch_fast(group, add_special_tokens=False)
    )
    manifest = json.loads((corpus / "manifest.json").read_text(encoding="utf-8"))
    found = sum(source["tokens"] for source in manifest["sources"])
    if found != expected:
        sys.exit(f"prepare has made {found:,} tokens of this text, tokenizers {expected:,}")


def _row(step: str, megabytes: float, took: Sequence[Took], cores: str = "all") -> dict[str, Any]:
    seconds = statistics.median(seconds for seconds, _ in took)
    peaks = [peak for _, peak in took if peak is not None]
    return {
        "step": step,
        "cores": cores,
        "seconds": seconds,
        "megabytes_per_second": megabytes / seconds,
        "peak_resident_megabytes": max(peaks) if peaks else None,
        "each_seconds": [seconds for seconds, _ in took],
    }


def _cleaning(raw: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Each cleaning step by itself."""
    some: list[str] = []
    size = 0
    for text in raw:
        some.append(text)
        size += len(text.encode("utf-8"))
        if size >= _CLEANING_MEGABYTES * 1e6:
            break
    texts = [tidy(text) for text in some]
    best = best_seconds(our_steps(texts), some, texts, rounds=rounds)
    return [_row(step, size / 1e6, [(seconds, None)], "one") for step, seconds in best.items()]


if __name__ == "__main__":
    main()
