import io
import json
import os
import signal
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from electra.config import FinetuneConfig
from electra.errors import ConfigError, DataError, Interrupted, OutputExistsError
from electra.tasks.batches import LengthBatches
from electra.tasks.budget import in_parts, in_steps, with_budget
from electra.tasks.predictor import Predictor
from electra.tasks.text_classification import TextClassification
from electra.training.loggers import read_metrics
from tests.tiny import sentences, write_tsv
from tests.toy_runs import QUICK, config, make_home, run, said


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("finetune"))


def test_a_separable_task_is_learned_and_saved(home: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    output = tmp_path / "run"
    result = run(home, output, {"epochs": 10, "global_batch_size": 16})
    assert result.score >= 0.95
    assert result.metric == "accuracy"
    assert set(result.metrics) == {"accuracy", "macro_f1", "mcc", "auc"}
    names = {path.name for path in output.iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "task.json",
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "report.json",
        "report.html",
        "README.md",
        "validation_predictions.jsonl",
        "checkpoints",
    }
    assert len(list((output / "checkpoints").iterdir())) == 1
    report = json.loads((output / "report.json").read_text())
    assert report["metrics"] == result.metrics
    assert report["examples"] == {"train": 160, "validation": 60}
    rows = read_metrics(output / "metrics.jsonl")
    accuracies = {r["step"]: r["eval_accuracy"] for r in rows if "eval_accuracy" in r}
    assert len(accuracies) == 10
    best = max(accuracies.values())
    assert result.score == best
    assert report["best_step"] == min(s for s, a in accuracies.items() if a == best)
    assert any("accuracy" in r and "task_loss" in r for r in rows)

    answers = Predictor.open(output).predict(["the film was good", "the film was bad"])
    assert [a["label"] for a in answers] == ["good", "bad"]
    model = AutoModelForSequenceClassification.from_pretrained(output).eval()
    encoded = AutoTokenizer.from_pretrained(output)("the film was good", return_tensors="pt")
    with torch.inference_mode():
        scores = model(**encoded).logits.softmax(-1)[0].numpy()
    np.testing.assert_allclose(list(answers[0]["scores"].values()), scores, atol=1e-6)
    assert model.config.id2label == {0: "bad", 1: "good"}


def test_pairs_are_learned_by_an_encoder_with_token_types(home: Path, tmp_path: Path) -> None:
    result = run(
        home,
        tmp_path / "run",
        {"epochs": 20, "global_batch_size": 16},
        model=str(home / "electra"),
        train=str(home / "pairs_train.tsv"),
        validation=str(home / "pairs_dev.tsv"),
    )
    assert result.score >= 0.9
    answers = Predictor.open(tmp_path / "run").predict(
        [("the film was bad", "a good play"), ("a good play", "the film was bad")]
    )
    assert [a["label"] for a in answers] == ["yes", "no"]


def test_an_interrupted_run_resumes_to_the_same_bits(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = QUICK | {"save_steps": 7}
    dropout = config(training=training, model={"dropout": 0.2}, optimizer={"learning_rate": 5e-3})
    run(home, tmp_path / "whole", training, config=dropout)
    usual = LengthBatches.batch

    def interrupted(self: LengthBatches, position: int, size: int) -> Any:
        if position == 12 * 16:
            os.kill(os.getpid(), signal.SIGINT)
        return usual(self, position, size)

    monkeypatch.setattr(LengthBatches, "batch", interrupted)
    broken = tmp_path / "broken"
    with pytest.raises(Interrupted, match="stopped at step 13; the same command with --resume"):
        run(home, broken, training, config=dropout)
    monkeypatch.setattr(LengthBatches, "batch", usual)
    with pytest.raises(OutputExistsError, match="already holds a run: --resume auto continues it"):
        run(home, broken, training, config=dropout)
    console = Console(file=io.StringIO(), width=200)
    run(home, broken, training, config=dropout, resume="auto", console=console)
    again = run(home, broken, training, config=dropout, resume="auto", console=console)
    shown = said(console)
    assert "from step 13" in shown
    assert "is finished: nothing to do" in shown
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    resumed = load_file(broken / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    last = [
        load_file(next((path / "checkpoints").iterdir()) / "model.safetensors")
        for path in (tmp_path / "whole", broken)
    ]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])
    reports = [
        json.loads((path / "report.json").read_text()) for path in (tmp_path / "whole", broken)
    ]
    assert reports[0]["metrics"] == reports[1]["metrics"] == again.metrics
    assert reports[0]["best_step"] == reports[1]["best_step"]


def test_micro_batches_do_not_change_the_run(home: Path, tmp_path: Path) -> None:
    # 20 divides no batch size of the search's space, which is another matter
    training = {"max_steps": 4, "global_batch_size": 20, "dtype": "float32"}
    run(home, tmp_path / "a", {**training, "micro_batch_size": 20})
    run(home, tmp_path / "b", {**training, "micro_batch_size": 5})
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=2e-4, rtol=1e-3)


def test_resuming_with_other_inputs_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    run(home, output, QUICK)
    (output / "report.json").unlink()  # as if it had not come to the end
    with pytest.raises(ConfigError, match=r"was begun otherwise \(--train .*train\.tsv -> .*dev"):
        run(home, output, QUICK, train=str(home / "dev.tsv"), resume="auto")
    with pytest.raises(ConfigError, match=r"training\.global_batch_size 16 -> 8"):
        run(home, output, QUICK | {"global_batch_size": 8}, resume="auto")
    result = run(home, output, QUICK, resume="auto")
    assert result.score > 0.5


