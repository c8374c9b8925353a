import io
import json
import os
import re
import signal
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from electra.errors import ConfigError, DataError, Interrupted
from electra.finetuning.fractions import parse_fractions, part_of
from electra.finetuning.search import DEFAULT_SPACE, read_space, with_values
from electra.tasks.batches import LengthBatches
from electra.tasks.predictor import Predictor
from electra.tasks.text_classification import TextClassification
from electra.training.loggers import read_metrics
from tests.tiny import sentences, write_tsv
from tests.toy_runs import QUICK, config, make_home, run, said

DRAWS_FIGURES = True


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("several"))


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=300)


def rows_of(home: Path, name: str) -> int:
    return len((home / name).read_text().splitlines()) - 1


def test_a_run_without_progress_stops_early_and_resumes_to_the_same(
    home: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"max_steps": 40, "eval_steps": 2, "save_steps": 3, "early_stopping_patience": 3}
    frozen = config(training=training, optimizer={"learning_rate": 1e-12})
    run(home, tmp_path / "whole", training, config=frozen, console=console)
    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    # nothing is learned, so the first evaluation stays the best: three more, and the end
    assert (report["best_step"], report["steps"], report["stopped_early"]) == (2, 8, True)
    assert "(step 2 of 8, stopped early)" in said(console)
    usual = LengthBatches.batch

    def interrupted(self: LengthBatches, position: int, size: int) -> Any:
        if position == 5 * 32:
            os.kill(os.getpid(), signal.SIGTERM)
        return usual(self, position, size)

    monkeypatch.setattr(LengthBatches, "batch", interrupted)
    with pytest.raises(Interrupted):
        run(home, tmp_path / "broken", training, config=frozen)
    monkeypatch.undo()
    run(home, tmp_path / "broken", training, config=frozen, resume="auto")
    again = json.loads((tmp_path / "broken" / "report.json").read_text())
    assert (again["best_step"], again["steps"]) == (2, 8)
    steps = [r["step"] for r in read_metrics(tmp_path / "broken" / "metrics.jsonl") if "lr" in r]
    assert steps == sorted(set(steps))


def test_a_run_that_gets_better_is_not_stopped(home: Path, tmp_path: Path) -> None:
    training = {"epochs": 6, "global_batch_size": 16, "early_stopping_patience": 9}
    run(home, tmp_path / "run", training)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["steps"], report["stopped_early"]) == (60, False)


def test_a_collapsed_run_begins_again_with_another_seed(
    home: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = TextClassification.collapsed

    def first_two(self: TextClassification, *given: Any) -> str | None:
        found = len(list((tmp_path / "run").glob("collapsed-*")))
        return "it answers the same" if found < 2 else usual(self, *given)

    monkeypatch.setattr(TextClassification, "collapsed", first_two)
    training = QUICK | {"seed": 3, "restarts": 2}
    result = run(home, tmp_path / "run", training, console=console)
    assert result.runs[0].seed == 2003
    shown = said(console)
    assert (
        "the run with seed 3 collapsed (it answers the same); beginning again with seed 1003"
        in (shown)
    )
    assert "the run with seed 1003 collapsed" in shown
    for number, seed in ((1, 3), (2, 1003)):
        aside = tmp_path / "run" / f"collapsed-{number}"
        assert json.loads((aside / "collapsed.json").read_text())["seed"] == seed
        assert {path.name for path in aside.iterdir()} == {"collapsed.json", "metrics.jsonl"}
    monkeypatch.undo()
    # what came out is the run with that seed, undisturbed by those before it
    run(home, tmp_path / "alone", QUICK | {"seed": 2003})
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "alone"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "alone")]
    assert [r["loss"] for r in rows[0] if "loss" in r] == [
        r["loss"] for r in rows[1] if "loss" in r
    ]


