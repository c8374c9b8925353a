"""The two stages that parts of a corpus go through, each a function of files alone.

`clean`: documents are read, cleaned, and kept as texts with what stands for each. Then all parts
are looked at together (`preparation.py`), and the tokenizer is trained. `encode`: the chosen
documents become token shards. Both can be done by any process on any machine that sees the work
folder; a part that is done says so by a file, and is not done again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from electra.config import CleaningSettings, PrepareSettings
from electra.corpus.disk import disk_full, write_whole
from electra.corpus.encoding import DocumentEncoder
from electra.corpus.files import ReadReport
from electra.corpus.filters import Cleaner, document_digest_of
from electra.corpus.folder import ShardInfo
from electra.corpus.minhash import MinHash, signature_bands
from electra.corpus.pieces import grouped
from electra.corpus.selection import TRAIN, VALIDATION, read_selection
from electra.corpus.shards import ShardWriter
from electra.corpus.sources import Part, Source, read_piece
from electra.corpus.text_store import TextStore, TextWriter
from electra.corpus.tokenizer import SpecialIds, load_tokenizer, num_ids
from electra.corpus.words import load_segmenter

_ENCODE_CHARS = 4_000_000
"""Characters whose tokens are held at once."""
PLAN, PARTS = "plan.json", "parts.jsonl"
T = TypeVar("T")


def digest_of(*facts: Any) -> str:
    """32 characters that stand for facts that JSON has."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Plan:
    """All that the work on parts needs to know."""

    folder: Path
    """Of the work; the corpus folder that is not finished yet."""
    settings: PrepareSettings
    sources: tuple[Source, ...]
    parts: Sequence[Part]
    keys: Sequence[str] = ()
    """Of the parts (`work_keys.part_keys`)."""

    def digest(self) -> str:
        """Stands for the plan."""
        sources = [source.to_dict() for source in map(_without_files, self.sources)]
        return digest_of(asdict(self.settings), sources, list(self.keys))

    def write(self) -> None:
        """Write `plan.json`, and `parts.jsonl`, of which a worker reads the lines of its parts."""
        offsets = [0]
        with (self.folder / PARTS).open("wb") as file:
            for part, key in zip(self.parts, self.keys or [""] * len(self.parts), strict=True):
                line = json.dumps({"key": key, "part": part.to_dict()}).encode() + b"\n"
                offsets.append(offsets[-1] + file.write(line))
        cut = {piece.path for part in self.parts for piece in part.pieces if piece.span is not None}
        record = {
            "digest": self.digest(),
            "settings": asdict(self.settings),
            "sources": [_without_files(source, cut).to_dict() for source in self.sources],
            "parts": offsets[:-1],
        }
        write_whole(self.folder / PLAN, json.dumps(record))

    def is_written(self) -> bool:
        """Whether `plan.json` holds this plan."""
        try:
            found = json.loads((self.folder / PLAN).read_text("utf-8"))
            return bool(found["digest"] == self.digest())
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """What `write` wrote, the parts when they are asked for, of files only those cut."""
        found = json.loads((folder / PLAN).read_text("utf-8"))
        file, offsets = folder / PARTS, found["parts"]
        return cls(
            folder,
            _settings(found["settings"]),
            tuple(map(Source.from_dict, found["sources"])),
            _Lines(file, offsets, lambda line: Part.from_dict(line["part"])),
            _Lines(file, offsets, lambda line: str(line["key"])),
        )

    def texts(self, number: int) -> Path:
        """The folder of a part's texts."""
        return self.folder / "texts" / f"{number:05d}"

    def selection(self, number: int) -> Path:
        """Where a part's documents go."""
        return self.folder / "selection" / f"{number:05d}.bin"

    def shards(self, number: int) -> Path:
        """What was written of a part."""
        return self.folder / "encoded" / f"{number:05d}.json"


def _settings(found: Mapping[str, Any]) -> PrepareSettings:
    cleaning = CleaningSettings(
        **{**found["cleaning"], "contaminated": tuple(found["cleaning"]["contaminated"])}
    )
    return PrepareSettings(**{**found, "cleaning": cleaning})


Tick = Callable[[int], None]


class _Lines(Sequence[T], Generic[T]):
    """Lines of JSON, each read when it is asked for."""

    def __init__(
        self, file: Path, offsets: Sequence[int], made: Callable[[dict[str, Any]], T]
    ) -> None:
        self._file, self._offsets, self._made = file, offsets, made

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> list[T]: ...
    def __getitem__(self, number: int | slice) -> T | list[T]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        with self._file.open("rb") as file:
            file.seek(self._offsets[number])
            return self._made(json.loads(file.readline()))


def _without_files(source: Source, but: Collection[str] = ()) -> Source:
    """The source with those of its files only."""
    kept = [
        (file, size) for file, size in zip(source.files, source.sizes, strict=True) if file in but
    ]
    return replace(source, files=tuple(f for f, _ in kept), sizes=tuple(size for _, size in kept))


