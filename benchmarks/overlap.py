"""How many rows of a suite's official test data have a text that training data holds, too.

    python -m benchmarks.overlap --json benchmarks/results/overlap.json

Texts are the same where they differ in case and white space alone; of pairs both, of questions the
question with its passage, of multiple choice the passage. Counts are printed, no rows. Data that a
suite holds out itself is left out: there texts are kept together (`electra.evaluation.samples`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.protocol import DATA
from benchmarks.record import finish
from electra.errors import ElectraError
from electra.evaluation.suite_files import MissingDataError, set_files
from electra.evaluation.suites import BenchmarkSet, read_suite
from electra.tasks.task import task_class


def main() -> None:
    """Count in all sets of the suites that read the data folder."""
    parser = argparse.ArgumentParser(description="Test texts that stand in the training data.")
    parser.add_argument("--suites", nargs="+", default=["english", "chinese"])
    parser.add_argument("--work", type=Path, default=Path("runs/overlap"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    try:
        for suite in given.suites:
            for each in read_suite(suite).sets:
                if not isinstance(each.test, float):
                    rows += _row(suite, each, given.work)
    except ElectraError as error:
        sys.exit(f"error: {error}")
    finish(rows, {"in_train_total": sum(r["in train"] for r in rows)}, json_file=given.json)


def _row(suite: str, each: BenchmarkSet, work: Path) -> list[dict[str, Any]]:
    """The counts of a set; none where its data is not there."""
    config = each.config({}, 0)
    try:
        files = set_files(each, DATA, work / each.name, config.data)
    except MissingDataError:
        return []
    sources = [files.train] if isinstance(each.validation, tuple) else list(each.train)
    if isinstance(each.validation, float):  # of the rows held out, too
        sources = [files.train, files.validation]
    task, first = task_class(each.task).from_training(sources[0], config)
    known = {text_of(e) for e in first}
    for source in sources[1:]:
        known |= {text_of(e) for e in task.read(source)}
    test = task.read(files.test)
    found = sum(text_of(e) in known for e in test)
    return [{"suite": suite, "set": each.name, "test": len(test), "in train": found}]


def text_of(example: Any) -> tuple[str, ...]:
    """What makes an example of any task the same as another."""
    if hasattr(example, "choices"):
        parts = [example.context]
    elif hasattr(example, "context"):
        parts = [example.question, example.context]
    else:
        parts = [example.text, getattr(example, "text_pair", None) or ""]
    return tuple(" ".join(part.casefold().split()) for part in parts)


if __name__ == "__main__":
    main()
