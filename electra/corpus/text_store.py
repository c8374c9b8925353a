"""The kept texts of a part, between cleaning and encoding.

A folder of plain arrays: `texts.bin` (UTF-8, one document behind another), and for each document
where it ends (`ends.bin`, uint64), its characters (`chars.bin`, uint32), its source (`sources.bin`,
uint16), its digest (`digests.bin`, 16 bytes) and, where near-duplicates are looked for, its bands
(`bands.bin`, uint64). `report.json` says what reading and cleaning found. The folder gets its name
when all of it is there.
"""

from __future__ import annotations

import json
import shutil
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from electra.corpus.bands import BandWriter
from electra.corpus.disk import remove_folder, sync, write_whole
from electra.errors import ElectraError

REPORT = "report.json"
DIGESTS, BANDS, SOURCES = "digests.bin", "bands.bin", "sources.bin"
_TEXTS, _ENDS, _CHARS = "texts.bin", "ends.bin", "chars.bin"
_READ = 2**23
"""Bytes of text read at once."""
_GAP = 2**16
"""Bytes of text that is not asked for which are read rather than passed over."""


class TextWriter:
    """Writes the folder of a part; `finish` gives it its name."""

    def __init__(self, folder: Path, *, bands: int = 0) -> None:
        """What an earlier try has left is removed; `bands` keys come with each document."""
        self._folder = folder
        self._partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        self._texts = (self._partial / _TEXTS).open("wb", buffering=2**20)
        self._digests = (self._partial / DIGESTS).open("wb", buffering=2**16)
        self._bands: BandWriter | None = None
        if bands:
            self._bands = BandWriter(self._partial / BANDS, bands)
        # 14 bytes a document until `finish`
        self._ends, self._chars, self._sources = array("Q"), array("I"), array("H")
        self._size = 0

    def add(
        self,
        text: str,
        data: bytes,
        digest: bytes,
        bands: NDArray[np.uint64] | None = None,
        source: int = 0,
    ) -> None:
        """Append a document: its text, the same in UTF-8, what stands for it, where it is from."""
        self._texts.write(data)
        self._digests.write(digest)
        if self._bands is not None:
            assert bands is not None, "every document has its bands"
            self._bands.append(bands)
        self._size += len(data)
        self._ends.append(self._size)
        self._chars.append(len(text))
        self._sources.append(source)

    def finish(self, report: dict[str, Any]) -> None:
        """Write what is left; the part is done."""
        self.close()
        for name, numbers, kind in (
            (_ENDS, self._ends, "<u8"),
            (_CHARS, self._chars, "<u4"),
            (SOURCES, self._sources, "<u2"),
        ):
            (self._partial / name).write_bytes(np.asarray(numbers).astype(kind).tobytes())
        (self._partial / REPORT).write_text(
            json.dumps(report, ensure_ascii=False), encoding="utf-8"
        )
        for file in self._partial.iterdir():
            sync(file)
        remove_folder(self._folder)
        self._partial.rename(self._folder)

    def close(self) -> None:
        """Close the files."""
        self._texts.close()
        self._digests.close()
        if self._bands is not None:
            self._bands.close()
            self._bands = None

    def __enter__(self) -> TextWriter:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files; without `finish` the part is not there."""
        self.close()


class TextStore:
    """The folder of a part that is done."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read before it is asked for: there may be many parts."""
        self.folder = folder

    def __len__(self) -> int:
        """Documents."""
        return (self.folder / _CHARS).stat().st_size // 4

    @property
    def size(self) -> int:
        """Bytes of all texts."""
        return (self.folder / _TEXTS).stat().st_size

    def check(self) -> None:
        """Whether the files are as long as they say of each other.

        Raises:
            ElectraError: they are not, or one is missing.
        """
        try:
            ends = self._ends()
            right = self.size == (int(ends[-1]) if len(ends) else 0)
            for name, width in ((_CHARS, 4), (SOURCES, 2), (DIGESTS, 16)):
                right &= (self.folder / name).stat().st_size == width * len(ends)
        except (FileNotFoundError, ValueError):
            right = False
        if not right:
            raise ElectraError(
                f"{self.folder} is not as it was written; remove it, and run the same command"
            )

    def renumber(self, numbers: Mapping[int, int], report: Mapping[str, Any]) -> None:
        """Give the sources other numbers, and the part another report; killed, it has none."""
        (self.folder / REPORT).unlink()
        table = np.arange(1 + max(numbers), dtype="<u2")
        for old, new in numbers.items():
            table[old] = new
        write_whole(self.folder / SOURCES, table[self.sources].tobytes())
        write_whole(self.folder / REPORT, json.dumps(report, ensure_ascii=False))

    def _ends(self) -> NDArray[np.int64]:
        return np.fromfile(self.folder / _ENDS, dtype="<u8").astype(np.int64)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(documents,) bytes of each."""
        return np.diff(self._ends(), prepend=0)

    @property
    def chars(self) -> NDArray[np.uint32]:
        """(documents,) characters of each."""
        return np.fromfile(self.folder / _CHARS, dtype="<u4")

    @property
    def sources(self) -> NDArray[np.uint16]:
        """(documents,) the number of the source of each."""
        return np.fromfile(self.folder / SOURCES, dtype="<u2")

    @property
    def report(self) -> dict[str, Any]:
        """What reading and cleaning found."""
        found: dict[str, Any] = json.loads((self.folder / REPORT).read_text(encoding="utf-8"))
        return found

    @property
    def digests(self) -> NDArray[np.uint64]:
        """(documents, 2), the 16 bytes of each as two numbers, the first eight big-endian first."""
        return np.fromfile(self.folder / DIGESTS, dtype=">u8").reshape(-1, 2).astype(np.uint64)

    def raw_digests(self, chosen: NDArray[np.bool_]) -> Iterator[bytes]:
        """The 16 bytes of each document that is chosen."""
        every = np.fromfile(self.folder / DIGESTS, dtype="V16")
        return (digest.tobytes() for digest in every[chosen])

    def texts(self, chosen: NDArray[np.bool_]) -> Iterator[str]:
        """The documents that are chosen, (documents,), in their order.

        Blocks are read at once, without what lies far from all that is chosen.

        Raises:
            ElectraError: the files are not as they were written.
        """
        self.check()
        ends = self._ends()
        places = np.flatnonzero(chosen)
        begins, ends = (ends - np.diff(ends, prepend=0))[places], ends[places]
        apart = np.flatnonzero(begins[1:] - ends[:-1] > _GAP) + 1
        with (self.folder / _TEXTS).open("rb") as file:
            first = 0
            while first < len(ends):
                # as many documents as fit into a block, one at least, none behind a gap
                last = int(np.searchsorted(ends, begins[first] + _READ, side="right"))
                gap = int(np.searchsorted(apart, first, side="right"))
                last = min(max(last, first + 1), int(apart[gap]) if gap < len(apart) else len(ends))
                start = int(begins[first])
                file.seek(start)
                block = file.read(int(ends[last - 1]) - start)
                for begin, end in zip(
                    (begins[first:last] - start).tolist(),
                    (ends[first:last] - start).tolist(),
                    strict=True,
                ):
                    yield block[begin:end].decode("utf-8")
                first = last
