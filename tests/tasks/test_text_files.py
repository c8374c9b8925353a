"""JSON of several shapes, TREC's lines, and what is wrong with labels."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from electra.config import FinetuneConfig, LabelledDataConfig
from electra.errors import ConfigError, DataError
from electra.evaluation import metrics
from electra.tasks.inputs import answers_in_json, file_and_splits, open_input, require_one
from electra.tasks.labelled_data import LabelledExample, read_examples
from electra.tasks.labels import kinds_note, learn_labels
from electra.tasks.text_classification import TextClassification
from electra.tasks.text_files import json_rows, open_trec

AUTO = LabelledDataConfig()
ROWS = [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}]
SPLITS = {
    "oos_train": [["where am i", "oos"]],
    "train": [["play it", "music"], ["wake me", "alarm"]],
    "val": [["stop", "music"]],
}


def write(path: Path, text: str) -> str:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def texts(source: str) -> list[str]:
    return [e.text for e in read_examples(source, AUTO)[1]]


# JSON


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, ROWS)),
        "\n\n" + "\n\n".join(map(json.dumps, ROWS)) + "\n",
        json.dumps(ROWS),
        json.dumps(ROWS, indent=1),
        json.dumps([["x", "a"], ["y", "b"]]),
    ],
    ids=["lines", "lines apart", "list", "indented list", "pairs"],
)
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_shapes_of_json(tmp_path: Path, name: str, text: str) -> None:
    source = write(tmp_path / name, text)
    assert [(e.text, e.label) for e in read_examples(source, AUTO)[1]] == [("x", "a"), ("y", "b")]
    assert [row["text"] for row in open_input(source).rows] == ["x", "y"]


def test_one_object_is_a_row(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.json", json.dumps(ROWS[0], indent=1))) == ["x"]
    assert list(json_rows(Path(write(tmp_path / "a.json", " \n")))) == []


@pytest.mark.parametrize("indent", [None, 1])
def test_splits_of_a_file(tmp_path: Path, indent: int | None) -> None:
    source = write(tmp_path / "full.json.gz", json.dumps(SPLITS, indent=indent))
    assert texts(f"{source}:train") == ["play it", "wake me"]
    _, examples = read_examples(f"{source}:train+oos_train", AUTO)
    assert [e.label for e in examples] == ["music", "alarm", "oos"]
    assert examples[2].place == f"{source}:train+oos_train row 3"
    with pytest.raises(
        DataError, match=r"holds splits; name one, .*full\.json\.gz:oos_train \(the"
    ):
        texts(source)
    with pytest.raises(DataError, match='has no split "test"; it has: oos_train, train, val'):
        texts(f"{source}:train+test")
    plain = write(tmp_path / "a.json", json.dumps(ROWS))
    with pytest.raises(DataError, match=r"has no splits .* leave :train out"):
        texts(f"{plain}:train")
    table = write(tmp_path / "a.csv", "text,label\nx,a\n")
    with pytest.raises(
        DataError, match=r"a\.csv has no splits, as a \.json file may; leave :train"
    ):
        texts(f"{table}:train")
    with pytest.raises(DataError, match=r"gone\.json:train does not exist"):
        texts(f"{tmp_path}/gone.json:train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "x"}\n{"text"', "line 2 is not JSON"),
        ('{"text": "x"}\n[1]', "line 2 is list; a JSON object is wanted"),
        ("[1, 2]", "row 1 is int; an object, or a pair"),
        ('[["x", "a", 3]]', "row 1 is list; an object, or a pair"),
        ("[{]", "is not JSON"),
        ('"x"', "is one str; a list of objects"),
    ],
)
def test_damaged_json(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(json_rows(Path(write(tmp_path / "a.json", text))))


# TREC


def test_trecs_lines(tmp_path: Path) -> None:
    text = "DESC:manner How did it begin ?\nENTY:cremat What film ?\n\nDESC:def What is it ?\n"
    source = write(tmp_path / "a.txt", text)
    _, examples = read_examples(source, AUTO)
    assert [(e.text, e.label) for e in examples] == [
        ("How did it begin ?", "DESC"),
        ("What film ?", "ENTY"),
        ("What is it ?", "DESC"),
    ]
    fine = LabelledDataConfig(label_column="fine")
    labels = [e.label for e in read_examples(source, fine)[1]]
    assert labels == ["DESC:manner", "ENTY:cremat", "DESC:def"]
    task, _ = TextClassification.from_training(source, FinetuneConfig())
    assert task.notes(task.read(source)) == []
    # to be answered, such lines and plain ones
    assert [e.text for e in task.open_unlabelled(source, AUTO)[0]] == [e.text for e in examples]
    plain = write(tmp_path / "b.txt", "How did it begin ?\n")
    assert [e.text for e in task.open_unlabelled(plain, AUTO)[0]] == ["How did it begin ?"]
    write(tmp_path / "a.txt", text + "no label here\n")
    with pytest.raises(
        DataError, match=r'a\.txt line 5 is "no label here"; "COARSE:fine question"'
    ):
        read_examples(source, AUTO)


def test_trec_in_latin_1_is_read_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("DESC:def Was ist ein Caf\xe9 ?\nENTY:cremat What ?\n".encode("latin-1"))
    task, examples = TextClassification.from_training(str(path), FinetuneConfig())
    assert examples[0].text == "Was ist ein Caf\xe9 ?"
    (note,) = task.notes(examples)
    assert "a.txt is not UTF-8; it is read as Latin-1" in note
    path.write_bytes("DESC:def Was ist ein Caf\xe9 ?\n".encode())
    assert open_trec(path) is not None
    assert task.notes(read_examples(str(path), AUTO)[1]) == []


def test_other_lines_are_no_labels(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", "a line\nanother\n")
    assert open_trec(Path(source)) is None
    with pytest.raises(DataError, match="no column for the text beside the label's; it has: text"):
        read_examples(source, AUTO)


# labels


def learn(labels: list[Any], path: Path) -> tuple[str, tuple[str, ...]]:
    rows = [{"text": "x", "label": label} for label in labels]
    source = write(path, "\n".join(map(json.dumps, rows)))
    return learn_labels(read_examples(source, AUTO)[1], source)


@pytest.mark.parametrize("odd", ["nan", "NaN", "inf", "-Infinity", "1e999", float("inf")])
def test_a_number_that_is_none(tmp_path: Path, odd: Any) -> None:
    message = f'row 3 has the label "{odd}", which is no finite number; all the other'
    with pytest.raises(DataError, match=message):
        learn([1.5, 2.0, odd], tmp_path / "a.jsonl")
    with pytest.raises(DataError, match=message):
        learn([1, 0, odd, 1], tmp_path / "a.jsonl")


def test_nan_of_json(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match='row 2 has NaN in column "label"; a finite number or a name is wanted'
    ):
        learn([1.5, float("nan")], tmp_path / "a.jsonl")


def test_nan_among_validation_scores(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "text,score\none,1.5\ntwo,2.5\n")
    task, _ = TextClassification.from_training(source, FinetuneConfig())
    for odd in ("nan", "inf"):
        write(tmp_path / "a.csv", f"text,score\none,1.5\ntwo,{odd}\n")
        with pytest.raises(
            DataError, match=f'row 2 has the label "{odd}"; the training data has finite numbers'
        ):
            task.read(source)


def test_labels_of_mixed_types(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert learn([1, "1", 1.0, 0, "0"], path)[1] == ("0", "1")
    assert learn([True, False, True], path)[1] == ("False", "True")
    with pytest.raises(
        DataError,
        match=r'row 2 has the label "high" where other rows have numbers \("2\.5"\); numbers alone',
    ):
        learn([2.5, "high", 1], path)
    kind, labels = learn([0, "neutral", 1], path)
    assert (kind, labels) == ("single_label_classification", ("0", "1", "neutral"))
    # words that float() reads are words among words
    assert learn(["nan", "bread", "Infinity"], path)[1] == ("Infinity", "bread", "nan")


def test_numbers_and_names_are_told() -> None:
    mixed = [
        LabelledExample(i, "x", label=name, place=f"a.tsv row {i + 1}")
        for i, name in enumerate(["0", "1", "true"])
    ]
    assert kinds_note(mixed) == ["a.tsv: labels are numbers (0, 1) and names (true)"]
    assert kinds_note(mixed[:2]) == kinds_note(mixed[2:]) == kinds_note([]) == []


def test_ten_megabytes_in_one_cell(tmp_path: Path) -> None:
    long = "word " * 2_000_000
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w") as file:
            csv.writer(file, delimiter=delimiter).writerows(
                [["text", "label"], [long.strip(), "a"], ["short", "b"]]
            )
        found = texts(str(tmp_path / name))
        assert list(map(len, found)) == [len(long) - 1, 5]


# out of scope


def test_out_of_scope_metrics(tmp_path: Path) -> None:
    source = write(tmp_path / "full.json", json.dumps(SPLITS))
    config = FinetuneConfig(data=LabelledDataConfig(out_of_scope_label="oos"))
    task, _ = TextClassification.from_training(f"{source}:train+oos_train", config)
    truth = ["music", "alarm", "oos", "oos", "music"]
    answers = ["music", "oos", "oos", "alarm", "alarm"]
    examples = [LabelledExample(i, "x", label=name) for i, name in enumerate(truth)]
    found = task.metrics(examples, [{"label": name} for name in answers])
    assert task.metric == "accuracy"
    assert found["accuracy"] == 2 / 5
    assert found["in_scope_accuracy"] == 1 / 3
    assert found["out_of_scope_recall"] == 1 / 2
    assert TextClassification.from_settings(task.settings()) == task
    assert metrics.out_of_scope(["a"], ["a"], "oos") == {"in_scope_accuracy": 1.0}
    with pytest.raises(DataError, match=r"scope-label is oos, which no row of .*:train has; lab"):
        TextClassification.from_training(f"{source}:train", config)
    scores = write(tmp_path / "a.csv", "text,score\none,1.5\ntwo,2.5\n")
    with pytest.raises(ConfigError, match=r"is oos, which is for one label a row; .* have numbers"):
        TextClassification.from_training(scores, config)


def test_splits_in_predict_and_score(tmp_path: Path) -> None:
    source = write(tmp_path / "full.json", json.dumps(SPLITS))
    for name in (f"{source}:train", f"{source}:train+val"):
        require_one([], name)
        assert answers_in_json(name)
        assert next(open_input(name).rows) == {"text": "play it", "label": "music"}
    assert file_and_splits(f"{source}:train[:80%]") == (Path(source), "train[:80%]")
    with pytest.raises(DataError, match=r'has no split "train\[:80%\]"; it has: oos_train, train'):
        texts(f"{source}:train[:80%]")
    with pytest.raises(DataError, match=r"gone\.json:train does not exist"):
        require_one([], str(tmp_path / "gone.json:train"))


def test_a_file_is_no_text(tmp_path: Path) -> None:
    source = write(tmp_path / "full.txt", "fine")
    require_one(["fine", str(tmp_path)], None)
    with pytest.raises(ConfigError, match=r"text 2 is the name of a file: give it with --input "):
        require_one(["fine", str(source)], None)
    require_one(["", "long " * 2000], None)


def test_json_from_standard_input_is_read_as_from_files(tmp_path: Path) -> None:
    lines = '{"text": "a\\ud800é", "n": 1}\n\n'
    source = write(tmp_path / "a.jsonl", lines)
    rows = list(open_input("-", stdin=io.StringIO(lines)).rows)
    assert rows == list(open_input(source).rows) == [{"text": "a\ufffdé", "n": 1}]
    for bad, message in (
        ("[1]\n", "standard input line 2 is list; a JSON object is wanted"),
        ("{\n", "standard input line 2 is not JSON: "),
    ):
        with pytest.raises(DataError, match=message):
            list(open_input("-", stdin=io.StringIO('{"text": "x"}\n' + bad)).rows)
