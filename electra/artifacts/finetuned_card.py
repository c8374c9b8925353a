"""The README.md of a fine-tuned model folder, in the form the Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from electra.recipe import to_tables
from electra.tasks.labels import MULTI_LABEL, REGRESSION
from electra.tasks.task import Task
from electra.training.run_folder import write_text

_AUTO_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "relation-extraction": "AutoModelForSequenceClassification",
    "multiple-choice": "AutoModelForMultipleChoice",
}
_PIPELINES = {"relation-extraction": "text-classification"}
"""Of tasks that the Hub has no name for."""
_HUB_METRICS = {
    "accuracy": "accuracy",
    "f1": "f1",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "precision": "precision",
    "recall": "recall",
    "mcc": "matthews_correlation",
    "auc": "roc_auc",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "exact_match": "exact_match",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HUB_DATA = re.compile(r"[\w.-]+(/[\w.-]+){0,2}")
_MOST_LABELS = 50
_STEPS = {
    "train_fraction": "share of the training data",
    "seed": "seed",
    "steps": "steps",
    "best_step": "best step",
}
"""Of the report, and what to call it."""


def write_finetuned_card(
    folder: Path, *, task: Task[Any], report: Mapping[str, Any], config: Any
) -> None:
    """Write README.md of a fine-tuned model folder; no row of the data and no folder stands in it.

    Args:
        folder: the model folder.
        task: as it is saved there.
        report: the run's report; what it lacks is left out.
        config: a `FinetuneConfig`; what differs from its defaults is listed.
    """
    settings = task.settings()
    encoder, base = _encoder(report)
    metrics = report.get("metrics") or {}
    hub = dict.fromkeys(_HUB_METRICS[name] for name in metrics if name in _HUB_METRICS)
    steps = [
        f"{name} {_number(report[key])}"
        for key, name in _STEPS.items()
        if report.get(key) is not None
    ]
    counts = report.get("examples") or {}
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {_PIPELINES.get(task.name, task.name)}",
        *([f"base_model: {json.dumps(base)}"] if base else []),
        "tags:",
        *(f"- {tag}" for tag in dict.fromkeys(("electra", task.name))),
        *(["metrics:", *(f"- {name}" for name in hub)] if hub else []),
        "---",
        "",
        f"# {task.name.capitalize().replace('-', ' ')}",
        "",
        f"{encoder}, fine-tuned with electra {report.get('electra', '')}".rstrip() + ".",
        "",
        *_use(task.name, settings),
        *_labels(task, settings),
        "## Long texts",
        "",
        _long_texts(task.name, settings),
        "",
        "## Results",
        "",
        "On the validation data, on which the best of the run's evaluations was chosen "
        f"(by {report.get('metric', task.metric)}): these numbers are "
        "higher than on data that had no say. Test the model on such data before you rely on it.",
        "",
        "| metric | value |",
        "|---|---|",
        *(f"| {name} | {_number(value)} |" for name, value in metrics.items()),
        "",
        *([f"Warning: {report['note']}", ""] if report.get("note") else []),
        "## Training",
        "",
        *([", ".join(steps) + ".", ""] if steps else []),
        *_data(report, counts),
        *_changed(config),
    ]
    write_text(folder / "README.md", "\n".join(lines))


def _encoder(report: Mapping[str, Any]) -> tuple[str, str | None]:
    """What to say of the encoder, and its id where it came from the Hub."""
    given = report.get("model")
    identity = given if isinstance(given, Mapping) else {"name": str(given or "")}
    name, digest = str(identity.get("name", "")), identity.get("sha256")
    if digest is None and _HUB_ID.fullmatch(name) and not Path(name).exists():
        said, base = f"The encoder [{name}](https://huggingface.co/{name})", name
    else:
        shown = f" `{_last(name)}`" if name else ""
        weights = f" (weights: SHA-256 `{digest}`)" if digest else ""
        said, base = f"The encoder{shown}{weights}", None
    if report.get("from_scratch"):
        return f"A network of random weights, of the shape of t{said[1:]}", None
    return said, base


def _use(name: str, settings: Mapping[str, Any]) -> list[str]:
    """How to load it, and what an input looks like."""
    if settings.get("head") == "joint":
        by_hand = ["Its head is ELECTRA's own for spans, which no Auto class knows.", ""]
    else:
        auto_class = _AUTO_CLASSES.get(name, "AutoModel")
        by_hand = [
            "With transformers alone:",
            "",
            "```python",
            f"from transformers import {auto_class}, AutoTokenizer",
            "",
            f'model = {auto_class}.from_pretrained("PATH")',
            'tokenizer = AutoTokenizer.from_pretrained("PATH")',
            "```",
            "",
        ]
    given = {
        "question-answering": '{"question": "...", "context": "..."}',
        "multiple-choice": '{"context": "...", "question": "...", "choices": ["...", "..."]}',
        "relation-extraction": '"The <e1>author</e1> of a <e2>book</e2>."',
    }.get(name, '("first text", "second text")' if settings.get("has_pair") else '"a text"')
    return [
        "```python",
        "from electra import Predictor",
        "",
        f'print(Predictor.open("PATH").predict([{given}]))',
        "```",
        "",
        *by_hand,
    ]


def _labels(task: Task[Any], settings: Mapping[str, Any]) -> list[str]:
    lines = []
    for key in ("labels", "types", "intents"):
        names = [str(name).replace("`", "'") for name in settings.get(key) or ()]
        if names:
            shown = ", ".join(f"`{' '.join(name.split())}`" for name in names[:_MOST_LABELS])
            rest = f", and {len(names) - _MOST_LABELS} more" if len(names) > _MOST_LABELS else ""
            lines += [f"{len(names)} {key}: {shown}{rest}.", ""]
    if settings.get("problem_type") == MULTI_LABEL:
        lines += [f"A label is given from probability {_number(settings['threshold'])}.", ""]
    if settings.get("problem_type") == REGRESSION:
        lines = ["It answers with a number.", ""]
    return ["## Labels", "", *lines] if lines else []


def _long_texts(name: str, settings: Mapping[str, Any]) -> str:
    length, stride = settings.get("max_length"), settings.get("doc_stride")
    if length and stride:
        stride = min(stride, (length - 2) // 2)  # two tokens frame a window
    windows = f"windows of {length} tokens" + (f" that share {stride}" if stride else "")
    if name == "question-answering":
        return f"Contexts are read in {windows}; the best answer of all windows is given."
    if name == "token-classification":
        return f"Texts are read in {windows}; a word is tagged where most is seen around it."
    if settings.get("long_texts") == "windows":
        return f"Texts are read in {windows}; what the windows say is averaged."
    if name == "multiple-choice":
        return (
            "A passage is cut to what shares most words with question and options, "
            f"{length} tokens in all."
        )
    if name == "relation-extraction":
        return f"Texts are cut to {length} tokens around the two entities."
    return f"Texts are cut after {length} tokens; what follows is not read."


def _data(report: Mapping[str, Any], counts: Mapping[str, Any]) -> list[str]:
    """The report's `train` and `validation`, or where there are several tasks `NAME.train`, ..."""
    rows = []
    for part, source in report.items():
        kind = part.rpartition(".")[2]
        if kind in ("train", "validation") and isinstance(source, Mapping):
            digest = f"`{source['sha256']}`" if source.get("sha256") else ""
            rows.append(f"| {part} | {_source(source)} | {counts.get(part, '')} | {digest} |")
    if not rows:
        return []
    return ["| data | file | examples | SHA-256 |", "|---|---|---|---|", *rows, ""]


def _source(source: Mapping[str, Any]) -> str:
    """A file's name without its folders, or what the Hub has it under."""
    name = str(source.get("name", ""))
    identity = name.partition(":")[0]
    from_hub = not source.get("sha256") and _HUB_DATA.fullmatch(identity)
    return (name if from_hub else _last(name)).replace("|", "\\|")


def _changed(config: Any) -> list[str]:
    default = to_tables(type(config)())
    rows = []
    for section, table in to_tables(config).items():
        for key, value in table.items():
            if value != default.get(section, {}).get(key):
                rows.append(f"| {section}.{key} | {_setting(value)} |")
    if not rows:
        return []
    return ["Settings that are not the default:", "", "| setting | value |", "|---|---|", *rows, ""]


def _setting(value: Any) -> str:
    """For a cell of a table; white space, as of a separator, is made visible."""
    if isinstance(value, str) and (not value.isprintable() or value != value.strip()):
        value = json.dumps(value, ensure_ascii=False)
    return _number(value).replace("|", "\\|")


def _last(name: str) -> str:
    """Without the folders, which say something of a person's machine."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1]


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
