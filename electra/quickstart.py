"""The whole way once, on text every machine has: the documentation of its Python packages.

    electra quickstart

Raw text -> tokenizer and shards -> pretraining -> fine-tuning a real classification (which package
is this passage from) -> report. Every stage is one of the other verbs on files in the output
folder, and is not done again where it is done already.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from electra.artifacts.quickstart_report import (
    MarkedWords,
    print_quickstart_report,
    write_quickstart_report,
)
from electra.artifacts.runs import read_runs
from electra.config import FINETUNE_DEFAULTS, FinetuneConfig, PrepareSettings, PretrainConfig
from electra.corpus.files import read_rows
from electra.corpus.python_documentation import PythonDocumentation, read_python_documentation
from electra.errors import ConfigError, Interrupted
from electra.evaluate import evaluate
from electra.evaluation.replaced_words import Discriminator, Word, replace_words
from electra.finetune import finetune
from electra.prepare import prepare
from electra.pretrain import pretrain
from electra.recipe import read_recipe, resolve
from electra.training.device import machine
from electra.training.loggers import progress_bar
from electra.training.run_folder import move_aside, write_text

VOCAB_SIZE = 8_192
SEEDS = (0, 1, 2)
LEARNING_RATES = (1e-3, 2e-3, 4e-3)
"""The grid, for pretrained and for random weights alike; chosen on the validation files."""
FINETUNING: dict[str, dict[str, Any]] = {
    "optimizer": {"layerwise_lr_decay": 1.0},
    "training": {"epochs": 10, "global_batch_size": 16, "save_total_limit": 1},
    "data": {"max_length": 96},
}
WRITTEN = (
    ("The function returns the number of bananas in the list.", {6}),
    ("If the file does not sing, an error is raised.", {5}),
    ("The default value of this parameter is yesterday.", {7}),
)
"""Sentences written for the report, with the numbers of the words that do not belong."""


@dataclass(frozen=True)
class Contestant:
    """Something fine-tuned on the task."""

    name: str
    model: Path
    from_scratch: bool = False


def quickstart(
    *,
    output: Path = Path("runs/quickstart"),
    minutes: float = 5.0,
    compare: bool = False,
    recipe: str = "tiny",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    documentation: PythonDocumentation | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run all stages; return the report.

    Args:
        output: where everything goes; an unfinished quickstart there is continued, a finished one
            is moved aside.
        minutes: of pretraining.
        compare: pretrain by masked LM alone for as long, too, and show both side by side.
        recipe: of the pretraining.
        overrides: sections of the recipe, as from the command line.
        documentation: the text; none: that of this machine's packages.
        console: where progress goes; none: nowhere.

    Raises:
        UserError: what the user can mend.
        Interrupted: Ctrl-C while training; the same command goes on.
    """
    if minutes <= 0:
        raise ConfigError(f"--minutes is {minutes}; allowed: above 0")
    console = console or Console(quiet=True)
    try:
        return _run(output, minutes, compare, recipe, overrides, documentation, console)
    except (Interrupted, KeyboardInterrupt) as stop:
        number = stop.exit_code - 128 if isinstance(stop, Interrupted) else int(signal.SIGINT)
        raise Interrupted(
            number, "interrupted; the same electra quickstart command goes on from here"
        ) from None


