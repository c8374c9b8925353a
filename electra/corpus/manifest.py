"""The manifest of a corpus: what the stages found of its parts, put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tokenizers import Tokenizer

from electra.config import PrepareSettings
from electra.corpus.filters import merge_reports
from electra.corpus.languages import language_facts, language_settings
from electra.corpus.preparation import Selected, tokenizer_sample
from electra.corpus.shards import dtype_of, write_manifest
from electra.corpus.stages import Plan, encoded
from electra.corpus.text_store import TextStore
from electra.corpus.tokenizer import num_ids, tokenizer_hash
from electra.corpus.tokenizer_report import tokenizer_report
from electra.errors import DataError

REPORT_BYTES = 4_000_000
"""Text the tokenizer is described by."""


def corpus_manifest(
    plan: Plan, tokenizer: Tokenizer, selected: Selected, copies: Mapping[str, str]
) -> dict[str, Any]:
    """Gather what all parts have found, and write it to the folder of the work.

    Args:
        plan: whose parts are all encoded.
        tokenizer: the corpus's.
        selected: of `select`.
        copies: files that were left out -> the same file under an earlier name.

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
    if documents < 2:
        raise no_documents(documents, settings)
    reports = [TextStore(plan.texts(n)).report for n in range(len(parts))]
    cleaned = [report["cleaned"] for report in reports]
    whole = merge_reports([own for part in cleaned for own in part.values()])
    removed = Counter(whole["removed"]) + selected.removed
    tokens = sum(part["tokens"] for part in parts)
    trained = language_settings(
        settings.language, lowercase=settings.lowercase, strip_accents=settings.strip_accents
    )
    own = settings.tokenizer is None
    return write_manifest(
        plan.folder,
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
                tokenizer, tokenizer_sample(plan, REPORT_BYTES, lambda _: None)
            ),
        },
    )


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


def no_documents(count: int, settings: PrepareSettings) -> DataError:
    """What to say of a corpus of none or one."""
    found = "no text" if not count else "one document only"
    return DataError(
        f"the corpus holds {found}; at least two are needed, one of them for validation "
        "(in .txt a blank line ends a document, elsewhere each row is one; documents under "
        f"{settings.min_chars} characters are left out, see --min-chars)"
    )
