"""What a corpus is made of: sources with weights, and the parts they are worked through in.

A source is a set of files or a data set of the Hub. Sources are cut into parts by their sizes
alone, so that the parts are the same for any number of workers. All of it is plain data, ready for
JSON.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from electra.corpus.compression import compression_of
from electra.corpus.documents import read_documents, row_texts
from electra.corpus.files import ReadReport, expand, kind_of
from electra.corpus.hub import HUB, HubDataSet
from electra.corpus.spans import Span
from electra.corpus.standard_input import STANDARD_INPUT
from electra.errors import ConfigError, DataError, did_you_mean

PART_BYTES = 64_000_000
"""Raw text of a part, about."""
_UNPACKED = 3
"""Text in a byte of a packed file, about."""
_KEYS = ("path", "name", "weight", "text_column")
_FIRST_BYTES = 2**16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Files that are counted and weighed together, or a data set of the Hub."""

    name: str
    files: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    """Bytes of each file, as it lies on disk."""
    hub: str | None = None
    """`hub:owner/name[/configuration]@commit:split`."""
    shards: int = 0
    """Files of the data set of the Hub."""
    weight: float | None = None
    """Relative to the other sources'; all have one, or none has: then all are one stream."""
    text_column: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Source:
        """What `to_dict` gave, also after a visit to JSON."""
        lists = {name: tuple(values[name]) for name in ("files", "sizes")}
        return cls(**{**values, **lists})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """A file, a range of one, or a file of a data set of the Hub."""

    source: int
    """Number of its source."""
    path: str
    """Of the Hub: as `Source.hub`."""
    size: int
    """Bytes, as they lie on disk; 0 of the Hub, where it is not known."""
    span: Span | None = None
    """First byte and the one behind the last; None: the whole file."""
    shard: int | None = None
    """Of the Hub: number of the file."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What is worked through in one go."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Bytes, as they lie on disk."""
        return sum(piece.size for piece in self.pieces)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Part:
        """What `to_dict` gave, also after a visit to JSON."""
        return cls(values["number"], tuple(map(_piece, values["pieces"])))


def _piece(values: Mapping[str, Any]) -> Piece:
    span = values["span"]
    return Piece(**{**values, "span": span if span is None else (span[0], span[1])})


def read_sources(
    arguments: Sequence[str | Path] = (),
    tables: Sequence[Mapping[str, Any]] = (),
    *,
    spooled: Path | None = None,
    drop_copies: bool = True,
) -> tuple[tuple[Source, ...], dict[str, str]]:
    """Sources from the command line or from a recipe.

    Args:
        arguments: files, folders, globs, `hub:owner/name`, `-`; each is a source.
        tables: `[[sources]]` of a recipe, each with `path` (one of those, or a list of them),
            and, if wanted, `name`, `weight` and `text_column`.
        spooled: where `-` was copied to (`standard_input.spool`).
        drop_copies: also leave out files that hold the same bytes as an earlier one. A file that
            is given twice is read once in any case.

    Returns:
        The sources, and the files that are left out -> the same file, under an earlier name.

    Raises:
        ConfigError: a table that is not as it should be, or nothing is given.
        DataError: a source does not exist or holds nothing to read; the Hub cannot be reached.
    """
    if arguments and tables:
        raise ConfigError(
            "texts are given twice, on the command line and as [[sources]] of the recipe; leave "
            "one of the two out"
        )
    if not arguments and not tables:
        raise ConfigError("no text is given; name files, folders, globs, hub:owner/name or -")
    if tables:
        asked = [_of_table(table, number) for number, table in enumerate(tables, start=1)]
    else:
        distinct = dict.fromkeys(map(str, arguments))
        asked = [(Source(name=argument), (argument,)) for argument in distinct]
    for name, count in Counter(source.name for source, _ in asked).items():
        if count > 1:
            raise ConfigError(f'two [[sources]] have the name "{name}"; give each its own `name`')
    weighed = [source.weight is not None for source, _ in asked]
    if any(weighed) and not all(weighed):
        without = asked[weighed.index(False)][0].name
        raise ConfigError(
            f'source "{without}" has no weight, and others have; give all one or none'
        )
    copies = _Copies(drop_copies)
    sources: list[Source] = []
    for asked_for, places in asked:
        source = _found(asked_for, places, spooled, copies)
        if source.files or source.hub:
            sources.append(source)
        elif tables:
            raise DataError(
                f'source "{source.name}" holds only files that an earlier source holds; leave one '
                "of them out"
            )
    return tuple(sources), copies.left_out


