"""The table of what the fine-tuning benchmark measured, and its headline figures."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.finetuning_case import OF_SCORES, SETTINGS, SHOWN_ONLY, SPEED_SETS
from benchmarks.record import finish

SEEDS = (0, 1, 2)
UNITS = {
    "ours, plain": "fraction of the set's metric",
    "difference": "percentage points, ours less plain",
    "speedup": "times the peer's rows a second",
}
_SPEEDUPS = (
    "train_speedup",
    "evaluate_speedup",
    "train_speedup_dynamic",
    "evaluate_speedup_dynamic",
)


def table(folder: Path, file: Path, suite: str) -> None:
    """Print a row a set and write it with the headline figures.

    Args:
        folder: of the results of one suite.
        file: to write.
        suite: whose sets.
    """
    found = {p.stem: json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("*.json"))}
    if not found:
        sys.exit(f"nothing was measured yet in {folder}")
    _refuse_mixtures({name: record["summary"] for name, record in found.items()}, folder)
    rows = []
    for name in SETTINGS[suite]:
        runs = [found[f"{name}-seed{s}"]["summary"] for s in SEEDS if f"{name}-seed{s}" in found]
        speed = found.get(f"{name}-throughput", {}).get("summary", {})
        if runs or speed:
            rows.append(_row(name, runs, speed))
    first = next(iter(found.values()))["summary"]
    summary: dict[str, Any] = {
        "suite": suite,
        "encoder": first["encoder"],
        "units": UNITS,
        "commits": sorted({r["commit"] for r in found.values()}),
        "machines_of_scores": _machines(found, speed=False),
        "machines_of_speeds": _machines(found, speed=True),
    }
    speed_sets = SPEED_SETS[suite]
    fast = [r for r in rows if r["set"] in speed_sets and r["train_speedup"] is not None]
    if fast:
        for key in _SPEEDUPS:
            median_key = key.replace("_speedup", "_speedup_median")
            summary[median_key] = statistics.median(row[key] for row in fast)
        summary["speed_sets"] = [row["set"] for row in fast]
        summary["speed_sets_measured"] = f"{len(fast)} of {len(speed_sets)} sets"
    scored = [r for r in rows if r["difference"] is not None and r["set"] not in SHOWN_ONLY]
    for suffix, among in (("", SETTINGS[suite]), ("_speed_sets", speed_sets)):
        if least := [r for r in scored if r["set"] in among]:
            worst = min(least, key=lambda r: float(r["difference"]))
            summary[f"score_difference_min{suffix}"] = worst["difference"]
            summary[f"score_difference_min{suffix}_set"] = worst["set"]
            summary[f"score_difference_min{suffix}_std_error"] = worst["std error"]
    summary["score_sets_measured"] = (
        f"{len(scored)} of {len({*SETTINGS[suite]} - {*SHOWN_ONLY})} sets"
    )
    summary["not_in_the_minimum"] = [r["set"] for r in rows if r["set"] in SHOWN_ONLY]
    finish(rows, summary, json_file=file)


def _machines(found: Mapping[str, Any], *, speed: bool) -> list[str]:
    """Processors that scores or speeds were measured on; the table may be made on another."""
    of_kind = (r for name, r in found.items() if name.endswith("-throughput") == speed)
    return sorted({str(record["machine"]["processor"]) for record in of_kind})


def _row(name: str, runs: Sequence[Mapping[str, Any]], speed: Mapping[str, Any]) -> dict[str, Any]:
    """A set's: means over seeds, the differences of pairs of one seed, speedups."""
    differences = [run["difference"] for run in runs]
    std = statistics.stdev(differences) if len(runs) > 1 else None
    return {
        "set": name,
        "metric": runs[0]["metric"] if runs else None,
        "seeds": len(runs),
        "ours": _mean([run["ours"] for run in runs]),
        "plain": _mean([run["plain"] for run in runs]),
        "difference": _mean(differences),
        "std": std,
        "std error": None if std is None else std / math.sqrt(len(runs)),
        **{key: speed.get(key) for key in _SPEEDUPS},
    }


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _refuse_mixtures(found: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """End where results are of several encoders, or those of a set of several settings.

    Speeds and scores may be of other rates and numbers of rows: a step's time depends on neither.
    """
    by_what: dict[tuple[str, str], dict[str, str]] = {}
    for name, summary in found.items():
        shape = {k: v for k, v in summary["setting"].items() if k not in OF_SCORES}
        rows = [summary["setting"].get(k) for k in OF_SCORES]
        kind = "speed" if "rounds" in summary else "scores"
        for what, of, value in (
            ("encoder", "all sets", summary["encoder"].get("sha256", summary["encoder"])),
            ("setting", summary["set"], shape),
            ("rate or number of rows", f"{summary['set']} ({kind})", rows),
        ):
            by_what.setdefault((what, of), {}).setdefault(json.dumps(value, sort_keys=True), name)
    for (what, of), names in by_what.items():
        if len(names) > 1:
            sys.exit(
                f"{folder} holds results of more than one {what} for {of} "
                f"({', '.join(names.values())}): measure them alike, or move some away"
            )
