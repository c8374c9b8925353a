"""What is in a corpus folder, and whether it is whole.

electra inspect corpora/mine
"""

from __future__ import annotations

import hashlib
import json as json_module
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import filesize
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from tokenizers import Tokenizer

from electra.corpus.examples import Examples
from electra.corpus.folder import Corpus, ShardInfo, Split
from electra.corpus.order import shuffled_ids
from electra.corpus.tokenizer import SpecialIds, load_tokenizer, tokenizer_hash
from electra.corpus.tokenizer_report import print_report, tokenizer_report
from electra.corpus.words import word_starts
from electra.errors import ConfigError, DataError
from electra.training.loggers import progress_bar

SPLITS = ("train", "validation")
LENGTHS = (128, 512)
"""Tokens in a sequence for which sequences are counted."""
VERIFIED_BELOW = 2**31
"""Bytes; shards of larger corpora are read whole only where that is asked for."""
_BLOCK = 2**22
_SHOWN_TOKENS = 96
_SAMPLED_DOCUMENTS = 400
_SAMPLED_TOKENS = 1_000
"""Of a document, for the report on the tokenizer."""


def inspect_corpus(
    data: Path,
    *,
    samples: int = 3,
    verify: bool | None = None,
    json: bool = False,
    console: Console | None = None,
    progress: Console | None = None,
) -> dict[str, Any]:
    """Show what a corpus folder holds; return the same as a table ready for JSON.

    Args:
        data: a corpus folder.
        samples: documents and masked examples shown; 0: none, and torch is not needed.
        verify: read every shard and compare its SHA-256 with the manifest's; none: where they are
            below `VERIFIED_BELOW` bytes together. Sizes are compared always.
        json: print one line of JSON instead of tables.
        console: where the answer goes; none: nowhere.
        progress: where the progress bar goes; none: nowhere.

    Raises:
        ConfigError: `samples` is below 0.
        DataError: there is no corpus, or a file of it is missing, cut or altered.
    """
    if samples < 0:
        raise ConfigError(f"--samples is {samples}; allowed: 0 or more")
    console = console or Console(quiet=True)
    corpus = Corpus(data)
    manifest = corpus.manifest
    total = _check_sizes(corpus)
    tokenizer = _tokenizer_of(corpus)
    verified = total < VERIFIED_BELOW if verify is None else verify
    if verified:
        _check_shards(corpus, total, progress or Console(quiet=True))
    splits = {name: corpus.split(name) for name in SPLITS if name in manifest["splits"]}
    facts = {
        "folder": str(data),
        "fingerprint": manifest.get("fingerprint"),
        "verified": verified,
        "bytes": total,
        "vocab_size": manifest.get("vocab_size"),
        "unknown_share": manifest.get("unknown_share"),
        "words_marked": manifest.get("words_marked"),
        "splits": {name: _split_facts(split, tokenizer) for name, split in splits.items()},
        **_what_prepare_said(manifest),
        "tokenizer": manifest.get("tokenizer_report")
        or tokenizer_report(tokenizer, _decoded_documents(splits["train"], tokenizer)),
        "samples": _samples(splits["train"], tokenizer, samples),
        "masked": _masked(splits["train"], tokenizer, samples) if samples else [],
    }
    if json:
        line = json_module.dumps(facts, ensure_ascii=False)
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        _show(facts, console)
    return facts


def _shards_of(corpus: Corpus) -> Iterator[tuple[ShardInfo, int]]:
    """Each shard with the bytes it should have."""
    manifest = corpus.manifest
    for table in manifest["splits"].values():
        for row in table["shards"]:
            info = ShardInfo(**row)
            marked = bool(manifest["words_marked"])
            yield info, info.num_bytes(manifest["dtype"], words_marked=marked)


def _check_sizes(corpus: Corpus) -> int:
    """The bytes of all shards together."""
    total = 0
    wrong = []
    for info, wanted in _shards_of(corpus):
        path = corpus.folder / info.file
        if not path.is_file():
            wrong.append(f"shard {path} is missing")
        elif (size := path.stat().st_size) != wanted:
            how = "cut short" if size < wanted else "longer than it was"
            wrong.append(f"shard {path} is {how}: {size:,} bytes, the manifest says {wanted:,}")
        total += wanted
    _refuse(wrong)
    return total


