"""The manifest of a corpus: what the stages found of its parts, put together."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from electra.config import PrepareSettings
from electra.corpus.disk import sync
from electra.corpus.filters import merge_reports
from electra.corpus.folder import FORMAT, VERSION, ShardInfo
from electra.corpus.languages import language_facts, language_settings
from electra.corpus.preparation import Selected, tokenizer_sample
from electra.corpus.shards import dtype_of
from electra.corpus.stages import Plan, encoded
from electra.corpus.text_store import TextStore
from electra.corpus.tokenizer import num_ids, tokenizer_hash
from electra.corpus.tokenizer_report import tokenizer_report
from electra.errors import DataError

MANIFEST = "manifest.json"


def corpus_manifest(
    plan: Plan,
    tokenizer: Tokenizer,
    selected: Selected,
    copies: Mapping[str, str],
    sample: int,
    tick: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Gather what all parts have found, and write it to the folder of the work.

    Args:
        plan: whose parts are all encoded.
        tokenizer: the corpus's.
        selected: of `select`.
        copies: files that were left out -> the same file under an earlier name.
        sample: bytes of text that the tokenizer is described by, about.
        tick: how many of them are read.

    Raises:
        DataError: there are no two documents with tokens.
    """
    settings = plan.settings
    parts = list(encoded(plan))
    order = sorted(range(len(parts)), key=lambda n: (plan.parts[n].pieces[0].source, n))
    splits = {
        name: [shard for n in order for shard in parts[n]["splits"][name]]
        for name in ("train", "validation")
    }
    documents = sum(shard.documents for shards in splits.values() for shard in shards)
    reports = [TextStore(plan.texts(n)).report for n in range(len(parts))]
    cleaned = [report["cleaned"] for report in reports]
    whole = merge_reports([own for part in cleaned for own in part.values()])
    removed = Counter(whole["removed"]) + selected.removed
    if documents < 2:
        raise no_documents(documents, settings, removed)
    tokens = sum(part["tokens"] for part in parts)
    trained = language_settings(
        settings.language, lowercase=settings.lowercase, strip_accents=settings.strip_accents
    )
    own = settings.tokenizer is None
    apart = plan.folder / "manifest.partial"
    shutil.rmtree(apart, ignore_errors=True)
    apart.mkdir()
    manifest = _write_manifest(
        apart,
        splits=splits,
        dtype=dtype_of(num_ids(tokenizer)),
        tokenizer_sha256=tokenizer_hash(tokenizer),
        words_marked=settings.segmenter != "none",
        facts={
            "vocab_size": num_ids(tokenizer),
            "unknown_share": sum(part["unknown"] for part in parts) / max(1, tokens),
            "read": whole["read"],
            "removed": dict(removed.most_common()),
            "examples": whole["examples"] | selected.examples,
            "changed": whole["changed"],
            "languages_by": whole["languages_by"],
            "contamination": contamination_facts(plan),
            "between_sources": selected.between_sources,
            "replaced_bytes": _summed(reports, "replaced_bytes"),
            "replaced_surrogates": _summed(reports, "replaced_surrogates"),
            "copies": dict(copies),
            "sources": [
                _source_facts(plan, number, cleaned, parts) for number in range(len(plan.sources))
            ],
            "settings": asdict(settings),
            "language": language_facts(trained, settings.tokenizer_kind) if own else None,
            "tokenizer_report": tokenizer_report(
                tokenizer, tokenizer_sample(plan, sample, tick, unseen=True)
            ),
        },
    )
    sync(apart / MANIFEST)
    (apart / MANIFEST).replace(plan.folder / MANIFEST)
    apart.rmdir()
    return manifest


def contamination_facts(plan: Plan) -> dict[str, Any] | None:
    """Of the index of evaluation texts, None where there is none."""
    file = plan.folder / "contamination" / "contamination.json"
    found: dict[str, Any] | None = None
    if plan.settings.cleaning.contaminated:
        found = json.loads(file.read_text("utf-8"))
    return found


def _source_facts(
    plan: Plan,
    number: int,
    cleaned: Sequence[Mapping[str, Any]],
    parts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    source = plan.sources[number]
    report = merge_reports([part[str(number)] for part in cleaned if str(number) in part])
    return {
        "name": source.name,
        "weight": source.weight,
        "files": len(source.files) or source.shards,
        **({} if source.hub is None else {"hub": source.hub, "revision": "not pinned"}),
        "read": report["read"],
        "removed": report["removed"],
        "documents": sum(part["of_source"]["documents"][number] for part in parts),
        "tokens": sum(part["of_source"]["tokens"][number] for part in parts),
    }


def _summed(reports: Sequence[Mapping[str, Any]], name: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for report in reports:
        total.update(report[name])
    return dict(total)


def removed_documents(plan: Plan, selected: Selected) -> Counter[str]:
    """Reason -> documents, of all parts."""
    total = Counter(selected.removed)
    for number in range(len(plan.parts)):
        for report in TextStore(plan.texts(number)).report["cleaned"].values():
            total.update(report["removed"])
    return total


def no_documents(
    count: int, settings: PrepareSettings, removed: Mapping[str, int] | None = None
) -> DataError:
    """What to say of a corpus of none or one, of which others were removed."""
    found = "no text" if not count else "one document only"
    reasons = Counter(removed or {}).most_common(2)
    if reasons:
        found += ", and lost " + " and ".join(f"{n:,} ({reason})" for reason, n in reasons)
    return DataError(
        f"the corpus holds {found}; at least two documents are needed, one for validation "
        "(in .txt a blank line ends a document, elsewhere each row is one; documents under "
        f"{settings.min_chars} characters are left out, see --min-chars)"
    )


def check_weights(plan: Plan, documents: Sequence[int]) -> None:
    """Whether each source with a weight has text for training.

    Raises:
        DataError: one has none.
    """
    for number, source in enumerate(plan.sources):
        if source.weight is None or documents[number]:
            continue
        removed: Counter[str] = Counter()
        for part in range(len(plan.parts)):
            report = TextStore(plan.texts(part)).report["cleaned"].get(str(number))
            removed.update(report["removed"] if report else {})
        why = ", ".join(f"{n:,} {reason}" for reason, n in removed.most_common(2))
        raise DataError(
            f'source "{source.name}" has a weight, and no document of it is left for training '
            f"({why or 'others hold the same, or there is none'}); leave it out, or loosen the "
            "rules"
        )


def _write_manifest(
    folder: Path,
    *,
    splits: Mapping[str, Sequence[ShardInfo]],
    dtype: str,
    tokenizer_sha256: str,
    words_marked: bool,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Write `manifest.json`; returns it.

    Args:
        folder: of the corpus.
        splits: the shards of each, in their order.
        dtype: of the token ids.
        tokenizer_sha256: of `tokenizer_hash`.
        words_marked: a segmenter's word starts are in the shards.
        facts: what else it is to say; the fingerprint covers shards, tokenizer and the weights of
            `sources`.
    """
    table = {
        name: {
            "documents": sum(s.documents for s in shards),
            "tokens": sum(s.tokens for s in shards),
            "lines": sum(s.lines for s in shards),
            "shards": [asdict(s) for s in shards],
        }
        for name, shards in splits.items()
    }
    weights = [source["weight"] for source in facts["sources"]]
    content = json.dumps([table, tokenizer_sha256, weights], sort_keys=True).encode()
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": hashlib.sha256(content).hexdigest(),
        "tokenizer_sha256": tokenizer_sha256,
        "dtype": dtype,
        "words_marked": words_marked,
        "splits": table,
        **facts,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    read: dict[str, Any] = json.loads(text)
    return read
