"""What `electra quickstart` shows in the end: tables on the terminal and report.html."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from electra.artifacts import report as html
from electra.artifacts.runs import RecordedRun
from electra.artifacts.runs_page import run_curves
from electra.training.run_folder import write_text

MarkedWords = Sequence[tuple[str, float, bool]]
"""Text with the space before it, probability of being replaced, whether it was."""


def accuracy_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(who, learning rate, mean of the seeds, each) for tables."""
    rows = []
    for name, result in report["finetuning"]["contestants"].items():
        seeds = result["accuracy"]
        spread = statistics.stdev(seeds) if len(seeds) > 1 else 0.0
        each = ", ".join(f"{s:.1%}" for s in seeds)
        mean = f"{statistics.fmean(seeds):.1%} (deviation {100 * spread:.1f} points)"
        rows.append((name, f"{result['learning_rate']:g}", mean, each))
    tuning = report["finetuning"]
    rows.append(("TF-IDF, logistic regression", "", f"{tuning['accuracy_tf_idf']:.1%}", ""))
    rows.append(("chance", "", f"{tuning['chance']:.1%}", ""))
    return rows


def write_quickstart_report(
    path: Path,
    report: Mapping[str, Any],
    run: RecordedRun,
    sentences: Sequence[tuple[str, MarkedWords]],
) -> None:
    """Write report.html.

    Args:
        path: the file.
        report: what is in report.json.
        run: that of pretraining.
        sentences: (where it is from, its words).
    """
    tuning, training = report["finetuning"], report["pretraining"]
    facts = [(k, v) for k, v in training.items() if isinstance(v, str | int | float)]
    marked = "".join(
        f"<figure>{html.marked_words(words)}<figcaption>{where}</figcaption></figure>"
        for where, words in sentences
    )
    sections = [
        (
            "What pretraining is worth",
            f"<p>{tuning['examples_per_class']} labelled passages for each of {tuning['classes']} "
            "packages; accuracy on passages from files that neither pretraining nor training saw, "
            f"over {len(tuning['accuracy'])} seeds. Learning rates chosen on validation files, "
            "from the same grid for all.</p>"
            + html.table(("", "learning rate", "test accuracy", "seeds"), accuracy_rows(report)),
        ),
        (
            "Words that do not belong",
            "<p>The stronger the colour, the surer the discriminator that a word was replaced; a "
            f"red line marks those that were.</p>{marked}"
            if marked
            else "<p>This objective has no discriminator.</p>",
        ),
        ("Pretraining", html.table(("", ""), facts)),
        ("Curves", run_curves([run])),
        ("Packages", f"<p>{', '.join(tuning['labels'])}</p>"),
        ("Machine", html.table(("", ""), [(k, v) for k, v in report["machine"].items() if v])),
    ]
    write_text(path, html.page("electra quickstart", sections))


def print_quickstart_report(report: Mapping[str, Any], output: Path, console: Console) -> None:
    """Print the figures, and the next three commands to try."""
    training, tuning = report["pretraining"], report["finetuning"]
    facts = Table("pretraining", "", title_justify="left")
    facts.add_row("minutes", f"{training['minutes']:.1f}")
    facts.add_row("tokens", f"{training['tokens']:,}")
    facts.add_row("tokens per second", f"{training['tokens_per_second']:,.0f}")
    for name in ("generator_accuracy", "discriminator_auc"):
        if training[name] is not None:
            facts.add_row(name.replace("_", " "), f"{training[name]:.3f}")
    console.print(facts)
    table = Table(
        f"{tuning['classes']} packages, {tuning['examples_per_class']} passages each",
        "learning rate",
        "test accuracy",
        "seeds",
    )
    for row in accuracy_rows(report):
        table.add_row(*row)
    console.print(table)
    model = tuning["contestants"]["pretrained"]["model"]
    console.print(f"report: {output / 'report.html'}   ({report['seconds'] / 60:.1f} minutes)")
    console.print(
        "\nNext:\n"
        f'  electra predict --model {model} "Return the element-wise sine of the array."\n'
        f"  electra finetune --model {output / 'pretraining'} --train YOUR.csv --validation "
        "YOUR_DEV.csv --output runs/mine\n"
        "  electra prepare YOUR_TEXT/ --output corpora/mine",
        highlight=False,
        soft_wrap=True,
    )