def test_the_best_can_be_chosen_by_another_metric(home: Path, tmp_path: Path) -> None:
    training = QUICK | {"metric_for_best_model": "auc"}
    result = run(home, tmp_path / "run", training, seeds=2)
    assert result.metric == "auc"
    for seed in (0, 1):
        folder = tmp_path / "run" / f"seed-{seed}"
        rows = read_metrics(folder / "metrics.jsonl")
        best = max(row["eval_auc"] for row in rows if "eval_auc" in row)
        assert json.loads((folder / "report.json").read_text())["metrics"]["auc"] == best
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metric"] == "auc"
    with pytest.raises(ConfigError, match=r'metric-for-best-model is aux; did you mean "auc"'):
        run(home, tmp_path / "other", QUICK | {"metric_for_best_model": "aux"})


def test_restarts_end(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextClassification, "collapsed", lambda *given: "it answers the same")
    result = run(home, tmp_path / "run", {"max_steps": 2, "restarts": 1})
    assert (result.runs[0].seed, result.runs[0].note) == (1000, "it answers the same")
    assert [path.name for path in (tmp_path / "run").glob("collapsed-*")] == ["collapsed-1"]


def test_seeds_are_joined_by_logits_and_by_weights(
    home: Path, tmp_path: Path, console: Console
) -> None:
    output = tmp_path / "run"
    run(home, output, QUICK, seeds=3, console=console)
    summary = json.loads((output / "summary.json").read_text())
    members = [Predictor.open(output / f"seed-{k}") for k in range(3)]
    examples = members[0].task.read(str(home / "dev.tsv"))
    features = members[0].features(examples)
    together = Predictor.open(output / "ensemble")
    mean = np.mean([m.logits(features) for m in members], axis=0)
    np.testing.assert_allclose(np.array(together.logits(features)), mean, atol=1e-6)
    answers = together.predict_examples(examples)
    accuracy = np.mean([e.label == a["label"] for e, a in zip(examples, answers, strict=True)])
    assert summary["ensemble"]["metrics"]["accuracy"] == pytest.approx(float(accuracy))
    assert summary["ensemble"]["members"] == [0, 1, 2]
    assert "accuracy of ensemble/:" in said(console)

    averaged = summary["averaged"]
    best = max(each["metrics"]["accuracy"] for each in summary["each"])
    assert averaged["metrics"]["accuracy"] >= best
    assert averaged["members"][0] == summary["best_seed"]
    weights = [load_file(output / f"seed-{k}" / "model.safetensors") for k in averaged["members"]]
    found = load_file(output / "averaged" / "model.safetensors")
    for name, tensor in found.items():
        wanted = torch.stack([w[name] for w in weights]).mean(0)
        torch.testing.assert_close(tensor, wanted, atol=1e-6, rtol=1e-5)
    answers = Predictor.open(output / "averaged").predict_examples(examples)
    accuracy = np.mean([e.label == a["label"] for e, a in zip(examples, answers, strict=True)])
    assert averaged["metrics"]["accuracy"] == pytest.approx(float(accuracy))


def test_equal_models_are_averaged_whole_and_bad_ones_are_left_out(
    home: Path, tmp_path: Path
) -> None:
    from electra.finetuning.one_run import RunInputs, RunResult
    from electra.finetuning.one_task import Encoder, TaskData
    from electra.finetuning.several_seeds import _join
    from electra.training.distributed import World

    run(home, tmp_path / "seed-0", {"epochs": 8, "global_batch_size": 16})
    good = load_file(tmp_path / "seed-0" / "model.safetensors")
    # one that answers the opposite, and so much so that no mean with it is any good
    against = {n: -5 * w if n.startswith("classifier") else w for n, w in good.items()}
    copies = {1: dict(good), 2: against}
    for seed, weights in copies.items():
        (tmp_path / f"seed-{seed}").mkdir()
        for file in (tmp_path / "seed-0").iterdir():
            if file.suffix == ".json" or file.name == "vocab.txt":
                (tmp_path / f"seed-{seed}" / file.name).write_bytes(file.read_bytes())
        save_file(weights, tmp_path / f"seed-{seed}" / "model.safetensors", {"format": "pt"})
    first = Predictor.open(tmp_path / "seed-0")
    examples = first.task.read(str(home / "dev.tsv"))
    metrics = first.task.metrics(examples, first.predict_examples(examples))
    assert metrics["accuracy"] > 0.9
    worse = metrics | {"accuracy": 0.5}
    results = [
        RunResult(seed, tmp_path / f"seed-{seed}", metrics if seed < 2 else worse, 1)
        for seed in range(3)
    ]
    data = TaskData(first.task, [], examples)
    inputs = RunInputs(data, Encoder(""), {}, World(), Console(quiet=True))
    joined = _join(tmp_path, results, config(), inputs)
    assert joined["averaged"]["members"] == [0, 1]
    assert joined["averaged"]["metrics"]["accuracy"] >= metrics["accuracy"]


