"""Which documents go where, once those of all parts are known: dropped, training or validation.

A part's selection is an array of a byte a document. It depends on the documents alone, not on how
they were dealt to parts or on which of them was cleaned first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from electra.corpus.text_store import TextStore

DROPPED, TRAIN, VALIDATION = 0, 1, 2
VALIDATION_CHARS = 8_192
"""A validation split smaller than this is filled up, to a tenth of the corpus at most."""
_CANDIDATES = 1_024
"""Documents of a part that may fill a validation split that is too small."""
_CANDIDATE = np.dtype(
    [("digest", "<u8"), ("part", "<u4"), ("document", "<u4"), ("chars", "<u4"), ("chosen", "?")]
)

Selection = NDArray[np.uint8]


def choose_validation(
    stores: Sequence[TextStore], kept: Sequence[NDArray[np.bool_]], share: float
) -> list[Selection]:
    """Deal the documents that are kept.

    Those whose digest says so go to validation, as long as it has a tenth of the characters at
    most, or of a larger share half as much again: one long document must not take the training
    text away. Where that gives less than `VALIDATION_CHARS`, those of the smallest digests follow.
    Neither split is empty if there are two documents.

    Args:
        stores: of the parts.
        kept: (documents,) for each, what is no duplicate.
        share: of the documents held out.
    """
    selections = [np.where(k, TRAIN, DROPPED).astype(np.uint8) for k in kept]
    total = sum(int(s.chars[k].sum()) for s, k in zip(stores, kept, strict=True))
    candidates = np.concatenate(
        [_candidates(n, s, k, share) for n, (s, k) in enumerate(zip(stores, kept, strict=True))]
    )
    order = np.lexsort((candidates["document"], candidates["part"], candidates["digest"]))
    held = 0
    for most, only_chosen in ((max(0.1, 1.5 * share), True), (0.1, False)):
        for row in order if not only_chosen else order[candidates["chosen"][order]]:
            if not only_chosen and held >= min(VALIDATION_CHARS, total / 10):
                break
            part, document = int(candidates["part"][row]), int(candidates["document"][row])
            chars = int(candidates["chars"][row])
            if selections[part][document] != VALIDATION and held + chars <= most * total:
                selections[part][document] = VALIDATION
                held += chars
    _leave_none_empty(stores, selections)
    return selections


def _candidates(
    part: int, store: TextStore, kept: NDArray[np.bool_], share: float
) -> NDArray[np.void]:
    """Rows of `_CANDIDATE`: below the share, or among the smallest digests of the part."""
    digests = store.digests[:, 0]
    chosen = digests / 2.0**64 < share
    order = np.argsort(np.where(kept, digests, np.uint64(2**64 - 1)), kind="stable")
    smallest = np.zeros(len(digests), dtype=np.bool_)
    smallest[order[:_CANDIDATES]] = True
    found = np.flatnonzero(kept & (chosen | smallest))
    rows = np.empty(len(found), dtype=_CANDIDATE)
    rows["digest"], rows["part"], rows["document"] = digests[found], part, found
    rows["chars"], rows["chosen"] = store.chars[found], chosen[found]
    return rows


def _leave_none_empty(stores: Sequence[TextStore], selections: list[Selection]) -> None:
    counts = [sum(int((s == kind).sum()) for s in selections) for kind in (TRAIN, VALIDATION)]
    if sum(counts) < 2 or all(counts):
        return
    # the longest of all for training, or the shortest of all for validation
    empty, full = (TRAIN, VALIDATION) if not counts[0] else (VALIDATION, TRAIN)
    sign = -1 if empty == TRAIN else 1
    _, part, document = min(
        (sign * chars, part, i)
        for part, (store, chosen) in enumerate(zip(stores, selections, strict=True))
        for i, chars in enumerate(store.chars.tolist())
        if chosen[i] == full
    )
    selections[part][document] = empty


def save_selection(file: Path, selection: Selection) -> None:
    """Write it, whole or not at all."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_bytes(selection.tobytes())
    partial.rename(file)


def read_selection(file: Path) -> Selection:
    """What `save_selection` wrote."""
    return np.fromfile(file, dtype=np.uint8)
