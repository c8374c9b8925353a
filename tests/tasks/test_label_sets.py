"""Several labels for one text: reading, threshold, scores, learning."""

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig, finetune_defaults
from electra.errors import ConfigError, DataError
from electra.evaluate import evaluate
from electra.evaluation import metrics
from electra.finetune import finetune
from electra.predict import predict, print_predictions
from electra.recipe import resolve
from electra.tasks.label_sets import best_threshold, set_metrics, set_prediction, set_table, sigmoid
from electra.tasks.labelled_data import Columns, LabelledExample, read_examples
from electra.tasks.labels import MULTI_LABEL
from electra.tasks.task import load_task, save_task
from electra.tasks.text_classification import TextClassification
from tests.tiny import BAD, GOOD, PLAIN

LABELS = ("a", "b", "c")
TASK = TextClassification(MULTI_LABEL, LABELS, Columns("text", None, "label"), 32)
RANDOM = np.random.default_rng(3)


def write(path: Path, labels: list[Any]) -> str:
    rows = [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def learn(source: str, **data: Any) -> TextClassification:
    config = FinetuneConfig(data=LabelledDataConfig(**data))
    return TextClassification.from_training(source, config)[0]


def examples_of(sets: list[tuple[str, ...]]) -> list[LabelledExample]:
    return [LabelledExample(i, "x", labels=names) for i, names in enumerate(sets)]


# reading


def test_lists_are_label_sets(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [["b", "a", "b"], [], [3, "3", 2.0]])
    _, examples = read_examples(source, LabelledDataConfig())
    assert [e.labels for e in examples] == [("b", "a"), (), ("3", "2")]
    assert all(e.label is None for e in examples)
    task = learn(source)
    assert (task.problem_type, task.labels, task.metric) == (
        "multi_label_classification",
        ("2", "3", "a", "b"),
        "micro_f1",
    )


def test_lists_of_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    table = pyarrow.table({"text": ["x", "y", "z"], "label": [["a"], [], ["b", "a"]]})
    parquet.write_table(table, tmp_path / "a.parquet")
    _, examples = read_examples(str(tmp_path / "a.parquet"), LabelledDataConfig())
    assert [e.labels for e in examples] == [("a",), (), ("b", "a")]


def test_lists_of_the_hub_have_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        text=datasets.Value("string"),
        labels=datasets.Sequence(datasets.ClassLabel(names=["joy", "fear"])),
    )
    rows = datasets.Dataset.from_dict({"text": ["x", "y"], "labels": [[1, 0], []]}, features)
    monkeypatch.setattr("electra.tasks.labelled_data.hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    _, examples = read_examples("owner/name:train", LabelledDataConfig())
    assert [e.labels for e in examples] == [("fear", "joy"), ()]


def test_a_separator_splits_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\none,a|b\ntwo,\nthree, b | c|\nfour,a\n")
    data = LabelledDataConfig(label_separator="|")
    columns, examples = read_examples(str(path), data)
    assert columns == Columns("text", None, "label")
    assert [e.labels for e in examples] == [("a", "b"), (), ("b", "c"), ("a",)]
    task = learn(str(path), label_separator="|")
    assert task.labels == LABELS
    # a finished model knows the separator
    assert [e.labels for e in task.read(str(path))] == [e.labels for e in examples]
    path.write_text("a film,a|b\na play,b|a\na book,b\n")
    headerless, examples = read_examples(str(path), data)
    assert (headerless.label, examples[0].labels) == ("1", ("a", "b"))
    with pytest.raises(ConfigError, match=r'--data\.label-separator is ""; allowed: one character'):
        LabelledDataConfig(label_separator="")


def test_bad_sets_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(
        DataError,
        match=r'row 2 has the label "a", .* row 1 a list of labels; every row must have a list, or',
    ):
        learn(write(path, [["a"], "a", ["b"]]))
    with pytest.raises(DataError, match="holds empty lists alone"):
        learn(write(path, [[], []]))
    with pytest.raises(DataError, match='holds one label alone, "a", in every row'):
        learn(write(path, [["a"], ["a"]]))
    assert learn(write(path, [["a"], []])).labels == ("a",)
    for item, shown in ((None, "None"), ("", "''"), (["b"], r"\['b'\]"), ({"k": 1}, "{'k': 1}")):
        with pytest.raises(DataError, match=f"row 2 has {shown} in its list of labels in column"):
            learn(write(path, [["a"], ["b", item]]))
    with pytest.raises(DataError, match='row 1 has an object in column "label"; a label or a list'):
        learn(write(path, [{"a": 1}]))
    with pytest.raises(DataError, match='row 1 has the label "d", which the training data does no'):
        TASK.read(write(path, [["a", "d"]]))
    with pytest.raises(DataError, match='row 1 has the label "a"; the training data has lists of'):
        TASK.read(write(path, ["a"]))
    single = learn(write(path, ["a", "b"]))
    with pytest.raises(DataError, match="row 1 has a list of labels; the training data has one"):
        single.read(write(path, [["a"]]))
    with pytest.raises(ConfigError, match=r"out-of-scope-label is a, .* have several"):
        learn(write(path, [["a"], ["b"]]), out_of_scope_label="a")


def test_task_json_keeps_the_threshold(tmp_path: Path) -> None:
    task = TextClassification(
        MULTI_LABEL, LABELS, TASK.columns, 32, label_separator="|", threshold=0.3
    )
    save_task(task, tmp_path)
    assert load_task(tmp_path) == task
    record = json.loads((tmp_path / "task.json").read_text())
    for name in ("long_texts", "doc_stride", "label_separator", "threshold", "out_of_scope_label"):
        del record[name]
    record["problem_type"] = "single_label_classification"  # as it was written before
    (tmp_path / "task.json").write_text(json.dumps(record))
    assert load_task(tmp_path) == TextClassification(
        "single_label_classification", LABELS, TASK.columns, 32
    )


# answers


def slow_threshold(truth: np.ndarray, scores: np.ndarray) -> tuple[float, list[float]]:
    """The largest micro-F1 over all thresholds, by trying a threshold at every probability."""

    def f1(threshold: float) -> float:
        return metrics.micro_f1_of_sets(truth, scores >= threshold)

    best = max(map(f1, [0.5, *scores.ravel()]))
    return best, [t for t in (0.5, *scores.ravel()) if f1(t) == best]


def test_the_threshold_has_the_largest_micro_f1() -> None:
    for size in range(1, 40):
        truth = RANDOM.random((size, 3)) < 0.3
        scores = 0.05 + 0.9 * np.round(RANDOM.random((size, 3)), 1 + size % 3)  # with ties
        best, chosen = slow_threshold(truth, scores)
        found = best_threshold(truth, scores)
        assert metrics.micro_f1_of_sets(truth, scores >= found) == best
        assert (found == 0.5) == (0.5 in chosen)
        assert 0 < found < 1


def test_thresholds_by_hand() -> None:
    truth = np.array([[True, False, True]])
    assert best_threshold(truth, np.array([[0.9, 0.1, 0.8]])) == 0.5
    assert best_threshold(truth, np.array([[0.9, 0.7, 0.8]])) == pytest.approx(0.75)
    assert best_threshold(truth, np.array([[0.3, 0.1, 0.2]])) == pytest.approx(0.15)
    assert best_threshold(np.zeros((1, 3), bool), np.array([[0.9, 0.1, 0.8]])) == 0.5


def test_tuned_takes_it_from_the_logits() -> None:
    examples = examples_of([("a",), ("b", "c"), ()])
    logits = [np.array(row, np.float32) for row in ([-1, -3, -3], [-4, -1.2, -1], [-3, -3, -4])]
    tuned = TASK.tuned(examples, [], logits)
    middle = (sigmoid(np.float32([-1.2]))[0] + sigmoid(np.float32([-3]))[0]) / 2
    assert tuned.threshold == pytest.approx(middle)
    answers = tuned.decode(examples, [], logits)
    assert [p["labels"] for p in answers] == [["a"], ["b", "c"], []]
    assert tuned.metrics(examples, answers)["micro_f1"] == 1.0
    assert [p["labels"] for p in TASK.decode(examples, [], logits)] == [[], [], []]


def test_a_prediction_says_how_sure_it_is() -> None:
    scores = np.array([0.2, 0.9, 0.6])
    assert set_prediction(LABELS, scores, 0.5) == {
        "labels": ["b", "c"],
        "score": 0.6,
        "scores": {"a": 0.2, "b": 0.9, "c": 0.6},
    }
    assert set_prediction(LABELS, scores, 0.95)["labels"] == []
    assert set_prediction(LABELS, scores, 0.95)["score"] == 0.9
    out = io.StringIO()
    print_predictions(iter([{"id": 0, **set_prediction(LABELS, scores, 0.5)}]), file=out)
    assert out.getvalue() == "0\tb, c\t0.6000\n"


def test_metrics_are_scikit_learns() -> None:
    truth = RANDOM.random((50, 3)) < 0.4
    scores = RANDOM.random((50, 3))
    answers = scores >= 0.6
    sets = [tuple(np.array(LABELS)[row]) for row in truth]
    predictions = [set_prediction(LABELS, row, 0.6) for row in scores]
    found = set_metrics(sets, predictions, LABELS)
    assert found == {
        "micro_f1": pytest.approx(f1_score(truth, answers, average="micro")),
        "macro_f1": pytest.approx(f1_score(truth, answers, average="macro")),
        "subset_accuracy": pytest.approx((truth == answers).all(1).mean()),
        "mean_average_precision": pytest.approx(average_precision_score(truth, scores)),
    }
    columns = precision_recall_fscore_support(truth, answers)
    for k, row in enumerate(set_table(sets, predictions, LABELS)):
        assert row["label"] == LABELS[k]
        numbers = [row[name] for name in ("precision", "recall", "f1", "support")]
        assert numbers == pytest.approx([column[k] for column in columns])


def test_metrics_of_nothing() -> None:
    nothing = [set_prediction(LABELS, np.zeros(3), 0.5)] * 2
    assert set_metrics([(), ()], nothing, LABELS) == {
        "micro_f1": 0.0,
        "macro_f1": 0.0,
        "subset_accuracy": 1.0,
    }
    # a label that occurs on neither side is in no average
    given = [set_prediction(LABELS, np.array([1.0, 0, 0]), 0.5)] * 2
    assert set_metrics([("a",), ("a",)], given, LABELS)["macro_f1"] == 1.0


def test_collapse_is_said() -> None:
    examples = examples_of([("a",), ("b",)])
    none = [set_prediction(LABELS, np.zeros(3), 0.5)] * 2
    some = [set_prediction(LABELS, np.array([1.0, 1, 0]), 0.5)] * 2
    assert "the model answers no label to all 2 validation rows" in str(
        TASK.collapsed(examples, none)
    )
    assert 'answers "a, b" to all 2' in str(TASK.collapsed(examples, some))
    assert TASK.collapsed(examples, [none[0], some[0]]) is None
    assert TASK.collapsed(examples[:1] * 2, none) is None


# models


def toy(path: Path, count: int, seed: int) -> str:
    """Texts with a good word, a bad one, both or neither, and labels that say so."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        words = draw.choices(PLAIN[:15], k=draw.randint(2, 6))
        labels = [name for bit, name in ((1, "good"), (2, "bad")) if i % 4 & bit]
        words += [draw.choice(GOOD if name == "good" else BAD) for name in labels]
        draw.shuffle(words)
        rows.append({"text": " ".join(words), "labels": labels})
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_sets_are_learned(encoders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoConfig

    flags = {
        "training": {"epochs": 12, "global_batch_size": 16},
        "optimizer": {"learning_rate": 5e-3, "layerwise_lr_decay": 1.0},
    }
    result = finetune(
        model=str(encoders["modernbert"]),
        train=toy(tmp_path / "train.jsonl", 320, 0),
        validation=toy(tmp_path / "dev.jsonl", 80, 1),
        output=tmp_path / "run",
        config=resolve(
            FinetuneConfig, [*finetune_defaults("text-classification"), ("test", flags)]
        ),
    )
    assert result.metric == "micro_f1"
    assert result.score > 0.95
    config = AutoConfig.from_pretrained(tmp_path / "run")
    assert config.problem_type == "multi_label_classification"
    assert config.id2label == {0: "bad", 1: "good"}
    # the threshold went along: the same figures from the folder
    again = evaluate(model=tmp_path / "run", data=str(tmp_path / "dev.jsonl"))
    assert again["metrics"] == pytest.approx(result.metrics)
    (answer,) = predict(model=tmp_path / "run", texts=["the good film was dull"])
    assert list(answer) == ["id", "labels", "score", "scores"]
    assert set(answer["labels"]) == {"bad", "good"}


def test_the_head_is_that_of_transformers(encoders: dict[str, Path]) -> None:
    """The loss that the Auto class computes itself is ours, divided."""
    import torch

    model = TASK.build_model(str(encoders["bert"]), HeadConfig()).eval()
    ids = torch.tensor([[2, 5, 9, 3], [2, 6, 7, 3]])
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    theirs = model(input_ids=ids, labels=targets)
    ours = TASK.loss(theirs.logits, targets).total / TASK.num_targets(targets)
    assert ours.item() == pytest.approx(theirs.loss.item())