def _run(
    output: Path,
    minutes: float,
    compare: bool,
    recipe: str,
    overrides: Mapping[str, Mapping[str, Any]] | None,
    documentation: PythonDocumentation | None,
    console: Console,
) -> dict[str, Any]:
    _move_finished(output, console)
    began = time.monotonic()
    stage = _Stages(console, total=5 + compare)

    stage("reading the documentation of the installed packages")
    with console.status("parsing source files"):
        held_out = _write_text(output / "text", documentation)

    stage("training a tokenizer, writing token shards")
    if not (output / "corpus" / "manifest.json").is_file():
        settings = PrepareSettings(
            vocab_size=VOCAB_SIZE,
            licence="the licences of the installed Python packages",
        )
        prepare(
            [output / "text" / "documents.jsonl"],
            output=output / "corpus",
            settings=settings,
            console=console,
        )

    runs = {"pretrained": output / "pretraining"}
    layers = [(f"recipe {recipe}", read_recipe(recipe)), ("command line", overrides or {})]
    stage(f"pretraining for {minutes:g} minutes")
    _pretrain(output, runs["pretrained"], layers, minutes, console)
    if compare:
        stage(f"pretraining by masked LM alone for {minutes:g} minutes")
        runs["masked LM alone"] = output / "pretraining-masked-lm"
        masked = [*layers, ("comparison", {"objective": {"name": "masked_lm"}})]
        _pretrain(output, runs["masked LM alone"], masked, minutes, console)

    stage("fine-tuning: which package is this passage from?")
    contestants = [Contestant(name, run / "encoder") for name, run in runs.items()]
    contestants.append(
        Contestant("from scratch", runs["pretrained"] / "encoder", from_scratch=True)
    )
    text = output / "text"
    results = finetune_all(
        contestants,
        train=text / "train.jsonl",
        validation=text / "validation.jsonl",
        test=text / "test.jsonl",
        output=output / "finetuning",
        settings=FINETUNING,
        console=console,
    )

    stage("report")
    report = _report(runs, results, output)
    report["seconds"] = round(time.monotonic() - began, 1)
    sentences = _marked_sentences(runs["pretrained"], held_out)
    (pretraining,) = read_runs([runs["pretrained"]])
    write_quickstart_report(output / "report.html", report, pretraining, sentences)
    write_text(output / "report.json", json.dumps(report, indent=1) + "\n")
    print_quickstart_report(report, output, console)
    return report


class _Stages:
    """Numbered headings."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._number = console, total, 0

    def __call__(self, title: str) -> None:
        self._number += 1
        self._console.print(f"\n[bold]{self._number}/{self._total}  {title}[/bold]")


def _move_finished(output: Path, console: Console) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file; --output wants a folder")
    if (output / "report.json").is_file():
        aside = move_aside(output)
        console.print(f"the finished quickstart is now in {aside}", highlight=False)
    elif output.exists() and any(output.iterdir()) and not (output / "text").is_dir():
        raise ConfigError(f"{output} holds something else; choose another --output")


def _write_text(folder: Path, documentation: PythonDocumentation | None) -> list[str]:
    """Write the corpus and the three labelled files; return held-out documents."""
    done = folder / "held_out.jsonl"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        found = documentation or read_python_documentation(workers=os.cpu_count() or 1)
        task = found.classification
        if len(task.labels) < 2:
            raise ConfigError(
                "the installed packages hold too little documentation for a classification; "
                'install more of them: pip install "electra[plot,dev]"'
            )
        _write_rows(folder / "documents.jsonl", ({"text": t} for t in found.documents))
        for name in ("train", "validation", "test"):
            examples = getattr(task, name)
            rows = ({"text": e.text, "label": e.label} for e in examples)
            _write_rows(folder / f"{name}.jsonl", rows)
        _write_rows(done, ({"text": t} for t in found.held_out_documents))
    return [row["text"] for row in read_rows(done)]


def _write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _pretrain(
    output: Path,
    run: Path,
    layers: Sequence[tuple[str, Mapping[str, Any]]],
    minutes: float,
    console: Console,
) -> None:
    budget = ("command line", {"training": {"minutes": minutes}})
    config = resolve(PretrainConfig, [*layers, budget])
    pretrain(data=output / "corpus", output=run, config=config, resume="auto", console=console)


def finetune_all(
    contestants: Sequence[Contestant],
    *,
    train: Path,
    validation: Path,
    test: Path,
    output: Path,
    settings: Mapping[str, Mapping[str, Any]],
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Fine-tune all alike: every learning rate with the first seed, the best with the others.

    Args:
        contestants: what is fine-tuned.
        train: labelled rows.
        validation: rows that learning rate and best step are chosen on.
        test: rows that are read once, with what was chosen.
        output: a folder for the models.
        settings: sections over `FINETUNE_DEFAULTS`.
        console: for the bar.

    Returns:
        name -> `learning_rate`, `validation_accuracy` and `accuracy` (on the test rows) of each
        seed, `model` (the folder of the best by validation).
    """
    total = len(contestants) * (len(LEARNING_RATES) + len(SEEDS) - 1)
    results = {}
    with progress_bar(console) as bar:
        task = bar.add_task("fine-tuning", total=total, numbers="")

        def run(who: Contestant, rate: float, seed: int) -> tuple[float, Path]:
            bar.update(task, numbers=f"{who.name}, learning rate {rate:g}, seed {seed}")
            folder = output / who.name.replace(" ", "-") / f"lr-{rate:g}-seed-{seed}"
            flags = {"optimizer": {"learning_rate": rate}, "training": {"seed": seed}}
            layers = [("defaults", FINETUNE_DEFAULTS), ("settings", settings), ("run", flags)]
            result = finetune(
                model=str(who.model),
                train=str(train),
                validation=str(validation),
                output=folder,
                config=resolve(FinetuneConfig, layers),
                resume="auto" if folder.exists() else "never",
                from_scratch=who.from_scratch,
            )
            bar.advance(task)
            return result.score, folder

        for who in contestants:
            tried = {rate: run(who, rate, SEEDS[0]) for rate in LEARNING_RATES}
            best = max(tried, key=lambda rate: tried[rate][0])
            runs = [tried[best], *(run(who, best, seed) for seed in SEEDS[1:])]
            tested = [evaluate(model=folder, data=str(test))["metrics"] for _, folder in runs]
            results[who.name] = {
                "learning_rate": best,
                "validation_accuracy": [score for score, _ in runs],
                "accuracy": [metrics["accuracy"] for metrics in tested],
                "model": str(max(runs)[1]),
            }
    return results


