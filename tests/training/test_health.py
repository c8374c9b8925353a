"""What is said of curves: made-up rows, the recorded ones, and each thing once."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from electra.pretrain import pretrain
from electra.training.health import (
    Watch,
    collapsed_discriminator,
    loss_spike,
    offer_best,
    too_strong_generator,
)
from electra.training.loggers import read_metrics
from electra.training.schedule import TrainState
from tests.golden.remake import FILE
from tests.shapes import tiny_config

Rows = list[dict[str, Any]]


def falling(count: int, seed: int = 0, **more: float) -> Rows:
    """Rows of a run as it should be: losses fall, with noise."""
    noise = random.Random(seed)
    return [
        {
            "step": 20 * i,
            "lr": 1e-3,
            "loss": 30.0,
            "generator_loss": 4 + 5 * math.exp(-i / 8) + noise.gauss(0, 0.1),
            "discriminator_loss": 0.3 + 0.4 * math.exp(-i / 8) + noise.gauss(0, 0.02),
            **more,
        }
        for i in range(1, count + 1)
    ]


def evaluation(step: int, *, auc: float, recall: float, accuracy: float = 0.3) -> dict[str, Any]:
    return {
        "step": step,
        "eval_discriminator_auc": auc,
        "eval_discriminator_recall": recall,
        "eval_generator_accuracy": accuracy,
        "eval_majority": 0.9,
    }


def said(rows: Rows) -> list[str]:
    watch = Watch()
    return [line for row in rows for line in watch.see(row)]


def test_a_run_as_it_should_be_gives_no_cause() -> None:
    for seed in range(20):
        rows: Rows = []
        for i, row in enumerate(falling(200, seed)):
            rows.append(row)
            if i % 20 == 19:
                auc = min(0.8, 0.5 + 0.002 * i)
                rows.append(evaluation(row["step"], auc=auc, recall=max(0.0, auc - 0.6)))
        assert said(rows) == []


@pytest.mark.parametrize("name", ["classic", "modern"])
def test_the_golden_curves_give_no_cause(name: str) -> None:
    curves = json.loads(FILE.read_text(encoding="utf-8"))[name]
    rows = [
        {"step": i + 1, **{quantity: values[i] for quantity, values in curves.items()}}
        for i in range(20)
    ]
    assert said(rows) == []


def test_a_spike_is_said_once_with_its_numbers() -> None:
    rows = falling(40)
    rows[30]["generator_loss"] = 8.0
    rows[33]["generator_loss"] = 9.0
    lines = said(rows)
    assert len(lines) == 1
    assert lines[0].startswith(
        "step 620: the generator loss jumped to 8.000, the median of the 20 "
    )
    assert "--optimizer.learning-rate" in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize("jump", [0.4, 1.45, 0.0])
def test_noise_is_no_spike(jump: float) -> None:
    # 1.45 is above the median, but not by half of it
    rows = falling(40)
    rows[30]["generator_loss"] = 4.2 + jump
    assert loss_spike(rows[:31]) is None


def test_a_spike_is_judged_by_the_noise_before_it() -> None:
    def rows(noise: float) -> Rows:
        made = [
            {"step": i, "x_loss": 1.0 + noise * (-1) ** i * (1 if i % 3 else 0.5)}
            for i in range(20)
        ]
        return [*made, {"step": 20, "x_loss": 1.8}]

    assert loss_spike(rows(0.01)) is not None
    assert loss_spike(rows(0.3)) is None  # 8 deviations of 1.48 * 0.3 are above .8


def test_too_few_rows_and_another_stage_are_not_compared() -> None:
    low = [{"step": i, "encoder_mlm_loss": 1.0} for i in range(9)]
    high = {"step": 9, "encoder_mlm_loss": 9.0}
    assert loss_spike([*low, high]) is None
    assert loss_spike([*low, low[0], high]) is not None
    other_stage = {**high, "discriminator_loss": 0.7}
    assert loss_spike([*low, low[0], other_stage]) is None
    # evaluations and rows without a loss (all their steps were skipped) stand between
    between: Rows = [{"step": 9, "eval_x": 1.0}, {"step": 9, "lr": 1.0}]
    assert loss_spike([*low[:5], *between, *low[:5], high]) is not None


def test_rewards_have_no_scale() -> None:
    rows = [{"step": i, "reinforce_loss": 0.01 * (-1) ** i} for i in range(20)]
    assert loss_spike([*rows, {"step": 20, "reinforce_loss": 3.0}]) is None


def test_a_discriminator_that_falls_to_calling_all_original() -> None:
    rows = [
        *falling(20),
        evaluation(200, auc=0.71, recall=0.2),
        evaluation(400, auc=0.51, recall=0.0),
        evaluation(600, auc=0.5, recall=0.0),
    ]
    lines = said(rows)
    assert len(lines) == 1
    assert lines[0].startswith(
        "step 400: the discriminator calls every token original (recall 0.000, AUC 0.510, it was "
        "0.710 at step 200): it has collapsed"
    )
    for option in ("--model.generator-layers", "--optimizer.learning-rate", "warmup"):
        assert option in lines[0]


def test_a_discriminator_that_never_begins() -> None:
    trained = falling(60)  # 1,200 steps
    stuck = [evaluation(step, auc=0.51, recall=0.0) for step in (400, 800, 1200)]
    rows = sorted([*trained, *stuck], key=lambda row: int(row["step"]))
    lines = said(rows)
    assert len(lines) == 1
    assert "AUC 0.510, it has not been above 0.510)" in lines[0]
    # too early, or not for long enough
    assert said(rows[:-30]) == []
    assert collapsed_discriminator([*trained, *stuck[1:]]) is None
    # a warm start does not count: its own steps are fewer than a thousand
    for row in trained[:30]:
        row.pop("discriminator_loss")
    assert said(sorted([*trained, *stuck], key=lambda row: int(row["step"]))) == []


@pytest.mark.parametrize(
    ("auc", "recall"), [(0.6, 0.0), (0.5, 0.3), (0.5, 1.0), (float("nan"), 0.0)]
)
def test_what_is_no_collapse(auc: float, recall: float) -> None:
    # ranks well but is sure of nothing; calls some replaced; calls all replaced (ELECTRA 15 %)
    first = evaluation(20, auc=0.7, recall=0.3)
    assert collapsed_discriminator([first, evaluation(40, auc=auc, recall=recall)]) is None


def test_energies_are_no_judgement() -> None:
    # what a run of Electric gave: its noise cannot be told from text, and need not be
    rows = falling(60)
    for step, auc in ((400, 0.502), (800, 0.507), (1200, 0.502)):
        found = evaluation(step, auc=auc, recall=0.0)
        rows.append({**found, "eval_pseudo_log_likelihood": -0.278})
    assert said(sorted(rows, key=lambda row: int(row["step"]))) == []


OBJECTIVES: dict[str, dict[str, Any]] = {
    "replaced_token_detection": {},
    "electric": {},
    "adversarial": {},
    "two_stage": {"start_from_generator": False},
    "fast_electra": {"temperature": 2.0, "final_temperature": 1.0},
    "self_augmented": {},
    "electra_15_percent": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_runs_that_learn_give_no_cause(name: str, corpus: Path, tmp_path: Path) -> None:
    training = {"max_steps": 2200 if name == "two_stage" else 1200, "eval_steps": 100}
    objective, sharing = {"name": name, **OBJECTIVES[name]}, "embeddings"
    if name == "two_stage":
        sharing = "none"
    if name == "fast_electra":
        config = tiny_config(
            "modern", objective={"name": "masked_lm"}, training=training, logging={"log_steps": 50}
        )
        pretrain(data=corpus, output=tmp_path / "first", config=config)
        objective["generator_folder"] = str(tmp_path / "first" / "masked_lm")
    config = tiny_config(
        "modern",
        model={"weight_sharing": sharing},
        objective=objective,
        training=training,
        logging={"log_steps": 20},
    )
    pretrain(data=corpus, output=tmp_path / "run", config=config)
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["warning"] for row in rows if "warning" in row] == []


def test_a_generator_that_leaves_little_to_find() -> None:
    assert too_strong_generator([evaluation(20, auc=0.7, recall=0.3, accuracy=0.85)]) is None
    rows = [
        {**evaluation(20, auc=0.7, recall=0.3, accuracy=0.93), "eval_majority": 0.99},
        evaluation(40, auc=0.7, recall=0.3, accuracy=0.95),
    ]
    lines = said(rows)
    assert len(lines) == 1
    assert lines[0].startswith(
        "step 20: the generator finds 93% of the masked tokens, 1.0% of the tokens are replaced: "
        "it is too strong"
    )
    assert "--model.generator-layers" in lines[0]


def test_a_resumed_run_is_told_nothing_twice() -> None:
    rows = falling(40)
    rows[30]["generator_loss"] = 8.0
    rows[35]["generator_loss"] = 8.0
    warning = {"step": rows[30]["step"], "warning": "told"}
    watch = Watch([*rows[:31], warning])
    assert [line for row in rows[31:] for line in watch.see(row)] == []
    # and what was not yet seen is seen by the rows of before
    watch = Watch(rows[:30])
    assert len(watch.see(rows[30])) == 1


def test_the_best_is_that_of_the_same_losses() -> None:
    state, weights = TrainState(), {"generator_loss": 1.0, "discriminator_loss": 50.0, "off": 0.0}
    for step, generator, discriminator in ((1, 5.0, 0.3), (2, 5.5, 0.25), (3, 4.0, 0.3)):
        state.step = step
        found = {"generator_loss": generator, "discriminator_loss": discriminator, "off": 9.0}
        offer_best(state, weights, found)
    assert (state.best_step, state.best_loss) == (2, 5.5 + 50 * 0.25)
    state.step = 4
    offer_best(state, weights, {"generator_loss": float("nan"), "discriminator_loss": 0.1})
    assert state.best_step == 2
    # a stage with other losses begins anew, though its sum is higher
    offer_best(state, {"all_tokens_loss": 1.0}, {"all_tokens_loss": 99.0})
    assert (state.best_step, state.best_loss) == (4, 99.0)
    offer_best(state, {"all_tokens_loss": 1.0}, {"accuracy": 1.0})
    assert state.best_step == 4
