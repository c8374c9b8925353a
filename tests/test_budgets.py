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


def test_warm_starts_are_of_one_row_and_masked_lm_alone() -> None:
    found = [(run["minutes"], run["warm_start"]) for run in budgets.warm_starts()]
    assert {(5.0, 0.7), (5.0, 1.0), (15.0, 0.3), (15.0, 1.0)} <= set(found)
    assert len(found) == len(set(found)), "another generator, weight or seed would come twice"


def test_the_power_of_warm_starts_is_of_runs_with_replaced_tokens() -> None:
    runs = [
        {"minutes": m, "warm_start": share, "mean": mean, "tokens": m * 1e6}
        for m, best in ((4, 0.8), (16, 0.4))
        for share, mean in ((best, 0.7), (best / 2, 0.6), (1.0, 0.9))
    ]
    power, share = budgets.warm_start_rule(runs, at=16e6)
    assert power == pytest.approx(-0.5)
    assert share == pytest.approx(0.4)