def _tf_idf(folder: Path) -> float:
    """Test accuracy of TF-IDF with logistic regression, its strength chosen on validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def read(name: str) -> tuple[list[str], list[str]]:
        rows = list(read_rows(folder / f"{name}.jsonl"))
        return [r["text"] for r in rows], [r["label"] for r in rows]

    texts, labels = read("train")
    models = []
    for strength in (1.0, 10.0, 100.0):
        model = make_pipeline(
            TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=strength, max_iter=2000)
        )
        models.append(model.fit(texts, labels))
    best = max(models, key=lambda m: m.score(*read("validation")))
    return float(best.score(*read("test")))


def _report(
    runs: Mapping[str, Path], results: Mapping[str, dict[str, Any]], output: Path
) -> dict[str, Any]:
    reports = {
        name: json.loads((run / "report.json").read_text(encoding="utf-8"))
        for name, run in runs.items()
    }
    ours = reports["pretrained"]
    rows = list(read_rows(output / "text" / "train.jsonl"))
    classes = sorted({row["label"] for row in rows})
    return {
        "machine": machine(),
        "pretraining": {
            "objective": ours["objective"],
            "minutes": ours["minutes"],
            "tokens": ours["tokens"],
            "epochs": ours["epochs"],
            "tokens_per_second": ours["tokens_per_second"],
            "generator_accuracy": ours["metrics"].get("generator_accuracy"),
            "discriminator_auc": ours["metrics"].get("discriminator_auc"),
            "metrics": ours["metrics"],
            "parameters": ours["parameters"],
        },
        "finetuning": {
            "classes": len(classes),
            "labels": classes,
            "examples_per_class": len(rows) // len(classes),
            "accuracy": results["pretrained"]["accuracy"],
            "accuracy_from_scratch": results["from scratch"]["accuracy"],
            "accuracy_tf_idf": _tf_idf(output / "text"),
            "chance": 1 / len(classes),
            "contestants": dict(results),
        },
        "compared": {
            name: {k: r[k] for k in ("objective", "minutes", "tokens", "metrics")}
            for name, r in reports.items()
            if name != "pretrained"
        },
    }


def _marked_sentences(run: Path, held_out: Sequence[str]) -> list[tuple[str, MarkedWords]]:
    """(where it is from, its words) of sentences with words that do not belong."""
    if not (run / "discriminator").is_dir():
        return []
    discriminator = Discriminator(run / "discriminator")
    marked = [
        ("written for this report", _plain(discriminator.words(text, frozenset(wrong))))
        for text, wrong in WRITTEN
    ]
    sentences = [s for text in held_out for s in _sentences(text)]
    step = max(1, len(sentences) // 6)
    for seed, sentence in enumerate(sentences[::step][:6]):
        text, replaced = replace_words(run / "generator", sentence, share=0.15, seed=seed)
        words = _plain(discriminator.words(text, replaced))
        marked.append(("held-out text, generator's words", words))
    return marked


def _plain(words: Sequence[Word]) -> MarkedWords:
    return [(word.text, word.probability, word.replaced) for word in words]


def _sentences(text: str) -> list[str]:
    """Plain sentences of 10 to 30 words."""
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    found = [s.strip() + "." for p in paragraphs for s in p.split(". ")]
    return [
        s.replace("..", ".")
        for s in found
        if 10 <= len(s.split()) <= 30 and all(c.isalpha() or c in " ,.'-" for c in s)
    ]
