"""The tables of docs/benchmarks.md from results made up here."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables


def result(row: str, seed: int, **summary: float) -> dict[str, Any]:
    scores = {
        "blimp": 0.5,
        "sst2": 0.7,
        "stsb": 0.4,
        "conll2003": 0.1,
        "blimp_scored_by": "masked_lm",
    }
    curve = [
        {"step": 1, "flops": 1e9, "blimp": 0.5, "eval_generator_loss": 9.0},
        {"step": 2, "flops": 3e9, "blimp": 0.7, "eval_generator_loss": 8.0, "eval_auc": 0.6},
    ]
    about = {"row": row, "seed": seed, "steps": 2, "flops": 3e9, **scores, **summary}
    machine = {"processor": "P", "torch": "T", "cores": 1, "transformers": "X"}
    return {"summary": about, "rows": curve, "commit": "c", "machine": machine}


def test_two_seeds_are_a_mean_and_each() -> None:
    runs = {("bert", 0): result("bert", 0), ("bert", 1): result("bert", 1, sst2=0.8)}
    (row,) = tables._table_5(runs)
    assert row["seeds"] == 2
    assert row["sst2"] == "75.0 (70.0, 80.0)"
    assert row["mean of three"] == "41.7 (40.0, 43.3)"
    assert row["paper (GLUE)"] == 82.2


def test_an_encoder_that_never_saw_a_mask_is_not_scored_by_one() -> None:
    runs = {("replace_mlm", 0): result("replace_mlm", 0)}
    (row,) = tables._table_5(runs)
    assert row["blimp"] is None
    assert row["BLiMP by"] is None
    assert tables._equal_flops(runs) == []


def test_curves_are_read_at_the_cheapest_rows_flops() -> None:
    runs = {("bert", 0): result("bert", 0), ("electra", 0): result("electra", 0, flops=2e9)}
    bert, electra = tables._equal_flops(runs)
    assert bert["BLiMP"] == electra["BLiMP"] == "60.0"
    assert bert["at its end"] == "70.0"


def test_a_metric_that_begins_later_has_no_start() -> None:
    rows = tables._learning(result("two_stage", 0))
    assert [(r["metric"], r["at a tenth"], r["at the end"]) for r in rows] == [
        ("generator_loss", 9.0, 8.0),
        ("auc", None, 0.6),
    ]


def test_nothing_is_typed_in() -> None:
    assert tables._each([], "sst2") is None
    assert tables._each([{"sst2": 0.5}], "sst2") == "50.0"
    assert tables._at([{"flops": 0.0, "blimp": 0.0}, {"flops": 2.0, "blimp": 1.0}], 1.0) == (
        pytest.approx(0.5)
    )


def track(root: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> Path:
    """The folder of the track's results, empty, which the tables then read."""
    folder = root / "benchmarks" / "results" / "quality" / kind
    folder.mkdir(parents=True)
    monkeypatch.setattr(tables, "ROOT", root)
    return folder


def test_runs_that_were_not_scored_show_their_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = track(tmp_path, monkeypatch, "unscored")
    assert tables._losses() == []
    for name, loss in (("muon", 5.25), ("adamw", 5.5)):
        summary = {"name": name, "minutes": 5.0, "seed": 0, "steps": 9, "encoder_mlm_loss": loss}
        summary |= {"row": "masked_lm", "changes": [f"optimizer.name={name}"]}
        summary |= {"tokens": 99}
        record = {"summary": summary, "machine": {"processor": "A Processor"}}
        (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    assert tables._losses()[-2:] == [
        "| 5 | adamw | 0 | 9 | 99 | 5.5 |  | A | masked_lm optimizer.name=adamw |",
        "| 5 | muon | 0 | 9 | 99 | 5.25 |  | A | masked_lm optimizer.name=muon |",
    ]


def test_the_card_is_of_the_best_row_of_the_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = track(tmp_path, monkeypatch, "official")
    shape = {
        "model": {"num_hidden_layers": 4, "hidden_size": 128},
        "training": {"global_batch_size": 64},
        "data": {"max_length": 64},
    }
    for name, seed, minutes, mean in (
        ("good", 0, 60.0, 0.7),
        ("good", 1, 60.0, 0.5),
        ("even", 0, 60.0, 0.55),
        ("short", 0, 15.0, 0.9),
    ):
        summary: dict[str, Any] = {"name": name, "seed": seed, "minutes": minutes, "mean": mean}
        summary |= dict.fromkeys(tables.SIX, mean)
        summary |= {"row": "tiny", "changes": [], "tokens": 10, "effective_rank": 5.0, "steps": 9}
        summary |= {"parameters": {"encoder": 1_700_000}, "vocabulary": 8192, "config": shape}
        record = {"summary": summary, "command": f"run {name}", "commit": "c"}
        record |= {"machine": {"processor": "A Processor"}}
        (folder / f"{name}-{minutes}-{seed}.json").write_text(json.dumps(record), "utf-8")
    text = tables.card_figures()
    assert text.startswith("`good`: 1.70 M parameters, 4 layers of 128, 8,192 word pieces; 9 steps")
    assert "    run good\n" in text
    assert "| good | 2 | 60 |" in text
    assert "| even | 1 | 55 |" in text
    assert "short" not in text
