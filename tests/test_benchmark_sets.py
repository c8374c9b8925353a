"""What a benchmark does about its sets: failures, changed data, earlier results, files drawn."""

import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import electra.benchmark
from electra.benchmark import benchmark
from electra.config import FinetuneConfig, LabelledDataConfig
from electra.errors import ConfigError, DataError, DivergedError, UserError
from electra.evaluation.samples import Unit, read_units, split
from electra.evaluation.suite_files import MissingDataError, is_hub, set_files
from electra.evaluation.suites import METRICS, BenchmarkSet
from electra.tasks.task import task_class
from electra.training.run_identity import describe_run, identity
from tests.tiny import make_encoder, sentences, write_tsv

WHOLE = """
[sets.{name}]
task = "text-classification"
train = "{name}/train.tsv"
validation = "{name}/dev.tsv"
test = "{name}/test.tsv"
metric = "{metric}"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sets of whole files, an encoder, and fine-tuning that trains nothing."""
    make_encoder(tmp_path / "encoder", layers=1)
    for seed, name in enumerate(("one", "two", "three")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for part, count in (("train", 20), ("dev", 8), ("test", 10)):
            file = tmp_path / "data" / name / f"{part}.tsv"
            write_tsv(file, ["sentence", "label"], sentences(count, seed))

    def finetune(**given: Any) -> None:
        given["output"].mkdir(parents=True)
        describe_run(given["output"], given["config"], {"model": identity(given["model"])})
        chosen_by = given["config"].training.metric_for_best_model
        report = {"metric": chosen_by, "metrics": {"accuracy": 0.5}, "minutes": 1.0}
        (given["output"] / "report.json").write_text(json.dumps(report), encoding="utf-8")

    def evaluate(**given: Any) -> dict[str, Any]:
        return {"n": 10, "metrics": {"accuracy": 0.5, "macro_f1": 0.25}}

    monkeypatch.setattr(electra.benchmark, "finetune", finetune)
    monkeypatch.setattr(electra.benchmark, "evaluate", evaluate)
    return tmp_path


def call(home: Path, metrics: tuple[str, ...] = ("accuracy",) * 3, **more: Any) -> dict[str, Any]:
    names = zip(("one", "two", "three"), metrics, strict=True)
    text = "".join(WHOLE.format(name=name, metric=metric) for name, metric in names)
    (home / "suite.toml").write_text(text, encoding="utf-8")
    given = {"model": str(home / "encoder"), "data": home / "data", "output": home / "out"} | more
    return benchmark(str(home / "suite.toml"), seeds=1, **given)


def test_whole_files_are_read_where_they_are(home: Path) -> None:
    assert list(call(home)["sets"]) == ["one", "two", "three"]
    made_of = json.loads((home / "out" / "one" / "made_of.json").read_text("utf-8"))
    assert set(made_of["sources"]) == {"one/train.tsv", "one/dev.tsv", "one/test.tsv"}
    assert not (home / "out" / "one" / "data").exists()


def test_a_set_that_fails_stops_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = electra.benchmark.finetune

    def failing(**given: Any) -> Any:
        if "one" in given["train"]:
            raise DivergedError("the loss is nan at step 3")
        return real(**given)

    monkeypatch.setattr(electra.benchmark, "finetune", failing)
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(UserError, match=r"2 of 3 sets failed \(one, two\)") as caught:
        call(home, ("accuracy", "pearson", "accuracy"), console=console)
    assert caught.value.exit_code == 2
    found = json.loads((home / "out" / "results.json").read_text("utf-8"))
    assert list(found["sets"]) == ["three"]
    assert found["failed"] == {
        "one": "the loss is nan at step 3",
        "two": "set two has no metric pearson on its data; there are: accuracy, macro_f1",
    }
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "failed one: the loss is nan at step 3" in printed
    assert "mean of the medians over 1 of 3 sets: 0.5000" in printed


def test_data_that_changed_is_refused(home: Path) -> None:
    call(home)
    (home / "data").rename(home / "moved")
    assert len(call(home, data=home / "moved")["sets"]) == 3  # the same under another name
    rows = sentences(20, 99)
    write_tsv(home / "moved" / "two" / "train.tsv", ["sentence", "label"], rows)
    with pytest.raises(ConfigError, match=r"begun with other data \(two/train.tsv changed since\)"):
        call(home, data=home / "moved")


def test_only_keeps_the_other_sets_of_the_same_recipe(home: Path) -> None:
    first = call(home, only="two,three")
    again = call(home, only="one")
    assert list(again["sets"]) == ["one", "two", "three"]
    assert again["sets"]["two"] == first["sets"]["two"]
    assert call(home, only="one") == again
    # of another recipe, of another encoder
    (home / "elsewhere").mkdir()
    results = (home / "out" / "results.json").read_text("utf-8")
    (home / "elsewhere" / "results.json").write_text(results, encoding="utf-8")
    epochs = {"training": {"epochs": 2}}
    assert list(call(home, only="one", output=home / "elsewhere", overrides=epochs)["sets"]) == [
        "one"
    ]
    make_encoder(home / "other", "electra", layers=1)
    (home / "third").mkdir()
    (home / "third" / "results.json").write_text(results, encoding="utf-8")
    found = call(home, only="one", output=home / "third", model=str(home / "other"))
    assert list(found["sets"]) == ["one"]


def test_quick_has_a_folder_of_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    call(home, only="one", output=None)
    call(home, only="one", output=None, quick=True)
    assert {p.name for p in Path("runs/benchmarks").iterdir()} == {"suite", "suite-quick"}


def test_epochs_chosen_by_the_rows_are_no_other_recipe(home: Path) -> None:
    call(home, only="one")
    file = home / "out" / "one" / "seed-0" / "config.toml"
    text = file.read_text("utf-8").replace("[training]\n", "[training]\nepochs = 20.0\n")
    file.write_text(text, encoding="utf-8")  # as `finetune` writes it where no budget is given
    assert call(home, only="one")["sets"]


def test_the_set_s_first_metric_chooses_the_models_or_it_is_said(home: Path) -> None:
    found = call(home, ("macro_f1", "accuracy", "accuracy"))
    assert found["sets"]["one"]["chosen_by"] == "macro_f1"
    progress = Console(file=io.StringIO(), width=200)
    other = {"training": {"metric_for_best_model": "mcc"}}
    call(home, output=home / "other", overrides=other, only="one", progress=progress)
    assert isinstance(progress.file, io.StringIO)
    said = progress.file.getvalue()
    assert "models were chosen by mcc, the set's metric is accuracy" in said


def test_validation_data_below_a_folder_want_the_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELECTRA_DATA", raising=False)
    text = WHOLE.format(name="x", metric="accuracy")
    for part in ("train", "test"):
        text = text.replace(f"x/{part}.tsv", f"owner/x:{part}")
    (home / "hub.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="no data folder: give the folder"):
        benchmark(str(home / "hub.toml"), model=str(home / "encoder"), output=home / "out")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nyu-mll/glue/cola:train", True),
        ("google/xtreme/PAN-X.zh:test", True),
        ("imdb:train[:80%]", True),
        ("clinc150/data_full.json.gz:train+oos_train", False),
        ("clinc150/data_full.json.xz:train", False),
        ("sst2/train.tsv.gz", False),
        ("/somewhere/else:train", False),
    ],
)
def test_what_is_of_the_hub(source: str, expected: bool) -> None:
    assert is_hub(source) == expected


