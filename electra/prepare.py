r"""Raw text to a corpus folder: tokenizer, token shards, manifest.

    electra prepare TEXT_FILES --output corpus

The text is cut into parts of some 64 MB, whatever the number of processes, and goes through two
stages (`corpus/stages.py`): cleaned, then encoded; between them all documents are looked at
together, for duplicates and for what is held out (`corpus/preparation.py`). The work lies in
`OUTPUT.partial/` until all of it is done; interrupted or killed, the same command goes on with the
parts that are missing and ends with the same bytes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from rich import filesize
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from electra.config import ClusterSettings, PrepareSettings
from electra.corpus.cluster import ClusterRunner, RunStage, check_executor, end_earlier_tasks
from electra.corpus.encoding import DocumentEncoder
from electra.corpus.filters import Cleaner, write_contamination
from electra.corpus.languages import language_settings
from electra.corpus.manifest import corpus_manifest, no_documents
from electra.corpus.mixture import shares_of
from electra.corpus.preparation import select, tokenizer_sample
from electra.corpus.remote_parts import FOLDER as CLUSTER
from electra.corpus.sources import PART_BYTES, plan_parts, read_sources
from electra.corpus.stages import Plan
from electra.corpus.standard_input import STANDARD_INPUT, spool
from electra.corpus.text_store import TextStore
from electra.corpus.tokenizer import LONGEST_WORD, load_tokenizer
from electra.corpus.tokenizer_report import print_report
from electra.corpus.tokenizer_training import train_tokenizer
from electra.corpus.words import load_segmenter
from electra.corpus.worker import run_parts
from electra.errors import ConfigError, OutputExistsError, UserError
from electra.training.loggers import progress_bar
from electra.training.run_folder import move_aside

TOKENIZER_SAMPLE_BYTES = 100_000_000
"""Text the tokenizer is trained on: it is held in memory for that."""
MANY_UNKNOWN = 0.05
"""Share of unknown tokens from which on there is a warning."""
ALONE_BYTES = 8_000_000
"""Text up to which further processes take longer to start than they help."""


def prepare(
    sources: Sequence[str | Path] = (),
    *,
    output: Path,
    settings: PrepareSettings | None = None,
    tables: Sequence[Mapping[str, Any]] = (),
    workers: int | None = None,
    executor: str = "local",
    cluster: ClusterSettings | None = None,
    overwrite: bool = False,
    console: Console | None = None,
    stdin: BinaryIO | None = None,
) -> dict[str, Any]:
    """Write a corpus folder; return its manifest.

    Args:
        sources: files, folders, globs, `hub:owner/name`, or `-` for standard input.
        output: the folder to make; it gets its name when the whole of it is done.
        settings: tokenizer, language, segmenter, columns, cleaning.
        tables: instead of `sources`, `[[sources]]` of a recipe, with weights if wanted.
        workers: processes; none: one a core. The result does not depend on it.
        executor: local, or slurm or ray, whose machines all see `output` under this path.
        cluster: what tasks of slurm and ray are given.
        overwrite: move an old folder to NAME.old-1, and put the new one in its place.
        console: where progress goes; none: nowhere.
        stdin: none: `sys.stdin`'s bytes.

    Raises:
        ConfigError: a setting out of its range, or one that does not apply.
        DataError: no text, one document only, a file that cannot be read.
        OutputExistsError: `output` exists and `overwrite` is false, or another process is at it.
    """
    settings = settings or PrepareSettings()
    _check(settings, workers)
    check_executor(executor, workers, cluster := cluster or ClusterSettings())
    if output.exists() and not overwrite:
        raise OutputExistsError(
            f"{output} exists; choose another --output, or move it aside with --overwrite"
        )
    if output.exists() and not output.is_dir():
        raise OutputExistsError(f"{output} is a file; --output wants a folder")
    console = console or Console(quiet=True)
    home = output.resolve()  # "." has no name to extend
    folder = home.with_name(f"{home.name}.partial")
    with _locked(folder, output):
        end_earlier_tasks(folder)
        try:
            spooled = _spooled(sources, tables, folder, stdin)
            found, copies = read_sources(
                sources, tables, spooled=spooled, drop_copies=settings.deduplicate
            )
            weights = [source.weight for source in found]
            if None not in weights:
                shares_of([weight for weight in weights if weight is not None])
            parts = plan_parts(found, PART_BYTES, apart=None not in weights)
            plan = _begun(Plan(folder, settings, found, parts), console)
            with progress_bar(console) as bar, _runner(plan, executor, workers, cluster) as run:
                manifest = _work(plan, run, copies, bar)
        except BaseException as error:
            _leave(folder, console, by_mistake=isinstance(error, UserError))
            raise
        _clear(folder)
        if output.exists():
            aside = move_aside(output)
            console.print(f"the old {output} is now {aside}", markup=False, soft_wrap=True)
        folder.rename(home)
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
        for name in ("vocab_size", "tokenizer_kind", "language", "lowercase", "strip_accents"):
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
    language_settings(settings.language)
    load_segmenter(settings.segmenter)
    Cleaner.of(settings)


@contextlib.contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Make the folder of the work; one process at a time has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputExistsError(f"{folder} is a file; it is in the way of {output}") from None
    file = (folder / ".lock").open("w")
    try:
        if importlib.util.find_spec("fcntl") is not None:  # not on Windows
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OutputExistsError(
                    f"another electra prepare is writing {output}; wait for it, or choose another "
                    "--output"
                ) from None
        yield
    finally:
        file.close()


def _spooled(
    sources: Sequence[str | Path],
    tables: Sequence[Mapping[str, Any]],
    folder: Path,
    stdin: BinaryIO | None,
) -> Path | None:
    """Standard input as a file, where it is asked for."""
    paths = [p for table in tables for p in (table.get("path"), *_listed(table.get("path")))]
    if STANDARD_INPUT not in (*map(str, sources), *paths):
        return None
    place = folder / "standard-input"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return spool(stdin or sys.stdin.buffer, place / "text")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _begun(plan: Plan, console: Console) -> Plan:
    """The plan, written; what an earlier try with the same one has done stays."""
    if not plan.parts:
        raise no_documents(0, plan.settings)
    before = plan.folder / "plan.json"
    if before.is_file():
        try:
            same = json.loads(before.read_text("utf-8")) == json.loads(json.dumps(plan.record()))
        except ValueError:
            same = False
        if same and not (plan.folder / "standard-input").is_dir():
            done = sum(plan.texts(n).is_dir() for n in range(len(plan.parts)))
            console.print(
                f"going on in {plan.folder}: {done} of {len(plan.parts)} parts are cleaned",
                markup=False,
                soft_wrap=True,
            )
            return plan
        console.print(
            f"what is in {plan.folder} was begun otherwise: beginning again",
            markup=False,
            soft_wrap=True,
        )
    for entry in plan.folder.iterdir():
        if entry.name not in (".lock", "standard-input"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_contamination(
        plan.settings.cleaning, plan.folder, encoding_errors=plan.settings.encoding_errors
    )
    plan.write()
    return plan


def _runner(
    plan: Plan, executor: str, workers: int | None, cluster: ClusterSettings
) -> contextlib.AbstractContextManager[RunStage]:
    """What does the stages: processes of this machine, or tasks of a cluster."""
    if executor != "local":
        return ClusterRunner(executor, workers, cluster)
    if workers is None:
        total = sum(part.size for part in plan.parts)
        workers = _cores() if total > ALONE_BYTES or len(plan.parts) > 8 else 1
    return contextlib.nullcontext(partial(run_parts, workers=workers))


def _work(plan: Plan, run: RunStage, copies: Mapping[str, str], bar: Any) -> dict[str, Any]:
    """All that there is to do, or is left of it; the manifest."""
    numbers = range(len(plan.parts))
    total = sum(part.size for part in plan.parts)
    todo = [n for n in numbers if not plan.texts(n).is_dir()]
    with _Task(bar, "cleaning", total, total - sum(plan.parts[n].size for n in todo)) as task:
        run(plan, "clean", todo, tick=task)
    if todo:  # what comes after looks at all parts
        for name in ("selection", "encoded"):
            shutil.rmtree(plan.folder / name, ignore_errors=True)
        (plan.folder / "tokenizer.json").unlink(missing_ok=True)
    with _Task(bar, "finding duplicates", 1) as task:
        selected = select(plan, task.at)
    if selected.documents < 2:
        raise no_documents(selected.documents, plan.settings)
    size = sum(TextStore(plan.texts(n)).size for n in numbers)
    tokenizer = _tokenizer(plan, size, bar)
    todo = [n for n in numbers if not plan.shards(n).is_file()]
    left = sum(TextStore(plan.texts(n)).size for n in todo)
    with _Task(bar, "writing token shards", size, size - left) as task:
        run(plan, "encode", todo, tick=task)
    return corpus_manifest(plan, tokenizer, selected, copies)


class _Task:
    """A line of the progress bar that counts bytes."""

    def __init__(self, bar: Any, title: str, total: int, done: int = 0) -> None:
        self._bar, self._done, self._total = bar, done, max(1, total)
        self._task = bar.add_task(title, total=self._total, completed=done, numbers="")

    def __call__(self, size: int) -> None:
        """So many bytes more."""
        self._done += size
        self._bar.update(
            self._task, completed=self._done, numbers=filesize.decimal(int(self._done))
        )

    def at(self, share: float) -> None:
        """A share of all, 0 to 1."""
        self._bar.update(self._task, completed=share * self._total)

    def __enter__(self) -> _Task:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """All is done, if nothing was raised."""
        if kind is None:
            self._bar.update(self._task, completed=self._total)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tokenizer(plan: Plan, size: int, bar: Any) -> Tokenizer:
    """The one given, or trained; in `tokenizer.json`."""
    settings, file = plan.settings, plan.folder / "tokenizer.json"
    if file.is_file():
        return load_tokenizer(plan.folder)
    if settings.tokenizer is not None:
        tokenizer = load_tokenizer(settings.tokenizer)
    else:
        # unigram learns a tenth as fast as the others
        most = TOKENIZER_SAMPLE_BYTES // (5 if settings.tokenizer_kind == "unigram" else 1)
        with _Task(bar, "training the tokenizer", size) as task:
            tokenizer = train_tokenizer(
                tokenizer_sample(plan, most, task),
                kind=settings.tokenizer_kind,
                vocab_size=settings.vocab_size,
                settings=language_settings(
                    settings.language,
                    lowercase=settings.lowercase,
                    strip_accents=settings.strip_accents,
                ),
            )
    DocumentEncoder(tokenizer, load_segmenter(settings.segmenter))  # whether they go together
    partial = file.with_suffix(".partial")
    tokenizer.save(str(partial))
    partial.rename(file)
    return load_tokenizer(plan.folder)


def _clear(folder: Path) -> None:
    """Remove what the corpus folder does not need."""
    for name in ("texts", "selection", "encoded", "contamination", "standard-input", CLUSTER):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("plan.json", ".lock"):
        (folder / name).unlink(missing_ok=True)


def _leave(folder: Path, console: Console, *, by_mistake: bool) -> None:
    """What is done of a work that was stopped is kept, if it is worth it."""
    done = len(list((folder / "texts").glob("[0-9]*[0-9]")))
    if done <= by_mistake or (folder / "standard-input").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        return
    console.print(
        f"what is done is kept in {folder}: the same command goes on from there",
        markup=False,
        soft_wrap=True,
    )


def _tell(manifest: dict[str, Any], output: Path, console: Console) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    for name, split in manifest["splits"].items():
        say(f"{name}: {split['documents']:,} documents, {split['tokens']:,} tokens")
    if len(manifest["sources"]) > 1:
        console.print(_source_table(manifest["sources"]))
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
