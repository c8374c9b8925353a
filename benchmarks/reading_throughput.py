"""Tokens a second that one process reads from a corpus folder, from a warm page cache.

    python -m benchmarks.reading_throughput --json FILE

`CorpusSource.batch` of 256 rows of the shuffled stream, as pretraining asks for them: packed rows,
windows of documents, two segments, at lengths 128 and 512, with and without the marks of words.
Tokens are those in the rows, special ones counted, padding not. The corpus is made of English
Wikipedia of ELECTRA_DATA, or given by `--data`. The kinds take turns; medians count.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from benchmarks.cleaning_throughput import documents
from benchmarks.large_text import DATA
from benchmarks.record import finish
from electra.config import PrepareSettings
from electra.corpus.batches import CorpusSource
from electra.corpus.examples import Examples
from electra.corpus.folder import Corpus
from electra.corpus.tokenizer import SpecialIds, load_tokenizer
from electra.corpus.words import word_starts
from electra.prepare import prepare

Kind = Literal["packed", "documents", "two_segments"]
KINDS: tuple[Kind, ...] = ("packed", "documents", "two_segments")
LENGTHS = (128, 512)
BATCH = 256
WANTED = 5e6
"""Tokens a second of one process."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="a corpus folder; none: made here")
    parser.add_argument("--megabytes", type=float, default=60.0, help="text of the one made here")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a kind and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="2 MB, a moment each")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.quick:
        given.megabytes, given.seconds, given.rounds = 2.0, 0.2, 1
    with _corpus(given.data, given.megabytes * 1e6) as corpus:
        split = corpus.split("train")
        split.token_counts(corpus.manifest["vocab_size"])  # every page has been read
        tokenizer = load_tokenizer(corpus.folder)
        special, starts = SpecialIds.of(tokenizer), word_starts(tokenizer)
        rows: list[dict[str, Any]] = []
        sources: list[CorpusSource] = []
        for kind, length, words in itertools.product(KINDS, LENGTHS, (False, True)):
            begin = time.perf_counter()
            examples = Examples(
                split,
                special,
                max_length=length,
                kind=kind,
                word_starts=starts if words else None,
            )
            opened = time.perf_counter() - begin
            sources.append(CorpusSource(examples, seed=0, weights=corpus.weights))
            rows.append(
                {"examples": kind, "length": length, "words": words, "open_seconds": opened}
            )
        rounds: list[list[tuple[float, float]]] = [[] for _ in rows]
        for turn in range(given.rounds):
            for found, source in zip(rounds, sources, strict=True):
                found.append(_speed(source, special.pad, given.seconds, turn))
    for row, found in zip(rows, rounds, strict=True):
        row["tokens_per_second"] = statistics.median(tokens for tokens, _ in found)
        row["rows_per_second"] = statistics.median(number for _, number in found)
    slowest = min(rows, key=lambda row: float(row["tokens_per_second"]))
    plain = [row["tokens_per_second"] for row in rows if not row["words"]]
    summary = {
        "tokens_per_second_at_least": slowest["tokens_per_second"],
        "slowest": f"{slowest['examples']} {slowest['length']}, words {slowest['words']}",
        "tokens_per_second_at_least_without_words": min(plain),
        "wanted_tokens_per_second": WANTED,
        "tokens": split.num_tokens,
        "documents": sum(shard.documents for shard in split.shards),
        "shards": len(split.shards),
        "batch": BATCH,
    }
    finish(rows, summary, json_file=given.json)


@contextmanager
def _corpus(folder: Path | None, size: float) -> Iterator[Corpus]:
    """The corpus given, or one of some text."""
    if folder is not None:
        yield Corpus(folder)
        return
    files = sorted((DATA / "enwiki").glob("*.txt.gz"))
    if not files:
        sys.exit(f"no enwiki in {DATA}; set ELECTRA_DATA, or give --data")
    with tempfile.TemporaryDirectory() as work:
        text = Path(work) / "text.txt"
        found = documents(files, size, 0)
        text.write_text("".join(f"{document}\n\n" for document in found), encoding="utf-8")
        prepare([text], output=Path(work) / "corpus", settings=PrepareSettings(vocab_size=8_192))
        yield Corpus(Path(work) / "corpus")


def _speed(source: CorpusSource, pad: int, seconds: float, turn: int) -> tuple[float, float]:
    """Tokens and rows a second; no position is read twice."""
    position = turn * 10**9
    source.batch(position, BATCH)
    spent, tokens, count = 0.0, 0, 0
    while spent < seconds:
        position += BATCH
        begin = time.perf_counter()
        batch = source.batch(position, BATCH)
        spent += time.perf_counter() - begin
        tokens += int((batch["input_ids"] != pad).sum())
        count += BATCH
    return tokens / spent, count / spent


if __name__ == "__main__":
    main()
