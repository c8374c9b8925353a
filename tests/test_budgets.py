"""The fit of `electra plan`'s rule, on runs whose best batch is known."""

import math
from typing import Any

import pytest

from benchmarks import budgets


def run(minutes: float, batch: int, best: float, tokens: float, width: int = 128) -> dict[str, Any]:
    """A loss that is a parabola over log2 of the batch."""
    loss = 4 + 0.1 * (math.log2(batch) - math.log2(best)) ** 2
    about = {"minutes": minutes, "batch": batch, "tokens": tokens, "loss": loss}
    return {**about, "width": width, "processor": "P"}


def test_the_power_is_found_again() -> None:
    runs = [
        run(minutes, batch, best, tokens)
        for minutes, best, tokens in ((1, 25, 1e6), (4, 50, 4e6), (16, 100, 16e6))
        for batch in (16, 32, 64, 128, 256)
    ]
    vertices = budgets.best_batches(runs)
    assert [round(batch, 3) for _, batch in vertices.values()] == [25, 50, 100]
    power, at = budgets.fitted(vertices)
    assert power == pytest.approx(0.5)
    assert at == pytest.approx(50 * budgets.LENGTH * (5 / 4) ** 0.5)


def test_a_best_batch_at_the_edge_is_no_vertex() -> None:
    assert budgets.best_batches([run(1, batch, 16, 1e6) for batch in (16, 32, 64)]) == {}


def test_what_a_wider_network_has_to_make_up_for() -> None:
    narrow = [run(m, 32, 32, m * 1e6, 64) | {"loss": 6 - math.log(m)} for m in (1, 2, 4)]
    wide = [run(m, 32, 32, m * 5e5) | {"loss": 6 - math.log(m)} for m in (1, 2, 4)]
    for row in budgets.wider(narrow + wide):
        assert row["needed, P"] == pytest.approx(math.log(2)), "it reads half"
        assert row["ahead at equal tokens"] == pytest.approx(math.log(2)), "and is level in time"


def test_the_runs_are_of_one_rule() -> None:
    runs = budgets.ladder()
    assert {(r["minutes"], r["width"], r["batch"]) for r in runs} >= {(20.0, 128, 128)}
    shapes = [(r["minutes"], r["width"], r["batch"]) for r in runs]
    assert len(shapes) == len(set(shapes)), "another rate, depth or seed would come twice"


def test_warm_starts_are_of_one_recipe_and_masked_lm_alone() -> None:
    found = budgets.warm_starts()
    budgets_of = {(run["minutes"], run["warm_start"]) for run in found}
    assert {(5.0, 0.7), (5.0, 1.0), (15.0, 0.3), (15.0, 1.0)} <= budgets_of
    names = {run["name"] for run in found}
    assert {"tiny-warm-start-03", "tiny-trimmed-07", "masked_lm-trimmed"} <= names
    assert "tiny-early" in names
    others = {"weight-50", "early-plain", "early-unigram", "early-vocabulary-4096", "mms"}
    others |= {"causal", "early-averaged", "early-length-ramp", "early-trapezoid", "early-span"}
    assert "masked_lm-causal-repetition" not in names
    assert not names & {f"tiny-{other}" for other in others}, "another weight, mask or generator"
