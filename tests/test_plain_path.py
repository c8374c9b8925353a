"""The peer of our benchmark must be whole, or beating it says nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import finetuning, plain_path
from benchmarks.plain_path import PlainPath, PlainTraining, _best_answers
from electra.config import FinetuneConfig
from electra.tasks.question_answering import QuestionAnswering
from electra.tasks.task import task_class
from tests.tiny import make_encoder, sentences, write_tsv


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


def test_the_table_gathers_means_and_medians(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "RESULTS", tmp_path)

    def write(name: str, **summary: Any) -> None:
        record = {"commit": "abc", "summary": summary}
        (tmp_path / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")

    for seed, (ours, theirs) in enumerate([(0.8, 0.7), (0.9, 0.8)]):
        write(
            f"sst2-seed{seed}", metric="accuracy", ours=ours, plain=theirs,
            difference=100 * (ours - theirs),
        )  # fmt: skip
    write("rte-seed0", metric="accuracy", ours=0.5, plain=0.52, difference=-2.0)
    for name, train, evaluation in (("sst2", 3.0, 2.0), ("trec", 5.0, 4.0), ("rte", 99.0, 99.0)):
        write(f"{name}-throughput", train_speedup=train, evaluate_speedup=evaluation)
    finetuning.table(tmp_path / "all" / "table.json")
    summary = json.loads((tmp_path / "all" / "table.json").read_text("utf-8"))["summary"]
    assert summary["train_speedup_median"] == 4.0  # rte is not among the sets of the median
    assert summary["evaluate_speedup_median"] == 3.0
    assert summary["score_difference_min"] == pytest.approx(-2.0)
    assert summary["speed_sets"] == ["sst2", "trec"]
