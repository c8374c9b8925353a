import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from electra.errors import ConfigError, Interrupted
from electra.finetune import FinetuneResult, finetune
from electra.finetuning.one_task import Encoder
from electra.finetuning.several_tasks import InTurns, read_tasks
from electra.tasks.batches import LengthBatches
from electra.tasks.predictor import Predictor
from electra.training.loggers import read_metrics
from tests.tiny import BAD, GOOD, sentences
from tests.toy_runs import config, make_home

DRAWS_FIGURES = True

TAGS = {"good": "GOOD", "bad": "BAD"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the sentences, their words with tags."""
    folder = make_home(tmp_path_factory.mktemp("tasks"))
    for name, count, seed in (("train", 120, 5), ("dev", 40, 6)):
        lines = []
        for text, label in sentences(count, seed):
            told = GOOD if label == "good" else BAD
            lines += [f"{w} {'B-' + TAGS[label] if w in told else 'O'}" for w in text.split()]
            lines.append("")
        (folder / f"{name}.conll").write_text("\n".join(lines))
    return folder


def tables(home: Path) -> dict[str, Any]:
    return {
        "mood": {
            "task": "text-classification",
            "train": str(home / "train.tsv"),
            "validation": str(home / "dev.tsv"),
        },
        "words": {
            "task": "token-classification",
            "train": str(home / "train.conll"),
            "validation": str(home / "dev.conll"),
            "data": {"max_length": 32},
        },
    }


def run(home: Path, output: Path, training: dict[str, Any], **more: Any) -> FinetuneResult:
    arguments: dict[str, Any] = {
        "model": str(home / "electra"),
        "tasks": tables(home),
        "output": output,
        "config": config(training=training, optimizer={"learning_rate": 5e-3}),
    }
    return finetune(**(arguments | more))


def test_two_tasks_are_learned_on_one_set_of_layers(home: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = run(home, output, {"epochs": 10, "global_batch_size": 16})
    assert result.metric == "mean"
    assert result.metrics["mood.accuracy"] > 0.9
    assert result.metrics["words.f1"] > 0.9
    mean = (result.metrics["mood.accuracy"] + result.metrics["words.f1"]) / 2
    assert result.score == pytest.approx(mean)
    mood, words = (load_file(output / name / "model.safetensors") for name in ("mood", "words"))
    shared = [name for name in mood if name.startswith("electra.")]
    assert len(shared) > 20
    assert all(torch.equal(mood[name], words[name]) for name in shared)
    assert Predictor.open(output / "mood").predict(["the film was good"])[0]["label"] == "good"
    found = Predictor.open(output / "words").predict(["the film was bad"])[0]["entities"]
    assert [(e["text"], e["label"]) for e in found] == [("bad", "BAD")]
    report = json.loads((output / "report.json").read_text())
    assert report["examples"] == {"train": 280, "validation": 100}
    logged = {key for row in read_metrics(output / "metrics.jsonl") for key in row}
    assert {"eval_mean", "eval_mood.accuracy", "eval_words.f1", "mood.accuracy"} <= logged
    for name, train in (("mood", "train.tsv"), ("words", "train.conll")):
        assert "<svg" in (output / name / "report.html").read_text()
        assert train in (output / name / "README.md").read_text()


def test_an_interrupted_run_of_two_tasks_resumes_to_the_same_bits(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"max_steps": 14, "global_batch_size": 16, "micro_batch_size": 8, "save_steps": 5}
    run(home, tmp_path / "whole", training)
    usual, calls = LengthBatches.batch, []

    def interrupted(self: LengthBatches, position: int, size: int) -> Any:
        calls.append(position)
        if len(calls) == 13:
            os.kill(os.getpid(), signal.SIGINT)
        return usual(self, position, size)

    monkeypatch.setattr(LengthBatches, "batch", interrupted)
    with pytest.raises(Interrupted, match="stopped at step 7"):
        run(home, tmp_path / "broken", training)
    monkeypatch.undo()
    run(home, tmp_path / "broken", training, resume="auto")
    for part in ("mood", "words"):
        whole, broken = (
            load_file(tmp_path / name / part / "model.safetensors") for name in ("whole", "broken")
        )
        assert all(torch.equal(whole[name], broken[name]) for name in whole)


@pytest.mark.parametrize("family", ["electra", "modernbert"])
def test_the_layers_are_one_and_the_heads_are_not(home: Path, family: str) -> None:
    several, _ = read_tasks(tables(home), "recipe")
    encoder = Encoder(str(home / family))
    trained = several.build(encoder, config(), torch.device("cpu"), 0)
    one, other = (t.model for t in trained.trained.values())
    shared = {id(p) for p in one.base_model.parameters()}
    assert shared == {id(p) for p in other.base_model.parameters()}
    heads = [{id(p) for p in model.parameters()} - shared for model in (one, other)]
    assert all(heads)
    assert not heads[0] & heads[1]
    own = {id(p) for p in trained.objective.parameters()}
    assert own == shared | heads[0] | heads[1]


@pytest.mark.parametrize("family", ["electra", "modernbert"])
def test_padding_is_seen_by_no_task_whatever_their_lengths(home: Path, family: str) -> None:
    given = tables(home)
    given["mood"]["data"] = {"max_length": 16}
    several, _ = read_tasks(given, "recipe")
    for part in several.parts.values():
        # lengths on both sides of where the kernel changes
        object.__setattr__(part.config.data, "max_length", 16 if part.weight else 300)
    encoder = Encoder(str(home / family))
    trained = several.build(encoder, config(), torch.device("cpu"), 0)
    implementations = {t.model.config._attn_implementation for t in trained.trained.values()}
    assert len(implementations) == 1
    for one in trained.trained.values():
        one.model.eval()
        ids = torch.tensor([[2, 6, 9, 12, 3]])
        padded = torch.cat([ids, torch.full((1, 7), 5)], dim=1)
        seen = (torch.arange(12) < 5).long()[None]
        with torch.inference_mode():
            alone = one.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            beside = one.model(input_ids=padded, attention_mask=seen).logits
        beside = beside[:, :5] if beside.dim() == 3 else beside
        torch.testing.assert_close(alone, beside, atol=1e-5, rtol=1e-4)


def test_an_adapter_is_for_all_tasks_or_none(home: Path) -> None:
    given = tables(home)
    given["words"]["model"] = {"adapter": "lora"}
    with pytest.raises(ConfigError, match=r"another model.adapter than the tasks before it"):
        read_tasks(given, "recipe")


def test_turns_keep_every_share_at_every_step() -> None:
    class Stream:
        def __init__(self, name: int) -> None:
            self.name = name

        def batch(self, position: int, size: int) -> dict[str, torch.Tensor]:
            return {"ids": torch.arange(position, position + size) + 1000 * self.name}

    shares = [5.0, 2.0, 1.0]
    turns = InTurns([Stream(i) for i in range(3)], shares, 4)
    seen: list[list[int]] = [[], [], []]
    for step in range(80):
        number = turns.turn(step)[0]
        for first in (0, 2):  # micro-batches of one step
            batch = turns.batch(step * 4 + first, 2)
            assert int(batch["task_number"]) == number
            seen[number] += (batch["ids"] - 1000 * number).tolist()
        for i, share in enumerate(shares):
            assert abs(len(seen[i]) / 4 - (step + 1) * share / 8) < 1
    # each stream is read from its beginning, without a gap
    assert all(ids == list(range(len(ids))) for ids in seen)
    # and any step alone says the same as the row of them
    late = InTurns([Stream(i) for i in range(3)], shares, 4)
    assert late.turn(77) == turns.turn(77)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": None}, r"two \[tasks.NAME\] tables or more are wanted"),
        ({"words": {"task": "token-classification"}}, r'\[tasks.words\] lacks train = "..."'),
        ({"words": {"tsk": "x"}}, r'\[tasks.words\] has "tsk"; did you mean "task"'),
        ({"words": 3}, r"\[tasks.words\] is a table, not a single value"),
        (
            {
                "words": {
                    "task": "text-classification",
                    "train": "t",
                    "validation": "v",
                    "weight": -1,
                }
            },
            r"weight = -1; allowed: above 0",
        ),
        ({"a/b": {"task": "x"}}, r"\[tasks.a/b\]: a name of letters, digits"),
    ],
)
def test_what_is_wrong_with_the_tables(home: Path, change: dict[str, Any], message: str) -> None:
    given = {k: v for k, v in (tables(home) | change).items() if v is not None}
    with pytest.raises(ConfigError, match=message):
        read_tasks(given, "recipe x.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": "x.tsv"}, "the recipe names its tasks: leave --train and --validation out"),
        ({"seeds": 2}, "a recipe of several tasks goes with none of --seeds"),
        (
            {"config": config(training={"class_weights": "balanced"})},
            "--training.class-weights is for one task: leave it out",
        ),
        (
            {"config": config(data={"max_length": 32})},
            r"each task's own here: put them into \[tasks.NAME\]",
        ),
        ({"tasks": [1]}, r"two \[tasks.NAME\] tables or more are wanted"),
        ({"tasks": None}, r"--train and --validation are wanted \(or a --recipe with"),
    ],
)
def test_one_or_several(home: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(home, tmp_path / "run", {"max_steps": 1}, **change)
    assert not (tmp_path / "run").exists()


def test_a_weight_changes_the_turns(home: Path, tmp_path: Path) -> None:
    given = tables(home)
    given["words"]["weight"] = 4.0
    several, facts = read_tasks(given, "recipe")
    trained = several.build(Encoder(str(home / "electra")), config(), torch.device("cpu"), 0)
    mood, words = (t.num_train for t in trained.trained.values())
    taken = [trained.source.turn(step)[0] for step in range(200)]
    assert sum(taken) / 200 == pytest.approx(4 * words / (mood + 4 * words), abs=0.01)
    assert "'weight': 4.0" in facts["words.settings"]
