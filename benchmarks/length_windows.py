"""Batches of like length: what do they cost in quality? Windows of 1 batch (any rows) and more.

    python -m benchmarks.length_windows --set trec --seeds 5

Fine-tuning as in benchmarks/finetuning.py, of 2,000 rows and with a batch in one piece, scored on
rows held back of the training data: no test set is read. A window is the number of batches that
are sorted by length together; `plain` is the plain path of transformers, its rows in random order.
The loss of the last steps is in what a run prints.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import statistics
from pathlib import Path
from typing import Any

import torch

from benchmarks.finetuning import our_score, plain_score
from benchmarks.finetuning_case import ENGLISH, SETTINGS, Case, encoder_identity, packaged
from benchmarks.record import finish
from electra.tasks import batches
from electra.training.device import keep_memory

ROWS, HELD_BACK = 2_000, 1_000
PLAIN = "plain"


def main() -> None:
    """Train every window with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--set", dest="name", choices=SETTINGS[ENGLISH], required=True)
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 4, 15])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/length-windows"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_memory()
    setting = dataclasses.replace(SETTINGS[ENGLISH][given.name], train_rows=ROWS)
    found: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        for path in (*map(str, given.windows), PLAIN):
            work = given.work / f"{given.name}-{path}"
            case = Case.of(ENGLISH, given.name, setting, seed, packaged(), work, HELD_BACK)
            files = dataclasses.replace(case.files, test=case.files.validation)
            training = dataclasses.replace(
                case.config.training, micro_batch_size=setting.batch_size
            )
            config = dataclasses.replace(case.config, training=training)
            case = dataclasses.replace(case, files=files, config=config)
            if path == PLAIN:
                score = plain_score(case)
            else:
                batches.LARGEST_WINDOW, batches.LEAST_WINDOWS = int(path), 4
                score = our_score(case)
            print(f"{given.name} seed {seed} {path}: {score:.4f}", flush=True)
            found.setdefault(path, []).append(score)
            shutil.rmtree(work, ignore_errors=True)
    rows: list[dict[str, Any]] = [
        {
            "window": path,
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            "scores": values,
        }
        for path, values in found.items()
    ]
    about = {"set": given.name, "encoder": encoder_identity(packaged())}
    finish(rows, {**about, "setting": dataclasses.asdict(setting)}, json_file=given.json)


if __name__ == "__main__":
    main()
