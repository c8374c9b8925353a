"""Which documents repeat an earlier one, exactly or nearly, over all parts of a corpus.

Documents are numbered through all parts in order, and the first of each group of repeats stays. So
the outcome depends on the documents and their order alone: not on where the parts are cut, and not
on which of them was finished first. What is sorted is spilled to disk in buckets by the leading
bits of its key; a bucket is sorted in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from electra.corpus.bands import MEND, read_band, read_numbers
from electra.corpus.findings import (
    Duplicates,
    Tally,
    facts_of,
    findings_folder,
    read_findings,
    read_flags,
    write_findings,
    write_flags,
)
from electra.corpus.spill import Spill, repeats_of
from electra.errors import DataError

DIGEST_BYTES = 16
BUCKET_SIZE = 2**20
"""Records that are sorted in memory at once."""
_CHUNK = 2**18

Progress = Callable[[float], None]


def find_exact_duplicates(
    digest_files: Sequence[Path],
    work_folder: Path,
    *,
    source_files: Sequence[Path] | None = None,
    bucket_size: int = BUCKET_SIZE,
    progress: Progress | None = None,
) -> Duplicates:
    """Find the documents whose digest was seen before; all 16 bytes are compared.

    Memory is a byte a document, another one for its source, and 100 to 300 MB: under 500 MB for a
    hundred million. The disk holds 24 bytes a document meanwhile. What was found for the same files
    before is read again.

    Args:
        digest_files: one a part, in order; 16 bytes a document, in order.
        work_folder: the folder `exact` is written there, whole or not at all.
        source_files: one a part, uint16 a document, for `pairs`; none: all are of source 0.
        bucket_size: records sorted in memory at once.
        progress: told the share that is done, 0 to 1.

    Raises:
        DataError: a file is cut short, or the disk is full.
    """
    starts = _starts(digest_files, DIGEST_BYTES)
    total = int(starts[-1])
    facts = facts_of(digest_files, source_files)
    with findings_folder(work_folder / "exact", facts, 24 * total) as partial:
        if partial is None:
            return read_findings(work_folder / "exact")
        repeated = np.zeros(total, dtype=np.bool_)
        tally = Tally(starts, source_files)
        record = np.dtype([("key", "<u8"), ("low", "<u8"), ("index", "<i8")])
        with Spill(partial / "spill", record, total, bucket_size) as spill:
            for start, digests in _digests(digest_files, starts):
                records = np.empty(len(digests), dtype=record)
                records["key"], records["low"] = digests[:, 0], digests[:, 1]
                records["index"] = np.arange(start, start + len(digests))
                spill.add(records)
                _tell(progress, (start + len(digests)) / total / 2)
            for number, bucket in enumerate(spill.buckets(), start=1):
                for left_out, kept in repeats_of(bucket, ("key", "low")):
                    repeated[left_out] = True
                    tally.add(left_out, kept)
                _tell(progress, 0.5 + number / spill.count / 2)
        counts = [
            write_flags(partial, part, repeated[starts[part] : starts[part + 1]])
            for part in range(len(digest_files))
        ]
        write_findings(partial, facts, counts, tally)
    return read_findings(work_folder / "exact")


def find_near_duplicates(
    band_files: Sequence[Path],
    work_folder: Path,
    *,
    bands: int,
    left_out: Sequence[Path] | None = None,
    source_files: Sequence[Path] | None = None,
    bucket_size: int = BUCKET_SIZE,
    progress: Progress | None = None,
) -> Duplicates:
    """Find the documents that share a band key with an earlier one, directly or by others between.

    Documents that share a key are joined (union-find); the first of each cluster stays. No pair
    is looked at again, so what `MinHash.candidate_probability` says is what is left out; by chains
    a cluster can hold documents that are less alike. Unlike documents get equal keys once in some
    2^64 pairs: of a hundred million documents, about one pair in 260 corpora with 14 bands.

    Memory is 4 bytes a document (8 from 2^31 documents on), another one for its source, and some
    100 MB: 600 MB for a hundred million. The disk holds 12 bytes a document meanwhile. What was
    found for the same files before is read again.

    Args:
        band_files: one a part, in order, by `BandWriter`.
        work_folder: the folder `near` is written there, whole or not at all.
        bands: keys of a document.
        left_out: flags of each part, of documents that do not take part, as the exact repeats;
            they are false in what is returned.
        source_files: one a part, uint16 a document, for `pairs`; none: all are of source 0.
        bucket_size: records sorted in memory at once.
        progress: told the share that is done, 0 to 1.

    Raises:
        DataError: a file is cut short or does not fit the others, or the disk is full.
    """
    starts = _starts(band_files, 8 * bands)
    total = int(starts[-1])
    facts = [bands, *facts_of(band_files, source_files, left_out)]
    with findings_folder(work_folder / "near", facts, 12 * total) as partial:
        if partial is None:
            return read_findings(work_folder / "near")
        index = np.dtype("<i4") if total < 2**31 else np.dtype("<i8")
        record = np.dtype([("key", "<u8"), ("index", index)])
        parent = np.arange(total, dtype=index)
        for band in range(bands):
            with Spill(partial / "spill", record, total, bucket_size) as spill:
                for start, keys, taken in _band(band_files, starts, bands, band, left_out):
                    records = np.empty(len(keys), dtype=record)
                    records["key"] = keys
                    records["index"] = np.arange(start, start + len(keys))
                    spill.add(records if taken is None else records[taken])
                for bucket in spill.buckets():
                    for one, other in repeats_of(bucket, ("key",)):
                        _unite(parent, one, other)
            _tell(progress, (band + 1) / bands)
        tally = Tally(starts, source_files)
        counts = []
        for part in range(len(band_files)):
            nodes = np.arange(starts[part], starts[part + 1])
            roots = _roots(parent, nodes)
            flags = roots != nodes
            tally.add(nodes[flags], roots[flags])
            counts.append(write_flags(partial, part, flags))
        write_findings(partial, facts, counts, tally)
    return read_findings(work_folder / "near")


def _tell(progress: Progress | None, share: float) -> None:
    if progress is not None:
        progress(share)


def _starts(files: Sequence[Path], size: int) -> NDArray[np.int64]:
    """The number of the first document of each part and of the end, (parts + 1,)."""
    counts = []
    for path in files:
        found = path.stat().st_size
        if found % size:
            raise DataError(f"{path} is cut short: {found} bytes, {size} a document; {MEND}")
        counts.append(found // size)
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def _digests(
    files: Sequence[Path], starts: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Digests as two numbers each, (n, 2), with the number of the first document."""
    for part, path in enumerate(files):
        with path.open("rb") as file:
            for start in range(starts[part], starts[part + 1], _CHUNK):
                count = min(_CHUNK, int(starts[part + 1]) - start)
                yield start, read_numbers(file, path, 2 * count).reshape(count, 2)


