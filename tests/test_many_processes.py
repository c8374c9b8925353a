"""Two processes learn what one does, with copies and with shares; whoever is killed goes on."""

import gc
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

import electra.pretrain as pretraining
from electra.cli import run
from electra.config import PretrainConfig
from electra.config.objective import OBJECTIVES
from electra.errors import ConfigError
from electra.pretrain import pretrain
from electra.training import loop
from electra.training.checkpoint import CheckpointStore, torn
from electra.training.loggers import read_metrics
from tests.shapes import tiny_config
from tests.test_pretrain import StopAt, assert_same_bits, rows_of
from tests.two_processes import in_two_processes

STEPS, KILLED_AT = 20, 13
SAME_SIZE = {"generator_size": 1.0, "embedding_size": None}


def staged(sharding: str = "none") -> PretrainConfig:
    """A warm start and what follows, two micro-batches in each of two processes, an average."""
    return tiny_config(
        "modern",
        model=SAME_SIZE,
        objective={"warm_start": 0.4, "encoder_mlm_weight": 1.0},
        optimizer={"learning_rate": 1e-3},
        training={
            "max_steps": STEPS,
            "save_steps": 5,
            "eval_steps": 10,
            "micro_batch_size": 2,
            "average_last": 0.3,
            "sharding": sharding,
        },
    )


def classic(sharding: str = "none") -> PretrainConfig:
    """No bias correction, an optimizer of the generator's own, activations computed twice."""
    return tiny_config(
        "classic",
        model={"weight_sharing": "gdes"},
        optimizer={"bias_correction": False, "generator_learning_rate": 2e-3},
        training={"max_steps": 8, "gradient_checkpointing": True, "sharding": sharding},
    )


def with_dropout(sharding: str) -> PretrainConfig:
    return tiny_config(
        "modern",
        model={"hidden_dropout_prob": 0.1},
        training={"max_steps": 8, "save_steps": 3, "sharding": sharding},
    )


def compiled(compile: bool) -> PretrainConfig:
    training = {"max_steps": 4, "micro_batch_size": 2, "compile": compile}
    return tiny_config("modern", training=training)


def killed(corpus: Path, run: Path, config: PretrainConfig, at: int) -> None:
    """Train until step `at` is half done."""
    usual = loop.clip_gradients
    loop.clip_gradients = StopAt(usual, at)
    try:
        pretrain(data=corpus, output=run, config=config)
    except MemoryError:
        pass
    finally:
        loop.clip_gradients = usual
    gc.collect()


def losses(run: Path) -> list[dict[str, float]]:
    rows = [row for row in rows_of(run) if "loss" in row]
    names = ("step", "tokens_seen", "grad_norm")
    return [{k: v for k, v in r.items() if k.endswith("loss") or k in names} for r in rows]


def assert_same_losses(one: Path, other: Path, steps: int = STEPS) -> None:
    ours, theirs = losses(one), losses(other)
    assert [row["step"] for row in ours] == list(range(1, steps + 1))
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-5), f"{one.name}, step {row['step']}"


def _rank(rank: int, home: Path) -> None:
    corpus = home / "corpus"
    for sharding in ("none", "full"):
        pretrain(data=corpus, output=home / f"two-{sharding}", config=staged(sharding))
        continued = home / f"one-two-{sharding}"
        pretrain(data=corpus, output=continued, config=staged(sharding), resume="auto")
        killed(corpus, home / f"two-one-{sharding}", staged(sharding), KILLED_AT)


def _rank_with_dropout(rank: int, home: Path) -> None:
    corpus = home / "corpus"
    for sharding in ("none", "full"):
        whole, parted = home / f"whole-{sharding}", home / f"parted-{sharding}"
        pretrain(data=corpus, output=whole, config=with_dropout(sharding))
        killed(corpus, parted, with_dropout(sharding), 5)
        pretrain(data=corpus, output=parted, config=with_dropout(sharding), resume="auto")
    pretrain(data=corpus, output=home / "classic-full", config=classic("full"))
    usual = pretraining.compile_passes
    pretraining.compile_passes = partial(usual, backend="aot_eager")
    pretrain(data=corpus, output=home / "compiled", config=compiled(True))


