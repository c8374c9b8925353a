"""The peer of our benchmark must be whole, or beating it says nothing."""

import gzip
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import finetuning, finetuning_case, finetuning_speed, finetuning_table, plain_path
from benchmarks.finetuning_case import Case, Setting
from benchmarks.plain_path import PlainPath, PlainTraining, _best_answers
from electra.config import FinetuneConfig
from electra.evaluation.suite_files import Files
from electra.evaluation.suites import BenchmarkSet, read_suite
from electra.tasks.question_answering import QuestionAnswering
from electra.tasks.task import task_class
from electra.training.run_identity import identity
from tests.tiny import make_encoder, pairs, sentences, write_tsv


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_encoder(tmp_path_factory.mktemp("plain") / "bert", "bert", layers=1))


def plain(name: str, file: Path, encoder: str, length: int = 32) -> tuple[PlainPath, list[Any]]:
    task, examples = task_class(name).from_training(str(file), FinetuneConfig())
    torch.manual_seed(0)
    return PlainPath.of(task, encoder, length), examples


def test_its_loop_learns_a_separable_task(encoder: str, tmp_path: Path) -> None:
    file = write_tsv(tmp_path / "a.tsv", ["sentence", "label"], sentences(160, 0))
    path, examples = plain("text-classification", file, encoder)
    encoded = path.encode(examples, training=True)
    assert encoded.tensors["input_ids"].shape == (160, 32)
    training = PlainTraining(path.model, encoded, learning_rate=5e-3, batch_size=16, steps=60)
    assert training.run(60) == 960
    assert path.task.metrics(examples, path.predictions(examples))["accuracy"] > 0.95


def test_perfect_tags_of_first_pieces_are_a_perfect_score(encoder: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(
        "the O\nplays B-WORK\nverys I-WORK\nplay B-WORK\n\none O\nfilms B-PER\n\n", encoding="utf-8"
    )
    path, examples = plain("token-classification", file, encoder)
    encoded = path.encode(examples, training=True)
    labels = encoded.tensors["labels"]
    assert (labels >= 0).sum() == 6  # a label a word, though "plays" is two pieces
    perfect = torch.nn.functional.one_hot(labels.clamp(min=0), len(path.labels)).float()
    found = list(path._entities(examples, encoded.origin, perfect))
    assert path.task.metrics(examples, found)["f1"] == 1.0


def test_perfect_starts_and_ends_are_the_answers(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for number, word in enumerate(("warm", "cold", "dull")):
        context = "the film is and " * (4 * number) + f"a {word} play then here"
        answer = {"text": f"{word} play", "answer_start": context.index(word)}
        question = {"id": str(number), "question": "is one", "answers": [answer]}
        rows.append({"paragraphs": [{"context": context, "qas": [question]}]})
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"data": rows}), encoding="utf-8")
    task, examples = QuestionAnswering.from_training(str(file), FinetuneConfig())
    path = PlainPath.of(task, encoder, 32)
    monkeypatch.setattr(plain_path, "STRIDE", 8)
    encoded = path.encode(examples, training=True)
    assert len(encoded.origin) > len(examples)  # the long contexts have several windows
    starts, ends = (encoded.tensors[f"{k}_positions"].numpy() for k in ("start", "end"))
    length = encoded.tensors["input_ids"].shape[1]
    found = _best_answers(examples, encoded.origin, np.eye(length)[starts], np.eye(length)[ends])
    assert [f["answer"] for f in found] == ["warm play", "cold play", "dull play"]
    assert task.metrics(examples, found)["exact_match"] == 1.0


