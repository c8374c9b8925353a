import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from electra.cli import run
from electra.config import LabelledDataConfig
from electra.errors import ConfigError, DataError
from electra.evaluation.token_scores import TextScorer
from electra.score import print_scores, score
from tests.evaluation.conftest import make_run

TEXTS = ["a good film", "the very very bad play", "", "one"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), "modern")


@pytest.fixture
def wanted(model: Path) -> list[dict[str, Any]]:
    scorer = TextScorer.open(model / "discriminator", device="cpu")
    return [
        {"id": i, "score": s.total, "tokens": s.tokens, "token_scores": s.token_scores}
        for i, s in enumerate(scorer.score(TEXTS))
    ]


def test_texts(model: Path, wanted: list[dict[str, Any]]) -> None:
    rows = list(score(model=model, texts=TEXTS, device="cpu"))
    assert rows == wanted
    assert list(rows[0]) == ["id", "score", "tokens", "token_scores"]
    assert rows[0]["tokens"] == ["a", "good", "film"]
    assert rows[2] == {"id": 2, "score": 0.0, "tokens": [], "token_scores": []}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "txt"])
def test_files(model: Path, wanted: list[dict[str, Any]], tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"in.{ending}"
    kept = [row for row in wanted if row["tokens"]]  # a blank line is no row of a text file
    texts = [text for text in TEXTS if text]
    if ending == "jsonl":
        lines = [json.dumps({"text": t, "id": f"k{i}"}) for i, t in enumerate(texts)]
    else:
        lines = texts if ending == "txt" else ["sentence", *texts]
    path.write_text("".join(line + "\n" for line in lines))
    rows = list(score(model=model, input=str(path), device="cpu", batch_size=2))
    assert [r["id"] for r in rows] == (["k0", "k1", "k2"] if ending == "jsonl" else [0, 1, 2])
    for row, other in zip(rows, kept, strict=True):
        assert row["tokens"] == other["tokens"]
        assert row["token_scores"] == pytest.approx(other["token_scores"], abs=1e-5)


def test_splits_of_a_json_file(model: Path, wanted: list[dict[str, Any]], tmp_path: Path) -> None:
    splits = {"a": [{"text": text} for text in TEXTS[:2]], "b": [{"text": TEXTS[3]}]}
    path = tmp_path / "in.json"
    path.write_text(json.dumps(splits), encoding="utf-8")
    rows = list(score(model=model / "discriminator", input=f"{path}:a", device="cpu"))
    assert [row["id"] for row in rows] == [0, 1]
    for row, expected in zip(rows, wanted[:2], strict=True):
        assert row["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_a_column_by_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,rest\nx y,a good film\n")
    columns = LabelledDataConfig(text_column="rest")
    rows = list(score(model=model, input=str(tmp_path / "in.csv"), columns=columns, device="cpu"))
    assert rows[0]["tokens"] == ["a", "good", "film"]
    columns = LabelledDataConfig(text_column="words")
    with pytest.raises(DataError, match='no column "words"; it has: text, rest'):
        list(score(model=model, input=str(tmp_path / "in.csv"), columns=columns, device="cpu"))


def test_standard_input(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = '{"text": "a good film", "id": "é"}\n{"text": "one"}\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert run(["score", "--model", str(model), "--input", "-", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert [row["id"] for row in rows] == ["é", 1]
    assert all(list(row) == ["id", "score", "tokens", "token_scores"] for row in rows)
    assert shown.err == f"{model}/discriminator, discriminator: sum of log P(original)\n"


def test_the_command_prints_a_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", str(model), "--device", "cpu", "--method", "pseudo-log-likelihood"]
    assert run(["score", *flags, "a good film", "[UNK] zzz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "score", "tokens"]
    rows = list(score(model=model / "generator", texts=["a good film", "[UNK] zzz"], device="cpu"))
    assert lines[1].split()[:3] == ["0", f"{rows[0]['score']:.4f}", "a"]
    assert "[UNK]" in lines[2]
    assert run(["score", *flags, "--json", "a good film"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == ["a", "good", "film"]


def test_printed_lines(model: Path) -> None:
    row = {"id": "k", "score": -1.25, "tokens": ["übel"], "token_scores": [-1.25]}
    out = io.StringIO()
    assert print_scores(iter([row]), input="rows.csv", file=out) == 1
    assert out.getvalue() == "k\t-1.2500\n"
    for more in ({"json": True}, {"input": "rows.jsonl"}, {"input": "-"}):
        out = io.StringIO()
        print_scores(iter([row]), file=out, **more)
        assert json.loads(out.getvalue()) == row
        assert "übel" in out.getvalue()


def test_a_bar_for_a_file(model: Path, tmp_path: Path) -> None:
    from electra import score as module

    (tmp_path / "in.jsonl").write_text('{"text": "a good film"}\n' * 7)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 3)
        path = str(tmp_path / "in.jsonl")
        rows = list(score(model=model, input=path, progress=console, device="cpu"))
    assert [row["id"] for row in rows] == list(range(7))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "7 texts" in shown
    assert "100%" in shown


def test_mistakes(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give texts, or a file with --input"):
        score(model=model)
    with pytest.raises(ConfigError, match="give texts, or a file with --input"):
        score(model=model, texts=["a"], input="-")
    with pytest.raises(ConfigError, match=r"leave --data\.text-pair-column out"):
        score(model=model, texts=["a"], columns=LabelledDataConfig(text_pair_column="b"))
    with pytest.raises(DataError, match="standard input holds no rows"):
        list(score(model=model, input="-", stdin=io.StringIO("\n"), device="cpu"))
    lines = io.StringIO('{"text": "x"}\n{"txt": "y"}\n')
    with pytest.raises(DataError, match='standard input row 2 has no text in column "text"'):
        list(score(model=model, input="-", stdin=lines, device="cpu"))
    with pytest.raises(DataError, match="has an ending that is not read"):
        list(score(model=model, input=str(tmp_path / "a.docx"), device="cpu"))


@pytest.mark.parametrize("ending", ["jsonl", "-"])
def test_what_cannot_be_scored_stops_behind_the_rows_before(
    model: Path, tmp_path: Path, ending: str
) -> None:
    texts = ["a good film", "one", "the " * 40, "two"]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "in.jsonl").write_text(lines)
    given = "-" if ending == "-" else str(tmp_path / "in.jsonl")
    said = "standard input" if ending == "-" else given
    rows = score(model=model, input=given, stdin=io.StringIO(lines), device="cpu")
    assert [next(rows)["tokens"], next(rows)["tokens"]] == [["a", "good", "film"], ["one"]]
    with pytest.raises(DataError, match=rf"^{said} row 3: a text has 42 tokens, .* at most 32"):
        next(rows)
    rows = score(model=model, texts=texts, device="cpu")
    assert [next(rows)["id"], next(rows)["id"]] == [0, 1]
    with pytest.raises(DataError, match=r"^text 3: a text has 42 tokens"):
        next(rows)
    broken = io.StringIO('{"text": "one"}\n{"text": \n')
    rows = score(model=model, input="-", stdin=broken, device="cpu")
    assert next(rows)["tokens"] == ["one"]
    with pytest.raises(DataError, match="standard input line 2 is not JSON"):
        next(rows)


def test_text_that_is_not_utf8(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = b"caf\xe9\n".decode("utf-8", "surrogateescape")  # as Python takes it in the C locale
    with pytest.raises(DataError, match=r"input line 1 is not UTF-8: character 4 is byte 0xe9"):
        list(score(model=model, input="-", stdin=io.StringIO(line), device="cpu"))
    assert run(["score", "--model", str(model), "good", line.strip()]) == 2
    assert "text 2 is not UTF-8: character 4 is byte 0xe9" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"text 1 is not UTF-8: character 2 is U\+D83D"):
        score(model=model, texts=["a\ud83d"])
    # half of a surrogate pair in JSON is no mistake of the bytes: as in files
    line = '{"text": "one \\ud83d two", "id": "\\ud83d"}\n'
    (row,) = score(model=model, input="-", stdin=io.StringIO(line), device="cpu")
    assert row["id"] == "\ufffd"
    assert row["tokens"] == ["one", "two"]


def test_the_input_is_checked_before_a_model_is_opened(tmp_path: Path) -> None:
    for name, message in (("gone.txt", "does not exist"), ("x.docx", "ending that is not read")):
        with pytest.raises(DataError, match=message):
            score(model=tmp_path / "no model", input=str(tmp_path / name))
    (tmp_path / "x.txt").mkdir()
    with pytest.raises(DataError, match=r"--input .*x.txt is a folder; a file is wanted"):
        score(model=tmp_path / "no model", input=str(tmp_path / "x.txt"))
