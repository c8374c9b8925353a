"""The page of `electra report`: runs side by side, one HTML file without scripts.

The `report.html` of a pretraining run is this page of that run alone.
"""

from __future__ import annotations

import dataclasses
import html as escaping
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from electra.artifacts import report as html
from electra.artifacts.runs import (
    AXES,
    Axis,
    RecordedRun,
    columns_of,
    default_settings,
    differing,
    read_runs,
)
from electra.training.run_folder import write_text

MARK = '<meta name="generator" content="electra report">'
"""Stands in the head of every such page, so that it is known again."""
COLOURS = (
    *("#1f77b4", "#e6780a", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#5f6b75", "#a3a300", "#12a5b8"),
)
DASHES = ("-", "--", ":")
"""Of the first ten runs, the next ten, and the rest."""
_GROUPS = (
    ("Discriminator", ("discriminator_", "majority", "replaced_share")),
    ("Generator and masked LM", ("generator_", "encoder_mlm_", "sampled_original")),
    ("Training", ("grad_norm", "lr", "tokens_per_second", "utilisation")),
)
"""Beside losses, which come first, and what else there is, which comes last."""
_FIRST = (
    *("generator_loss", "discriminator_loss", "encoder_mlm_loss"),
    *("discriminator_auc", "discriminator_recall", "discriminator_precision"),
)
_FACTS = {
    "status": "status",
    "steps": "steps",
    "tokens": "tokens",
    "minutes": "minutes",
    "tokens_per_second": "tokens per second",
    "encoder_parameters": "encoder parameters",
    "epochs": "epochs",
    "corpus_tokens": "tokens of the corpus",
    "evaluated_at": "evaluated at step",
}
_WARNINGS = 20
"""Of a run that are shown, at most."""
_STEEP = 0.03
"""Share of a run whose losses may lie above the frame."""
_STYLE = """
.runs th { vertical-align: bottom; max-width: 16rem; overflow-wrap: anywhere }
.runs th + th { border-bottom-width: 4px } .runs td { min-width: 4.5rem }
.runs td + td { max-width: 22rem; overflow-wrap: anywhere }
.runs td + td.number { overflow-wrap: normal }
.results td:first-child { overflow-wrap: break-word }
.results th + th, .results td + td { text-align: right }
.legend { position: sticky; top: 0; z-index: 1; background: var(--paper); padding: .5rem 0;
          border-bottom: 1px solid var(--line) }
.legend span { display: inline-block; margin-right: 1.4rem }
.legend i { display: inline-block; width: 1.6rem; margin-right: .4rem; vertical-align: middle }
.sample, .warning { border-left: 4px solid; padding-left: .9rem; margin: .7rem 0 }
.sample .words { line-height: 2.5; margin: 0 }
.words rt { color: var(--mark); font-size: .68em; user-select: none }
.scale { display: inline-block; width: 7rem; height: .9em; vertical-align: middle;
         margin: 0 .4rem; background: linear-gradient(to right, var(--paper), rgb(var(--shade))) }
details { margin: .6rem 0 }
@media print { .legend { position: static } }
"""


def runs_page(runs: Sequence[RecordedRun]) -> str:
    """The page; at least one run."""
    one = len(runs) == 1
    sections = [("Results", _results(runs) + _notes(runs))]
    if any(run.warnings for run in runs):
        sections.append(("Warnings", _warnings(runs)))
    sections.append(("Settings", _settings(runs)))
    environment = _environment(runs)
    if environment:
        sections.append(("Environment", environment))
    sections.append(("Curves", _legend(runs) + run_curves(runs)))
    samples = _samples(runs)
    if samples:
        sections.append(("What the discriminator sees", samples))
    kind = next((run.kind.capitalize() for run in runs if run.kind), "Training")
    title = f"{kind}: {runs[0].name}" if one else f"{kind}: {len(runs)} runs"
    heads = "".join(
        f".runs th:nth-child({number + 2}) {{ border-bottom-color: {_colour(number)} }}\n"
        for number in range(len(runs))
    )
    return html.page(title, sections, head=f"{MARK}<style>{_STYLE}{heads}</style>")


def write_run_page(folder: Path, report: Mapping[str, Any]) -> None:
    """`report.html` of a run that is about to be finished by `report`."""
    (run,) = read_runs([folder])
    write_text(folder / "report.html", runs_page([dataclasses.replace(run, report=dict(report))]))


def results_table(runs: Sequence[RecordedRun]) -> list[tuple[str, list[Any]]]:
    """(name, a value of each run) for what is known of any: facts, then held-out metrics."""
    summaries = [run.summary() for run in runs]
    facts = [(shown, [s[key] for s in summaries]) for key, shown in _FACTS.items()]
    names = dict.fromkeys(name for summary in summaries for name in summary["metrics"])
    metrics = [(name, [s["metrics"].get(name) for s in summaries]) for name in _ordered(names)]
    return [row for row in [*facts, *metrics] if any(value is not None for value in row[1])]


def _results(runs: Sequence[RecordedRun]) -> str:
    rows = [
        (name.replace("_", " "), *("" if value is None else value for value in values))
        for name, values in results_table(runs)
    ]
    return f'<div class="results">{_table(("", *(run.name for run in runs)), rows)}</div>'


def _notes(runs: Sequence[RecordedRun]) -> str:
    """What a reader of the numbers should know."""
    notes = []
    if len({run.corpus for run in runs if run.corpus}) > 1:
        notes.append(
            "The runs read different data: their figures on held-out data are of other texts."
        )
    for run in runs:
        if run.lines_left_out:
            lines = "line" if run.lines_left_out == 1 else "lines"
            notes.append(
                f"{run.name}: {run.lines_left_out} {lines} of metrics.jsonl left out, cut short or "
                "not of a step."
            )
    return "".join(f'<p class="note">{escaping.escape(note)}</p>' for note in notes)


def _warnings(runs: Sequence[RecordedRun]) -> str:
    """What was said of each while it ran."""
    parts = []
    for number, run in enumerate(runs):
        lines = [*run.warnings[:_WARNINGS]]
        if len(run.warnings) > _WARNINGS:
            lines.append(f"{len(run.warnings) - _WARNINGS} more stand in metrics.jsonl.")
        for line in lines:
            told = line if len(runs) == 1 else f"{run.name}: {line}"
            parts.append(
                f'<div class="warning" style="border-color: {_colour(number)}">'
                f"{escaping.escape(told)}</div>"
            )
    return "".join(parts)


def _settings(runs: Sequence[RecordedRun]) -> str:
    """Where they differ; of one run: from the defaults. The rest is folded."""
    known = [run for run in runs if run.settings]
    if not known:
        return '<p class="note">No config.toml.</p>'
    if len(runs) == 1:
        defaults = default_settings(runs[0].kind)
        differs = differing([runs[0].settings, defaults])
        columns = [runs[0].name, "default"]
    else:
        differs = differing([run.settings for run in runs])
        columns = [run.name for run in runs]
    alike = "as by default" if len(runs) == 1 else "what they share"
    shared = [
        (key, _shown(value)) for key, value in known[0].settings.items() if key not in differs
    ]
    return _differing(columns, differs, "No setting differs.") + _folded(alike, shared)


def _environment(runs: Sequence[RecordedRun]) -> str:
    if not any(run.environment for run in runs):
        return ""
    differs = {} if len(runs) == 1 else differing([run.environment for run in runs])
    known = next(run.environment for run in runs if run.environment)
    shared = [(key, _shown(value)) for key, value in known.items() if key not in differs]
    alike = "what they share" if differs else "versions, machine, data"
    return _differing([run.name for run in runs], differs) + _folded(alike, shared)


def _differing(columns: Sequence[str], values: Mapping[str, Sequence[Any]], none: str = "") -> str:
    if not values:
        return f'<p class="note">{none}</p>' if none else ""
    return _table(("", *columns), [(key, *map(_shown, row)) for key, row in values.items()])


def run_curves(runs: Sequence[RecordedRun]) -> str:
    """Figures by group: a row a quantity, over tokens to the left, over minutes to the right."""
    columns = _ordered(columns_of(runs))
    if not columns:
        return '<p class="note">No metrics yet.</p>'
    groups: dict[str, list[str]] = {}
    for column in columns:
        groups.setdefault(_group_of(column), []).append(column)
    order = ["Losses", *(name for name, _ in _GROUPS), "Other"]
    parts = [
        '<p class="note">Lines with dots: held-out data; pale lines: training, means between two '
        "lines of the log. Losses of the first steps may lie above the frame.</p>"
    ]
    for group in filter(groups.__contains__, order):
        drawn = [_figure(runs, groups[group], over) for over in AXES]
        if html.NO_FIGURES in escaping.unescape(drawn[0]):
            return drawn[0]
        parts.append(f'<h3>{group}</h3><div class="pair">{"".join(drawn)}</div>')
    return "".join(parts)


def _figure(runs: Sequence[RecordedRun], columns: Sequence[str], over: Axis) -> str:
    def draw(panels: Any) -> None:
        for axes, column in zip(panels, columns, strict=True):
            for number, run in enumerate(runs):
                look = {"color": _colour(number), "linestyle": _dash(number)}
                training = run.curve(column, over)
                held_out = run.curve(f"eval_{column}", over)
                if training:
                    pale = 0.4 if held_out else 0.9
                    axes.plot(*zip(*training, strict=True), lw=1.1, alpha=pale, **look)
                if held_out:
                    axes.plot(*zip(*held_out, strict=True), lw=1.6, marker="o", ms=3, **look)
            axes.tick_params(which="both", labelsize=8)
            if column == "grad_norm":
                axes.set_yscale("log")
            elif column.endswith("loss"):
                axes.set_ylim(*_range(runs, column))
            axes.set_ylabel(_latin(column.replace("_", " ")), fontsize=8.5)
        last = panels[-1]  # those above share its x
        longest = max((run.length(over) for run in runs), default=0.0)
        last.set_xlim(left=0, right=1.02 * longest or None)
        if over == "tokens":
            from matplotlib.ticker import EngFormatter

            last.xaxis.set_major_formatter(EngFormatter(sep=""))
        last.set_xlabel({"minutes": "minutes of training"}.get(over, over), fontsize=8.5)

    return html.drawing(draw, (5.0, 1.75 * len(columns) + 0.5), panels=len(columns))


def _range(runs: Sequence[RecordedRun], column: str) -> tuple[float | None, float | None]:
    """Of a loss, without the heights it falls from in the first steps of a run."""
    ys: list[float] = []
    for run in runs:
        points = run.curve(column, "tokens") + run.curve(f"eval_{column}", "tokens")
        begun = _STEEP * max((x for x, _ in points), default=0.0)
        ys += [y for x, y in points if x >= begun]
    room = 0.05 * (max(ys) - min(ys))
    return (min(ys) - room, max(ys) + room) if room else (None, None)


def _samples(runs: Sequence[RecordedRun]) -> str:
    """The first row of every run, then the second: they are of the same text where data is."""
    shown = [(n, run, run.samples) for n, run in enumerate(runs) if run.samples]
    if not shown:
        return ""
    parts = [
        "<p>Held-out text with the generator's samples in it, at the last evaluation. The stronger "
        "the colour of a token, the surer the discriminator that it was replaced: "
        '0 %<span class="scale"></span>'
        "50 % and more. Those that were have a red line, and above it what stood there before.</p>"
    ]
    for row in range(max(len(samples.get("rows", [])) for _, _, samples in shown)):
        if len(runs) > 1:
            parts.append(f"<h3>Text {row + 1}</h3>")
        for number, run, samples in shown:
            if row < len(samples.get("rows", [])):
                what = f"{run.name}, step {samples.get('step')}" if len(runs) > 1 else ""
                parts.append(
                    f'<div class="sample" style="border-color: {_colour(number)}">'
                    f"{_marked_tokens(samples['rows'][row])}"
                    f'<div class="note">{escaping.escape(what)}</div></div>'
                )
    return "".join(parts)


def _marked_tokens(tokens: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for token in tokens:
        text = str(token["text"])
        space, shown = " " if text.startswith(" ") else "", escaping.escape(text.strip())
        replaced = "original" in token
        if replaced:
            shown = f"<ruby>{_readable(text)}<rt>{_readable(str(token['original']))}</rt></ruby>"
        parts.append(space + html.shaded(shown, float(token["probability"]), replaced))
    return f'<p class="words" dir="auto">{"".join(parts)}</p>'


def _readable(text: str) -> str:
    return escaping.escape(text.strip() or "␣")  # some vocabularies have the space alone


def _legend(runs: Sequence[RecordedRun]) -> str:
    if len(runs) == 1:
        return ""
    styles = {"-": "solid", "--": "dashed", ":": "dotted"}
    entries = "".join(
        '<span><i class="coloured" style="border-top: '
        f'4px {styles[_dash(number)]} {_colour(number)}"></i>'
        f"{escaping.escape(run.name)}</span>"
        for number, run in enumerate(runs)
    )
    return f'<div class="legend">{entries}</div>'


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return f'<div class="wide runs">{html.table(header, rows)}</div>'


def _folded(what: str, rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    return f"<details><summary>{what} ({len(rows)})</summary>{html.table(('', ''), rows)}</details>"


def _ordered(names: Any) -> list[str]:
    """The best known first, the others as they came."""
    found = list(names)
    return [n for n in _FIRST if n in found] + [n for n in found if n not in _FIRST]


def _group_of(column: str) -> str:
    if column.endswith("loss"):
        return "Losses"
    for name, beginnings in _GROUPS:
        if column.startswith(beginnings):
            return name
    return "Other"


def _shown(value: Any) -> str:
    """A setting as TOML has it, without quotes."""
    if value is None:
        return "none"
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def _latin(text: str) -> str:
    """For figures, whose font has no other letters, and which take dollars for formulas."""
    return text.encode("ascii", "replace").decode().replace("$", r"\$")


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _dash(number: int) -> str:
    return DASHES[min(number // len(COLOURS), len(DASHES) - 1)]