def _of_table(table: Mapping[str, Any], number: int) -> tuple[Source, tuple[str, ...]]:
    """A source without files yet, and where they are."""
    place = f"[[sources]] {number}"
    if not isinstance(table, Mapping):
        raise ConfigError(f"{place} is {type(table).__name__}; a table is wanted: path = ...")
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f'{place} has the unknown key "{key}"; {did_you_mean(key, _KEYS)}')
    path = table.get("path")
    paths = [path] if isinstance(path, str) else path
    if not isinstance(paths, list) or not paths or not all(isinstance(p, str) and p for p in paths):
        raise ConfigError(f"{place}: path is {path!r}; allowed: a text, or a list of them")
    weight = table.get("weight")
    number_like = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if weight is not None and not (number_like and math.isfinite(weight) and weight > 0):
        raise ConfigError(f"{place}: weight is {weight!r}; allowed: a number above 0")
    texts = {key: table.get(key) for key in ("name", "text_column")}
    for key, value in texts.items():
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigError(f'{place}: {key} is {value!r}; allowed: a text, as "{key}"')
    name = texts["name"] or ", ".join(paths)
    weight = None if weight is None else float(weight)
    source = Source(name=name, weight=weight, text_column=texts["text_column"])
    return source, tuple(paths)


def _found(source: Source, places: Sequence[str], spooled: Path | None, copies: _Copies) -> Source:
    """The source with its files that are new, or its data set."""
    files: list[str] = []
    for place in places:
        if place.startswith(HUB):
            data_set = HubDataSet.parse(place)
            if len(places) > 1:
                raise ConfigError(
                    f'source "{source.name}" holds {place} and more; give it a table of its own'
                )
            data_set = data_set.pinned()
            return dataclasses.replace(source, hub=str(data_set), shards=data_set.num_shards())
        if place == STANDARD_INPUT and spooled is None:
            raise ValueError("standard input has not been copied to a file")
        found = [spooled] if place == STANDARD_INPUT and spooled is not None else expand([place])
        files += [str(path) for path in found if copies.is_new(path, source.text_column)]
    for name in files:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(f"{name!r} is not a name in UTF-8; rename the file") from None
    sizes = tuple(Path(file).stat().st_size for file in files)
    return dataclasses.replace(source, files=tuple(files), sizes=sizes)


class _Copies:
    """Which files have been met before, under this name or another."""

    def __init__(self, by_content: bool) -> None:
        self.left_out: dict[str, str] = {}
        self._by_content = by_content
        self._places: dict[tuple[Any, ...], str] = {}
        self._contents: dict[tuple[Any, ...], list[str]] = {}

    def is_new(self, path: Path, text_column: str | None) -> bool:
        """Whether a file is to be read; two columns of one file are two texts."""
        name, status = str(path), path.stat()
        place = (status.st_dev, status.st_ino, text_column)  # links lead to the same
        earlier = self._places.get(place) or self._same(name, status.st_size, path, text_column)
        if earlier is None:
            self._places[place] = name
        elif earlier != name:
            self.left_out[name] = earlier
        return earlier is None

    def _same(self, name: str, size: int, path: Path, text_column: str | None) -> str | None:
        """An earlier file of the same bytes."""
        if not self._by_content or not size:  # a thousand empty files are no copies
            return None
        beginning = (size, kind_of(path), compression_of(path), text_column)
        others = self._contents.setdefault((*beginning, _digest(name, _FIRST_BYTES)), [])
        for other in others:
            if size <= _FIRST_BYTES or _digest(name) == _digest(other):
                return other
        others.append(name)
        return None


