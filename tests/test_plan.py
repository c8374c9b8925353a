"""`plan` and the budgets of `pretrain`: what is chosen, and that it is what then trains."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from electra import plan as plans
from electra.cli import run
from electra.config import PretrainConfig
from electra.corpus.folder import Corpus
from electra.errors import ConfigError
from electra.plan import SIZES, batch_rows, one_line, plan, tokens_per_second
from electra.recipe import read_recipe, resolve

SMALL = (
    "--model.hidden-size 16 --model.num-attention-heads 2 --model.intermediate-size 16 "
    "--training.device cpu"
)


def config_of(result: dict[str, Any]) -> PretrainConfig:
    return resolve(PretrainConfig, [("plan", result["tables"])])


def test_networks_grow_with_the_tokens(corpus: Path) -> None:
    chosen = []
    for size in SIZES:
        for tokens in (int(size.tokens), int(size.tokens) - 1):
            if tokens > 0:
                config = config_of(plan(data=corpus, tokens=tokens))
                assert config.training.max_tokens == tokens
                assert config.training.minutes is None
                chosen.append(config.model.hidden_size)
    assert chosen == [128, 64, 192, 128, 256, 192, 768, 256]


def test_a_plan_is_its_recipe_but_for_size_batch_and_budget(corpus: Path) -> None:
    planned = config_of(plan(data=corpus, tokens=int(SIZES[1].tokens)))
    tiny = resolve(PretrainConfig, [("recipe tiny", read_recipe("tiny"))])
    assert planned.model == tiny.model
    assert planned.objective == tiny.objective
    assert planned.optimizer == tiny.optimizer


def test_batches_grow_slower_than_the_tokens() -> None:
    rows = [batch_rows(10.0**power, 64) for power in range(5, 12)]
    assert rows == sorted(rows)
    assert rows[0] < rows[-1]
    assert all(n & (n - 1) == 0 for n in rows), "powers of two"
    assert [batch_rows(tokens, 64) for tokens in (1e6, 5e6, 20e6)] == [32, 64, 128], "as measured"
    assert batch_rows(5e6, 128) == 32
    assert [batch_rows(tokens, 64) for tokens in (60e6, 80e6)] == [128, 256], "183 and 210"
    steps = [10.0**power / batch_rows(10.0**power, 64) for power in range(5, 12)]
    assert steps == sorted(steps), "a longer run has more steps, too"


def test_a_plan_trains_another_objective_when_told(corpus: Path, tmp_path: Path) -> None:
    about = f"--data {corpus} --output {tmp_path / 'r'} --tokens 2000 {SMALL}"
    assert run(["pretrain", *about.split(), "--objective.name", "masked_lm"]) == 0
    saved = (tmp_path / "r" / "config.toml").read_text(encoding="utf-8")
    assert 'name = "masked_lm"' in saved
    assert "warm_start = 0.0" in saved


def test_the_batch_is_what_was_fitted() -> None:
    file = Path(__file__).parent.parent / "benchmarks" / "results" / "budgets.json"
    fit = json.loads(file.read_text(encoding="utf-8"))["summary"]
    assert round(fit["batch_power"], 2) == plans.BATCH_POWER
    assert fit["batch_tokens_at_5e+06"] == pytest.approx(plans.BATCH_TOKENS, rel=0.01)


def test_the_shortest_budget_has_a_plan(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "tokens_per_second", lambda *_: 1.0)
    assert config_of(plan(data=corpus, minutes=1e-6)).model.hidden_size == 64


def test_minutes_are_tokens_of_the_candidate(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []

    def speed(config: PretrainConfig, corpus: Corpus, device: str) -> float:
        timed.append(config.model.hidden_size)
        return {64: 200_000.0, 128: 100_000.0, 192: 10_000.0}[config.model.hidden_size]

    monkeypatch.setattr(plans, "tokens_per_second", speed)
    result = plan(data=corpus, minutes=2)
    assert timed == [64, 128, 192], "nothing is timed beyond the first that is too large"
    assert [c["tokens"] for c in result["candidates"]] == [24_000_000, 12_000_000, 1_200_000]
    config = config_of(result)
    assert config.model.hidden_size == 128
    assert config.training.minutes == 2
    assert config.training.max_tokens is None
    assert config.training.global_batch_size == batch_rows(12e6, 64)
    assert "2 minutes here are worth a network of 4 layers of 128" in one_line(result)


def test_a_network_without_room_is_not_taken(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def speed(config: PretrainConfig, corpus: Corpus, device: str) -> float:
        if config.model.hidden_size == 128:
            raise torch.OutOfMemoryError
        return 1e9

    monkeypatch.setattr(plans, "tokens_per_second", speed)
    assert config_of(plan(data=corpus, minutes=60)).model.hidden_size == 64


def test_speed_is_of_the_fastest_step_but_the_first(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {
        "model": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16},
        "data": {"max_length": 16},
    }
    config = resolve(PretrainConfig, [("recipe tiny", read_recipe("tiny")), ("small", tables)])
    clock = iter([0.0, 0.5, 10.0, 14.0, 20.0, 22.0, 30.0, 33.0])
    monkeypatch.setattr(plans, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert tokens_per_second(config, Corpus(corpus), "cpu") == plans.TIMED_TOKENS / 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one budget: --minutes or --tokens"),
        ({"minutes": 1, "tokens": 1}, "give one budget: --minutes or --tokens"),
        ({"minutes": 0}, "--minutes is 0; allowed: above 0"),
        ({"minutes": float("inf")}, "--minutes is inf; allowed: above 0"),
        ({"tokens": -5}, "--tokens is -5; allowed: above 0"),
        ({"tokens": 5, "device": "tpu"}, "the device asked for is tpu; this machine has: auto"),
    ],
)
def test_budgets_that_are_none(corpus: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(data=corpus, **given)


def test_processes_of_torchrun_would_time_differently(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="give --tokens, or --recipe with"):
        plan(data=corpus, minutes=1)
    plan(data=corpus, tokens=1000)


def test_the_table_and_the_json(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(data=corpus, tokens=10_000, console=Console(width=120))
    shown = capsys.readouterr().out
    assert "4 layers of 64" in shown
    assert "10,000 tokens are worth a network of 4 layers of 64" in shown
    assert run(["plan", "--data", str(corpus), "--tokens", "10000", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["max_tokens"] == 10_000
    assert config_of(result).model.hidden_size == 64


def test_pretraining_takes_the_plan(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = f"pretrain --data {corpus} --output {tmp_path}/run --tokens 3000 {SMALL}"
    assert run(command.split()) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "3,000 tokens are worth a network of 4 layers of 64 and batches of 8" in shown
    config = resolve(PretrainConfig, [("", read_recipe(f"{tmp_path}/run/config.toml"))])
    assert config.training.max_tokens == 3000
    assert config.training.global_batch_size == 8
    assert config.model.hidden_size == 16, "flags win"

    # resumed with more tokens a run keeps what was planned when it began
    monkeypatch.setattr(plans, "plan", lambda **_: pytest.fail("planned anew"))
    (tmp_path / "run" / "report.json").unlink()
    settled = command.replace("--tokens 3000", "") + " --resume auto"
    assert run(settled.split()) == 0, "the run's own recipe is what it goes on with"
    (tmp_path / "run" / "report.json").unlink()
    longer = command.replace("3000", "6000") + " --resume auto"
    assert run(longer.split()) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["tokens"] >= 6000
    # and a folder that would be refused is refused before anything is timed
    assert run(command.split()) == 2
    assert "already holds a run" in " ".join(capsys.readouterr().err.split())
    assert run(f"pretrain --data {tmp_path} --output {tmp_path}/other --tokens 9".split()) == 2
    assert not (tmp_path / "other").exists(), "no corpus, no output"


def test_with_a_network_of_ones_own_a_budget_is_a_budget(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(plans, "plan", lambda **_: pytest.fail("planned"))
    own = f"--output {tmp_path}/own --tokens 9 --model.discriminator {tmp_path}"
    assert run(f"pretrain --data {corpus} {own}".split()) == 2
    assert "config.json" in capsys.readouterr().err
    command = (
        f"pretrain --data {corpus} --output {tmp_path}/run --recipe tiny --tokens 9000 {SMALL}"
    )
    assert run(command.split()) == 0
    config = resolve(PretrainConfig, [("", read_recipe(f"{tmp_path}/run/config.toml"))])
    assert config.training.max_tokens == 9000
    assert config.training.minutes is None
    assert config.training.global_batch_size == 64


@pytest.mark.parametrize(
    ("flags", "noted"),
    [
        ("--optimizer.name adamw", True),
        ("--optimizer.name adamw --optimizer.learning-rate 2e-3", False),
        ("--optimizer.name muon", False),
        ("", False),
    ],
)
def test_a_rate_of_another_optimizer_is_noted(
    flags: str, noted: bool, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"pretrain --data {corpus} --output {tmp_path}/run --recipe tiny --tokens 9000 "
    assert run((command + f"{SMALL} {flags}").split()) == 0
    shown = " ".join(capsys.readouterr().err.split())
    note = "the recipe's learning rate 0.004 is for muon, and adamw may not learn at it"
    assert (note in shown) == noted
