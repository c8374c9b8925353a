"""Write docs/benchmarks.md, and the figures of the README and of the cards, from the results.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import objectives, protocol
from benchmarks.quality_per_minute import SCORED, SIX

Runs = dict[tuple[str, int], dict[str, Any]]
"""Results by row and seed."""
ROOT = Path(__file__).parent.parent
CARDS = ROOT / "docs" / "model_cards.md"
BEGIN, END = "<!-- figures: python -m benchmarks.tables -->", "<!-- end of figures -->"


def main() -> None:
    """Write all three."""
    (ROOT / "docs" / "benchmarks.md").write_text(benchmarks_page(), encoding="utf-8")
    for page, figures in ((ROOT / "README.md", readme_figures), (CARDS, card_figures)):
        text = with_figures(page.read_text(encoding="utf-8"), figures())
        page.write_text(text, encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    """A result by the name of its script."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def benchmarks_page() -> str:
    """All results, each with its command, commit and machine."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks.tables` from `benchmarks/results/`; what was learned is",
        "in [lab_log.md](lab_log.md).",
    ]
    results = ROOT / "benchmarks" / "results"
    for path in (*sorted(results.glob("*.json")), *sorted(results.glob("adapt/*.json"))):
        name = path.relative_to(results).with_suffix("").as_posix()
        result = load(name)
        machine = result["machine"]
        lines += [
            "",
            f"## {name.replace('_', ' ').replace('/', ': ')}",
            "",
            f"    {result['command']}",
            "",
            f"Commit {result['commit']}; {machine['processor']}, {machine['cores']} cores, "
            f"torch {machine['torch']}, transformers {machine['transformers']}.",
            "",
            *_table(result["rows"]),
            "",
            *(f"- {name}: {_shown(value)}" for name, value in result["summary"].items()),
        ]
    if not (ROOT / "benchmarks" / "results" / "gpu.json").is_file():
        lines += _not_measured()
    lines += _objectives()
    for kind in SCORED:
        lines += _quality(kind)
    lines += _losses()
    return "\n".join(lines) + "\n"


def _not_measured() -> list[str]:
    """What stands where the figures of a GPU will."""
    return [
        "",
        "## gpu",
        "",
        "    python -m benchmarks.gpu --json benchmarks/results/gpu.json",
        "",
        "Not measured yet: no GPU was at hand, and no figure of one is claimed anywhere here.",
        "Wanted on one H200: 2,000,000 tokens a second and 20 % utilisation for `small` (14 M),",
        "45 % for `base` (110 M).",
    ]


def _objectives() -> list[str]:
    """The family of objectives, each row and seed from a file of its own."""
    files = sorted((ROOT / "benchmarks" / "results" / "objectives").glob("*.json"))
    found = [load(f"objectives/{file.stem}") for file in files]
    runs = {(r["summary"]["row"], r["summary"]["seed"]): r for r in found}
    if not runs:
        return []
    machines = {f"{r['machine']['processor']}, torch {r['machine']['torch']}" for r in found}
    commits = sorted({r["commit"] for r in found})
    lines = [
        "",
        "## objectives",
        "",
        "    python -m benchmarks.objectives --row ROW --seed SEED",
        "",
        f"Commits {', '.join(commits)}; {'; '.join(sorted(machines))}; one thread a run.",
        "",
        "One small network (4 x 128, 8,192 word pieces, 32 x 64 tokens a step) on English",
        "Wikipedia, 25 minutes of one processor a row, the published masks and weights, one",
        "learning rate for all. Scores in percent, by a fixed protocol (benchmarks/protocol.py);",
        "FLOPs as the reference counts them, less its dense embedding lookup. BLiMP by the encoder",
        "with its own head: discriminators by the sum of log P(original), masked LMs by",
        "pseudo-log-likelihood; the generator's in a column of its own.",
        "",
        *_table(_table_5(runs)),
        "",
        "The same at equal FLOPs: BLiMP (50 pairs a paradigm) where each row's curve passes the",
        "FLOPs that the cheapest row spent in all, before its learning rate has fallen to zero.",
        "",
        *_table(_equal_flops(runs)),
    ]
    others = [run for (row, _), run in sorted(runs.items()) if row not in objectives.TABLE_5]
    if others:
        lines += [
            "",
            "Every other objective, one run of 8 minutes of one processor: what it learns, on",
            "held-out text, at a tenth of the run and at its end.",
            "",
            *_table([row for run in others for row in _learning(run)]),
        ]
    return lines


def _by_row(kind: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The track's rows by budget, the best first, and the results that they are the means of."""
    found = _of_track(kind)
    runs: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for record in found:
        summary = record["summary"] | {"processor": _processor(record)}
        runs.setdefault((-summary["minutes"], summary["name"]), []).append(summary)
    rows = []
    for (_, name), seeds in sorted(runs.items()):
        means = [run["mean"] for run in seeds]
        rows.append(
            {
                "minutes": seeds[0]["minutes"],
                "row": name,
                "seeds": len(seeds),
                **{key: 100 * statistics.fmean(run[key] for run in seeds) for key in SIX},
                "mean": 100 * statistics.fmean(means),
                "deviation": 100 * statistics.stdev(means) if len(means) > 1 else None,
                "tokens": statistics.fmean(run["tokens"] for run in seeds),
                "rank": statistics.fmean(run["effective_rank"] for run in seeds),
                "processor": ", ".join(sorted({run["processor"] for run in seeds})),
                "recipe": _recipe(seeds[0]),
            }
        )
    rows.sort(key=lambda row: (-row["minutes"], -row["mean"]))
    return rows, found


