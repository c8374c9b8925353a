"""Muon, ramps, mask schedule and averaging in whole runs: exact to the bit when interrupted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from electra.config import PretrainConfig
from electra.errors import ConfigError, DataError
from electra.pretrain import _check_world, pretrain
from electra.training import loop
from electra.training.checkpoint import CheckpointStore
from electra.training.distributed import World
from electra.training.loggers import read_metrics
from tests.shapes import tiny_config
from tests.test_pretrain import StopAt, assert_same_bits, rows_of, weights

EVERYTHING: dict[str, Any] = {
    "model": {"hidden_dropout_prob": 0.1},
    "objective": {"mask_prob": 0.3, "mask_prob_end": 0.15},
    "optimizer": {"name": "muon", "generator_learning_rate": 2e-3},
    "schedule": {
        "decay": "trapezoid",
        "decay_form": "one_minus_sqrt",
        "warmup_ratio": 0.1,
        "batch_ramp": [[0, 0.25], [0.3, 0.5], [0.6, 1]],
        "length_ramp": [[0, 8], [0.5, 16]],
    },
    "logging": {"log_steps": 1},
}


def everything(family: str, **training: Any) -> PretrainConfig:
    training = {"average_last": 0.5, "save_steps": 4, "eval_steps": 2, **training}
    return tiny_config(family, **EVERYTHING, training=training)


@pytest.mark.parametrize(
    ("family", "budget", "stops"),
    [("modern", {"max_steps": 12}, (6, 8)), ("classic", {"max_tokens": 400}, (6, 9))],
)
def test_resumed_equals_undisturbed(
    corpus: Path,
    tmp_path: Path,
    family: str,
    budget: dict[str, int],
    stops: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = everything(family, **budget)
    pretrain(data=corpus, output=tmp_path / "whole", config=config)
    for calls, resume in zip(stops, ("never", "auto"), strict=True):
        broken = StopAt(loop.clip_gradients, calls)
        monkeypatch.setattr(loop, "clip_gradients", broken)
        with pytest.raises(MemoryError):
            pretrain(data=corpus, output=tmp_path / "run", config=config, resume=resume)
        monkeypatch.undo()
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    last = store.path(store.steps()[-1])
    # in the middle of the average, and of the stream of the full length
    assert load_file(last / "model.safetensors")["tail_average.count"] > 0
    seen = json.loads((last / "state.json").read_text("utf-8"))["state"]
    assert 0 < seen["seen_shorter"]["8"] < seen["examples_seen"]
    pretrain(data=corpus, output=tmp_path / "run", config=config, resume="auto")
    assert_same_bits(tmp_path / "whole", tmp_path / "run")
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "run")


def test_what_is_saved_and_evaluated_is_the_mean_of_the_tail(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = everything("modern", max_steps=8, save_steps=1, save_total_limit=8)
    report = pretrain(data=corpus, output=run, config=config)
    name = "model.discriminator.model.layers.0.mlp.Wi.weight"
    steps = [
        load_file(CheckpointStore(run / "checkpoints").path(step) / "model.safetensors")[name]
        for step in (5, 6, 7, 8)
    ]
    saved = weights(run)["encoder/layers.0.mlp.Wi.weight"]
    assert torch.allclose(saved, torch.stack(steps).mean(0), atol=1e-7)
    assert not torch.allclose(saved, steps[-1], atol=1e-5)
    # and the run is the same but for its last evaluation
    plain = tmp_path / "plain"
    other = pretrain(
        data=corpus, output=plain, config=everything("modern", max_steps=8, average_last=0.0)
    )
    averaged, last = rows_of(run), rows_of(plain)
    assert averaged[:-1] == last[:-1]
    assert averaged[-1] != last[-1]
    assert report["metrics"] != other["metrics"]


def test_tokens_and_examples_are_those_of_the_ramps(corpus: Path, tmp_path: Path) -> None:
    pretrain(data=corpus, output=tmp_path / "run", config=everything("modern", max_steps=10))
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "lr" in row]
    seen = [row["tokens_seen"] for row in rows]
    each = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert each == [2 * 8] * 3 + [4 * 8] * 2 + [4 * 16] + [8 * 16] * 4
    rates = [row["lr"] / 3e-3 for row in rows]
    assert rates[1:8] == pytest.approx([1.0] * 7)
    assert rates[9] == pytest.approx(1 - 0.5**0.5)


@pytest.mark.parametrize("kind", ["documents", "two_segments"])
def test_lengths_of_every_kind_of_examples(corpus: Path, tmp_path: Path, kind: str) -> None:
    config = tiny_config(
        "modern",
        schedule={"length_ramp": [[0, 8], [0.5, 16]]},
        data={"examples": kind},
        training={"max_steps": 4},
    )
    report = pretrain(data=corpus, output=tmp_path / "run", config=config)
    assert report["tokens"] <= 8 * (2 * 8 + 2 * 16)


def test_batches_are_shared_by_the_processes() -> None:
    config = tiny_config("modern", schedule={"batch_ramp": [[0, 0.25], [0.5, 1]]})
    _check_world(config, World(size=2))
    with pytest.raises(ConfigError) as refused:
        _check_world(config, World(size=4))
    assert str(refused.value) == (
        "--training.global-batch-size 2 after --schedule.batch-ramp cannot be shared by 4 "
        "processes; allowed: multiples of 4"
    )


def test_a_run_goes_on_with_the_ramp_it_was_begun_with(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(data=corpus, output=run, config=everything("modern", max_steps=4))
    (run / "report.json").unlink()
    other = tiny_config(
        "modern",
        **{**EVERYTHING, "schedule": {**EVERYTHING["schedule"], "batch_ramp": [[0, 1]]}},
        training={"average_last": 0.5, "save_steps": 4, "eval_steps": 2, "max_steps": 4},
    )
    with pytest.raises((ConfigError, DataError), match=r"schedule.batch_ramp \(\(0.0, 0.25\)"):
        pretrain(data=corpus, output=run, config=other, resume="auto")