def draw(task: str, folder: Path, **more: Any) -> tuple[list[Any], ...]:
    """Train, validation and test rows of a set, as the task reads them."""
    given: dict[str, Any] = {
        "name": "x", "task": task, "validation": 0.3, "metric": METRICS[task][:1],
    }  # fmt: skip
    files = set_files(BenchmarkSet(**given | more), folder, folder / "drawn", LabelledDataConfig())
    learned, train = task_class(task).from_training(files.train, FinetuneConfig())
    return train, learned.read(files.validation), learned.read(files.test)


def texts(examples: list[Any]) -> set[str]:
    return {" ".join(e.text.lower().split()) for e in examples}


TSV = "sentence\tlabel\n"


def table(folder: Path, rows: list[tuple[str, str]]) -> str:
    lines = [TSV, *(f"{text}\t{label}\n" for text, label in rows)]
    (folder / "a.tsv").write_text("".join(lines), encoding="utf-8")
    return "a.tsv"


def json_list(folder: Path, rows: list[tuple[str, str]]) -> str:
    (folder / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    return "a.json"


def json_objects(folder: Path, rows: list[tuple[str, str]]) -> str:
    objects = [{"text": text, "label": label} for text, label in rows]
    (folder / "b.json").write_text(json.dumps(objects), encoding="utf-8")
    return "b.json"


def trec(folder: Path, rows: list[tuple[str, str]]) -> str:
    lines = (f"{label}:x {text}\n" for text, label in rows)
    (folder / "a.txt").write_text("".join(lines), encoding="utf-8")
    return "a.txt"


@pytest.mark.parametrize("write", [table, json_list, json_objects, trec])
def test_rows_of_one_text_are_not_parted(
    write: Callable[[Path, list[tuple[str, str]]], str], tmp_path: Path
) -> None:
    rows = [
        (f"Text  number {i % 20} ?" if i % 2 else f"text number {i % 20} ?", "AB"[i % 2])
        for i in range(60)
    ]
    name = write(tmp_path, rows)
    train, held, _ = draw("text-classification", tmp_path, train=(name,), test=(name,))
    assert len(train) + len(held) == 60
    assert 18 <= len(held) <= 21
    assert texts(train).isdisjoint(texts(held))


def test_pairs_of_one_first_text_are_not_parted(tmp_path: Path) -> None:
    lines = [f"premise {i % 10}\tother {i}\t{'yn'[i % 2]}\n" for i in range(40)]
    head = "sentence1\tsentence2\tlabel\n"
    (tmp_path / "a.tsv").write_text(head + "".join(lines), encoding="utf-8")
    train, held, _ = draw("text-classification", tmp_path, train=("a.tsv",), test=("a.tsv",))
    assert len(held) == 12
    assert texts(train).isdisjoint(texts(held))


def test_every_label_stays_though_its_text_is_elsewhere_too() -> None:
    units = [Unit(i, group=i, labels=frozenset(["common"])) for i in range(30)]
    units += [
        Unit(i, group="same", labels=frozenset(["rare", "common"][: i - 29])) for i in (30, 31)
    ]
    for seed in range(10):
        drawn = split(units, seed=seed, held_out=0.5)
        assert {30, 31} <= set(drawn.kept)
        assert len(drawn.held_out) == 16


def test_a_text_is_the_same_in_two_files(tmp_path: Path) -> None:
    for name in "ab":
        text = TSV + "".join(f"text {i}\t{'yn'[i % 2]}\n" for i in range(20))
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
    train, held, _ = draw(
        "text-classification", tmp_path, train=("a.tsv", "b.tsv"), test=("a.tsv",)
    )
    assert texts(train).isdisjoint(texts(held))


def parallel(folder: Path, count: int, first: int = 0) -> None:
    folder.mkdir()
    numbers = range(first, first + count)
    lines = {
        "seq.in": [f"word{i} plays here" for i in numbers],
        "seq.out": [f"B-{'PL'[i % 2]} O O" for i in numbers],
        "label": [f"intent{i % 3}" for i in numbers],
    }
    for name, rows in lines.items():
        (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def test_folders_are_drawn_as_folders(tmp_path: Path) -> None:
    parallel(tmp_path / "train", 40)
    parallel(tmp_path / "test", 20, first=40)
    for _ in range(2):  # a folder that is there is replaced
        train, held, test = draw(
            "token-classification", tmp_path, train=("train",), test=("test",),
            max_train_rows=10, max_test_rows=5,
        )  # fmt: skip
    assert [len(part) for part in (train, held, test)] == [10, 12, 5]
    assert texts(train).isdisjoint(texts(held))
    assert {e.intent for e in train} == {"intent0", "intent1", "intent2"}
    for example in test:
        number = int(example.text.split()[0].removeprefix("word"))
        assert number >= 40
        assert example.intent == f"intent{number % 3}"
        assert [e.label for e in example.entities] == ["PL"[number % 2]]
    with pytest.raises(DataError, match="is a folder; a file is wanted"):
        read_units([str(tmp_path / "train")], "text-classification", LabelledDataConfig())


def articles(count: int) -> dict[str, Any]:
    answer = {"text": "word", "answer_start": 0}
    return {
        "data": [
            {
                "title": f"t{a}",
                "paragraphs": [
                    {
                        "context": f"word of article{a} paragraph{p}",
                        "qas": [{"id": f"{a}/{p}", "question": "which?", "answers": [answer]}],
                    }
                    for p in range(3)
                ],
            }
            for a in range(count)
        ]
    }


def test_a_test_share_is_held_out_by_article_whatever_else_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(articles(16)), encoding="utf-8")
    parts = draw("question-answering", tmp_path, train=("a.json",), test=0.25, validation=0.1)
    seen = [{e.context.split()[2] for e in part} for part in parts]
    assert [len(s) for s in seen] == [10, 2, 4]
    assert len(set.union(*seen)) == 16
    assert [len(part) for part in parts] == [30, 6, 12]
    fewer = draw(
        "question-answering", tmp_path, train=("a.json",), test=0.25, validation=0.1,
        max_train_rows=6, max_test_rows=5,
    )  # fmt: skip
    assert (len(fewer[0]), len(fewer[2])) == (6, 5)
    assert {e.id for e in fewer[2]} < {e.id for e in parts[2]}


def test_rows_are_drawn_of_any_packed_file(tmp_path: Path) -> None:
    lines = "".join(f"L{i % 3}:x question {i} ?\n" for i in range(30))
    (tmp_path / "a.TXT.XZ").write_bytes(lzma.compress(lines.encode()))
    (tmp_path / "b.json.xz").write_bytes(lzma.compress(json.dumps(articles(5)).encode()))
    found = read_units([str(tmp_path / "a.TXT.XZ")], "text-classification", LabelledDataConfig())
    assert (len(found.units), found.suffix) == (30, ".txt")
    found = read_units([str(tmp_path / "b.json.xz")], "question-answering", LabelledDataConfig())
    assert (len(found.units), found.suffix) == (15, ".json")


def test_a_file_that_is_not_there_is_missing_with_its_split(tmp_path: Path) -> None:
    each = BenchmarkSet(
        name="x", task="text-classification", train=("a.json.gz:train",), validation=0.1,
        test=("a.json.gz:test",), metric=("accuracy",),
    )  # fmt: skip
    with pytest.raises(MissingDataError, match=r"a.json.gz:train does not exist"):
        set_files(each, tmp_path, tmp_path / "drawn", LabelledDataConfig())
