"""Reports people read: one HTML file, no scripts, no network, pictures inside."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]
NO_FIGURES = 'Figures need matplotlib: pip install "electra[plot]"'

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c1e21; background: #fff }
h1 { font-size: 1.7rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse; margin: .6rem 0 }
td, th { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; text-align: left;
         vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
figure { margin: .8rem 0 } figcaption, .note { color: #555; font-size: .9rem }
.words { line-height: 2.1 }
.words span { padding: .1rem .12rem; border-radius: .2rem }
.words .replaced { border-bottom: 3px solid #b00020 }
svg { max-width: 100%; height: auto }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto }
td:first-child { overflow-wrap: anywhere }
.wide { overflow-x: auto }
.heat td { text-align: center; padding: .25rem .4rem; min-width: 1.4rem; border: 1px solid #eee;
           font-variant-numeric: tabular-nums }
.heat th { white-space: nowrap; font-weight: normal }
.heat th.column { writing-mode: vertical-rl; transform: rotate(180deg); padding: .4rem 0;
                  border: none }
"""


def page(title: str, sections: Iterable[tuple[str, str]], *, head: str = "") -> str:
    """A whole HTML page from (heading, HTML) sections; `head` is HTML for the page's head."""
    body = "".join(f"<h2>{html.escape(head)}</h2>\n{content}\n" for head, content in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>{head}</head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n{body}</body></html>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table; numbers stand to the right."""
    head = "".join(f"<th>{html.escape(h)}</th>" for h in header)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def shortened(text: str, most: int) -> str:
    """The text, its end cut off where it has more than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{html.escape(str(value))}</td>"
    whole = isinstance(value, int) or abs(value) >= 1000
    shown = f"{value:,.0f}" if whole else f"{value:.4g}"
    return f'<td class="number">{shown}</td>'


def curves(
    rows: Rows, names: Sequence[str], *, x: str = "tokens_seen", title: str, y_label: str
) -> str:
    """Columns of metrics.jsonl over `x` as inline SVG; empty where no row has any of them.

    Without matplotlib (extra `plot`) the figure is replaced by a line that says so.
    """
    series = {
        name: [(row[x], row[name]) for row in rows if row.get(name) is not None and x in row]
        for name in names
    }
    series = {name: points for name, points in series.items() if points}
    if not series:
        return ""

    def draw(axes: Any) -> None:
        for name, points in series.items():
            marker = "o" if len(points) < 30 else None
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "), marker=marker, ms=3)
        axes.set_xlabel(x.replace("_", " "))
        axes.set_ylabel(y_label)
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=8)

    return drawing(draw)


def drawing(
    draw: Callable[[Any], None],
    size: tuple[float, float] = (7.2, 3.0),
    *,
    panels: tuple[int, int] | None = None,
) -> str:
    """What `draw` draws into matplotlib's `Axes`, as inline SVG; a line that says what is missing.

    Text in it must be plain Latin: the font that comes along has no other letters. With `panels`
    `draw` is given a table of so many rows and columns of `Axes` instead, which share y in a row
    and x in a column.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return f'<p class="note">{html.escape(NO_FIGURES)}</p>'
    figure = Figure(figsize=size, layout="constrained")
    if panels is None:
        draw(figure.subplots())
    else:
        draw(figure.subplots(*panels, sharex="col", sharey="row", squeeze=False))
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return f"<figure>{out.getvalue()[out.getvalue().index('<svg') :]}</figure>"


def heat_map(
    rows: Sequence[str], columns: Sequence[str], counts: Mapping[tuple[str, str], int]
) -> str:
    """An HTML table of counts by (row, column), shaded by their share of the row."""
    named = {name: html.escape(shortened(name, 40)) for name in {*rows, *columns}}
    head = "".join(f'<th class="column">{named[name]}</th>' for name in columns)
    body = []
    for row in rows:
        total = sum(counts.get((row, column), 0) for column in columns) or 1
        cells = []
        for column in columns:
            count = counts.get((row, column), 0)
            colour = "46, 125, 50" if row == column else "198, 40, 40"
            shade = f"background: rgba({colour}, {0.75 * count / total:.2f})"
            cells.append(f'<td style="{shade}">{count or ""}</td>')
        body.append(f"<tr><th>{named[row]}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table class="heat"><tr><th></th>{head}</tr>{"".join(body)}</table>'
        "</div>"
    )


def marked_words(words: Iterable[tuple[str, float, bool]]) -> str:
    """A sentence, each word shaded by the probability that it does not belong.

    Args:
        words: (text with its leading space, probability, whether it was in truth replaced).
    """
    spans = []
    for text, probability, replaced in words:
        kind = ' class="replaced"' if replaced else ""
        # one token in ten is replaced, so half sure is already much
        shade = f"background: rgba(255, 140, 0, {min(1.0, 2 * probability):.2f})"
        spans.append(
            f'<span{kind} style="{shade}" title="{probability:.0%}">{html.escape(text)}</span>'
        )
    return f'<p class="words">{"".join(spans)}</p>'


def write_pretraining_report(
    path: Path, *, report: Mapping[str, Any], rows: Rows, manifest: Mapping[str, Any]
) -> None:
    """`report.html` of a pretraining run: figures, curves, corpus."""
    facts = [(k, v) for k, v in report.items() if isinstance(v, str | int | float)]
    sections = [
        ("Run", table(("", ""), facts)),
        ("On held-out text", table(("metric", "value"), sorted(report["metrics"].items()))),
        ("Curves", pretraining_curves(rows)),
        (
            "Corpus",
            table(
                ("split", "documents", "tokens"),
                [(n, s["documents"], s["tokens"]) for n, s in manifest["splits"].items()],
            ),
        ),
    ]
    path.write_text(page("Pretraining", sections), encoding="utf-8")


def pretraining_curves(rows: Rows) -> str:
    """Losses, accuracies, discriminator and speed over tokens."""
    return (
        curves(
            rows,
            ["eval_generator_loss", "eval_encoder_mlm_loss"],
            title="Masked LM, held-out text",
            y_label="loss, nats",
        )
        + curves(
            rows,
            ["eval_generator_accuracy", "eval_encoder_mlm_accuracy"],
            title="Masked LM accuracy, held-out text",
            y_label="share",
        )
        + curves(
            rows,
            ["eval_discriminator_auc", "eval_discriminator_recall", "eval_discriminator_precision"],
            title="Discriminator, held-out text",
            y_label="share",
        )
        + curves(
            rows,
            ["generator_loss", "encoder_mlm_loss", "discriminator_loss"],
            title="Training losses",
            y_label="loss, nats",
        )
        + curves(rows, ["tokens_per_second"], title="Speed", y_label="tokens per second")
    )
