"""What `electra quickstart` reaches, and how long it takes.

    python -m benchmarks.quickstart [--compare] [--runs 1] [--json FILE]

Every run is the command itself, in a process and a folder of its own. `--compare` pretrains by
masked LM alone for as long, too. `--quick`: half a minute of pretraining.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import finish


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--first-seed", type=int, default=0, help="of pretraining, counted up")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    minutes = 0.5 if given.quick else given.minutes
    rows: list[dict[str, Any]] = []
    for number in range(given.runs):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "quickstart"
            command = [sys.executable, "-m", "electra", "quickstart", "--output", str(output)]
            command += ["--minutes", str(minutes)]
            command += ["--training.seed", str(given.first_seed + number)]
            command += ["--compare"] if given.compare else []
            began = time.monotonic()
            subprocess.run(command, check=True)
            elapsed = (time.monotonic() - began) / 60
            report = json.loads((output / "report.json").read_text(encoding="utf-8"))
        rows += _rows(report, given.first_seed + number, elapsed)
    finish(rows, _summary(rows), json_file=given.json)


def _rows(report: dict[str, Any], seed: int, elapsed: float) -> list[dict[str, Any]]:
    training, compared = report["pretraining"], report["compared"]
    rows = []
    for name, result in report["finetuning"]["contestants"].items():
        run = {"pretrained": training}.get(name, compared.get(name, {}))
        rows.append(
            {
                "seed": seed,
                "contestant": name,
                "command_minutes": elapsed,
                "pretraining_tokens": run.get("tokens", 0),
                "discriminator_auc": run.get("metrics", {}).get("discriminator_auc"),
                "generator_accuracy": run.get("metrics", {}).get("generator_accuracy"),
                "learning_rate": result["learning_rate"],
                "validation_accuracy": result["validation_accuracy"],
                "test_accuracy": result["accuracy"],
                "test_mean": statistics.fmean(result["accuracy"]),
            }
        )
    tf_idf = {"contestant": "TF-IDF", "test_mean": report["finetuning"]["accuracy_tf_idf"]}
    return [*rows, dict.fromkeys(rows[0]) | {"seed": seed} | tf_idf]


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def means(name: str) -> list[float]:
        return [row["test_mean"] for row in rows if row["contestant"] == name]

    gains = [a - b for a, b in zip(means("pretrained"), means("from scratch"), strict=True)]
    summary: dict[str, Any] = {
        "points_over_scratch": [100 * gain for gain in gains],
        "points_over_scratch_mean": 100 * statistics.fmean(gains),
        "command_minutes_max": max(row["command_minutes"] or 0.0 for row in rows),
    }
    if alone := means("masked LM alone"):
        pairs = zip(means("pretrained"), alone, strict=True)
        summary["points_over_masked_lm"] = [100 * (a - b) for a, b in pairs]
    return summary


if __name__ == "__main__":
    main()
