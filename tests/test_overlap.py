"""Counts of test texts that stand in training data."""

from pathlib import Path

import pytest

from benchmarks import overlap
from electra.evaluation.suites import BenchmarkSet
from tests.tiny import write_tsv


def test_texts_count_whatever_their_case_and_validation_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "DATA", tmp_path)
    train = [(f"Text {i}", f"pair {i}", "yn"[i % 2]) for i in range(20)]
    header = ["sentence1", "sentence2", "label"]
    write_tsv(tmp_path / "train.tsv", header, train)
    held = ("text  3", "PAIR 3", "n")
    half = ("text 3", "pair 4", "n")  # both texts of a pair must be there
    write_tsv(tmp_path / "test.tsv", header, [held, half, held, ("new", "one", "y")])
    each = BenchmarkSet(
        name="x", task="text-classification", train=("train.tsv",), validation=0.5,
        test=("test.tsv",), metric=("accuracy",),
    )  # fmt: skip
    found = overlap._row("toys", each, tmp_path / "work")
    assert found == [{"suite": "toys", "set": "x", "test": 4, "in train": 2}]
    (tmp_path / "test.tsv").unlink()
    assert overlap._row("toys", each, tmp_path / "work") == []
