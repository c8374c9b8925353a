"""What is done between the stages, over all parts together: duplicates, validation, tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from electra.corpus.disk import write_whole
from electra.corpus.duplicates import find_exact_duplicates, find_near_duplicates
from electra.corpus.filters import uniform
from electra.corpus.findings import Duplicates
from electra.corpus.minhash import MinHash
from electra.corpus.pieces import pieces_of
from electra.corpus.selection import (
    DROPPED,
    TRAIN,
    choose_validation,
    read_selection,
    save_selection,
)
from electra.corpus.stages import Plan
from electra.corpus.text_store import BANDS, DIGESTS, SOURCES, TextStore
from electra.corpus.work_keys import keep_if, selection_key

_SAMPLE_CHARS = 4_000
_FOUND = "found.json"
Say = Callable[[float], None]


@dataclass(frozen=True)
class Selected:
    """What looking at all documents together has found."""

    documents: int
    """That are kept."""
    removed: Counter[str]
    """Reason -> documents."""
    examples: dict[str, list[str]]
    """Reason -> the beginnings of three that were removed."""
    between_sources: list[dict[str, Any]]
    """`of`, `for`, `documents`: how many of a source went because one has them already."""


def select(plan: Plan, progress: Say) -> Selected:
    """Decide of every document of the parts where it goes; what was decided before is read."""
    folder = plan.folder / "selection"
    if keep_if(folder, selection_key(plan)) and (folder / _FOUND).is_file():
        found = json.loads((folder / _FOUND).read_text(encoding="utf-8"))
        return Selected(**found | {"removed": Counter(found["removed"])})
    stores = [TextStore(plan.texts(number)) for number in range(len(plan.parts))]
    places = [store.folder / SOURCES for store in stores]
    kept = [np.ones(len(store), dtype=np.bool_) for store in stores]
    found_of: dict[str, Duplicates] = {}
    settings = plan.settings
    if settings.deduplicate:
        exact = find_exact_duplicates(
            [store.folder / DIGESTS for store in stores],
            folder,
            source_files=places,
            progress=progress,
        )
        found_of["exact duplicate"] = exact
    if settings.near_duplicates:
        found_of["near-duplicate"] = find_near_duplicates(
            [store.folder / BANDS for store in stores],
            folder,
            bands=MinHash().bands,
            left_out=exact.files if settings.deduplicate else None,
            source_files=places,
            progress=progress,
        )
    for duplicates in found_of.values():
        for number, mask in enumerate(kept):
            mask &= ~duplicates.part(number)
    for number, selection in enumerate(choose_validation(stores, kept, settings.validation_share)):
        save_selection(plan.selection(number), selection)
    selected = Selected(
        documents=sum(int(mask.sum()) for mask in kept),
        removed=Counter(
            {reason: sum(d.repeats) for reason, d in found_of.items() if sum(d.repeats)}
        ),
        examples={
            reason: [_text(stores, place)[:200] for place, _ in d.examples]
            for reason, d in found_of.items()
            if d.examples
        },
        between_sources=[
            {
                "reason": reason,
                "of": plan.sources[of].name,
                "for": plan.sources[stays].name,
                "documents": count,
            }
            for reason, d in found_of.items()
            for (of, stays), count in sorted(d.pairs.items())
        ],
    )
    write_whole(folder / _FOUND, json.dumps(selected.__dict__, ensure_ascii=False))
    return selected


def _text(stores: Sequence[TextStore], place: tuple[int, int]) -> str:
    part, document = place
    chosen = np.zeros(len(stores[part]), dtype=np.bool_)
    chosen[document] = True
    return next(stores[part].texts(chosen))


def selected_bytes(plan: Plan, *, training: bool = False) -> list[int]:
    """Of each part, the bytes of the documents that are kept, or of those for training."""
    counts = []
    for number in range(len(plan.parts)):
        selection = read_selection(plan.selection(number))
        chosen = selection == TRAIN if training else selection != DROPPED
        counts.append(int(TextStore(plan.texts(number)).sizes[chosen].sum()))
    return counts


def training_documents(plan: Plan) -> list[int]:
    """Of each source, the documents that are kept for training."""
    total = np.zeros(len(plan.sources), dtype=np.int64)
    for number in range(len(plan.parts)):
        chosen = read_selection(plan.selection(number)) == TRAIN
        sources = TextStore(plan.texts(number)).sources[chosen]
        total += np.bincount(sources, minlength=len(total))
    counts: list[int] = total.tolist()
    return counts


def tokenizer_sample(
    plan: Plan, most: int, tick: Callable[[int], None], *, unseen: bool = False
) -> Iterator[str]:
    """About `most` bytes of the training text: all of it, or pieces from all over it.

    Each piece has the same chance. A document of n times `_SAMPLE_CHARS` is read with n times that
    chance, at most 1, and pieces of it are drawn by its digest, so that little is read of many
    documents, and long ones are not all or nothing. `unseen` draws from the other end, what
    another sample does not hold as long as both together are less than everything.
    """

    def drawn(luck: Any, chance: Any) -> Any:
        return luck >= 1 - chance if unseen else luck < chance

    share = min(1.0, most / max(1, sum(selected_bytes(plan, training=True))))
    for number in range(len(plan.parts)):
        store = TextStore(plan.texts(number))
        chosen = read_selection(plan.selection(number)) == TRAIN
        read = np.minimum(1.0, share * np.maximum(1, np.ceil(store.chars / _SAMPLE_CHARS)))
        if share < 1:
            # the first half of the digest says what is held out
            chosen &= drawn(store.digests[:, 1] / 2.0**64, read)
        rates = share / read[chosen]
        texts = zip(store.texts(chosen), store.raw_digests(chosen), rates.tolist(), strict=True)
        for text, digest, rate in texts:
            for piece, luck in _pieces(text, digest) if rate < 1 else ((text, None),):
                if luck is None or drawn(luck, rate):
                    tick(len(piece.encode("utf-8")))
                    yield piece


def _pieces(text: str, digest: bytes) -> Iterator[tuple[str, float]]:
    """Pieces of a document, and of each a number from 0 to 1."""
    pieces = (
        piece
        for line in text.split("\n")
        for piece in pieces_of(line, _SAMPLE_CHARS, anywhere=True)
    )
    for place, piece in enumerate(pieces):
        yield piece, uniform(hashlib.blake2b(place.to_bytes(8, "big"), key=digest).digest())
