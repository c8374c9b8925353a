"""Schedule points, budgets, replay."""

import itertools
import json
from pathlib import Path

import pytest

from electra.config import ScheduleConfig, TrainingConfig
from electra.errors import ConfigError
from electra.training.schedule import Budget, TrainState, lr_factor


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.0), (5_000, 2.4875e-4), (10_000, 4.95e-4), (500_000, 2.5e-4), (1_000_000, 0.0)],
)
def test_the_published_schedule(step: int, rate: float) -> None:
    config = ScheduleConfig(decay="linear", overlap=True, warmup_steps=10_000)
    factor = lr_factor(config, step=step, progress=step / 1e6, total_steps=1_000_000)
    assert 5e-4 * factor == pytest.approx(rate)


def test_warmup_then_decay() -> None:
    config = ScheduleConfig(warmup_steps=10)
    rates = [lr_factor(config, step=s, progress=s / 100, total_steps=100) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[99] == pytest.approx(1 / 90)


def test_warmup_by_share_moves_from_the_first_update() -> None:
    config = ScheduleConfig(warmup_ratio=0.1, decay_start=0.5, decay="cosine")
    rates = [lr_factor(config, step=s, progress=s / 100, total_steps=100) for s in range(100)]
    assert 0 < rates[0] < rates[5] < rates[10] == 1.0
    assert rates[50] == 1.0 > rates[51]
    assert rates[75] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("form", "start", "points"),
    [
        # warmup to 0.1, constant to the start, then 1 - u and 1 - sqrt(u)
        ("linear", 0.0, {0.5: 1.0, 0.8: 1.0, 0.85: 0.75, 0.9: 0.5, 0.95: 0.25, 1.0: 0.0}),
        ("linear", 0.6, {0.5: 1.0, 0.6: 1.0, 0.7: 0.75, 0.8: 0.5, 1.0: 0.0}),
        ("one_minus_sqrt", 0.0, {0.8: 1.0, 0.85: 0.5, 0.9: 0.292893, 0.998: 0.00501256, 1.0: 0.0}),
        ("one_minus_sqrt", 0.5, {0.5: 1.0, 0.505: 0.9, 0.52: 0.8, 0.625: 0.5, 0.68: 0.4, 1.0: 0.0}),
    ],
)
@pytest.mark.parametrize("total", [100.0, 1e6])
def test_the_trapezoid(form: str, start: float, points: dict[float, float], total: float) -> None:
    config = ScheduleConfig(
        decay="trapezoid",
        decay_start=start,
        decay_form=form,  # type: ignore[arg-type]
        warmup_ratio=0.1,
    )
    for progress, wanted in points.items():
        found = lr_factor(config, step=0, progress=progress, total_steps=total)
        assert found == pytest.approx(wanted, abs=1e-6), progress
    # half a step more than its progress says, so that the first is not lost
    assert lr_factor(config, step=0, progress=0.05, total_steps=total) == pytest.approx(
        0.5 + 5 / total
    )


@pytest.mark.parametrize(
    ("decay", "points"),
    [
        ("linear", {0.0: 1.0, 0.25: 0.75, 0.5: 0.5, 1.0: 0.0}),
        ("cosine", {0.0: 1.0, 0.25: 0.853553, 0.5: 0.5, 0.75: 0.146447, 1.0: 0.0}),
        ("constant", {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
    ],
)
def test_points_of_each_decay(decay: str, points: dict[float, float]) -> None:
    config = ScheduleConfig(decay=decay)  # type: ignore[arg-type]
    for progress, wanted in points.items():
        found = lr_factor(config, step=7, progress=progress, total_steps=0)
        assert found == pytest.approx(wanted, abs=1e-6)


def test_a_rate_depends_on_progress_whatever_the_budget_counts() -> None:
    config = ScheduleConfig(decay="trapezoid", warmup_ratio=0.1, decay_form="one_minus_sqrt")
    state = TrainState(step=900, tokens_seen=900, seconds=54.0)
    for training in ({"max_steps": 1000}, {"max_tokens": 1000}, {"minutes": 1.0}):
        budget = Budget.of(TrainingConfig(**training))  # type: ignore[arg-type]
        progress, total = budget.progress(state), budget.total_steps(state)
        found = lr_factor(config, step=900, progress=progress, total_steps=total)
        assert found == pytest.approx(1 - 0.5**0.5)


def test_what_is_no_trapezoid_is_refused() -> None:
    with pytest.raises(ConfigError, match="decay-form is one_minus_sqrt; allowed: linear with"):
        ScheduleConfig(decay_form="one_minus_sqrt")
    with pytest.raises(ConfigError, match=r"--schedule.overlap is true; allowed: false with"):
        ScheduleConfig(decay="trapezoid", overlap=True)


def test_budgets() -> None:
    state = TrainState(step=5, tokens_seen=300, seconds=30.0)
    assert Budget.of(TrainingConfig(max_steps=10)).progress(state) == 0.5
    assert Budget.of(TrainingConfig(max_tokens=600)).progress(state) == 0.5
    assert Budget.of(TrainingConfig(minutes=1)).progress(state) == 0.5
    assert Budget.of(TrainingConfig(minutes=0.1)).progress(state) == 1.0
    assert Budget.of(TrainingConfig(minutes=1)).total_steps(state) == 10


def test_replay_repeats_the_progress(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"step": 2, "progress": [0.0, 0.3]},
        {"step": 2, "eval_x": 1},
        {"step": 3, "progress": [0.7]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    budget = Budget.of(TrainingConfig(minutes=1), str(path))
    found = [budget.progress(TrainState(step=s, seconds=9.9)) for s in range(4)]
    assert found == [0.0, 0.3, 0.7, 1.0]
    with pytest.raises(ConfigError, match="does not exist"):
        Budget.of(TrainingConfig(minutes=1), str(tmp_path / "no"))
    path.write_text('{"step": 1}\n{"st')
    with pytest.raises(ConfigError, match="line 2 is not a row of metrics"):
        Budget.of(TrainingConfig(minutes=1), str(path))
    path.write_text('{"step": 1}\n')
    with pytest.raises(ConfigError, match="holds no progress"):
        Budget.of(TrainingConfig(minutes=1), str(path))


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("warmup", [{"warmup_steps": 10}, {"warmup_ratio": 0.1}])
def test_the_first_update_is_small_whatever_the_budget(
    overlap: bool, warmup: dict[str, float]
) -> None:
    # with tokens or minutes the number of steps is not known before the first
    config = ScheduleConfig(overlap=overlap, **warmup)  # type: ignore[arg-type]
    assert 0 <= lr_factor(config, step=0, progress=0.0, total_steps=0.0) <= 0.1 + 1e-9
    later = lr_factor(config, step=1, progress=0.002, total_steps=500.0)
    assert 0 < later <= 0.2
