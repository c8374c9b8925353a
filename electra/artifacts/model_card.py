"""The README.md of a model folder, in the form the Hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARTS = {
    "encoder": (
        "The encoder: the discriminator without its head. Fine-tune this one.",
        "AutoModel",
        "feature-extraction",
    ),
    "generator": (
        "The generator: the small masked language model that proposed the replacements.",
        "AutoModelForMaskedLM",
        "fill-mask",
    ),
    "masked_lm": ("The encoder with its masked-LM head.", "AutoModelForMaskedLM", "fill-mask"),
    "discriminator": (
        "The discriminator: says of every token whether it was replaced.",
        "AutoModelForPreTraining",
        "token-classification",
    ),
}
ENERGY = (
    "The discriminator of Electric: its logit is an energy, minus the logarithm of a token's "
    "probability in its context, not normalised. It is not a probability of being replaced, "
    "whatever the labels say; `electra score` reads it."
)


def write_pretraining_card(
    folder: Path, part: str, *, family: str, report: Mapping[str, Any], manifest: Mapping[str, Any]
) -> None:
    """Write README.md for a part of a pretraining run.

    Args:
        folder: where the part lies.
        part: a key of `PARTS`.
        family: `classic` or `modern`.
        report: the run's report.
        manifest: of the corpus.
    """
    what, auto_class, pipeline = PARTS[part]
    if part == "discriminator" and family == "modern":
        auto_class = "AutoModelForTokenClassification"
    if part == "discriminator" and report["objective"] == "electric":
        what, pipeline = ENERGY, "other"
    settings = manifest["settings"]
    terms = settings.get("licence") or (
        "not stated when the corpus was prepared (`electra prepare --licence` states them); "
        "the terms of the text bind whoever passes these weights on"
    )
    metrics = "\n".join(f"| {k} | {v:.4f} |" for k, v in sorted(report["metrics"].items()))
    tags = ["electra", family, report["objective"]]
    language = settings["language"]
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {pipeline}",
        "tags:",
        *(f"- {tag}" for tag in tags),
        *([f"language: {language}"] if language != "other" else []),
        "---",
        "",
        f"# {part.replace('_', ' ').capitalize()} ({family})",
        "",
        what,
        "",
        "```python",
        f"from transformers import {auto_class}, AutoTokenizer",
        "",
        f'model = {auto_class}.from_pretrained("PATH")',
        'tokenizer = AutoTokenizer.from_pretrained("PATH")',
        "```",
        "",
        "## Training",
        "",
        f"Objective {report['objective']}, {report['steps']:,} steps, {report['tokens']:,} tokens, "
        f"{report['minutes']:.1f} minutes of training; electra {report['electra']}.",
        "",
        "| on held-out text | |",
        "|---|---|",
        metrics,
        "",
        "## Text",
        "",
        f"{manifest['splits']['train']['documents']:,} documents, "
        f"{manifest['splits']['train']['tokens']:,} tokens; corpus fingerprint "
        f"`{manifest['fingerprint'][:16]}`. Terms of the text: {terms}.",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