def test_an_ensemble_without_its_members_says_so(home: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run(home, output, {"max_steps": 2, "restarts": 0}, seeds=2)
    (output / "seed-1").rename(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"names models that are not there \(.*seed-1\); an ensemble"
    ):
        Predictor.open(output / "ensemble")


def test_parts_of_the_training_data_lie_in_one_another() -> None:
    every = list(range(1000))
    small, large = part_of(every, 0.05, seed=1), part_of(every, 0.3, seed=1)
    assert (len(small), len(large)) == (50, 300)
    assert set(small) < set(large)
    assert small == sorted(small)
    assert part_of(every, 1.0, seed=1) == every
    assert part_of(every, 0.05, seed=2) != small
    assert len(part_of(every, 1e-9, seed=1)) == 1


def test_a_learning_curve(home: Path, tmp_path: Path, console: Console) -> None:
    output = tmp_path / "run"
    training = {"epochs": 4, "global_batch_size": 16, "restarts": 0}
    result = run(home, output, training, train_fraction=(0.1, 1.0), seeds=2, console=console)
    curve = json.loads((output / "learning_curve.json").read_text())
    assert [row["examples"] for row in curve["rows"]] == [16, 160]
    assert [len(row["each"]) for row in curve["rows"]] == [2, 2]
    assert curve["rows"][1]["median"] > curve["rows"][0]["median"]
    assert len(result.runs) == 4
    assert result.score == max(max(row["each"]) for row in curve["rows"])
    assert "160 examples: accuracy median" in said(console)
    assert "<svg" in (output / "learning_curve.html").read_text()
    facts = json.loads((output / "fraction-0.1" / "seed-0" / "environment.json").read_text())
    assert facts["inputs"]["train_fraction"] == "0.1"
    assert Predictor.open(output).predict(["a good film"])
    again = run(home, output, training, train_fraction=(0.1, 1.0), seeds=2, resume="auto")
    assert again.metrics == result.metrics


def test_a_search_is_a_function_of_its_seed_and_goes_on_where_it_stopped(
    home: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    space = tmp_path / "space.toml"
    space.write_text(
        "[optimizer.learning_rate]\nlow = 1e-5\nhigh = 1e-2\nlog = true\n"
        "[training.global_batch_size]\nchoices = [16, 32]\n"
        "[training.early-stopping-patience]\nlow = 3\nhigh = 9\n"
    )
    more = {"trials": 4, "search_space": space}
    training = {"epochs": 2, "restarts": 0}
    whole = run(home, tmp_path / "whole", training, console=console, **more)
    found = json.loads((tmp_path / "whole" / "search.json").read_text())
    assert found["metric"] == "accuracy"
    scores = [row["score"] for row in found["trials"]]
    assert whole.score == max(scores)
    assert len({row["values"]["optimizer.learning_rate"] for row in found["trials"]}) == 4
    assert all(1e-5 <= row["values"]["optimizer.learning_rate"] <= 1e-2 for row in found["trials"])
    best = tomllib.loads((tmp_path / "whole" / "best.toml").read_text())
    won = found["trials"][scores.index(max(scores))]["values"]
    assert best["optimizer"]["learning_rate"] == won["optimizer.learning_rate"]
    assert best["training"]["global_batch_size"] == won["training.global_batch_size"]
    assert "the best of 4 trials, accuracy" in said(console)
    assert "<td" in (tmp_path / "whole" / "search.html").read_text()

    usual = LengthBatches.batch
    calls: list[int] = []

    def interrupted(self: LengthBatches, position: int, size: int) -> Any:
        calls.append(position)
        if len(calls) == 100:
            os.kill(os.getpid(), signal.SIGINT)
        return usual(self, position, size)

    monkeypatch.setattr(LengthBatches, "batch", interrupted)
    with pytest.raises(Interrupted):
        run(home, tmp_path / "broken", training, **more)
    monkeypatch.undo()
    assert len(list((tmp_path / "broken").glob("trial-*"))) in (2, 3)
    run(home, tmp_path / "broken", training, resume="auto", **more)
    assert json.loads((tmp_path / "broken" / "search.json").read_text()) == found
    more["trials"] = 5
    run(home, tmp_path / "broken", training, resume="auto", **more)
    extended = json.loads((tmp_path / "broken" / "search.json").read_text())
    assert extended["trials"][:4] == found["trials"]
    assert len(extended["trials"]) == 5


def test_bounds_are_of_the_kind_that_the_field_is() -> None:
    from electra.finetuning.search import _is_whole

    assert _is_whole("model.lora_r")
    assert _is_whole("training.early_stopping_patience")
    assert not _is_whole("training.label_smoothing")
    assert not _is_whole("training.epochs")


def test_values_that_do_not_go_together_are_a_failed_trial(
    home: Path, tmp_path: Path, console: Console
) -> None:
    pytest.importorskip("optuna")
    space = tmp_path / "space.toml"
    space.write_text(
        "[training.global_batch_size]\nchoices = [16, 20]\n"
        "[training.micro_batch_size]\nchoices = [8, 10]\n"
    )
    training = {"max_steps": 2, "restarts": 0, "global_batch_size": 80}
    result = run(home, tmp_path / "r", training, trials=6, search_space=space, console=console)
    found = json.loads((tmp_path / "r" / "search.json").read_text())
    failed = [row for row in found["trials"] if row["score"] is None]
    assert failed
    assert all("a divisor of the global batch size" in row["failed"] for row in failed)
    assert len(result.runs) == 6 - len(failed)
    page = (tmp_path / "r" / "search.html").read_text()
    assert page.index("micro-batch-size is") > page.index(f"{result.score:.4g}")


def test_flags_that_are_left_out_are_asked_for(home: Path, tmp_path: Path) -> None:
    run(home, tmp_path / "run", {"max_steps": 2, "restarts": 0}, seeds=2)
    with pytest.raises(ConfigError, match=r"holds several runs \(--seeds, --train-fraction or"):
        run(home, tmp_path / "run", {"max_steps": 2, "restarts": 0}, resume="auto")


def test_a_trial_that_diverges_is_the_worst_and_not_the_end(
    home: Path, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    from electra.errors import DivergedError
    from electra.finetuning import search

    usual = search.train_once

    def second_fails(run: Any, *given: Any) -> Any:
        if run.path.name == "trial-001":
            raise DivergedError("the gradient of step 3 is not finite")
        return usual(run, *given)

    monkeypatch.setattr(search, "train_once", second_fails)
    run(home, tmp_path / "run", {"max_steps": 2, "restarts": 0}, trials=3, console=console)
    found = json.loads((tmp_path / "run" / "search.json").read_text())
    assert [row["score"] is None for row in found["trials"]] == [False, True, False]
    assert "trial 2 failed: the gradient of step 3" in said(console)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "cannot be read"),
        ("", "names no field to search over"),
        ("[optimizer]\nlearning_rate = 1", r"\[optimizer.learning_rate\] wants low and high \(and"),
        ("[optimizer.speed]\nlow = 1\nhigh = 2", 'section "optimizer" has no field "speed"'),
        ("[optimizer.learning_rate]\nlow = 2\nhigh = 1", "low the smaller one"),
        ("[optimizer.learning_rate]\nlow = -1\nhigh = 1\nlog = true", "with log it is above 0"),
        ("[optimizer.learning_rate]\nlow = -1.0\nhigh = 1.0", "learning-rate is -1.0; allowed"),
        ("[optimizer.learning_rate]\nlowest = 1\nhigh = 1", 'has lowest; did you mean "low"'),
        ("[optimizer.learning_rate]\nchoices = []", "a list of one value or more"),
        ('[optimizer.learning_rate]\nlow = "1e-5"\nhigh = 1.0', "wants two numbers, low and high"),
        ("[data.max_length]\nlow = 16\nhigh = 64", "is decided when the data are read"),
        ("[optimizer.learning_rate]\nlow = 1\nhigh = 2\nlog = 1", "log = 1; allowed: true"),
    ],
)
def test_a_space_is_checked_before_anything_is_trained(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_space(file, config())


def test_the_default_space_fits_the_recipe() -> None:
    assert read_space(None, config()) is DEFAULT_SPACE
    for name, given in DEFAULT_SPACE.items():
        for value in given.get("choices", [given.get("low"), given.get("high")]):
            section, field = name.split(".")
            assert getattr(getattr(with_values(config(), {name: value}), section), field) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_fraction": (0.5, 2.0)}, "--train-fraction is 0.5,2; allowed: shares above 0"),
        ({"train_fraction": (0.5, 0.1)}, "in rising order"),
        ({"trials": 0}, "--search is 0; allowed: 1 or more"),
        ({"trials": 2, "seeds": 2}, "--search goes with neither --seeds nor --train-fraction"),
        ({"search_space": Path("x.toml")}, "--search-space is for --search N"),
    ],
)
def test_mistakes_leave_no_folder(
    home: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        run(home, tmp_path / "run", QUICK, **change)
    assert not (tmp_path / "run").exists()


def test_what_will_be_regretted_is_said(home: Path, tmp_path: Path, console: Console) -> None:
    long = config(training={"max_steps": 1, "restarts": 0}, data={"max_length": 128})
    train = str(home / "train.tsv")
    run(home, tmp_path / "run", {}, config=long, validation=train, console=console)
    assert "warning: --validation is the file of --train" in said(console)
    assert "the encoder reads 64 tokens, not the 128 of --data.max-length" in said(console)


def test_line_separators_in_answers_do_not_end_a_line(home: Path, tmp_path: Path) -> None:
    for name in ("train", "dev"):
        rows = [(t, f"{label}\u2028x") for t, label in sentences(40, 1)]
        lines = "\n".join(json.dumps({"text": t, "label": y}) for t, y in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    files = {"train": str(tmp_path / "train.jsonl"), "validation": str(tmp_path / "dev.jsonl")}
    run(home, tmp_path / "run", {"max_steps": 1, "restarts": 0}, **files)
    assert (tmp_path / "run" / "report.html").is_file()


def test_fractions_of_the_command_line() -> None:
    assert parse_fractions("0.01,0.1,1") == (0.01, 0.1, 1.0)
    with pytest.raises(ConfigError, match=r"--train-fraction is a,b; allowed: shares above 0"):
        parse_fractions("a,b")


def test_a_missing_library_is_one_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(
        ConfigError, match=r'--search needs optuna: pip install "electra\[search\]"'
    ):
        run(home, tmp_path / "run", QUICK, trials=2)


def test_a_finished_run_is_not_taken_for_one_of_another_recipe(home: Path, tmp_path: Path) -> None:
    run(home, tmp_path / "run", QUICK)
    with pytest.raises(ConfigError, match=r"training\.seed 0 -> 1"):
        run(home, tmp_path / "run", QUICK | {"seed": 1}, resume="auto")
    dev = write_tsv(tmp_path / "dev.tsv", ["sentence", "label"], sentences(20, 9))
    with pytest.raises(ConfigError, match=r"--validation .*dev\.tsv -> .*dev\.tsv"):
        run(home, tmp_path / "run", QUICK, validation=str(dev), resume="auto")
