"""What a benchmark of a suite says: scores over seeds, the table, and what earlier calls found."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from electra.evaluation.suites import BenchmarkSet
from electra.recipe import to_tables
from electra.training.run_folder import write_text
from electra.training.run_identity import same_content

FILE = "results.json"
NOT_DONE = ("skipped", "failed")
"""Keys of a result beside `sets`: of each set there the reason."""


def recipe_of(each: BenchmarkSet, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A set's recipe without seed and device, and its rows, ready for JSON."""
    tables = to_tables(each.config(overrides, 0))
    for name in ("seed", "device"):
        tables["training"].pop(name, None)
    found: dict[str, Any] = json.loads(json.dumps({**tables, "rows": each.rows_wanted()}))
    return found


def summary(
    each: BenchmarkSet, runs: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """A set's row.

    Args:
        each: the set.
        runs: of each seed what evaluation found on the test rows, with its `report`.
        recipe: from `recipe_of`.
    """
    scores = [statistics.fmean(run["metrics"][m] for m in each.metric) for run in runs]
    return {
        "task": each.task,
        "metric": list(each.metric),
        "chosen_by": runs[0]["report"].get("metric"),
        "median": statistics.median(scores),
        "mean": statistics.fmean(scores),
        "std": statistics.stdev(scores) if len(scores) > 1 else None,
        "scores": scores,
        "n": runs[0]["n"],
        "minutes": sum(run["report"].get("minutes", 0.0) for run in runs),
        "recipe": dict(recipe),
        "runs": [
            {
                "seed": run["seed"],
                "test": run["metrics"],
                "validation": run["report"].get("metrics"),
                "best_step": run["report"].get("best_step"),
                "note": run["report"].get("note"),
            }
            for run in runs
        ],
    }


def keep_earlier(
    output: Path, result: dict[str, Any], recipes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Take sets over from an earlier call's file: of one encoder, of as many seeds.

    Args:
        output: the folder of the file.
        result: is added to.
        recipes: of the sets that are wanted, by name; another recipe's is not taken.
    """
    try:
        before = json.loads((output / FILE).read_text(encoding="utf-8"))
        same = same_content(before["model"], result["model"]) or (
            before["model"] == result["model"]
        )
        if not same or any(before[key] != result[key] for key in ("suite", "quick", "seeds")):
            return
        for name, row in before["sets"].items():
            if name in recipes and row.get("recipe") == recipes[name]:
                result["sets"][name] = row
        for kind in NOT_DONE:
            for name, reason in before.get(kind, {}).items():
                if name in recipes and name not in result["sets"]:
                    result[kind][name] = reason
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # nothing there, or nothing of ours: it is written anew


def write_results(output: Path, result: dict[str, Any], order: Sequence[str]) -> None:
    """Write `results.json` with the mean of the medians, sets in the suite's order."""
    result["sets"] = {name: result["sets"][name] for name in order if name in result["sets"]}
    medians = [row["median"] for row in result["sets"].values()]
    result["mean"] = statistics.fmean(medians) if medians else None
    write_text(output / FILE, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def print_results(result: Mapping[str, Any], console: Console) -> None:
    """The table, a row a set, and under it the mean, what was skipped and what failed."""
    table = Table("set", "metric", "median", "mean", "std", "n", "minutes")
    for name, row in result["sets"].items():
        std = "-" if row["std"] is None else f"{row['std']:.4f}"
        metric = ", ".join(row["metric"])
        numbers = [f"{row['median']:.4f}", f"{row['mean']:.4f}", std, f"{row['n']:,}"]
        table.add_row(escape(name), metric, *numbers, f"{row['minutes']:.1f}")
    seeds = f"{result['seeds']} seed{'s' if result['seeds'] > 1 else ''}"
    title = f"{result['suite']}: {result['model']['name']}, {seeds}"
    console.print(title + (", quick" if result["quick"] else ""), highlight=False, markup=False)
    if result["sets"]:
        console.print(table)
    done = len(result["sets"])
    every = done + sum(len(result[kind]) for kind in NOT_DONE)
    if result["mean"] is None:
        console.print(f"no set of {every} could be run", highlight=False)
    else:
        over = f"over {done} of {every} sets"
        console.print(f"mean of the medians {over}: {result['mean']:.4f}", highlight=False)
    for kind in NOT_DONE:
        for name, reason in result[kind].items():
            console.print(f"{kind} {name}: {reason}", highlight=False, markup=False)
