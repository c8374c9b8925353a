"""`pretrain` from corpus folder to run folder, interrupted and not."""

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from electra.artifacts.samples import SAMPLES
from electra.cli import run
from electra.config import PretrainConfig
from electra.corpus.batches import CorpusSource
from electra.corpus.folder import Corpus
from electra.corpus.streams import examples_of
from electra.corpus.tokenizer import SpecialIds, load_tokenizer, num_ids
from electra.errors import ConfigError, DataError, OutputExistsError
from electra.objectives.objective import build_objective
from electra.pretrain import pretrain
from electra.recipe import read_recipe, recipe_names, resolve
from electra.training.checkpoint import CheckpointStore
from electra.training.loggers import read_metrics
from electra.training.noise import Noise
from electra.training.optimizer import build_optimizer
from tests.shapes import tiny_config
from tests.tiny import make_encoder

PARTS = ("encoder", "generator", "discriminator")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.name}/{name}": tensor
        for file in sorted(run.glob("*/model.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same_bits(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def rows_of(run: Path) -> list[dict[str, Any]]:
    timed = ("seconds", "tokens_per_second", "utilisation")
    rows = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


@pytest.mark.parametrize("family", ["modern", "classic"])
def test_the_run_folder(corpus: Path, tmp_path: Path, family: str) -> None:
    report = pretrain(data=corpus, output=tmp_path / "run", config=tiny_config(family))
    run = tmp_path / "run"
    assert {p.name for p in run.iterdir()} == {
        *PARTS,
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "report.json",
        "report.html",
        "samples.json",
    }
    assert report == json.loads((run / "report.json").read_text("utf-8"))
    assert report["steps"] == 8
    assert report["tokens"] <= 8 * 8 * 16
    assert 0 < report["metrics"]["discriminator_auc"] < 1
    rows = read_metrics(run / "metrics.jsonl")
    for name in ("step", "tokens_seen", "seconds", "lr", "loss", "generator_loss"):
        assert name in rows[0]
    for name in ("discriminator_loss", "grad_norm", "tokens_per_second"):
        assert name in rows[0]
    assert "eval_generator_loss" in rows[-1]
    for part in PARTS:
        tokenizer = AutoTokenizer.from_pretrained(run / part)
        assert tokenizer.model_max_length == 32
        assert (run / part / "vocab.txt").is_file()
        assert not list((run / part).glob("*.py"))
        card = (run / part / "README.md").read_text("utf-8")
        assert "Terms of the text: made for the tests." in card
        assert card.startswith("---\nlibrary_name: transformers\n")
    encoder = AutoModel.from_pretrained(run / "encoder")
    output = encoder(
        **AutoTokenizer.from_pretrained(run / "encoder")("the cat", return_tensors="pt")
    )
    assert output.last_hidden_state.shape[-1] == 32


def test_masked_lm_saves_its_own_parts(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config("modern", objective={"name": "masked_lm"})
    report = pretrain(data=corpus, output=tmp_path / "run", config=config)
    assert "encoder_mlm_loss" in report["metrics"]
    assert (tmp_path / "run" / "masked_lm" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "generator").exists()


def test_documents_of_packed_rows_are_kept_apart(corpus: Path, tmp_path: Path) -> None:
    runs = {}
    for apart in (False, True):
        config = tiny_config("classic", data={"max_length": 32, "document_attention": apart})
        runs[apart] = pretrain(data=corpus, output=tmp_path / str(apart), config=config)
    assert runs[True]["metrics"].keys() == runs[False]["metrics"].keys()
    assert runs[True]["metrics"]["generator_loss"] != runs[False]["metrics"]["generator_loss"]
    assert runs[True]["tokens"] == runs[False]["tokens"]


def test_it_learns(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(
        "modern",
        model={"initialization": "scaled", "hidden_size": 64},
        objective={"warm_start": 0.4, "mask_token_prob": 1.0},
        optimizer={"learning_rate": 3e-3},
        training={"max_steps": 400, "global_batch_size": 16},
        logging={"log_steps": 20},
    )
    report = pretrain(data=corpus, output=tmp_path / "run", config=config)
    first = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    assert report["metrics"]["generator_loss"] < 0.75 * first["encoder_mlm_loss"]
    assert report["metrics"]["discriminator_auc"] > 0.65


class StopAt:
    """Kills training by an exception in the n-th call of a function."""

    def __init__(self, function: Any, calls: int) -> None:
        self.function, self.calls = function, calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls -= 1
        if self.calls == 0:
            raise MemoryError("the machine gave up")
        return self.function(*args, **kwargs)


@pytest.mark.parametrize("family", ["modern", "classic"])
@pytest.mark.parametrize("budget", [{"max_steps": 12}, {"max_tokens": 1400}])
def test_resumed_equals_undisturbed(
    corpus: Path,
    tmp_path: Path,
    family: str,
    budget: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(
        family,
        model={"hidden_dropout_prob": 0.1, "generator_size": 1.0, "embedding_size": None},
        objective={"warm_start": 0.4, "encoder_mlm_weight": 1.0},
        training={**budget, "save_steps": 4, "eval_steps": 2},
        logging={"log_steps": 3},
        data={"examples": "two_segments"},
    )
    pretrain(data=corpus, output=tmp_path / "whole", config=config)
    from electra.training import loop

    broken = StopAt(loop.clip_gradients, 8)
    monkeypatch.setattr(loop, "clip_gradients", broken)
    with pytest.raises(MemoryError):
        pretrain(data=corpus, output=tmp_path / "run", config=config)
    monkeypatch.undo()
    pretrain(data=corpus, output=tmp_path / "run", config=config, resume="auto")
    assert_same_bits(tmp_path / "whole", tmp_path / "run")
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "run")
    seen = [(tmp_path / name / "samples.json").read_bytes() for name in ("whole", "run")]
    assert seen[0] == seen[1]


def command(
    corpus: Path, run: Path, *extra: str, budget: str = "--training.max-steps 300"
) -> list[str]:
    return [
        *(
            sys.executable,
            "-c",
            "import torch; torch.set_num_threads(1); import electra.cli as c; c.main()",
        ),
        *("pretrain", "--data", str(corpus), "--output", str(run)),
        *("--model.hidden-size", "32", "--model.num-hidden-layers", "2"),
        *("--model.intermediate-size", "48", "--model.generator-layers", "1"),
        *("--data.max-length", "16", "--training.global-batch-size", "8"),
        *("--training.save-steps", "5", "--training.save-total-limit", "3"),
        *(*budget.split(), *extra),
    ]


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not list(path.glob("step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_writes_a_checkpoint_and_the_way_on(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(command(corpus, run), stderr=subprocess.PIPE, text=True)
    wait_for(run / "checkpoints", process)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in shown
    assert f"--output {run} --resume auto" in " ".join(shown.split())
    step = max(int(p.name[5:]) for p in (run / "checkpoints").iterdir())
    assert f"stopped at step {step}" in shown


def kill_at_some_moment(
    process: "subprocess.Popen[str]", folder: Path, chooser: random.Random
) -> bool:
    """SIGKILL; whether a checkpoint was being written then.

    At any time from the start of the process on, a little after a new checkpoint, or as soon as
    one is begun, a third each.
    """

    def saved() -> int:
        return max((int(path.name[5:]) for path in folder.glob("step-*")), default=0)

    def begun() -> set[int]:  # by their times: inodes are given out again
        found = set()
        for path in folder.glob(".partial-step-*"):
            with contextlib.suppress(FileNotFoundError):  # it is whole by now
                found.add(path.stat().st_ctime_ns)
        return found

    def wait_until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.0005)

    left = begun()  # by the one killed before
    moment = chooser.choice(["any", "after", "within"])
    if moment == "any":
        time.sleep(chooser.uniform(0, 6))
    else:
        wanted = saved() + 5 * chooser.randint(1, 8)
        wait_until(lambda: saved() >= wanted)
        if moment == "within":
            wait_until(lambda: begun() - left)
        time.sleep(chooser.uniform(0, 0.1 if moment == "after" else 0.004))
    assert process.poll() is None, process.communicate()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return bool(begun() - left)


def last_checkpoint(run: Path) -> dict[str, torch.Tensor]:
    """Weights, optimizer and random state at the end of a run."""
    folder = max((run / "checkpoints").glob("step-*"))
    files = sorted(folder.glob("*.safetensors"))
    assert [file.stem for file in files] == ["model", "optimizer", "random"]
    return {
        f"{folder.name}/{file.stem}/{name}": tensor
        for file in files
        for name, tensor in load_file(file).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["--training.max-steps 2000", "--training.max-tokens 250000"])
def test_killed_at_random_moments_ends_with_the_same_bits(
    corpus: Path, tmp_path: Path, budget: str
) -> None:
    more = ["--logging.log-steps", "7", "--model.hidden-dropout-prob", "0.1"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    subprocess.run(command(corpus, whole, *more, budget=budget), check=True, capture_output=True)
    again = command(corpus, run, *more, "--resume", "auto", budget=budget)
    chooser, torn = random.Random(budget), 0
    for _ in range(20):
        process = subprocess.Popen(again, stderr=subprocess.PIPE, text=True)
        torn += kill_at_some_moment(process, run / "checkpoints", chooser)
    assert torn >= 3  # else nothing was shown of kills in the middle of a checkpoint
    done = subprocess.run(again, check=True, capture_output=True, text=True)
    assert "continuing the run" in done.stderr
    assert "Traceback" not in done.stderr
    assert_same_bits(whole, run)
    expected, found = last_checkpoint(whole), last_checkpoint(run)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert rows_of(whole) == rows_of(run)
    assert (whole / SAMPLES).read_bytes() == (run / SAMPLES).read_bytes()
    assert not list((run / "checkpoints").glob(".partial-*"))


def test_what_is_refused(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config("modern")
    run = tmp_path / "run"
    first = pretrain(data=corpus, output=run, config=config)
    with pytest.raises(OutputExistsError, match="already holds a run: --resume auto continues it"):
        pretrain(data=corpus, output=run, config=config)
    # finished: said, not done again
    assert pretrain(data=corpus, output=run, config=config, resume="auto") == first
    nowhere = tiny_config("modern", model={"discriminator": str(tmp_path / "nowhere")})
    with pytest.raises(ConfigError, match="nowhere"):  # and nothing is moved for it
        pretrain(data=corpus, output=run, config=nowhere, overwrite=True)
    assert not (tmp_path / "run.old-1").exists()
    pretrain(data=corpus, output=run, config=config, overwrite=True)
    assert (tmp_path / "run.old-1" / "report.json").is_file()


def test_killed_between_the_last_checkpoint_and_the_report(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(
        "modern", objective={"warm_start": 0.5, "encoder_mlm_weight": 1.0}, logging={"log_steps": 4}
    )
    first = pretrain(data=corpus, output=tmp_path / "run", config=config)
    (tmp_path / "run" / "report.json").unlink()
    again = pretrain(data=corpus, output=tmp_path / "run", config=config, resume="auto")
    assert "discriminator_auc" in first["metrics"]
    assert again == first


@pytest.mark.parametrize("budget", [{"max_steps": 2}, {"max_tokens": 200}, {"minutes": 0.001}])
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_trains_at_a_small_width_with_every_budget(
    corpus: Path, tmp_path: Path, name: str, budget: dict[str, float]
) -> None:
    recipe = read_recipe(name)
    small = {
        "model": {
            "hidden_size": 64 if recipe["model"].get("generator_size", 1) != 1 else 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 32,
        },
        "data": {"max_length": 16},
        "training": {"global_batch_size": 4, "device": "cpu", "dtype": "float32", **budget},
        "logging": {"log_steps": 1},
    }
    config = resolve(PretrainConfig, [(name, recipe), ("small", small)])
    report = pretrain(data=corpus, output=tmp_path / "run", config=config)
    assert report["steps"] >= 1
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    if "max_steps" not in budget:  # two steps leave no room for a warmup by share
        assert rows[0]["lr"] <= 0.5 * config.optimizer.learning_rate


def test_another_tokenizer_in_the_corpus_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    path = tmp_path / "corpus" / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"lowercase":true', '"lowercase":false'))
    text = path.read_text("utf-8").replace('"lowercase": true', '"lowercase": false')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="is not the one the corpus was prepared with"):
        pretrain(data=tmp_path / "corpus", output=tmp_path / "run", config=tiny_config("modern"))


def test_resuming_another_recipe_or_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = tiny_config("modern", training={"save_steps": 4})
    pretrain(data=corpus, output=run, config=config)
    (run / "report.json").unlink()  # as if killed just before the end
    other = tiny_config("modern", objective={"mask_prob": 0.3}, training={"save_steps": 4})
    with pytest.raises(ConfigError, match=r"objective\.mask_prob 0\.15 -> 0\.3"):
        pretrain(data=corpus, output=run, config=other, resume="auto")
    environment = json.loads((run / "environment.json").read_text("utf-8"))
    environment["inputs"]["data"]["sha256"] = "0" * 64
    (run / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(ConfigError, match=r"was begun otherwise \(--data"):
        pretrain(data=corpus, output=run, config=config, resume="auto")


def test_minutes_and_their_replay(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config("modern", training={"minutes": 0.01}, schedule={"warmup_steps": 10})
    pretrain(data=corpus, output=tmp_path / "timed", config=config)
    replay = str(tmp_path / "timed" / "metrics.jsonl")
    again = tiny_config(
        "modern",
        training={"minutes": 0.01},
        schedule={"warmup_steps": 10, "replay": replay},
    )
    pretrain(data=corpus, output=tmp_path / "again", config=again)
    assert_same_bits(tmp_path / "timed", tmp_path / "again")


def test_the_progress_of_an_interrupted_run_is_whole(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        "modern", training={"minutes": 0.02, "save_steps": 5}, logging={"log_steps": 7}
    )
    from electra.training import loop

    monkeypatch.setattr(loop, "clip_gradients", StopAt(loop.clip_gradients, 13))
    with pytest.raises(MemoryError):
        pretrain(data=corpus, output=tmp_path / "run", config=config)
    monkeypatch.undo()
    report = pretrain(data=corpus, output=tmp_path / "run", config=config, resume="auto")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    progress = [p for row in rows for p in row.get("progress", [])]
    assert len(progress) == report["steps"]
    assert progress == sorted(progress)


def test_a_warm_start_needs_a_generator_of_the_same_width() -> None:
    with pytest.raises(ConfigError, match=r"needs --model.generator-size 1, not 0.5"):
        tiny_config("classic", objective={"warm_start": 0.5})


@pytest.mark.parametrize("name", ["replaced_token_detection", "electric", "self_augmented"])
def test_micro_batches_read_the_same_masks_and_samples(
    corpus: Path, tmp_path: Path, name: str
) -> None:
    losses = []
    for micro in (None, 2):
        config = tiny_config(
            "modern",
            objective={"name": name},
            training={"max_steps": 6, "micro_batch_size": micro, "dtype": "float32"},
            logging={"log_steps": 1},
        )
        pretrain(data=corpus, output=tmp_path / str(micro), config=config)
        rows = read_metrics(tmp_path / str(micro) / "metrics.jsonl")
        losses.append([row["loss"] for row in rows if "lr" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def first_losses(corpus: Path, run: Path, config: PretrainConfig) -> dict[str, float]:
    """What the networks in a run's last checkpoint make of the first batch."""
    tokenizer = load_tokenizer(corpus)
    special = SpecialIds.of(tokenizer)
    objective = build_objective(config, num_ids(tokenizer), special)
    optimizer = build_optimizer(objective, config.optimizer)
    assert CheckpointStore(run / "checkpoints").load_latest(module=objective, optimizer=optimizer)
    seed = config.training.seed
    examples = examples_of(Corpus(corpus), "train", config, special)
    batch = CorpusSource(examples, seed=seed).batch(0, config.training.global_batch_size)
    drawn = Noise(seed)
    batch, counts = objective.prepare(batch, drawn)
    with torch.no_grad():
        losses = objective(batch, drawn).losses
    return {name: float(loss / counts[name]) for name, loss in losses.items()}


def told(**arguments: Any) -> str:
    """What `pretrain` prints, in one line."""
    console = Console(record=True, width=10_000, file=io.StringIO())
    pretrain(console=console, **arguments)
    return console.export_text()


@pytest.mark.parametrize("family", ["modern", "classic"])
def test_released_weights_go_on_with_the_losses_they_had(
    corpus: Path, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tiny_config(family, training={"max_steps": 40, "save_steps": 40})
    pretrain(data=corpus, output=tmp_path / "first", config=first)
    expected = first_losses(corpus, tmp_path / "first", first)
    fresh = read_metrics(tmp_path / "first" / "metrics.jsonl")[0]
    folders = {p: tmp_path / "released" / p for p in ("discriminator", "generator")}
    for part, folder in folders.items():
        shutil.copytree(tmp_path / "first" / part, folder)
    given = {part: str(folder) for part, folder in folders.items()}
    other = {"hidden_size": 16, "num_hidden_layers": 1, "generator_layers": None}
    config = tiny_config(family, model={**other, **given}, training={"save_steps": 3})
    said = told(data=corpus, output=tmp_path / "run", config=config)
    assert (
        f"begins with the weights of {folders['discriminator']} and {folders['generator']};" in said
    )
    assert said.count("the optimizer begins afresh") == 1
    assert "the shape is that of the released weights: hidden_size 32 (not 16)" in said
    row = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    assert row["step"] == 1
    for name, loss in expected.items():
        assert abs(row[name] - loss) < 1e-5, name
    assert row["generator_loss"] < fresh["generator_loss"] - 0.1
    tables = [load_file(tmp_path / "run" / p / "model.safetensors") for p in PARTS]
    name = {"modern": "embeddings.tok_embeddings.weight"}.get(
        family, "embeddings.word_embeddings.weight"
    )
    same = [t[key] for t in tables for key in t if key.endswith(name)]
    assert len(same) == 3
    assert all(torch.equal(same[0], table) for table in same)

    inputs = json.loads((tmp_path / "run" / "environment.json").read_text("utf-8"))["inputs"]
    for part, folder in folders.items():
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        assert inputs[f"model.{part}"] == {"name": str(folder), "sha256": digest}

    # interrupted, it goes on to the same bits, with the folders gone
    from electra.training import loop

    monkeypatch.setattr(loop, "clip_gradients", StopAt(loop.clip_gradients, 6))
    again = {"data": corpus, "output": tmp_path / "again", "config": config}
    with pytest.raises(MemoryError):
        pretrain(**again)
    monkeypatch.undo()
    weights_file = folders["generator"] / "model.safetensors"
    kept = load_file(weights_file)
    save_file({k: v + 1 for k, v in kept.items()}, weights_file, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"was begun otherwise \(--model\.generator "):
        pretrain(**again, resume="auto")
    without = tiny_config(
        family, model={**other, "discriminator": given["discriminator"]}, training={"save_steps": 3}
    )
    with pytest.raises(ConfigError, match=r"model\.generator .* -> None"):
        pretrain(data=corpus, output=tmp_path / "again", config=without, resume="auto")
    shutil.rmtree(tmp_path / "released")
    said = told(**again, resume="auto")
    assert "begins with" not in said
    assert_same_bits(tmp_path / "run", tmp_path / "again")
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "again")


def test_a_discriminator_alone_gets_a_fresh_generator(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config("classic")
    pretrain(data=corpus, output=tmp_path / "first", config=config)
    config = tiny_config("classic", model={"discriminator": str(tmp_path / "first")})
    said = told(data=corpus, output=tmp_path / "run", config=config)
    assert "no --model.generator: the generator is fresh" in said
    assert "no head" not in said
    begun = json.loads((tmp_path / "run" / "started_from.json").read_text("utf-8"))
    assert begun.keys() == {"discriminator"}


def test_released_weights_of_another_vocabulary(corpus: Path, tmp_path: Path) -> None:
    make_encoder(tmp_path / "other", "electra")
    config = tiny_config("classic", model={"discriminator": str(tmp_path / "other")})
    match = (
        r"has another vocabulary \(sha256 [0-9a-f]{16}\) than the corpus \([0-9a-f]{16}\): prepare "
        rf"the corpus with electra prepare --tokenizer {tmp_path / 'other'}$"
    )
    with pytest.raises(ConfigError, match=match):
        pretrain(data=corpus, output=tmp_path / "run", config=config)
    # and that is the way out
    text = tmp_path / "text.txt"
    text.write_text("the film was good and fine\n\nthe play was dull\n\n" * 9, encoding="utf-8")
    prepare = ["prepare", str(text), "--output", str(tmp_path / "corpus"), "--no-deduplicate"]
    assert run([*prepare, "--tokenizer", str(tmp_path / "other"), "--min-chars", "5"]) == 0
    arguments = [
        "--recipe",
        "classic-small",
        "--training.max-steps",
        "1",
        "--data.max-length",
        "16",
    ]
    arguments += ["--model.discriminator", str(tmp_path / "other"), "--training.device", "cpu"]
    where = ["--data", str(tmp_path / "corpus"), "--output", str(tmp_path / "run")]
    small = ["--model.generator-size", "0.5", "--training.global-batch-size", "4"]
    assert run(["pretrain", *where, *arguments, *small]) == 0


@pytest.mark.parametrize(
    ("family", "model", "begins"),
    [
        ("classic", {"generator_size": 1.0}, "the generator is as large"),
        ("modern", {"generator_layers": None}, "the generator is as large"),
        (
            "modern",
            {"generator_layers": None, "weight_sharing": "all"},
            "as --model.weight-sharing all makes them one network, the generator is as large",
        ),
        ("classic", {}, None),
        ("modern", {}, None),
    ],
)
def test_a_generator_as_large_as_the_discriminator_is_warned_of(
    corpus: Path, tmp_path: Path, family: str, model: dict[str, Any], begins: str | None
) -> None:
    config = tiny_config(family, model=model, training={"max_steps": 1})
    said = told(data=corpus, output=tmp_path / "run", config=config)
    rest = (
        " as the discriminator (2 layers of 32), which is known to collapse: the discriminator "
        "learns nothing when the generator is too good; published sizes are 1/4 to 1/2"
    )
    lines = [line.strip() for line in said.splitlines() if "collapse" in line]
    assert lines == ([begins + rest] if begins else [])