def clean(plan: Plan, number: int, tick: Tick) -> None:
    """Read and clean the documents of a part.

    Raises:
        DataError: a file cannot be read, named with the place in it.
    """
    part, settings = plan.parts[number], plan.settings
    cleaners: dict[int, Cleaner] = {}
    read = ReadReport()
    near = settings.near_duplicates
    bands = MinHash().bands if near else 0
    with TextWriter(plan.texts(number), bands=bands) as writer:
        for piece in part.pieces:
            source = plan.sources[piece.source]
            if piece.source not in cleaners:  # to make one can take long
                cleaners[piece.source] = Cleaner.of(settings, plan.folder)
            cleaner = cleaners[piece.source]
            read.position = done = 0
            for text in read_piece(
                source,
                piece,
                text_column=settings.text_column,
                encoding_errors=settings.encoding_errors,
                report=read,
            ):
                kept = cleaner(text)
                if kept is not None:
                    data = kept.encode("utf-8")
                    keys = signature_bands(kept) if near else None
                    writer.add(kept, data, document_digest_of(data), keys, piece.source)
                if piece.shard is not None:  # how much there is of it is not known
                    tick(len(text))
                tick(read.position - done)
                done = read.position
            tick(piece.size - done)
        writer.finish(
            {
                "key": plan.keys[number] if plan.keys else "",
                "part": part.to_dict(),
                "cleaned": {str(n): cleaner.report() for n, cleaner in cleaners.items()},
                "replaced_bytes": read.replaced_bytes,
                "replaced_surrogates": read.replaced_surrogates,
            }
        )


@functools.lru_cache(maxsize=1)
def _encoder(
    folder: Path, segmenter: str, _written: tuple[int, int]
) -> tuple[DocumentEncoder, SpecialIds, int]:
    """With the special ids and V; the same for all parts, as reading a tokenizer takes a while."""
    tokenizer = load_tokenizer(folder)
    tokenizer.encode_special_tokens = True  # "[MASK]" in a text is text, not the token
    encoder = DocumentEncoder(tokenizer, load_segmenter(segmenter))
    return encoder, SpecialIds.of(tokenizer), num_ids(tokenizer)


def encode(plan: Plan, number: int, tick: Tick) -> None:
    """Write the token shards of a part."""
    file = (plan.folder / "tokenizer.json").stat()
    encoder, special, vocab_size = _encoder(
        plan.folder, plan.settings.segmenter, (file.st_mtime_ns, file.st_size)
    )
    store = TextStore(plan.texts(number))
    selection = read_selection(plan.selection(number))
    source = plan.parts[number].pieces[0].source
    found: dict[str, Any] = {"unknown": 0, "tokens": 0, "documents": 0, "splits": {}}
    of_source = {"documents": [0] * len(plan.sources), "tokens": [0] * len(plan.sources)}
    for split, kind in (("train", TRAIN), ("validation", VALIDATION)):
        writer = ShardWriter(
            plan.folder,
            f"{split}-{number:05d}",
            vocab_size=vocab_size,
            sep_id=special.sep,
            source=source,
        )
        chosen = selection == kind
        sources = iter(store.sources[chosen].tolist())
        for texts in grouped(((t, len(t)) for t in store.texts(chosen)), _ENCODE_CHARS):
            for text, document in zip(texts, encoder.encode(texts), strict=True):
                writer.add(document.ids, document.line_lengths, document.starts_word)
                size, own = len(document.ids), next(sources)
                found["unknown"] += int((document.ids == special.unk).sum())
                found["tokens"] += size
                of_source["documents"][own] += size > 0
                of_source["tokens"][own] += size
                tick(len(text.encode("utf-8")) if not text.isascii() else len(text))
        writer.flush()
        found["splits"][split] = [asdict(shard) for shard in writer.shards]
    plan.shards(number).parent.mkdir(exist_ok=True)
    write_whole(plan.shards(number), json.dumps(found | {"of_source": of_source}))


def _on_disk(stage: Callable[[Plan, int, Tick], None]) -> Callable[[Plan, int, Tick], None]:
    def run(plan: Plan, number: int, tick: Tick) -> None:
        with disk_full(plan.folder):
            stage(plan, number, tick)

    return run


STAGES: Mapping[str, Callable[[Plan, int, Tick], None]] = {
    "clean": _on_disk(clean),
    "encode": _on_disk(encode),
}


def encoded(plan: Plan) -> Iterator[dict[str, Any]]:
    """What `encode` found of each part, in their order, the shards as `ShardInfo`."""
    for number in range(len(plan.parts)):
        found = json.loads(plan.shards(number).read_text(encoding="utf-8"))
        found["splits"] = {
            name: [ShardInfo(**shard) for shard in shards]
            for name, shards in found["splits"].items()
        }
        yield found