def test_overwrite_moves_the_old_run(home: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    short = {"max_steps": 2}
    run(home, output, short)
    with pytest.raises(OutputExistsError):
        run(home, output, short)
    run(home, output, short, overwrite=True)
    assert (tmp_path / "run.old-1" / "task.json").is_file()
    assert (output / "task.json").is_file()


def test_several_seeds(home: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    console = Console(file=io.StringIO(), width=200)
    result = run(home, output, QUICK | {"seed": 5}, seeds=3, console=console)
    assert "accuracy over 3 seeds: median" in said(console)
    summary = json.loads((output / "summary.json").read_text())
    scores = [each["metrics"]["accuracy"] for each in summary["each"]]
    assert [each["seed"] for each in summary["each"]] == [5, 6, 7]
    assert summary["median"] == statistics.median(scores)
    assert summary["mean"] == pytest.approx(sum(scores) / 3)
    assert summary["std"] == pytest.approx(statistics.stdev(scores))
    assert result.score == max(scores)
    best = output / f"seed-{summary['best_seed']}"
    for name in ("model.safetensors", "config.json", "task.json", "vocab.txt"):
        assert (output / name).read_bytes() == (best / name).read_bytes()
    assert len(set(scores)) > 1 or len({s.best_step for s in result.runs}) > 1
    assert Predictor.open(output).predict(["a good film"])
    more = run(home, output, QUICK | {"seed": 5}, seeds=4, resume="auto")
    assert [s.metrics for s in more.runs[:3]] == [s.metrics for s in result.runs]
    assert len(more.runs) == 4


def test_from_scratch_and_a_frozen_encoder(home: Path, tmp_path: Path) -> None:
    name = "model.layers.0.attn.Wqkv.weight"
    before = load_file(home / "modernbert" / "model.safetensors")["layers.0.attn.Wqkv.weight"]
    run(home, tmp_path / "head", {"max_steps": 3, "train_encoder": False})
    assert torch.equal(load_file(tmp_path / "head" / "model.safetensors")[name], before)
    run(home, tmp_path / "scratch", {"max_steps": 1}, from_scratch=True)
    scratch = load_file(tmp_path / "scratch" / "model.safetensors")[name]
    assert (scratch - before).abs().max() > 0.03


def test_a_collapsed_run_says_so(home: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=300)
    rows = sentences(80, 2)
    skewed = write_tsv(tmp_path / "t.tsv", ["sentence", "label"], rows[::2] + rows[1:4:2])
    training = QUICK | {"restarts": 0}
    result = run(home, tmp_path / "run", training, train=str(skewed), console=console)
    shown = said(console)
    assert result.runs[0].note is not None
    assert "to all 60 validation rows: it has not learned" in result.runs[0].note
    assert "warning: the model answers" in shown
    assert json.loads((tmp_path / "run" / "report.json").read_text())["note"]


def test_regression(home: Path, tmp_path: Path) -> None:
    for name, count, seed in (("train", 200, 0), ("dev", 50, 1)):
        rows = [
            (text, f"{4.5 if label == 'good' else 0.5}") for text, label in sentences(count, seed)
        ]
        write_tsv(tmp_path / f"{name}.tsv", ["text", "score"], rows)
    result = run(
        home,
        tmp_path / "run",
        {"epochs": 12, "global_batch_size": 16},
        train=str(tmp_path / "train.tsv"),
        validation=str(tmp_path / "dev.tsv"),
    )
    assert result.metric == "pearson"
    assert result.score > 0.8
    assert set(result.metrics) == {"pearson", "spearman"}


def test_epochs_by_size_of_the_data() -> None:
    epochs = [with_budget(FinetuneConfig(), n).epochs for n in (999, 1_000, 9_999, 10_000)]
    assert epochs == [20, 10, 10, 3]
    given = config(training={"max_steps": 7})
    assert with_budget(given, 10).epochs is None
    steps = in_steps(config(training={"epochs": 2.5}).training, 100)
    assert (steps.max_steps, steps.epochs) == (8, None)


@pytest.mark.parametrize(
    ("size", "processes", "device", "given", "rows"),
    [
        (32, 1, "cpu", None, 8),
        (32, 2, "cpu", None, 4),
        (6, 1, "cpu", None, 3),
        (7, 1, "cpu", None, None),
        (32, 1, "cuda", None, None),
        (32, 1, "cpu", 32, 32),
        (32, 1, "cpu", "auto", "auto"),
    ],
)
def test_a_step_in_parts(
    size: int, processes: int, device: str, given: int | str | None, rows: int | str | None
) -> None:
    training = config(training={"global_batch_size": size, "micro_batch_size": given}).training
    assert in_parts(training, torch.device(device), processes).micro_batch_size == rows


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"task": "poetry"}, ConfigError, 'no task "poetry"; allowed: text-classification'),
        ({"train": "gone.tsv"}, DataError, "gone.tsv does not exist"),
        ({"model": "./gone"}, ConfigError, "--model ./gone does not exist"),
        ({"seeds": 0}, ConfigError, "--seeds is 0; allowed: 1 or more"),
    ],
)
def test_mistakes_leave_no_folder(
    home: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(home, tmp_path / "run", QUICK, **change)
    assert not (tmp_path / "run").exists()


def test_an_unseen_validation_label(home: Path, tmp_path: Path) -> None:
    dev = write_tsv(tmp_path / "dev.tsv", ["sentence", "label"], [("a film", "so-so")])
    with pytest.raises(DataError, match=r'dev\.tsv row 1 has the label "so-so", which the train'):
        run(home, tmp_path / "run", QUICK, validation=str(dev))


def test_the_task_of_the_output_is_that_of_training(home: Path, tmp_path: Path) -> None:
    run(home, tmp_path / "run", {"max_steps": 1})
    task = Predictor.open(tmp_path / "run").task
    assert isinstance(task, TextClassification)
    assert task.labels == ("bad", "good")
    assert task.columns.text == "sentence"