def _of_track(kind: str) -> list[dict[str, Any]]:
    """Results of the track, scored on one kind of data or not at all."""
    files = sorted((ROOT / "benchmarks" / "results" / "quality" / kind).glob("*.json"))
    return [load(f"quality/{kind}/{file.stem}") for file in files]


def _processor(record: dict[str, Any]) -> str:
    return str(record["machine"]["processor"]).removesuffix(" Processor")


def _quality(kind: str) -> list[str]:
    """The track, from a file for each row, budget and seed."""
    rows, found = _by_row(kind)
    if not rows:
        return []
    machines = {f"{r['machine']['processor']}, torch {r['machine']['torch']}" for r in found}
    commits = sorted({r["commit"] for r in found})
    scored_on = "official sets" if kind == "official" else "selection data, what is chosen by"
    return [
        "",
        f"## quality per minute: {scored_on}",
        "",
        "    python -m benchmarks.quality_per_minute --row ROW --minutes MINUTES --seed SEED"
        + " --official" * (kind == "official"),
        "",
        f"Commits {', '.join(commits)}; {'; '.join(sorted(machines))}; one thread a run.",
        "",
        "Scores in percent; minutes of one thread, from raw text: of which processor decides how",
        "many tokens they are, and what a wider network costs; rank is the effective rank of",
        "the encoder's token states, recipe what `--row` and `--set` were given.",
        "",
        *_table(rows),
    ]


def _recipe(run: dict[str, Any]) -> str:
    """What a run of the track was given."""
    return " ".join([run["row"], *run["changes"]])


def _losses() -> list[str]:
    """Runs of the track that were not scored: what was looked through by held-out losses."""
    found = [r["summary"] | {"processor": _processor(r)} for r in _of_track("unscored")]
    if not found:
        return []
    losses = ("encoder_mlm_loss", "generator_loss")
    columns = ("minutes", "name", "seed", "steps", "tokens", *losses, "processor")
    rows = [{key: run.get(key) for key in columns} | {"recipe": _recipe(run)} for run in found]
    rows.sort(key=lambda row: (-row["minutes"], row["name"], row["seed"]))
    return [
        "",
        "## quality per minute: held-out losses",
        "",
        "    python -m benchmarks.quality_per_minute --row ROW --minutes MINUTES --unscored",
        "",
        *_table(rows),
    ]


def _table_5(runs: Runs) -> list[dict[str, Any]]:
    rows = []
    for row, paper in objectives.PAPER.items():
        seeds = [run["summary"] for (name, _), run in sorted(runs.items()) if name == row]
        if seeds:
            tasks = [name for name in protocol.SCORES if name != "blimp"]
            for seed in seeds:
                seed["mean of three"] = statistics.fmean(seed[name] for name in tasks)
                if row == "replace_mlm":  # its encoder has never seen the [MASK] it is scored by
                    seed.pop("blimp", None)
            scores = (*tasks, "mean of three", "blimp", "blimp_generator")
            rows.append(
                {
                    "row": row,
                    "seeds": len(seeds),
                    "steps": seeds[0]["steps"],
                    "FLOPs": f"{seeds[0]['flops']:.2e}",
                    **{name: _each(seeds, name) for name in scores},
                    "BLiMP by": seeds[0].get("blimp_scored_by") if "blimp" in seeds[0] else None,
                    "paper (GLUE)": paper,
                }
            )
    return rows