def _band(
    files: Sequence[Path],
    starts: NDArray[np.int64],
    bands: int,
    band: int,
    left_out: Sequence[Path] | None,
) -> Iterator[tuple[int, NDArray[np.uint64], NDArray[np.bool_] | None]]:
    """Keys of one band, (n,), with the first document's number and which of them take part."""
    for part, path in enumerate(files):
        documents = int(starts[part + 1] - starts[part])
        flags = None if left_out is None else read_flags(left_out[part])
        if flags is not None and len(flags) != documents:
            raise DataError(f"{path} has {documents} documents, its flags {len(flags)}; {MEND}")
        for start, keys in read_band(path, documents, bands, band):
            taken = None if flags is None else ~flags[start : start + len(keys)]
            yield int(starts[part]) + start, keys, taken


def _roots(parent: NDArray[Any], nodes: NDArray[Any]) -> NDArray[Any]:
    """The first document of the cluster of each node; paths get shorter on the way."""
    while True:
        up = parent[nodes]
        if np.array_equal(up, nodes):
            return nodes
        parent[nodes] = parent[up]
        nodes = up


def _unite(parent: NDArray[Any], one: NDArray[Any], other: NDArray[Any]) -> None:
    """Join the clusters of each pair: the later root hangs on the earlier one.

    A root that meets several gets the earliest of them; the others are tried again, until no pair
    is apart.
    """
    while len(one):
        one, other = _roots(parent, one), _roots(parent, other)
        apart = one != other
        one, other = one[apart], other[apart]
        one, other = np.maximum(one, other), np.minimum(one, other)
        np.minimum.at(parent, one, other)