def _digest(path: str, size: int = -1) -> bytes:
    with Path(path).open("rb") as file:
        if size >= 0:
            return hashlib.blake2b(file.read(size)).digest()
        return hashlib.file_digest(file, "blake2b").digest()


def plan_parts(
    sources: Sequence[Source], part_bytes: int = PART_BYTES, *, apart: bool = True
) -> tuple[Part, ...]:
    """Cut sources into parts; a function of their sizes alone.

    Text and JSONL that are not packed are cut to even ranges of `part_bytes` at most; other files
    are read whole, small ones together in their order. A packed byte counts as three. A file of a
    data set of the Hub is a part.

    Args:
        sources: the sources.
        part_bytes: raw text of a part, about.
        apart: no part is of several sources, as it has to be where they have weights.

    Returns:
        The parts in the order of the sources and their files; together they cover each byte once.
    """
    if part_bytes < 1:
        raise ValueError(f"part_bytes is {part_bytes}; allowed: 1 or more")
    parts: list[Part] = []

    def close(pieces: list[Piece]) -> None:
        if pieces:
            parts.append(Part(len(parts), tuple(pieces)))
            pieces.clear()

    together: list[Piece] = []
    held = 0
    for number, source in enumerate(sources):
        if apart:
            close(together)
            held = 0
        for path, size in zip(source.files, source.sizes, strict=True):
            if size > part_bytes and _can_be_cut(path):
                close(together)
                held = 0
                count = -(-size // part_bytes)
                bounds = [n * size // count for n in range(count + 1)]
                for span in itertools.pairwise(bounds):
                    close([Piece(source=number, path=path, size=span[1] - span[0], span=span)])
                continue
            raw = size * _UNPACKED if _is_packed(path) else size
            if held + raw > part_bytes:
                close(together)
                held = 0
            together.append(Piece(source=number, path=path, size=size))
            held += raw
        if source.shards:
            close(together)
            held = 0
        for shard in range(source.shards):
            close([Piece(source=number, path=str(source.hub), size=0, shard=shard)])
    close(together)
    return tuple(parts)


def _can_be_cut(path: str) -> bool:
    return compression_of(path) is None and kind_of(Path(path)) in ("text", "jsonl")


def _is_packed(path: str) -> bool:
    return compression_of(path) is not None or kind_of(Path(path)) == "parquet"


def read_piece(
    source: Source,
    piece: Piece,
    *,
    text_column: str | None = None,
    encoding_errors: str = "strict",
    report: ReadReport | None = None,
) -> Iterator[str]:
    """Documents of a piece, in their order.

    Args:
        source: the one it is of.
        piece: what is read.
        text_column: where the source has none of its own; as in `read_documents`.
        encoding_errors: `strict` or `replace`.
        report: counts replaced bytes, and gets the position.

    Raises:
        DataError: as `read_documents`; or the file is not as large as when the parts were planned.
    """
    column = source.text_column if source.text_column is not None else text_column
    if piece.shard is not None:
        data_set = HubDataSet.parse(piece.path)
        rows = data_set.rows(piece.shard, source.shards)
        yield from row_texts(rows, data_set.path(), column)
        return
    path = Path(piece.path)
    planned = piece.size if piece.span is None else source.sizes[source.files.index(piece.path)]
    if not path.is_file() or path.stat().st_size != planned:
        found = f"has {path.stat().st_size:,} bytes now" if path.is_file() else "is gone"
        raise DataError(
            f"{path} {found}, and had {planned:,} when this began; put it back, or begin again in "
            "a new folder"
        )
    yield from read_documents(
        path,
        text_column=column,
        encoding_errors=encoding_errors,
        report=report,
        span=piece.span,
    )