def _check_shards(corpus: Corpus, total: int, progress: Console) -> None:
    wrong = []
    with progress_bar(progress) as bar:
        task = bar.add_task("checking shards", total=max(1, total), numbers="")
        for info, _ in _shards_of(corpus):
            path = corpus.folder / info.file
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    bar.advance(task, len(block))
            if digest.hexdigest() != info.sha256:
                wrong.append(
                    f"shard {path} is altered: its SHA-256 is {digest.hexdigest()[:12]}..., the "
                    f"manifest says {info.sha256[:12]}..."
                )
    _refuse(wrong)


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise DataError(f"{wrong[0]}{more}; run electra prepare again")


def _tokenizer_of(corpus: Corpus) -> Tokenizer:
    path = corpus.folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(f"{path} is missing; run electra prepare again")
    tokenizer = load_tokenizer(path)
    wanted = corpus.manifest.get("tokenizer_sha256")
    if wanted is not None and tokenizer_hash(tokenizer) != wanted:
        raise DataError(f"{path} is not the one that the shards were made with; prepare again")
    return tokenizer


def _split_facts(split: Split, tokenizer: Tokenizer) -> dict[str, Any]:
    none = np.zeros(0, dtype=np.int64)
    lengths = np.concatenate([none, *(np.diff(offsets) - 1 for offsets in split.offsets)])
    facts: dict[str, Any] = {
        "shards": len(split.shards),
        "documents": len(lengths),
        "lines": sum(info.lines for info in split.shards),
        "tokens": split.num_tokens,
        "document_tokens": {},
        "sequences": {},
    }
    if len(lengths):
        middle, high = np.percentile(lengths, [50, 95], method="higher")
        facts["document_tokens"] = {
            "median": int(middle),
            "95_percent": int(high),
            "longest": int(lengths.max()),
        }
    special = SpecialIds.of(tokenizer)
    for length in LENGTHS:
        facts["sequences"][str(length)] = {
            "packed": sum(info.tokens // (length - 2) for info in split.shards),
            "documents": len(Examples(split, special, max_length=length, kind="documents"))
            if len(lengths)
            else 0,
        }
    return facts


def _what_prepare_said(manifest: dict[str, Any]) -> dict[str, Any]:
    """What corpora of some versions have and others lack."""
    sources = manifest.get("sources") or []
    if isinstance(sources, dict):  # path -> documents
        sources = [{"name": name, "documents": count} for name, count in sources.items()]
    return {
        "sources": sources,
        "removed": manifest.get("removed") or {},
        "changed": manifest.get("changed") or {},
        "examples": manifest.get("examples") or {},
        "replaced_bytes": manifest.get("replaced_bytes") or {},
        "settings": manifest.get("settings") or {},
        "language": manifest.get("language") or {},
    }


def _document_numbers(split: Split, count: int) -> list[int]:
    """Some documents, always the same ones of a corpus."""
    total = sum(info.documents for info in split.shards)
    places = np.arange(min(count, total), dtype=np.uint64)
    return [int(n) for n in shuffled_ids(places, num_examples=total, seed=0)] if total else []


def _document(split: Split, number: int, most: int) -> tuple[list[int], int]:
    """The first tokens of a document, and how many it has."""
    for shard, info in enumerate(split.shards):
        if number < info.documents:
            start, end = split.offsets[shard][number : number + 2]
            size = int(end - start) - 1  # without its [SEP]
            return split.tokens(shard, int(start), min(size, most)).tolist(), size
        number -= info.documents
    raise AssertionError("documents are numbered below their count")


def _decoded_documents(split: Split, tokenizer: Tokenizer) -> Iterator[str]:
    for number in _document_numbers(split, _SAMPLED_DOCUMENTS):
        ids, _ = _document(split, number, _SAMPLED_TOKENS)
        yield tokenizer.decode(ids)


def _samples(split: Split, tokenizer: Tokenizer, count: int) -> list[dict[str, Any]]:
    found = []
    for number in _document_numbers(split, count):
        ids, size = _document(split, number, _SHOWN_TOKENS)
        text = tokenizer.decode(ids, skip_special_tokens=False)
        found.append({"document": number, "tokens": size, "beginning": text})
    return found


def _masked(split: Split, tokenizer: Tokenizer, count: int) -> list[dict[str, Any]]:
    """Examples as the generator reads them, by tokens and by whole words."""
    from electra.config import ObjectiveConfig
    from electra.corpus.batches import as_batch
    from electra.objectives.masking import choose_and_mask
    from electra.training.noise import Noise

    special, objective = SpecialIds.of(tokenizer), ObjectiveConfig()
    length = min(_SHOWN_TOKENS, max(8, split.num_tokens))
    examples = Examples(
        split, special, max_length=length, kind="documents", word_starts=word_starts(tokenizer)
    )
    places = np.arange(min(count, len(examples)), dtype=np.uint64)
    batch = as_batch(examples, shuffled_ids(places, num_examples=len(examples), seed=0))
    found = []
    for masking in ("token", "whole_word"):
        masked = choose_and_mask(
            batch["input_ids"],
            batch["attention_mask"],
            special,
            mask_prob=objective.mask_prob,
            mask_token_prob=objective.mask_token_prob,
            noise=Noise(0),
            masking=masking,
            starts_word=batch["starts_word"],
        )
        for row, mask in enumerate(batch["attention_mask"].bool()):
            used = masked.masked_weights[row] > 0
            from_the_left = masked.masked_positions[row][used].argsort()
            hidden = masked.original_ids[row][used][from_the_left].tolist()
            shown = masked.masked_input_ids[row][mask].tolist()
            found.append(
                {
                    "masking": masking,
                    "example": int(row),
                    "text": tokenizer.decode(shown, skip_special_tokens=False),
                    "chosen": [tokenizer.id_to_token(number) for number in hidden],
                }
            )
    return sorted(found, key=lambda entry: int(entry["example"]))


def _show(facts: dict[str, Any], console: Console) -> None:
    head = Table("corpus", Column(Text(facts["folder"])))
    state = "every shard is as the manifest says" if facts["verified"] else "sizes alone (--verify)"
    head.add_row("checked", state)
    head.add_row("fingerprint", str(facts["fingerprint"]))
    head.add_row("shards", filesize.decimal(facts["bytes"]))
    head.add_row("vocabulary", f"{facts['vocab_size'] or 0:,}")
    if facts["unknown_share"] is not None:
        head.add_row("unknown tokens", f"{facts['unknown_share']:.3%}")
    head.add_row("words marked by a segmenter", "yes" if facts["words_marked"] else "no")
    console.print(head)
    counts = Table("", *facts["splits"])
    rows: dict[str, list[str]] = {}
    for split in facts["splits"].values():
        for name, value in _flat(split):
            rows.setdefault(name, []).append(f"{value:,}")
    for name, values in rows.items():
        counts.add_row(name, *values)
    console.print(counts)
    _show_rows("source", facts["sources"], console)
    for name in ("removed", "changed"):
        reasons = facts[name]
        if reasons:
            table = Table(f"{name} by", "documents", "for example")
            for reason, count in reasons.items():
                shown = [" ".join(text.split())[:100] for text in facts["examples"].get(reason, [])]
                table.add_row(Text(reason), _number(count), Text("\n".join(shown)))
            console.print(table)
    for name in ("replaced_bytes", "language"):
        if facts[name]:
            table = Table(name.replace("_", " "), "")
            for key, value in facts[name].items():
                table.add_row(Text(key), Text(_number(value)))
            console.print(table)
    print_report(facts["tokenizer"], console)
    for sample in facts["samples"]:
        title = f"document {sample['document']:,} ({sample['tokens']:,} tokens)"
        console.print(Text(f"{title}: {sample['beginning']}"))
    for sample in facts["masked"]:
        console.print(Text(f"masked by {sample['masking']}: {sample['text']}"))
        console.print(Text(f"  chosen: {' '.join(sample['chosen'])}"))


def _show_rows(title: str, rows: Sequence[dict[str, Any]], console: Console) -> None:
    """A table of whatever the rows say that is one value."""
    names = list(
        dict.fromkeys(k for row in rows for k, v in row.items() if not isinstance(v, list | dict))
    )
    if rows and names:
        table = Table(title, *names[1:])
        for row in rows:
            table.add_row(*(Text(_number(row.get(name, ""))) for name in names))
        console.print(table)


def _flat(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, int]]:
    for name, value in table.items():
        label = f"{before}{name}".replace("_", " ")
        if isinstance(value, dict):
            yield from _flat(value, f"{label}: ")
        else:
            yield label, value


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
