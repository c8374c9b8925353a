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
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from rich import filesize
from rich.console import Console
from tokenizers import Tokenizer

from electra.config import ClusterSettings, PrepareSettings
from electra.corpus.cluster import ClusterRunner, RunStage, check_executor, end_earlier_tasks
from electra.corpus.disk import disk_full, sync, write_whole
from electra.corpus.encoding import DocumentEncoder
from electra.corpus.filters import Cleaner
from electra.corpus.languages import language_settings
from electra.corpus.manifest import (
    MANIFEST,
    check_weights,
    corpus_manifest,
    no_documents,
    removed_documents,
)
from electra.corpus.mixture import shares_of
from electra.corpus.preparation import (
    select,
    selected_bytes,
    tokenizer_sample,
    training_documents,
)
from electra.corpus.preparation_report import tell
from electra.corpus.sources import PART_BYTES, Source, plan_parts, read_sources
from electra.corpus.stages import Plan
from electra.corpus.tokenizer import load_tokenizer, tokenizer_hash
from electra.corpus.tokenizer_report import LEAST_SAMPLE_CHARS, SAMPLE_CHARS
from electra.corpus.tokenizer_training import KINDS, train_tokenizer
from electra.corpus.words import load_segmenter
from electra.corpus.work_folder import (
    begin,
    clear,
    finish,
    leave,
    locked,
    reads_standard_input,
    spooled,
)
from electra.corpus.work_keys import KEY, keep_if, part_keys, shards_key, tokenizer_key
from electra.corpus.worker import LocalRunner
from electra.errors import ConfigError, DataError, OutputExistsError, UserError, did_you_mean
from electra.training.loggers import progress_bar
from electra.training.run_folder import move_aside

TOKENIZER_SAMPLE_BYTES = 100_000_000
"""Text the tokenizer is trained on at most: it is held in memory for that."""
TOKENIZER_LEAST_BYTES = 10_000_000
"""Of a small corpus; between the two 9 % of it, so that training takes a tenth of the time."""
MOST_SOURCES = 65_535
"""Their numbers have 16 bits."""
LEAST_PART_BYTES, PARTS_WANTED = 4_000_000, 32
"""Parts are smaller than `PART_BYTES` where there would be fewer."""
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
    piped = reads_standard_input(sources, tables)
    manifest: dict[str, Any]
    with locked(folder, output):
        end_earlier_tasks(folder)
        try:
            spool = spooled(folder, stdin or sys.stdin.buffer) if piped else None
            found, copies = read_sources(
                sources, tables, spooled=spool, drop_copies=settings.deduplicate
            )
            if len(found) > MOST_SOURCES:
                raise DataError(
                    f"{len(found):,} sources are given; allowed: {MOST_SOURCES:,}: give their "
                    "folder, or put the glob in quotes"
                )
            weights = [source.weight for source in found]
            if None not in weights:
                shares_of([weight for weight in weights if weight is not None])
            parts = plan_parts(found, _part_bytes(found), apart=None not in weights)
            plan = Plan(folder, settings, found, parts, part_keys(settings, found, parts))
            with disk_full(folder):
                if begin(plan, console, standard_input=piped):
                    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
                else:
                    bars, runner = progress_bar(console), _runner(plan, executor, workers, cluster)
                    with bars as bar, runner as run:
                        manifest = _work(plan, run, copies, bar)
        except BaseException as error:
            mistake = isinstance(error, UserError)
            leave(folder, console, by_mistake=mistake, standard_input=piped)
            raise
        clear(folder)
        if output.exists():
            aside = move_aside(output)
            console.print(f"the old {output} is now {aside}", markup=False, soft_wrap=True)
        folder.rename(home)
        finish(home)
    tell(manifest, output if output.name not in ("", "..") else home, console)
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
    if settings.tokenizer_kind not in KINDS:
        raise ConfigError(
            f"--tokenizer-kind is {settings.tokenizer_kind}; "
            f"{did_you_mean(settings.tokenizer_kind, KINDS)}"
        )
    language_settings(settings.language)
    trained_here = settings.tokenizer is None
    if trained_here and settings.segmenter != "none" and settings.tokenizer_kind != "word_piece":
        raise ConfigError(
            f"--segmenter {settings.segmenter} needs --tokenizer-kind word_piece, whose Han "
            f"characters are tokens; --tokenizer-kind is {settings.tokenizer_kind}: leave one of "
            "the two out"
        )
    segmenter = load_segmenter(settings.segmenter)
    if settings.tokenizer is not None:
        DocumentEncoder(load_tokenizer(settings.tokenizer), segmenter)  # whether they go together
    Cleaner.of(settings)


