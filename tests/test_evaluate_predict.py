import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from electra.config import HeadConfig, LabelledDataConfig
from electra.errors import ConfigError, DataError
from electra.evaluate import evaluate
from electra.predict import predict, print_predictions
from electra.tasks.labelled_data import Columns
from electra.tasks.model_folder import load_tokenizer, save_model_folder
from electra.tasks.text_classification import CLASSIFICATION, TextClassification
from tests.tiny import make_encoder, sentences, write_tsv


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained models of one sentence and of two."""
    folder = tmp_path_factory.mktemp("models")
    encoder = str(make_encoder(folder / "encoder"))
    tasks = {
        "one": TextClassification(
            CLASSIFICATION, ("bad", "good"), Columns("sentence", None, "label"), 32
        ),
        "two": TextClassification(CLASSIFICATION, ("no", "yes"), Columns("a", "b", "label"), 32),
    }
    for name, task in tasks.items():
        model = task.build_model(encoder, HeadConfig())
        save_model_folder(folder / name, task, model, load_tokenizer(encoder))
    return {name: folder / name for name in tasks}


def recorder() -> Console:
    return Console(file=io.StringIO(), width=120)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_evaluate_keeps_its_contract(models: dict[str, Path], tmp_path: Path) -> None:
    data = write_tsv(tmp_path / "dev.tsv", ["sentence", "label"], sentences(30, 3))
    console = recorder()
    result = evaluate(
        model=models["one"], data=str(data), json=True, output=tmp_path / "o.json", console=console
    )
    assert result["task"] == "text-classification"
    assert result["data"] == str(data)
    assert result["n"] == 30
    assert result["metric"] == "accuracy"
    assert set(result["metrics"]) == {"accuracy", "macro_f1", "mcc", "auc"}
    assert json.loads(said(console)) == result
    assert said(console).count("\n") == 1
    assert json.loads((tmp_path / "o.json").read_text()) == result
    labels = [label for _, label in sentences(30, 3)]
    answers = list(predict(model=models["one"], input=str(data)))
    right = sum(a["label"] == label for a, label in zip(answers, labels, strict=True))
    assert result["metrics"]["accuracy"] == right / 30


def test_evaluate_prints_a_table_for_each_label(models: dict[str, Path], tmp_path: Path) -> None:
    data = write_tsv(tmp_path / "dev.tsv", ["sentence", "label"], sentences(30, 3))
    console = recorder()
    evaluate(model=models["one"], data=str(data), console=console, progress=recorder())
    for word in ("accuracy", "macro_f1", "precision", "recall", "good", "bad", "15"):
        assert word in said(console)


def test_evaluate_with_other_columns(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [("good", "a film", "x"), ("bad", "a play", "y")]
    data = write_tsv(tmp_path / "dev.tsv", ["verdict", "words", "rest"], rows)
    columns = LabelledDataConfig(text_column="words", label_column="verdict")
    assert evaluate(model=models["one"], data=str(data), columns=columns)["n"] == 2
    with pytest.raises(DataError, match='no column "word"; it has: verdict, words, rest'):
        evaluate(
            model=models["one"], data=str(data), columns=LabelledDataConfig(text_column="word")
        )


def test_evaluate_refuses_unknown_labels_and_folders(
    models: dict[str, Path], tmp_path: Path
) -> None:
    data = write_tsv(tmp_path / "dev.tsv", ["sentence", "label"], [("a film", "odd")])
    with pytest.raises(DataError, match=r'row 1 has the label "odd", .* known labels: bad, good'):
        evaluate(model=models["one"], data=str(data))
    with pytest.raises(DataError, match="gone is not a folder"):
        evaluate(model=tmp_path / "gone", data=str(data))


def test_predict_texts(models: dict[str, Path]) -> None:
    answers = list(predict(model=models["one"], texts=["a good film", "bad"]))
    assert [a["id"] for a in answers] == [0, 1]
    for answer in answers:
        assert list(answer) == ["id", "label", "score", "scores"]
        assert (
            answer["scores"][answer["label"]] == answer["score"] == max(answer["scores"].values())
        )


def test_predict_pairs(models: dict[str, Path], tmp_path: Path) -> None:
    answers = list(predict(model=models["two"], texts=["one", "good", "two", "bad"]))
    assert [a["id"] for a in answers] == [0, 1]
    with pytest.raises(DataError, match=r"texts come in twos; 3 given \(or give --input with a JS"):
        predict(model=models["two"], texts=["a", "b", "c"])
    (tmp_path / "a.txt").write_text("one good\n")
    with pytest.raises(DataError, match="holds one text a line, the model reads two sentences"):
        list(predict(model=models["two"], input=str(tmp_path / "a.txt")))
    write_tsv(tmp_path / "p.tsv", ["sentence1", "sentence2"], [("one", "good"), ("two", "bad")])
    from_file = list(predict(model=models["two"], input=str(tmp_path / "p.tsv")))
    assert [a["label"] for a in from_file] == [a["label"] for a in answers]
    assert from_file[1]["score"] == pytest.approx(answers[1]["score"], abs=1e-6)


@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv", "tsv"])
def test_predict_files(models: dict[str, Path], tmp_path: Path, ending: str) -> None:
    texts = ["a good film", "the very very very bad play", "one"]
    path = tmp_path / f"in.{ending}"
    if ending == "jsonl":
        lines = [json.dumps({"id": f"k{i}", "text": t}) for i, t in enumerate(texts)]
    elif ending == "txt":
        lines = texts
    else:
        lines = ["sentence", *texts]
    path.write_text("".join(line + "\n" for line in lines))
    answers = list(predict(model=models["one"], input=str(path), batch_size=2))
    assert [a["id"] for a in answers] == (["k0", "k1", "k2"] if ending == "jsonl" else [0, 1, 2])
    direct = list(predict(model=models["one"], texts=texts))
    for a, b in zip(answers, direct, strict=True):
        assert a["score"] == pytest.approx(b["score"], abs=1e-6)


def test_predict_standard_input(models: dict[str, Path]) -> None:
    def ask(text: str) -> list[dict[str, Any]]:
        return list(predict(model=models["one"], input="-", stdin=io.StringIO(text)))

    lines = ask("a good film\n\nbad\n")
    rows = ask('{"text": "a good film", "id": 7}\n{"text": "bad"}\n')
    assert [a["id"] for a in lines] == [0, 1]
    assert [a["id"] for a in rows] == [7, 1]
    assert [a["scores"] for a in lines] == [a["scores"] for a in rows]
    with pytest.raises(DataError, match="standard input line 2 is not JSON"):
        ask('{"text": "x"}\n{"text"\n')
    with pytest.raises(DataError, match='standard input row 2 has no text in column "text"'):
        ask('{"text": "x"}\n{"txt": "y"}\n')
    with pytest.raises(DataError, match="standard input holds no rows"):
        ask("\n")


def test_predict_streams(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from electra.tasks import inputs as module

    monkeypatch.setattr(module, "CHUNK", 2)
    read = 0

    class Lines(io.StringIO):
        def __next__(self) -> str:
            nonlocal read
            read += 1
            return super().__next__()

    answers = predict(model=models["one"], input="-", stdin=Lines("good\n" * 10))
    next(answers)
    assert read == 2
    assert len(list(answers)) == 9


def test_nothing_or_both_given(models: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="give texts, or a file with --input"):
        predict(model=models["one"])
    with pytest.raises(ConfigError, match="give texts, or a file with --input"):
        predict(model=models["one"], texts=["a"], input="-")


def test_printed_lines() -> None:
    def answers() -> Iterator[dict[str, Any]]:
        yield {"id": 0, "label": "gut", "score": 0.75, "scores": {"gut": 0.75, "übel": 0.25}}
        yield {"id": "k", "label": None, "score": 2.5, "scores": {}}

    out = io.StringIO()
    assert print_predictions(answers(), file=out) == 2
    assert out.getvalue() == "0\tgut\t0.7500\nk\t2.5000\n"
    for more in ({"json": True}, {"input": "rows.jsonl"}, {"input": "-"}):
        out = io.StringIO()
        print_predictions(answers(), file=out, **more)
        assert [json.loads(line) for line in out.getvalue().splitlines()] == list(answers())
        assert "übel" in out.getvalue()
