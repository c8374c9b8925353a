"""What `electra prepare` tells at its end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from electra.corpus.tokenizer import LONGEST_WORD
from electra.corpus.tokenizer_report import print_report

MANY_UNKNOWN = 0.05
"""Share of unknown tokens from which on there is a warning."""
MOST_SOURCES = 20
"""Rows of the table of sources."""


def tell(manifest: Mapping[str, Any], output: Path, console: Console) -> None:
    """Say what the corpus holds, what was left out, and what comes next."""

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    for name, split in manifest["splits"].items():
        say(f"{name}: {split['documents']:,} documents, {split['tokens']:,} tokens")
    if len(manifest["sources"]) > 1:
        most = sorted(manifest["sources"], key=lambda s: -s["tokens"])[:MOST_SOURCES]
        shown = [source for source in manifest["sources"] if source in most][:MOST_SOURCES]
        console.print(_source_table(shown))
        if len(manifest["sources"]) > len(shown):
            say(f"and {len(manifest['sources']) - len(shown):,} more sources: see manifest.json")
    for reason, count in manifest["removed"].items():
        say(f"left out: {count:,} documents ({reason})")
    for what, count in manifest["changed"].items():
        say(f"changed: {count:,} ({what})")
    for path, earlier in manifest["copies"].items():
        say(f"left out: {path}, which is the same as {earlier}")
    for path, count in manifest["replaced_bytes"].items():
        say(f"{path}: {count:,} undecodable places replaced")
    for path, count in manifest["replaced_surrogates"].items():
        say(f"{path}: {count:,} halves of surrogate pairs replaced")
    print_report(manifest["tokenizer_report"], console)
    unknown = manifest["unknown_share"]
    if unknown > MANY_UNKNOWN:
        settings = manifest["settings"]
        advice = "take a --tokenizer made for this text"
        if settings["tokenizer"] is None:
            kept = manifest["language"]["alphabet"]
            advice = (
                f"--language {settings['language']} keeps the {kept:,} most frequent characters "
                f"(zh, ja, ko and other keep more), and words over {LONGEST_WORD} characters, as "
                "of text without spaces, are unknown; --tokenizer-kind bpe has no unknown tokens"
            )
        say(f"warning: {unknown:.0%} of the tokens are [UNK]: {advice}")
    say(
        f"vocabulary {manifest['vocab_size']:,}, unknown tokens {unknown:.3%}; "
        f"next: electra pretrain --data {shlex.quote(str(output))} --output runs/first"
    )


def _source_table(sources: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("source", "files", "read", "documents", "tokens", "weight")
    for source in sources:
        weight = "" if source["weight"] is None else f"{source['weight']:g}"
        numbers = [f"{source[name]:,}" for name in ("files", "read", "documents", "tokens")]
        table.add_row(str(source["name"]), *numbers, weight)
    return table
