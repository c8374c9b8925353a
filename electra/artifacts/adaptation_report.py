"""What `electra adapt` shows and writes beside its encoder: a table, and a model card."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from electra.training.run_folder import write_text

_NAMES = {
    "masked_lm_loss": "held-out masked-LM loss",
    "masked_lm_accuracy": "held-out masked-LM accuracy",
    "discriminator_loss": "held-out discriminator loss",
    "discriminator_auc": "held-out discriminator AUC",
}
"""Of the metrics on held-out text, those that are shown."""


def adaptation_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(what, before, after, change) for tables."""
    before, after = report["held_out"]["before"], report["held_out"]["after"]
    fresh = " (fresh head)" if report["head"] == "fresh" else ""
    rows = [
        (
            name,
            f"{before[key]:.4f}{fresh}",
            f"{after[key]:.4f}",
            f"{after[key] - before[key]:+.4f}",
        )
        for key, name in _NAMES.items()
        if key in before and key in after
    ]
    task = report.get("task")
    if task is not None:
        for split in ("validation", "test"):
            if task["before"][split]:
                one, other = task["before"][split], task["after"][split]
                change = statistics.fmean(other) - statistics.fmean(one)
                name = f"{task['name']}: {task['metric']}, {split}"
                rows.append((name, _scores(one), _scores(other), f"{change:+.4f}"))
    return rows


def print_adaptation(report: Mapping[str, Any], console: Console) -> None:
    """The table of before and after."""
    table = Table("", "before", "after", "change")
    for row in adaptation_rows(report):
        table.add_row(*row)
    console.print(table)


def write_adapted_card(
    folder: Path, report: Mapping[str, Any], manifest: Mapping[str, Any]
) -> None:
    """Write README.md of the adapted encoder; no folder of this machine stands in it.

    Args:
        folder: the encoder's.
        report: of the adaptation.
        manifest: of the corpus.
    """
    training, recipe = report["training"], report["recipe"]
    base = report["base_model"]
    splits = manifest["splits"]["train"]
    terms = manifest["settings"].get("licence") or (
        "not stated; the terms of the text and of the model it began with bind whoever passes "
        "these weights on"
    )
    words = report["new_words"]
    added = (
        f" {words['added']:,} words of the domain became tokens of their own, their embeddings "
        "begun as the means of their pieces'."
        if words["added"]
        else ""
    )
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: feature-extraction",
        *([f"base_model: {json.dumps(base)}"] if base else []),
        "tags:",
        *(f"- {tag}" for tag in ("electra", "domain-adaptation", report["objective"])),
        "---",
        "",
        "# Encoder adapted to a domain",
        "",
        f"A {report['model_type']} encoder{f', {base},' if base else ''} with more pretraining on "
        f"the text of a domain. Fine-tune it as any encoder.{added}",
        "",
        "```python",
        "from transformers import AutoModel, AutoTokenizer",
        "",
        'model = AutoModel.from_pretrained("PATH")',
        'tokenizer = AutoTokenizer.from_pretrained("PATH")',
        "```",
        "",
        "## Training",
        "",
        f"Objective {report['objective']}, {training['steps']:,} steps of "
        f"{recipe['global_batch_size']} sequences of {recipe['max_length']} tokens, peak learning "
        f"rate {recipe['learning_rate']:g}; {training['tokens']:,} tokens "
        f"({training['epochs']:.2f} times the text), {training['minutes']:.1f} minutes; electra "
        f"{report['electra']}.",
        "",
        *_as_markdown(("", "before", "after", "change"), adaptation_rows(report)),
        "",
        "## Text",
        "",
        f"{splits['documents']:,} documents, {splits['tokens']:,} tokens; corpus fingerprint "
        f"`{manifest['fingerprint'][:16]}`. Terms of the text: {terms}.",
        "",
    ]
    write_text(folder / "README.md", "\n".join(lines))


def _as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _scores(each: Sequence[float]) -> str:
    if len(each) == 1:
        return f"{each[0]:.4f}"
    return f"{statistics.fmean(each):.4f} (deviation {statistics.stdev(each):.4f})"
