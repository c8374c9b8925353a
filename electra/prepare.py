"""Raw text to a corpus folder: tokenizer, token shards, manifest.

electra prepare TEXT_FILES --output corpus
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import filesize
from rich.console import Console
from tokenizers import Tokenizer

from electra.config import PrepareSettings
from electra.corpus.documents import read_documents
from electra.corpus.encoding import DocumentEncoder
from electra.corpus.files import ReadReport, expand
from electra.corpus.filters import Filter, document_digest, uniform
from electra.corpus.pieces import grouped, pieces_of
from electra.corpus.shards import ShardWriter, write_manifest
from electra.corpus.splitting import Splitter
from electra.corpus.tokenizer import (
    LONGEST_WORD,
    SpecialIds,
    language_defaults,
    load_tokenizer,
    num_ids,
    tokenizer_hash,
    train_word_piece,
)
from electra.corpus.words import load_segmenter
from electra.errors import ConfigError, DataError, OutputExistsError
from electra.training.loggers import progress_bar
from electra.training.run_folder import move_aside

TOKENIZER_SAMPLE_BYTES = 100_000_000
"""Raw text the tokenizer is trained on: it is held in memory for that."""
MANY_UNKNOWN = 0.05
"""Share of unknown tokens from which on there is a warning."""
_ENCODE_CHARS = 4_000_000
_SAMPLE_CHARS = 4_000


def prepare(
    sources: Sequence[str | Path],
    *,
    output: Path,
    settings: PrepareSettings | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Write a corpus folder; return its manifest.

    Args:
        sources: files, folders, globs.
        output: the folder to make; nothing is left there unless the whole of it is done.
        settings: tokenizer, language, segmenter, columns, cleaning.
        workers: threads of the tokenizer; none: one a core.
        overwrite: move an old folder to NAME.old-1, and put the new one in its place.
        console: where progress goes; none: nowhere.

    Raises:
        ConfigError: a setting out of its range, or one that does not apply.
        DataError: no text, one document only, a file that cannot be read.
        OutputExistsError: `output` exists and `overwrite` is false.
    """
    settings = settings or PrepareSettings()
    _check(settings, workers)
    if output.exists() and not overwrite:
        raise OutputExistsError(
            f"{output} exists; choose another --output, or move it aside with --overwrite"
        )
    if output.exists() and not output.is_dir():
        raise OutputExistsError(f"{output} is a file; --output wants a folder")
    if workers is not None:
        os.environ["RAYON_NUM_THREADS"] = str(workers)  # read once, at the first batch
    console = console or Console(quiet=True)
    files = expand(sources)
    home = output.resolve()  # "." has no name to extend
    partial = home.with_name(f"{home.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        with progress_bar(console) as bar:
            tokenizer = _tokenizer(files, settings, bar)
            manifest = _write(files, partial, tokenizer, settings, bar)
        if output.exists():
            console.print(
                f"the old {output} is now {move_aside(output)}", markup=False, soft_wrap=True
            )
        partial.rename(home)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _tell(manifest, output if output.name not in ("", "..") else home, console)
    return manifest


def _check(settings: PrepareSettings, workers: int | None) -> None:
    if not 0 <= settings.validation_share <= 0.5:
        raise ConfigError(f"--validation-share is {settings.validation_share}; allowed: 0 to 0.5")
    if settings.min_chars < 0:
        raise ConfigError(f"--min-chars is {settings.min_chars}; allowed: 0 or more")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers is {workers}; allowed: 1 or more")
    if settings.tokenizer is not None:
        default = PrepareSettings()
        for name in ("vocab_size", "language", "lowercase", "strip_accents"):
            if getattr(settings, name) != getattr(default, name):
                raise ConfigError(
                    f"--{name.replace('_', '-')} is for a tokenizer that is trained; the one given "
                    "by --tokenizer has its own: leave one of the two out"
                )
    if settings.encoding_errors not in ("strict", "replace"):
        raise ConfigError(
            f"--encoding-errors is {settings.encoding_errors}; allowed: strict, replace"
        )
    if settings.vocab_size < 64:
        raise ConfigError(f"--vocab-size is {settings.vocab_size}; allowed: 64 or more")
    load_segmenter(settings.segmenter)


def _tokenizer(files: list[Path], settings: PrepareSettings, bar: Any) -> Tokenizer:
    if settings.tokenizer is not None:
        return load_tokenizer(settings.tokenizer)
    defaults = language_defaults(settings.language)
    total = sum(f.stat().st_size * (3 if f.suffix == ".gz" else 1) for f in files)
    keep = min(1.0, TOKENIZER_SAMPLE_BYTES / max(1, total))

    def sample() -> Iterator[str]:
        for text in _documents(files, settings, bar, "training the tokenizer"):
            yield from (text,) if keep >= 1 else _sampled(text, keep)

    return train_word_piece(
        sample(),
        vocab_size=settings.vocab_size,
        lowercase=_chosen(settings.lowercase, defaults.lowercase),
        strip_accents=_chosen(settings.strip_accents, defaults.strip_accents),
        alphabet=defaults.alphabet,
    )


def _sampled(text: str, keep: float) -> Iterator[str]:
    """A share `keep` of the pieces of a document: long documents are not all or nothing."""
    digest = document_digest(text)
    pieces = (
        piece
        for line in text.split("\n")
        for piece in pieces_of(line, _SAMPLE_CHARS, anywhere=True)
    )
    for number, piece in enumerate(pieces):
        if uniform(hashlib.blake2b(number.to_bytes(8, "big"), key=digest).digest()) < keep:
            yield piece


def _chosen(given: bool | None, default: bool) -> bool:
    return default if given is None else given


def _write(
    files: list[Path], folder: Path, tokenizer: Tokenizer, settings: PrepareSettings, bar: Any
) -> dict[str, Any]:
    special = SpecialIds.of(tokenizer)
    vocab_size = num_ids(tokenizer)
    writers = {
        name: ShardWriter(folder, name, vocab_size=vocab_size, sep_id=special.sep)
        for name in ("train", "validation")
    }
    encoder = DocumentEncoder(tokenizer, load_segmenter(settings.segmenter))
    tokenizer.encode_special_tokens = True  # "[MASK]" in a text is text, not the token
    report = ReadReport()
    keep = Filter(min_chars=settings.min_chars, deduplicate=settings.deduplicate)
    per_source: dict[str, int] = {}

    def cleaned() -> Iterator[str]:
        def started(path: Path) -> None:
            per_source.setdefault(str(path), 0)

        for text in _documents(files, settings, bar, "writing token shards", report, started):
            kept = keep(text)
            if kept is not None:
                per_source[next(reversed(per_source))] += 1
                yield kept

    split = Splitter(writers, settings.validation_share)
    unknown = documents = 0
    for texts in grouped(((text, len(text)) for text in cleaned()), _ENCODE_CHARS):
        for text, document in zip(texts, encoder.encode(texts), strict=True):
            unknown += int((document.ids == special.unk).sum())
            documents += len(document.ids) > 0
            split.add(document_digest(text), document)
    if documents < 2:
        found = "no text" if not documents else "one document only"
        raise DataError(
            f"the corpus holds {found}; at least two are needed, one of them for validation "
            "(in .txt a blank line ends a document, elsewhere each row is one; documents under "
            f"{settings.min_chars} characters are left out, see --min-chars)"
        )
    split.finish()
    for writer in writers.values():
        writer.flush()
    tokenizer.encode_special_tokens = False
    tokenizer.save(str(folder / "tokenizer.json"))
    return write_manifest(
        folder,
        splits=writers,
        tokenizer_sha256=tokenizer_hash(tokenizer),
        words_marked=settings.segmenter != "none",
        facts={
            "vocab_size": vocab_size,
            "unknown_share": unknown / max(1, split.tokens),
            "removed": dict(keep.removed),
            "replaced_bytes": report.replaced_bytes,
            "sources": per_source,
            "settings": asdict(settings),
        },
    )


def _documents(
    files: list[Path],
    settings: PrepareSettings,
    bar: Any,
    title: str,
    report: ReadReport | None = None,
    started: Callable[[Path], None] | None = None,
) -> Iterator[str]:
    """Documents of all files, moving a bar by the bytes read."""
    report = report or ReadReport()
    total = sum(path.stat().st_size for path in files)
    task = bar.add_task(title, total=max(1, total), numbers="")
    done = 0
    for path in files:
        if started is not None:
            started(path)
        report.position = 0
        for text in read_documents(
            path,
            text_column=settings.text_column,
            encoding_errors=settings.encoding_errors,
            report=report,
        ):
            bar.update(task, completed=done + report.position)
            yield text
        done += path.stat().st_size
        bar.update(task, completed=done, numbers=filesize.decimal(done))


def _tell(manifest: dict[str, Any], output: Path, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    for name, split in manifest["splits"].items():
        say(f"{name}: {split['documents']:,} documents, {split['tokens']:,} tokens")
    for reason, count in manifest["removed"].items():
        say(f"left out: {count:,} documents ({reason})")
    for path, count in manifest["replaced_bytes"].items():
        say(f"{path}: {count:,} undecodable places replaced")
    unknown = manifest["unknown_share"]
    if unknown > MANY_UNKNOWN:
        settings = manifest["settings"]
        advice = "take a --tokenizer made for this text"
        if settings["tokenizer"] is None:
            kept = language_defaults(settings["language"]).alphabet
            advice = (
                f"--language {settings['language']} keeps the {kept:,} most frequent characters "
                f"(zh, ja, ko and other keep more), and words over {LONGEST_WORD} characters, as "
                "of text without spaces, are unknown"
            )
        say(f"warning: {unknown:.0%} of the tokens are [UNK]: {advice}")
    say(
        f"vocabulary {manifest['vocab_size']:,}, unknown tokens {unknown:.3%}; "
        f"next: electra pretrain --data {shlex.quote(str(output))} --output runs/first"
    )
