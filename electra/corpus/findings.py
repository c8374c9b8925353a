"""What the search for duplicates found, on disk: flags of each part, counts by source, examples."""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from electra.corpus.bands import MEND
from electra.errors import DataError

Place = tuple[int, int]
"""A document: the number of its part, its index there."""
_EXAMPLES = 3


@dataclass(frozen=True)
class Duplicates:
    """What was found, as it stands in a folder.

    Attributes:
        files: one .npy a part, bool, shape (documents of the part,): true for what is left out.
        repeats: how many are true, of each part.
        pairs: how many documents were left out, by the number of their source and of the source of
            the one that stays.
        examples: the first few that were left out, each with the one that stays for it.
    """

    files: list[Path]
    repeats: list[int]
    pairs: Counter[tuple[int, int]]
    examples: list[tuple[Place, Place]]

    def part(self, number: int) -> NDArray[np.bool_]:
        """Which documents of a part are left out, (documents,)."""
        return read_flags(self.files[number])


def read_flags(path: Path) -> NDArray[np.bool_]:
    """The flags of a part, (documents,).

    Raises:
        DataError: the file is damaged.
    """
    try:
        flags: NDArray[np.bool_] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error}); {MEND}") from None
    if flags.dtype != np.bool_ or flags.ndim != 1:
        raise DataError(f"{path} holds {flags.dtype} {flags.shape}, not flags; {MEND}")
    return flags


def write_flags(folder: Path, part: int, flags: NDArray[np.bool_]) -> int:
    """Write the flags of a part; how many are true."""
    np.save(_flags_file(folder, part), flags, allow_pickle=False)
    return int(flags.sum())


def _flags_file(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05}.npy"


class Tally:
    """Counts what was left out for what, by sources; keeps the first few pairs."""

    def __init__(self, starts: NDArray[np.int64], source_files: Sequence[Path] | None) -> None:
        """Read the sources of all documents: a byte each, two from 257 sources on.

        Args:
            starts: the number of the first document of each part and of the end, (parts + 1,).
            source_files: of each part; uint16 a document.

        Raises:
            DataError: a file has more or fewer documents than the part.
        """
        self._starts = starts
        self._source: NDArray[Any] | None = None
        if source_files is not None:
            self._source = _read_sources(starts, source_files)
        self._pairs: Counter[tuple[int, int]] = Counter()
        self._first = np.empty((0, 2), dtype=np.int64)

    def add(self, left_out: NDArray[Any], kept: NDArray[Any]) -> None:
        """Count documents by their numbers, (n,) each."""
        if not len(left_out):
            return
        if self._source is None:
            self._pairs[0, 0] += len(left_out)
        else:
            code = self._source[left_out].astype(np.int64) << 16 | self._source[kept]
            for value, count in zip(*np.unique(code, return_counts=True), strict=True):
                self._pairs[int(value) >> 16, int(value) & 0xFFFF] += int(count)
        least = min(_EXAMPLES, len(left_out))
        some = np.argpartition(left_out, least - 1)[:least]
        pairs = np.concatenate((self._first, np.stack((left_out[some], kept[some]), axis=1)))
        self._first = pairs[np.argsort(pairs[:, 0])][:_EXAMPLES]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "pairs": [[*pair, count] for pair, count in sorted(self._pairs.items())],
            "examples": [[self._place(a), self._place(b)] for a, b in self._first],
        }

    def _place(self, number: np.int64) -> Place:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return part, int(number - self._starts[part])


def _read_sources(starts: NDArray[np.int64], files: Sequence[Path]) -> NDArray[Any]:
    sources: NDArray[Any] = np.zeros(int(starts[-1]), dtype=np.uint8)
    for part, path in enumerate(files):
        found = np.fromfile(path, dtype="<u2")
        documents = int(starts[part + 1] - starts[part])
        if len(found) != documents:
            raise DataError(f"{path} has {len(found)} documents, its part {documents}; {MEND}")
        if found.max(initial=0) > np.iinfo(sources.dtype).max:
            sources = sources.astype(np.uint16)
        sources[starts[part] : starts[part + 1]] = found
    return sources


def facts_of(*groups: Sequence[Path] | None) -> list[Any]:
    """What a result is made from: these files in this order, not written since."""
    return [
        None
        if paths is None
        else [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
        for paths in groups
    ]


@contextmanager
def findings_folder(folder: Path, facts: list[Any], needed: int) -> Iterator[Path | None]:
    """A folder to write into, which gets its name at the end.

    Args:
        folder: the name.
        facts: what the findings are made from; None is given where they are there already.
        needed: bytes that are written meanwhile, for the message.

    Raises:
        DataError: the disk is full.
    """
    report = folder / "report.json"
    if report.is_file() and json.loads(report.read_text("utf-8"))["facts"] == facts:
        yield None
        return
    partial = folder.with_name(f"{folder.name}.partial")
    for old in (folder, partial):
        shutil.rmtree(old, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"{folder} cannot be written: {error.strerror}; the search for duplicates "
            f"takes {needed / 1e6:,.0f} MB there: make room and run the command again"
        ) from None


def write_findings(folder: Path, facts: list[Any], repeats: list[int], tally: Tally) -> None:
    """Write `report.json`, the last file."""
    found = {"facts": facts, "repeats": repeats, **tally.to_dict()}
    (folder / "report.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def read_findings(folder: Path) -> Duplicates:
    """What stands in a folder."""
    found = json.loads((folder / "report.json").read_text("utf-8"))
    return Duplicates(
        files=[_flags_file(folder, part) for part in range(len(found["repeats"]))],
        repeats=found["repeats"],
        pairs=Counter({(a, b): count for a, b, count in found["pairs"]}),
        examples=[(tuple(a), tuple(b)) for a, b in found["examples"]],
    )
