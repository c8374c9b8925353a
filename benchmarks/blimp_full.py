"""Finished runs of the track on BLiMP with all of its pairs, a thousand a paradigm.

    python -m benchmarks.blimp_full RUN ... [--json FILE]

The track reads 200 pairs of a paradigm. Here every run folder is scored on all pairs of the 17
paradigms of the last table and of the 17 that choose, by each part that it has: the discriminator
by the sum of log P(original), masked LM (the encoder's own head, where replaced tokens were trained
beside one) and the generator by pseudo-log-likelihood.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import protocol
from benchmarks.quality_per_minute import paradigms
from benchmarks.record import finish
from electra.evaluate import evaluate

PARTS = ("discriminator", "masked_lm", "generator")
EVERY = 1_000
"""The pairs of a paradigm."""


def accuracy(part: Path, *, official: bool, pairs: int) -> float:
    """Over the pairs of one half of the paradigms."""
    with tempfile.TemporaryDirectory() as folder:
        for name in paradigms(official=official):
            (Path(folder) / name).symlink_to((protocol.DATA / "blimp" / name).resolve())
        result = evaluate(model=part, data=folder, task="minimal-pairs", limit=pairs)
    return float(result["metrics"]["accuracy"])


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not (protocol.DATA / "blimp").is_dir():
        sys.exit(f"skipped: no blimp in {protocol.DATA}; set ELECTRA_DATA")
    rows = []
    for run in given.runs:
        for part in (run / name for name in PARTS if (run / name).is_dir()):
            official = accuracy(part, official=True, pairs=EVERY)
            chosen = accuracy(part, official=False, pairs=EVERY)
            rows.append(
                {
                    "run": run.name,
                    "scored by": part.name,
                    "17, 200 pairs": accuracy(part, official=True, pairs=protocol.PAIRS),
                    "17, all pairs": official,
                    "all 34, all pairs": (official + chosen) / 2,
                }
            )
    finish(rows, {"pairs_a_paradigm": EVERY}, json_file=given.json)


if __name__ == "__main__":
    main()
