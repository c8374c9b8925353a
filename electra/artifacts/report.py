"""Reports people read: one HTML file, no scripts, no network, pictures inside."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
NO_FIGURES = 'Figures need matplotlib: pip install "electra[plot]"'

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #555; --line: #ddd; --paper: #fff;
        --panel: #f5f5f5; --shade: 255 140 0; --mark: #b00020 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: var(--ink); background: var(--paper) }
h1 { font-size: 1.7rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse; margin: .6rem 0 }
td, th { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
         vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
figure { margin: .8rem 0 } figcaption, .note { color: var(--soft); font-size: .9rem }
.words { line-height: 2.1 }
.words span { padding: .1rem .12rem; border-radius: .2rem;
              background: rgb(var(--shade) / var(--share)) }
.words .replaced { border-bottom: 3px solid var(--mark) }
svg { max-width: 100%; height: auto }
pre { background: var(--panel); padding: .7rem; overflow-x: auto }
td:first-child { overflow-wrap: anywhere }
.wide { overflow-x: auto }
.pair { display: flex; flex-wrap: wrap; gap: 0 1rem } .pair figure { flex: 1 1 20rem }
h3 { font-size: 1rem; margin: 1.6rem 0 0 }
.heat td { text-align: center; padding: .25rem .4rem; min-width: 1.4rem;
           border: 1px solid var(--line); font-variant-numeric: tabular-nums }
.heat th { white-space: nowrap; font-weight: normal }
.heat th.column { writing-mode: vertical-rl; transform: rotate(180deg); padding: .4rem 0;
                  border: none }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6eb; --soft: #a8abb0; --line: #3e4042; --paper: #18191a; --panel: #242526;
          --shade: 176 92 0; --mark: #ff6b81 }
  svg, .coloured { filter: invert(.9) hue-rotate(180deg) }
}
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
    panels: int | None = None,
) -> str:
    """What `draw` draws into matplotlib's `Axes`, as inline SVG; a line that says what is missing.

    Text in it must be plain Latin: the font that comes along has no other letters. With `panels`
    `draw` is given a column of so many `Axes` instead, which share x.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return f'<p class="note">{html.escape(NO_FIGURES)}</p>'
    figure = Figure(figsize=size, layout="constrained")
    if panels is None:
        draw(figure.subplots())
    else:
        draw(figure.subplots(panels, sharex=True, squeeze=False)[:, 0])
    for axes in figure.axes:
        axes.grid(alpha=0.3)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    drawn = out.getvalue()
    plain = re.sub("<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    return f"<figure>{plain}</figure>"


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
    spans = (shaded(html.escape(text), share, truth) for text, share, truth in words)
    return f'<p class="words">{"".join(spans)}</p>'


def shaded(content: str, probability: float, replaced: bool) -> str:
    """HTML of a word, within an element of class `words`, as `marked_words` has it."""
    kind = ' class="replaced"' if replaced else ""
    # one token in ten is replaced, so half sure is already much
    share = min(1.0, 2 * probability)
    return f'<span{kind} style="--share: {share:.2f}" title="{probability:.0%}">{content}</span>'