@pytest.mark.slow
def test_two_processes_go_on_to_the_bit(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    in_two_processes(_rank_with_dropout, tmp_path)
    for sharding in ("none", "full"):
        whole, parted = tmp_path / f"whole-{sharding}", tmp_path / f"parted-{sharding}"
        assert_same_bits(whole, parted)
        assert rows_of(whole) == rows_of(parted)
    pretrain(data=corpus, output=tmp_path / "classic", config=classic())
    assert_same_losses(tmp_path / "classic-full", tmp_path / "classic", steps=8)
    pretrain(data=corpus, output=tmp_path / "plain", config=compiled(False))
    assert_same_losses(tmp_path / "compiled", tmp_path / "plain", steps=4)


def test_two_processes_learn_what_one_does(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    pretrain(data=corpus, output=tmp_path / "one", config=staged())
    for sharding in ("none", "full"):
        killed(corpus, tmp_path / f"one-two-{sharding}", staged(), KILLED_AT)
    in_two_processes(_rank, tmp_path)

    one = tmp_path / "one"
    for sharding in ("none", "full"):
        two = tmp_path / f"two-{sharding}"
        assert_same_losses(two, one)
        assert_same_losses(tmp_path / f"one-two-{sharding}", one)
        # the last of two processes that were killed goes on alone
        alone = tmp_path / f"two-one-{sharding}"
        assert max(CheckpointStore(alone / "checkpoints").steps()) == KILLED_AT // 5 * 5
        pretrain(data=corpus, output=alone, config=staged(sharding), resume="auto")
        assert_same_losses(alone, one)
        evaluated = [read_metrics(run / "metrics.jsonl")[-1] for run in (two, one)]
        for name, value in evaluated[1].items():
            if name.startswith("eval_") and name.endswith("loss"):
                assert evaluated[0][name] == pytest.approx(value, rel=1e-4), name
        for part in ("encoder", "generator", "discriminator"):
            found, expected = (load_file(run / part / "model.safetensors") for run in (two, one))
            assert found.keys() == expected.keys()
            for name, tensor in expected.items():
                assert torch.allclose(found[name], tensor, atol=1e-4), name
    assert AutoModel.from_pretrained(tmp_path / "two-full" / "encoder").config.hidden_size == 32

    store = CheckpointStore(tmp_path / "two-full" / "checkpoints")
    last = store.path(store.steps()[-1])
    shards = sorted(last.glob("shard-*"))
    assert len(shards) == 2
    names = set(json.loads((last / "checksums.json").read_text("utf-8")))
    assert names == {p.name for p in last.iterdir()} - {"checksums.json"}
    assert all(p.suffix in (".safetensors", ".json") for p in last.iterdir())  # no pickle
    data = bytearray(shards[1].read_bytes())
    data[-1] ^= 1
    shards[1].write_bytes(data)
    assert torn(last) == f"{shards[1]} does not match its checksum"
    shards[1].unlink()
    assert torn(last) == f"{shards[1]} is missing"


ALONE = {"self_augmented", "fast_electra"}
"""Objectives that run in one process, or want a generator that was trained before."""


def each(sharding: str) -> dict[str, PretrainConfig]:
    """Every other objective, in two stages where it has them."""
    sections: dict[str, dict[str, Any]] = {
        name: {"objective": {"name": name}} for name in OBJECTIVES if name not in ALONE
    }
    sections["two_stage"]["model"] = SAME_SIZE | {"weight_sharing": "none", "generator_layers": 2}
    training = {"max_steps": 3, "sharding": sharding, "micro_batch_size": 2}
    return {
        name: tiny_config("modern", training=training, **found) for name, found in sections.items()
    }


def _rank_of_each(rank: int, home: Path) -> None:
    for sharding in ("none", "full"):
        for name, config in each(sharding).items():
            pretrain(data=home / "corpus", output=home / f"{name}-{sharding}", config=config)


@pytest.mark.slow
def test_two_processes_learn_every_objective(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    in_two_processes(_rank_of_each, tmp_path)
    for name, config in each("none").items():
        pretrain(data=corpus, output=tmp_path / name, config=config)
        for sharding in ("none", "full"):
            assert_same_losses(tmp_path / f"{name}-{sharding}", tmp_path / name, steps=3)


def arguments(corpus: Path, run: Path, *extra: str) -> list[str]:
    return [
        *("pretrain", "--data", str(corpus), "--output", str(run)),
        *("--model.hidden-size", "32", "--model.num-hidden-layers", "2"),
        *("--model.intermediate-size", "48", "--model.generator-layers", "1"),
        *("--data.max-length", "16", "--training.global-batch-size", "8"),
        *("--training.save-steps", "5", "--logging.log-steps", "1", "--training.device", "cpu"),
        *("--training.dtype", "float32"),  # half precision is not the same for other micro-batches
        *extra,
    ]


def torchrun(what: str, *given: str) -> "subprocess.CompletedProcess[str]":
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["--max-restarts", "1", str(Path(__file__).parent / "worker.py"), what]
    return subprocess.run(
        [sys.executable, *launch, *given],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"},
    )


def test_torchrun_goes_on_after_a_process_was_killed(corpus: Path, tmp_path: Path) -> None:
    steps = ("--training.max-steps", str(STEPS))
    done = torchrun("kill", *arguments(corpus, tmp_path / "run", *steps))
    assert done.returncode == 0, done.stderr
    assert "from step 10" in " ".join(done.stderr.split())
    assert run(arguments(corpus, tmp_path / "alone", *steps)) == 0
    assert_same_losses(tmp_path / "run", tmp_path / "alone")


@pytest.mark.slow
def test_torchrun_ended_by_sigterm_leaves_a_checkpoint(corpus: Path, tmp_path: Path) -> None:
    ended = torchrun("term", *arguments(corpus, tmp_path / "run", "--training.max-steps", "100000"))
    assert ended.returncode != 0
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    last = store.steps()[-1]
    assert f"stopped at step {last}" in " ".join(ended.stderr.split())
    assert last >= 11
    assert torn(store.path(last)) is None


def test_what_cannot_be_divided() -> None:
    with pytest.raises(ConfigError, match=r"sharding full cuts the matrices"):
        tiny_config("modern", training={"sharding": "full"}, optimizer={"name": "muon"})
    with pytest.raises(ConfigError, match=r"micro-batch-size is auto; allowed: a number"):
        tiny_config("modern", training={"sharding": "full", "micro_batch_size": "auto"})
