"""Finished runs of the track on BLiMP with all of its pairs, a thousand a paradigm.

    python -m benchmarks.blimp_full RUN ... [--json FILE]

The track reads 200 pairs of a paradigm. Here every run folder is scored on those and on all pairs
of the 17 paradigms of the last table, as the track scores: the discriminator by the sum of
log P(original), masked LM by pseudo-log-likelihood.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import protocol
from benchmarks.quality_per_minute import link_paradigms, paradigms
from benchmarks.record import finish
from electra.evaluate import evaluate

PARTS = ("discriminator", "masked_lm")
"""Of a run: the first that it has is scored, as in the track."""
EVERY = 1_000
"""The pairs of a paradigm."""


def scores(run: Path, part: Path) -> dict[str, Any]:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        link_paradigms(Path(folder), official=True)
        row: dict[str, Any] = {"run": run.name, "scored by": part.name}
        for pairs in (protocol.PAIRS, EVERY):
            found = evaluate(model=part, data=folder, task="minimal-pairs", limit=pairs)
            row[f"{pairs:,} pairs"] = found["metrics"]["accuracy"]
    return row


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
        part = next((run / name for name in PARTS if (run / name).is_dir()), None)
        if part is None:
            sys.exit(f"no {' or '.join(PARTS)} in {run}: a finished run is wanted")
        rows.append(scores(run, part))
    finish(rows, {"paradigms": len(paradigms(official=True))}, json_file=given.json)


if __name__ == "__main__":
    main()
