"""Processes that see other last bits, or other folders, still decide alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from electra.tasks.text_classification import TextClassification
from tests.toy_runs import config, make_home, run
from tests.two_processes import in_two_processes

PATIENT = {"max_steps": 40, "eval_steps": 2, "early_stopping_patience": 3, "restarts": 0}
COLLAPSING = {"max_steps": 6, "global_batch_size": 16, "restarts": 1}


def _rank(rank: int, home: Path) -> None:
    usual, asked = TextClassification.metrics, []

    def apart(self: TextClassification, *given: Any) -> dict[str, float]:
        """Rank 1 believes that it gets better and better."""
        asked.append(rank)
        return {name: value + rank * len(asked) for name, value in usual(self, *given).items()}

    def collapsed(self: TextClassification, *_: Any) -> str | None:
        """Only rank 0 sees it, and only at first."""
        again = list((home / "restarted").glob("collapsed-*"))
        return "it answers the same" if rank == 0 and not again else None

    TextClassification.metrics = apart  # type: ignore[method-assign]
    TextClassification.collapsed = collapsed  # type: ignore[method-assign]
    still = config(training=PATIENT, optimizer={"learning_rate": 1e-12})
    stopped = run(home, home / "stopped", {}, config=still)
    restarted = run(home, home / "restarted", COLLAPSING)
    found = {
        "stopped": stopped.metrics,
        "best_step": stopped.runs[0].best_step,
        "seed": restarted.runs[0].seed,
        "restarted": restarted.metrics,
    }
    (home / f"rank-{rank}.json").write_text(json.dumps(found))


def test_early_stopping_and_restarts_are_the_main_process_s(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    in_two_processes(_rank, home)
    one, other = (json.loads((home / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert one == other
    report = json.loads((home / "stopped" / "report.json").read_text())
    assert (report["best_step"], report["steps"], report["stopped_early"]) == (2, 8, True)
    assert one["seed"] == 1000
    assert (home / "restarted" / "collapsed-1" / "collapsed.json").is_file()
    alone = run(home, home / "alone", COLLAPSING | {"seed": 1000, "restarts": 0})
    assert one["restarted"]["accuracy"] == pytest.approx(alone.metrics["accuracy"])
