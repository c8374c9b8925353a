"""The two stages that parts of a corpus go through, each a function of files alone.

`clean`: documents are read, cleaned, and kept as texts with what stands for each. Then all parts
are looked at together (`preparation.py`), and the tokenizer is trained. `encode`: the chosen
documents become token shards. Both can be done by any process on any machine that sees the work
folder; a part that is done says so by a file, and is not done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from electra.config import CleaningSettings, PrepareSettings
from electra.corpus.encoding import DocumentEncoder
from electra.corpus.files import ReadReport
from electra.corpus.filters import Cleaner, document_digest_of
from electra.corpus.minhash import MinHash, signature_bands
from electra.corpus.pieces import grouped
from electra.corpus.selection import TRAIN, VALIDATION, read_selection
from electra.corpus.shards import ShardInfo, ShardWriter
from electra.corpus.sources import Part, Source, read_piece
from electra.corpus.text_store import TextStore, TextWriter
from electra.corpus.tokenizer import SpecialIds, load_tokenizer, num_ids
from electra.corpus.words import load_segmenter

_ENCODE_CHARS = 4_000_000
"""Characters whose tokens are held at once."""
_PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """All that the work on parts needs to know."""

    folder: Path
    """Of the work; the corpus folder that is not finished yet."""
    settings: PrepareSettings
    sources: tuple[Source, ...]
    parts: tuple[Part, ...]

    def write(self) -> None:
        """Write `plan.json`."""
        (self.folder / _PLAN).write_text(json.dumps(self.record(), ensure_ascii=False), "utf-8")

    def record(self) -> dict[str, Any]:
        """Ready for JSON, with the times at which the files were changed."""
        return {
            "settings": asdict(self.settings),
            "sources": [source.to_dict() for source in self.sources],
            "parts": [part.to_dict() for part in self.parts],
            "modified": {
                file: os.stat(file).st_mtime_ns for source in self.sources for file in source.files
            },
        }

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """What `write` wrote."""
        found = json.loads((folder / _PLAN).read_text("utf-8"))
        return cls(
            folder,
            _settings(found["settings"]),
            tuple(map(Source.from_dict, found["sources"])),
            tuple(map(Part.from_dict, found["parts"])),
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
            cleaner = cleaners.setdefault(piece.source, Cleaner.of(settings, plan.folder))
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
                tick(read.position - done)
                done = read.position
            tick(piece.size - done)
        writer.finish(
            {
                "part": part.to_dict(),
                "cleaned": {str(n): cleaner.report() for n, cleaner in cleaners.items()},
                "replaced_bytes": read.replaced_bytes,
                "replaced_surrogates": read.replaced_surrogates,
            }
        )


def encode(plan: Plan, number: int, tick: Tick) -> None:
    """Write the token shards of a part."""
    tokenizer = load_tokenizer(plan.folder)
    tokenizer.encode_special_tokens = True  # "[MASK]" in a text is text, not the token
    special, vocab_size = SpecialIds.of(tokenizer), num_ids(tokenizer)
    encoder = DocumentEncoder(tokenizer, load_segmenter(plan.settings.segmenter))
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
    partial = plan.shards(number).with_suffix(".partial")
    partial.parent.mkdir(exist_ok=True)
    partial.write_text(json.dumps(found | {"of_source": of_source}), encoding="utf-8")
    partial.rename(plan.shards(number))


STAGES: Mapping[str, Callable[[Plan, int, Tick], None]] = {"clean": clean, "encode": encode}


def encoded(plan: Plan) -> Iterator[dict[str, Any]]:
    """What `encode` found of each part, in their order, the shards as `ShardInfo`."""
    for number in range(len(plan.parts)):
        found = json.loads(plan.shards(number).read_text(encoding="utf-8"))
        found["splits"] = {
            name: [ShardInfo(**shard) for shard in shards]
            for name, shards in found["splits"].items()
        }
        yield found