def test_options_are_rows_of_one_example(encoder: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    row = '{"context": "a film", "question": "is it", "choices": ["warm", "cold"], "label": 1}\n'
    file.write_text(row * 3, encoding="utf-8")
    path, examples = plain("multiple-choice", file, encoder)
    encoded = path.encode(examples, training=True)
    assert encoded.tensors["input_ids"].shape == (3, 2, 32)
    assert encoded.tensors["labels"].tolist() == [1, 1, 1]
    assert {p["choice"] for p in path.predictions(examples)} <= {0, 1}


def test_tags_of_four_letters_are_kept(encoder: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("the B-X\nplay M-X\nwas E-X\nhere S-Y\n\none O\nfilm S-X\n\n", "utf-8")
    path, examples = plain("token-classification", file, encoder)
    encoded = path.encode(examples, training=True)
    perfect = torch.nn.functional.one_hot(
        encoded.tensors["labels"].clamp(min=0), len(path.labels)
    ).float()
    found = list(path._entities(examples, encoded.origin, perfect))
    assert path.task.metrics(examples, found)["f1"] == 1.0


def test_examples_of_fewer_options_are_filled_up(encoder: str, tmp_path: Path) -> None:
    rows = [
        {"context": "a film", "question": "is it", "choices": c, "label": 1}
        for c in (["warm", "cold"], ["one", "two", "then"])
    ]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path, examples = plain("multiple-choice", file, encoder)
    assert path.encode(examples, training=True).tensors["input_ids"].shape == (2, 3, 32)


def classes(folder: Path) -> Path:
    return write_tsv(folder / "a.tsv", ["sentence", "label"], sentences(12, 0))


def scores_of_texts(folder: Path) -> Path:
    rows = [(a, b, str(i / 4 + 0.1)) for i, (a, b, _) in enumerate(pairs(12, 0))]
    return write_tsv(folder / "a.tsv", ["sentence1", "sentence2", "score"], rows)


def tags(folder: Path) -> Path:
    lines = "the O\nplays B-WORK\nverys I-WORK\nplay B-WORK\n\none O\nfilms B-PER\n\n"
    (folder / "a.txt").write_text(lines + "film B-PER\nis O\nwarm O\n\n", encoding="utf-8")
    return folder / "a.txt"


def spans(folder: Path) -> Path:
    rows = []
    for number, word in enumerate(("warm", "cold", "dull")):
        words = ["the", "film", "is", "and", "then", "here", "one", "two", "was"]
        words.insert(2 * number, f"{word} play")
        context = " ".join(words)
        answer = {"text": f"{word} play", "answer_start": context.index(word)}
        question = {"id": str(number), "question": "is one", "answers": [answer]}
        rows.append({"paragraphs": [{"context": context, "qas": [question]}]})
    (folder / "a.json").write_text(json.dumps({"data": rows}), encoding="utf-8")
    return folder / "a.json"


def options(folder: Path) -> Path:
    row = {"context": "a film", "question": "is it", "choices": ["warm", "cold then"], "label": 1}
    rows = [row, row | {"context": "the play was here", "label": 0}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "a.jsonl").write_text(text, encoding="utf-8")
    return folder / "a.jsonl"


WRITERS = {
    "classes": ("text-classification", classes),
    "regression": ("text-classification", scores_of_texts),
    "tags": ("token-classification", tags),
    "spans": ("question-answering", spans),
    "options": ("multiple-choice", options),
}


@pytest.fixture(scope="module")
def still(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The encoder without dropout."""
    folder = tmp_path_factory.mktemp("still") / "bert"
    shutil.copytree(encoder, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("what", WRITERS)
def test_one_step_of_all_paths_leaves_the_same_weights(
    what: str, still: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_path, "STRIDE", 8)
    task_name, write = WRITERS[what]
    file = str(write(tmp_path))
    each = BenchmarkSet(
        name="x", task=task_name, train=(file,), validation=0.1, test=(file,), metric=("f1",)
    )
    # no padding among the spans: the plain head lets it compete with the answer, ours does not
    length = 16 if what == "spans" else 32
    rows = len(task_class(task_name).from_training(file, FinetuneConfig())[1])
    setting = Setting(length, rows, learning_rate=1e-4)
    config = each.config(
        {
            "optimizer": {"learning_rate": 1e-4, "layerwise_lr_decay": 1.0},
            "training": {"global_batch_size": rows, "dtype": "float32", "device": "cpu"},
            "data": {"max_length": length},
        },
        0,
    )
    case = Case(each, setting, config, Files(file, file, file), still, tmp_path)
    task, train, test = case.read()
    ours = finetuning_speed.OurTraining(case, task, train, test)
    begun = {k: v.clone() for k, v in ours.trained.model.state_dict().items()}
    assert ours.run(1) == rows
    after = ours.trained.model.state_dict()
    assert max(float((after[k] - v).abs().max()) for k, v in begun.items()) > 5e-5
    for pad_to_longest in (False, True):
        path = PlainPath.of(task, still, length, pad_to_longest=pad_to_longest)
        path.model.load_state_dict(begun)
        loop = finetuning_speed.plain_training(
            case, path, path.encode(train, training=True), 1, pad_to_longest=pad_to_longest
        )
        assert loop.run(1) == rows
        found = path.model.state_dict()
        # what a softmax does not feel has a gradient of rounding errors, which Adam makes large
        unfelt = {"options": "classifier.bias", "spans": "qa_outputs.bias"}.get(what)
        for name in (n for n in found if n != unfelt and not n.endswith("key.bias")):
            torch.testing.assert_close(found[name], after[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("what", WRITERS)
def test_batches_cut_to_their_longest_row_are_answered_alike(
    what: str, still: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_path, "EVALUATION_BATCH", 2)
    monkeypatch.setattr(plain_path, "STRIDE", 8)
    task_name, write = WRITERS[what]
    path, examples = plain(task_name, write(tmp_path), still)
    whole = path.predictions(examples)
    read = []
    forward = path.model.forward
    monkeypatch.setattr(
        path.model, "forward", lambda **x: read.append(x["input_ids"].shape[-1]) or forward(**x)
    )
    path.pad_to_longest = True
    cut = path.predictions(examples)
    assert max(read) < 32
    for one, other in zip(whole, cut, strict=True):
        for key, value in one.items():
            if isinstance(value, float | dict):
                assert other[key] == pytest.approx(value, abs=1e-5)
            else:
                assert other[key] == value


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a set called sst2."""
    (tmp_path / "data" / "sst2").mkdir(parents=True)
    for part, count in (("train", 80), ("dev", 40), ("test", 20)):
        file = tmp_path / "data" / "sst2" / f"{part}.tsv"
        write_tsv(file, ["sentence", "label"], sentences(count, count))
    train = tmp_path / "data" / "sst2" / "train.tsv"
    (train.parent / "train.tsv.gz").write_bytes(gzip.compress(train.read_bytes()))
    monkeypatch.setattr(finetuning_case, "DATA", tmp_path / "data")
    monkeypatch.setattr(finetuning, "DATA", tmp_path / "data")
    return tmp_path


def test_scores_and_throughput_of_a_toy(toy: Path, encoder: str) -> None:
    setting = Setting(32, 8, train_rows=48, learning_rate=5e-3)
    case = Case.of("english", "sst2", setting, 0, encoder, toy / "work")
    rows, summary = finetuning.scores(case)
    assert [row["path"] for row in rows] == ["ours", "plain"]
    assert all(set(row) == {"path", "score"} for row in rows)
    assert (summary["train_rows"], summary["test_rows"]) == (48, 20)
    assert summary["difference"] == pytest.approx(100 * (summary["ours"] - summary["plain"]))
    rows, summary = finetuning_speed.throughput(case, rounds=3, steps=2)
    for what, row in zip(("train", "evaluate"), rows, strict=True):
        for suffix, peer in (("", "plain"), ("_dynamic", finetuning_speed.DYNAMIC)):
            seconds = summary["seconds"][what]
            ratios = [b / a for a, b in zip(seconds["ours"], seconds[peer], strict=True)]
            assert len(ratios) == 3
            assert summary[f"{what}_speedup{suffix}"] == pytest.approx(sorted(ratios)[1])
            found = summary[f"{what}_speedup{suffix}_range"]
            assert found == pytest.approx([min(ratios), max(ratios)])
        assert row["ours rows/s"] > 0


def measure(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(sys, "argv", ["finetuning", *line.split()])
    finetuning.main()


def test_a_result_is_kept_and_compared(
    toy: Path,
    encoder: str,
    still: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = f"--set sst2 --work {toy}/work --json {toy}/one.json --threads 1 --quick --model"
    monkeypatch.setattr(
        finetuning, "scores", lambda case, before: ([{"path": "ours"}], {"ours": 0.5})
    )
    measure(monkeypatch, f"{line} {encoder}")
    summary = json.loads((toy / "one.json").read_text("utf-8"))["summary"]
    assert summary["encoder"] == {**identity(encoder), "name": "bert"}
    assert summary["setting"]["train_rows"] == 96
    assert not list((toy / "work").iterdir())
    measure(monkeypatch, f"{line} {encoder}")
    assert "one.json is there: nothing to do" in capsys.readouterr().out
    measure(monkeypatch, f"{line} {still}")  # the same weights
    (toy / "other").mkdir()
    other = str(make_encoder(toy / "other" / "electra", "electra", layers=1))
    with pytest.raises(SystemExit, match=r"was measured otherwise \(encoder .* -> .*\)"):
        measure(monkeypatch, f"{line} {other}")
    with pytest.raises(SystemExit, match=r"\(setting .*; seed 0 -> 1\)"):
        measure(monkeypatch, f"{line} {encoder} --seed 1".replace("--quick", ""))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--set sst", "--set is sst; allowed: sst2, trec"),
        ("--set race_middle --throughput", "--throughput is not measured on race_middle"),
        ("--suite chinese --set tnews", "--suite chinese wants an encoder of its language"),
        ("--set sst2 --quick --model ./nowhere", "error: --model ./nowhere does not exist"),
        ("--set trec --quick --model ENCODER", "error: "),
    ],
)
def test_mistakes_are_one_line(
    line: str,
    message: str,
    toy: Path,
    encoder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        measure(monkeypatch, line.replace("ENCODER", encoder) + f" --threads 1 --work {toy}/work")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


SETTING = {"max_length": 1, "train_rows": 1, "test_rows": 1}
SPEEDS = {
    f"{what}_speedup{peer}": 2.0 for what in ("train", "evaluate") for peer in ("", "_dynamic")
}


def write_result(folder: Path, name: str, **summary: Any) -> None:
    about = {"set": name.partition("-")[0], "encoder": {"sha256": "e"}, "setting": SETTING}
    processor = "fast" if name.endswith("throughput") else "slow"
    machine = {"processor": processor}
    record = {"commit": "abc", "machine": machine, "summary": about | summary}
    (folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")


def test_the_table_gathers_means_and_medians(tmp_path: Path) -> None:
    def score(name: str, ours: float, theirs: float) -> None:
        difference = 100 * (ours - theirs)
        about = {"metric": "accuracy", "ours": ours, "plain": theirs, "difference": difference}
        write_result(tmp_path, name, **about)

    score("sst2-seed0", 0.8, 0.7)
    score("sst2-seed1", 0.9, 0.84)
    score("rte-seed0", 0.5, 0.52)
    score("race_middle-seed0", 0.3, 0.6)
    for name, speed in (("sst2", 3.0), ("trec", 5.0), ("rte", 99.0)):
        write_result(
            tmp_path, f"{name}-throughput", train_speedup=speed, evaluate_speedup=speed - 1,
            train_speedup_dynamic=speed / 2, evaluate_speedup_dynamic=speed / 4,
        )  # fmt: skip
    finetuning_table.table(tmp_path, tmp_path / "all" / "table.json", "english")
    record = json.loads((tmp_path / "all" / "table.json").read_text("utf-8"))
    assert record["summary"]["machines_of_scores"] == ["slow"]
    assert record["summary"]["machines_of_speeds"] == ["fast"]
    summary, row = record["summary"], record["rows"][0]
    assert (row["set"], row["seeds"]) == ("sst2", 2)
    assert row["ours"] == pytest.approx(0.85)
    assert row["difference"] == pytest.approx(8.0)
    assert row["std"] == pytest.approx(8**0.5)  # of 10 and 6
    assert row["std error"] == pytest.approx(2.0)
    assert summary["train_speedup_median"] == 4.0  # rte is not among the sets of the median
    assert summary["evaluate_speedup_median"] == 3.0
    assert summary["train_speedup_median_dynamic"] == 2.0
    assert summary["evaluate_speedup_median_dynamic"] == 1.0
    assert summary["speed_sets"] == ["sst2", "trec"]
    assert summary["speed_sets_measured"] == "2 of 6 sets"
    assert summary["score_difference_min"] == pytest.approx(-2.0)  # race_middle is shown only
    assert summary["score_difference_min_set"] == "rte"
    assert summary["score_difference_min_std_error"] is None
    assert summary["score_difference_min_speed_sets"] == pytest.approx(8.0)
    assert summary["score_difference_min_speed_sets_set"] == "sst2"
    assert summary["not_in_the_minimum"] == ["race_middle"]
    assert summary["units"]["difference"].startswith("percentage points")


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        (
            "rte-seed0",
            {"encoder": {"sha256": "f"}},
            r"more than one encoder for all sets \(rte-seed0, sst2",
        ),
        (
            "sst2-seed1",
            {"setting": SETTING | {"max_length": 2}},
            r"more than one setting for sst2 \(sst2-seed0, sst2-seed1",
        ),
        (
            "sst2-seed1",
            {"setting": SETTING | {"train_rows": 2}},
            r"more than one rate or number of rows for sst2 \(scores\) \(sst2-seed0, sst2-seed1",
        ),
    ],
)
def test_the_table_mixes_nothing(
    name: str, other: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_result(tmp_path, "sst2-seed0")
    write_result(tmp_path, name, **other)
    with pytest.raises(SystemExit, match=message):
        finetuning_table.table(tmp_path, tmp_path / "table.json", "english")


def test_speed_may_be_of_other_numbers_of_rows(tmp_path: Path) -> None:
    scores = {"metric": "accuracy", "ours": 0.8, "plain": 0.7, "difference": 10.0}
    write_result(tmp_path, "sst2-seed0", **scores)
    other = SETTING | {"train_rows": 3}
    write_result(tmp_path, "sst2-throughput", **SPEEDS, setting=other, rounds=2)
    finetuning_table.table(tmp_path, tmp_path / "table.json", "english")
    assert json.loads((tmp_path / "table.json").read_text())["summary"]["speed_sets"] == ["sst2"]


@pytest.mark.parametrize("suite", finetuning_case.SETTINGS)
def test_what_is_measured_is_in_the_suite(suite: str) -> None:
    names = {each.name for each in read_suite(suite).sets}
    assert set(finetuning_case.SPEED_SETS[suite]) < set(finetuning_case.SETTINGS[suite]) <= names
    assert not set(finetuning_case.SPEED_SETS[suite]) & set(finetuning_case.SCORES_ONLY)