def _each(seeds: list[dict[str, Any]], name: str) -> str | None:
    values = [100 * seed[name] for seed in seeds if name in seed]
    if not values:
        return None
    each = ", ".join(f"{value:.1f}" for value in values)
    return each if len(values) == 1 else f"{statistics.fmean(values):.1f} ({each})"


def _equal_flops(runs: Runs) -> list[dict[str, Any]]:
    of_table = {key: run for key, run in runs.items() if key[0] in objectives.TABLE_5}
    cheapest = min(run["summary"]["flops"] for run in of_table.values())
    rows = []
    for row in objectives.TABLE_5:
        curves = [run["rows"] for (name, _), run in sorted(of_table.items()) if name == row]
        if curves and row != "replace_mlm":
            scores = [_at(curve, cheapest) for curve in curves]
            rows.append(
                {
                    "row": row,
                    "FLOPs": f"{cheapest:.2e}",
                    "BLiMP": ", ".join(f"{100 * score:.1f}" for score in scores),
                    "at its end": ", ".join(f"{100 * curve[-1]['blimp']:.1f}" for curve in curves),
                }
            )
    return rows


def _at(curve: list[dict[str, Any]], flops: float) -> float:
    """BLiMP at so many FLOPs, on the straight line between two checkpoints."""
    found = np.interp(flops, [row["flops"] for row in curve], [row["blimp"] for row in curve])
    return float(found)


def _learning(run: dict[str, Any]) -> list[dict[str, Any]]:
    first, last = run["rows"][0], run["rows"][-1]
    return [
        {
            "row": run["summary"]["row"],
            "metric": name.removeprefix("eval_"),
            "at a tenth": first.get(name),
            "at the end": last[name],
        }
        for name in last
        if name.startswith("eval_") and name.endswith(("loss", "auc", "generator_accuracy"))
    ]


def with_figures(page: str, figures: str) -> str:
    """A page with the block between the markers made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def card_figures(minutes: float = 60) -> str:
    """The best run of the track's hour on the official sets, beside the others of it."""
    rows, records = _by_row("official")
    rows = [row for row in rows if row["minutes"] == minutes]
    found = (rows[0]["row"], minutes)
    best = next(r for r in records if (r["summary"]["name"], r["summary"]["minutes"]) == found)
    run, config = best["summary"], best["summary"]["config"]
    columns = ("row", "seeds", *SIX, "mean", "tokens", "processor")
    return "\n".join(
        [
            f"`{run['name']}`: {run['parameters']['encoder'] / 1e6:.2f} M parameters, "
            f"{config['model']['num_hidden_layers']} layers of {config['model']['hidden_size']}, "
            f"{run['vocabulary']:,} word pieces; {run['steps']:,} steps of "
            f"{config['training']['global_batch_size']} sequences of "
            f"{config['data']['max_length']} tokens, seed {run['seed']}. Made by",
            "",
            f"    {best['command']}",
            "",
            f"at commit {best['commit']}. Official sets, in percent:",
            "",
            *_table([{key: row[key] for key in columns} for row in rows]),
        ]
    )


def readme_figures() -> str:
    """What `electra quickstart` reached."""
    result = load("quickstart")
    lines = ["| accuracy, three seeds | mean | each |", "|---|---|---|"]
    names = {
        "pretrained": "pretrained for five minutes (`tiny`)",
        "masked LM alone": "masked LM alone for as long",
        "from scratch": "the same network from random weights",
        "TF-IDF": "TF-IDF and logistic regression",
    }
    for row in result["rows"]:
        each = ", ".join(f"{100 * a:.1f}" for a in row["test_accuracy"] or [])
        lines.append(f"| {names[row['contestant']]} | {100 * row['test_mean']:.1f} | {each} |")
    machine = result["machine"]
    return "\n".join(
        [
            f"Measured on {machine['cores']} cores of an {machine['processor']} (which of 12",
            "packages a passage is from, names blanked, 16 labelled passages each, in percent):",
            "",
            *lines,
        ]
    )


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "| " + " | ".join(name.replace("_", " ") for name in names) + " |"
    cells = [[_shown(row[name]) if name in row else "" for name in names] for row in rows]
    return [head, "|" + "---|" * len(names), *("| " + " | ".join(row) + " |" for row in cells)]


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value)


if __name__ == "__main__":
    main()
