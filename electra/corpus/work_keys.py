"""What decides of each result of `electra prepare`, as a key: the same key, the same result.

A result that has its key is not made again, whatever else has changed since: a file that was
mended, a setting that does not touch it, the number of a part.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from electra.config import PrepareSettings
from electra.corpus.disk import remove_folder, write_whole
from electra.corpus.files import expand
from electra.corpus.sources import Part, Source
from electra.corpus.stages import Plan, digest_of

RULES = 1
"""To be raised where reading, cleaning, choosing or encoding gives something else than before."""
KEY = ".key"
"""Ending of the file with the key of a result, beside it."""


def part_keys(
    settings: PrepareSettings, sources: Sequence[Source], parts: Sequence[Part]
) -> tuple[str, ...]:
    """Of the kept texts of each part.

    `encoding_errors` is not in it: what was read strictly is the same with `replace`, and a part
    says by itself whether anything was replaced.
    """
    cleaning = settings.cleaning
    contaminated = [
        [str(path), path.stat().st_size, path.stat().st_mtime_ns]
        for path in (expand(cleaning.contaminated) if cleaning.contaminated else ())
    ]
    rules = digest_of(
        _versions(),
        dataclasses.asdict(cleaning),
        [contaminated, settings.encoding_errors if contaminated else None],
        _language_model() if cleaning.languages is not None else None,
        [settings.min_chars, settings.language, settings.near_duplicates],
    )
    return tuple(_part_key(rules, settings, sources, part) for part in parts)


def _part_key(rules: str, settings: PrepareSettings, sources: Sequence[Source], part: Part) -> str:
    order: dict[int, int] = {}  # the numbers of the sources may change, not which pieces share one
    facts: list[Any] = []
    for piece in part.pieces:
        source = sources[piece.source]
        column = settings.text_column if source.text_column is None else source.text_column
        found: list[Any] = [
            piece.path,
            piece.span,
            column,
            order.setdefault(piece.source, len(order)),
        ]
        if piece.shard is None:
            status = os.stat(piece.path)
            found += [status.st_size, status.st_mtime_ns]
        else:
            found += [piece.shard, source.shards]
        facts.append(found)
    return digest_of(rules, facts)


def selection_key(plan: Plan) -> str:
    """Of which documents are kept, and which are held out."""
    settings = plan.settings
    numbers = hashlib.blake2b(digest_size=16)
    for part in plan.parts:
        numbers.update(json.dumps([piece.source for piece in part.pieces]).encode())
    return digest_of(
        _versions(),
        [settings.deduplicate, settings.near_duplicates, settings.validation_share],
        [source.name for source in plan.sources],
        [list(plan.keys), numbers.hexdigest()],
    )


def tokenizer_key(plan: Plan, most: int, given: str | None) -> str:
    """Of the tokenizer: trained on `most` bytes, or the one with the hash `given`."""
    settings = plan.settings
    if given is not None:
        return digest_of(given)
    trained = [settings.tokenizer_kind, settings.vocab_size, settings.language]
    how = [settings.lowercase, settings.strip_accents, most]
    return digest_of(selection_key(plan), importlib.metadata.version("tokenizers"), trained, how)


def shards_key(plan: Plan, tokenizer_sha256: str) -> str:
    """Of the token shards."""
    return digest_of(selection_key(plan), tokenizer_sha256, plan.settings.segmenter)


def keep_if(folder: Path, key: str, *, beside: Sequence[str] = ()) -> bool:
    """A folder of results that have this key: the one there is, or an empty one.

    Args:
        folder: of the results.
        key: of what decides them.
        beside: patterns of files beside the folder that are results, too.

    Returns:
        Whether there is one.
    """
    file = folder.with_name(f"{folder.name}{KEY}")
    if file.is_file() and folder.is_dir() and file.read_text("utf-8") == key:
        return True
    file.unlink(missing_ok=True)
    remove_folder(folder)
    for pattern in beside:
        for result in folder.parent.glob(pattern):
            result.unlink()
    folder.mkdir(parents=True)
    write_whole(file, key)
    return False


def _versions() -> list[Any]:
    try:
        version = importlib.metadata.version("electra")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return [RULES, version, unicodedata.unidata_version]


def _language_model() -> str | None:
    if importlib.util.find_spec("py3langid") is None:
        return None
    return importlib.metadata.version("py3langid")