def _part_bytes(sources: Sequence[Source]) -> int:
    """Text of a part: less of a small corpus, so that cores share it; by its size alone.

    A power of two times the least, so that a file that was mended does not cut others anew.
    """
    size = sum(sum(source.sizes) for source in sources) // PARTS_WANTED
    steps = max(1, size // LEAST_PART_BYTES).bit_length() - 1
    return min(PART_BYTES, LEAST_PART_BYTES << steps)


def _runner(
    plan: Plan, executor: str, workers: int | None, cluster: ClusterSettings
) -> contextlib.AbstractContextManager[RunStage]:
    """What does the stages: processes of this machine, or tasks of a cluster."""
    if executor != "local":
        return ClusterRunner(executor, workers, cluster)
    if workers is None:
        total = sum(part.size for part in plan.parts)
        workers = _cores() if total > ALONE_BYTES or len(plan.parts) > 8 else 1
    return LocalRunner(workers)


def _work(plan: Plan, run: RunStage, copies: Mapping[str, str], bar: Any) -> dict[str, Any]:
    """All that there is to do, or is left of it; the manifest."""
    numbers = range(len(plan.parts))
    total = sum(part.size for part in plan.parts)
    todo = [n for n in numbers if not plan.texts(n).is_dir()]
    left = sum(plan.parts[n].size for n in todo)
    known = not any(source.shards for source in plan.sources)  # the Hub does not say how much
    with _Task(bar, "cleaning", total if known else None, total - left) as task:
        run(plan, "clean", todo, tick=task)
    with _Task(bar, "finding duplicates", 1) as task:
        selected = select(plan, task.at)
    if selected.documents < 2:
        removed = removed_documents(plan, selected)
        raise no_documents(selected.documents, plan.settings, removed)
    check_weights(plan, training_documents(plan))
    sizes = selected_bytes(plan)
    tokenizer = _tokenizer(plan, sum(sizes), bar)
    key = shards_key(plan, tokenizer_hash(tokenizer))
    keep_if(plan.folder / "encoded", key, beside=("train-*", "validation-*"))
    todo = [n for n in numbers if not plan.shards(n).is_file()]
    done = sum(sizes) - sum(sizes[n] for n in todo)
    with _Task(bar, "writing token shards", sum(sizes), done) as task:
        run(plan, "encode", todo, tick=task)
    sample = min(SAMPLE_CHARS, max(LEAST_SAMPLE_CHARS, sum(sizes) // 100))
    with _Task(bar, "checking the tokenizer", min(sample, sum(sizes))) as task:
        return corpus_manifest(plan, tokenizer, selected, copies, sample, task)


class _Task:
    """A line of the progress bar that counts bytes."""

    def __init__(self, bar: Any, title: str, total: int | None, done: int = 0) -> None:
        self._bar, self._done = bar, done
        self._total = None if total is None else max(1, total)
        self._task = bar.add_task(title, total=self._total, completed=done, numbers="")

    def __call__(self, size: int) -> None:
        """So many bytes more."""
        self._done += size
        self._bar.update(
            self._task, completed=self._done, numbers=filesize.decimal(int(self._done))
        )

    def at(self, share: float) -> None:
        """A share of all, 0 to 1."""
        self._bar.update(self._task, completed=share * (self._total or 1))

    def __enter__(self) -> _Task:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """All is done, if nothing was raised."""
        if kind is None:
            total = self._total or max(1, self._done)
            self._bar.update(self._task, completed=total, total=total)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tokenizer(plan: Plan, size: int, bar: Any) -> Tokenizer:
    """The one given, or trained; in `tokenizer.json`."""
    settings, file = plan.settings, plan.folder / "tokenizer.json"
    # unigram learns a tenth as fast as the others
    slow = 5 if settings.tokenizer_kind == "unigram" else 1
    most = min(TOKENIZER_SAMPLE_BYTES, max(TOKENIZER_LEAST_BYTES, size * 9 // 100)) // slow
    given = None if settings.tokenizer is None else load_tokenizer(settings.tokenizer)
    key = tokenizer_key(plan, most, None if given is None else tokenizer_hash(given))
    made_for = plan.folder / f"tokenizer{KEY}"
    if file.is_file() and made_for.is_file() and made_for.read_text("utf-8") == key:
        return load_tokenizer(plan.folder)
    file.unlink(missing_ok=True)
    write_whole(made_for, key)
    if given is not None:
        tokenizer = given
    else:
        with _Task(bar, "training the tokenizer", min(most, size)) as task:
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
    partial = file.with_suffix(".partial")
    tokenizer.save(str(partial))
    sync(partial)
    partial.replace(file)
    return load_tokenizer(plan.folder)
