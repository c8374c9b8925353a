"""Minimal pairs: the formats, the arithmetic by hand, the contract of `evaluate --json`."""

import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from electra.cli import run
from electra.config import LabelledDataConfig
from electra.errors import ConfigError, DataError, UserError
from electra.evaluate import evaluate
from electra.evaluation.minimal_pairs import (
    MinimalPair,
    pair_accuracy,
    read_minimal_pairs,
    score_minimal_pairs,
)
from electra.evaluation.token_scores import TextScore, TextScorer

DATA = Path(os.environ.get("ELECTRA_DATA", Path(__file__).parents[3] / "shared" / "data"))
CLIMP = ",0,1,2,3\n0,f,p,他来了,1\n1,f,p,来他了,0\n2,f,p,我看书,1\n3,f,p,书我看,0\n"


def write_pairs(path: Path, pairs: list[tuple[str, str]], **more: Any) -> Path:
    rows = [{"sentence_good": good, "sentence_bad": bad, **more} for good, bad in pairs]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    packed = text.encode() if path.suffix != ".gz" else gzip.compress(text.encode())
    path.write_bytes(packed)
    return path


class Table(TextScorer):
    """Scores that are written down."""

    def __init__(self, totals: dict[str, float]) -> None:
        self.totals = totals

    def score(self, texts: Any, progress: Any = None) -> list[TextScore]:
        return [TextScore(self.totals[text], [], [], []) for text in texts]


def test_blimp(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.jsonl.gz", [("one", "two"), ("three", "four")], UID="agreement")
    write_pairs(tmp_path / "b.v2.jsonl", [("five", "six")])
    (tmp_path / "README.txt").write_text("about these files\n")
    assert read_minimal_pairs(tmp_path) == {
        "agreement": [MinimalPair("one", "two"), MinimalPair("three", "four")],
        "b.v2": [MinimalPair("five", "six")],
    }
    assert read_minimal_pairs(tmp_path, limit=1)["agreement"] == [MinimalPair("one", "two")]
    both = write_pairs(tmp_path / "c.jsonl", [("seven", "eight")], UID="agreement")
    assert len(read_minimal_pairs(tmp_path)["agreement"]) == 3
    assert list(read_minimal_pairs(both)) == ["agreement"]


def test_climp(tmp_path: Path) -> None:
    pairs = [MinimalPair("他来了", "来他了"), MinimalPair("我看书", "书我看")]
    (tmp_path / "ba.csv.gz").write_bytes(gzip.compress(CLIMP.replace("\n", "\r\n").encode()))
    (tmp_path / "headless.csv").write_text(CLIMP.partition("\n")[2], encoding="utf-8")
    (tmp_path / "one.csv").write_text("他来了\n来他了\n我看书\n书我看\n", encoding="utf-8")
    (tmp_path / "two.tsv").write_text("text\tlabel\n他来了\t1\n来他了\t0\n", encoding="utf-8")
    assert read_minimal_pairs(tmp_path) == {
        "ba": pairs,
        "headless": pairs,
        "one": pairs,
        "two": pairs[:1],
    }


@pytest.mark.parametrize(("ending", "comma"), [("csv", ","), ("tsv", "\t")])
def test_columns_by_name(tmp_path: Path, ending: str, comma: str) -> None:
    lines = [["UID", "sentence_bad", "x", "sentence_good"], ["p", "b", "1", "a"]]
    lines += [["", "d", "2", "c"]]
    path = tmp_path / f"mine.{ending}"
    path.write_text("".join(comma.join(line) + "\n" for line in lines))
    assert read_minimal_pairs(path) == {
        "p": [MinimalPair("a", "b")],
        "mine": [MinimalPair("c", "d")],
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"sentence_good": "x"}\n', r'line 1 has no column "sentence_bad"; it has: s'),
        (
            "a.jsonl",
            '{"sentence_good": "x", "sentence_bad": "y"}\n\n{"sentence_bad": "y"}\n',
            r'a.jsonl line 3 has no column "sentence_good"; it has: sentence_bad',
        ),
        (
            "a.jsonl",
            '{"sentence_good": "x", "sentence_bad": " "}',
            r"line 1 has no sentence in col",
        ),
        (
            "a.jsonl",
            '{"sentence_good": 3, "sentence_bad": "y"}',
            r'no sentence in column "sentence_g',
        ),
        ("a.jsonl", "\n", r"a.jsonl holds no pairs"),
        ("a.csv", "", r"a.csv holds no pairs"),
        ("a.csv", "sentence_good,sentence_bad\n", r"a.csv holds no pairs"),
        (
            "a.csv",
            "sentence_good,rest\nx,y\n",
            r'line 2 has no column "sentence_bad"; it has: sent',
        ),
        (
            "a.csv",
            "sentence_good,sentence_bad\nx,\n",
            r'line 2 has no sentence in column "sentence',
        ),
        (
            "a.csv",
            ",0\nx,1\ny,0\nz,1\n",
            r"3 rows, an odd number; .* the last one \(line 4\) has no",
        ),
        ("a.csv", "x\ny\nz\n", r"a.csv has 3 rows, an odd number"),
        ("a.csv", ",0\nx,1\ny,1\n", r'a.csv line 3 ends in "1" where a bad sentence \(0\) is due'),
        (
            "a.csv",
            "text,label\nx,0\ny,1\n",
            r'line 2 ends in "0" where a good sentence \(1\) is due',
        ),
        (
            "a.csv",
            "sentence_good; sentence_bad\na; b\nc; d\n",
            r'a.csv has "sentence_good; sentence_bad" as the name of one column: .*commas .* tabs',
        ),
        ("a.tsv", "UID,sentence_bad,sentence_good\na,b,c\n", r"with tabs in .tsv"),
        ("a.csv", "x,1\n,0\n", r'a.csv line 2 has no sentence in column "0"'),
        ("a.txt", "x\ny\n", r"a.txt holds no minimal pairs; allowed: .jsonl, .csv, .tsv \(.gz\)"),
    ],
)
def test_mistakes_in_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_minimal_pairs(tmp_path / name)


def test_columns_with_spaces_around_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(" sentence_good , sentence_bad\nx,y\n")
    assert read_minimal_pairs(tmp_path) == {"a": [MinimalPair("x", "y")]}


def test_files_of_one_name(tmp_path: Path) -> None:
    for number, name in enumerate(["one/ba.csv", "two/ba.csv", "two/ba.jsonl", "two/bei.csv"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".csv":
            path.write_text(f"sentence_good,sentence_bad\n{number},b\n")
        else:
            write_pairs(path, [(f"{number}", "b")])
    wanted = {"one/ba.csv": "0", "two/ba.csv": "1", "two/ba.jsonl": "2", "bei": "3"}
    wanted_pairs = {name: [MinimalPair(good, "b")] for name, good in wanted.items()}
    assert read_minimal_pairs(tmp_path) == wanted_pairs
    assert list(read_minimal_pairs(f"{tmp_path}/*/ba.csv")) == ["one/ba.csv", "two/ba.csv"]


def test_a_pair_that_is_too_long(runs: dict[str, Path], tmp_path: Path) -> None:
    pairs = [("a film", "film a"), ("a", "the " * 31)]
    data = write_pairs(tmp_path / "order.jsonl", pairs)
    with pytest.raises(DataError, match=r"order pair 2: a text has 33 tokens"):
        evaluate(model=runs["mlm"], data=str(data), task="minimal-pairs", device="cpu")


def test_what_was_asked_is_checked_before_a_model_is_opened(tmp_path: Path) -> None:
    data = str(write_pairs(tmp_path / "x.jsonl", [("a", "b")]))
    model = tmp_path / "run"
    (model / "discriminator").mkdir(parents=True)  # a model that cannot be opened
    (model / "discriminator" / "config.json").write_text("{")

    def fails(message: str, **given: Any) -> None:
        with pytest.raises(UserError, match=message):
            evaluate(**({"model": model, "data": data} | given))

    fails(r'--task is minimal_pairs; did you mean "minimal-pairs"\?', task="minimal_pairs")
    fails(r"has no task.json.* or, for pairs .* --task minimal-pairs")
    fails(r"no task.json; give a folder that `finetune` wrote", task="text-classification")
    fails("--output .*x is a folder; a file is wanted", output=_made(tmp_path / "x"))
    pairs: dict[str, Any] = {"task": "minimal-pairs"}
    fails("--output .*x is a folder", output=tmp_path / "x", **pairs)
    fails("gone does not exist", data=str(tmp_path / "gone"), **pairs)
    (tmp_path / "a.txt").write_text("x\n")
    fails("holds no minimal pairs; allowed", data=str(tmp_path / "a.txt"), **pairs)
    fails("--limit is 0; allowed: above 0", limit=0, **pairs)
    fails("cannot be opened", **pairs)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone does not exist"):
        read_minimal_pairs(tmp_path / "gone")
    with pytest.raises(DataError, match="holds no file ending in"):
        read_minimal_pairs(tmp_path)
    with pytest.raises(ConfigError, match="--limit is 0; allowed: above 0"):
        read_minimal_pairs(tmp_path, limit=0)


def test_a_tie_counts_half() -> None:
    assert pair_accuracy([(-1.0, -2.0), (-2.0, -1.0), (-1.5, -1.5), (-3.0, -3.5)]) == 2.5 / 4
    assert pair_accuracy([(-1.5, -1.5)] * 10) == 0.5


def test_accuracy_by_hand() -> None:
    scorer = Table({"a": -1.0, "b": -2.0, "c": -3.0, "d": -3.0})
    paradigms = {
        "first": [MinimalPair("a", "b"), MinimalPair("b", "a"), MinimalPair("b", "c")],
        "second": [MinimalPair("c", "d"), MinimalPair("d", "a")],
    }
    assert score_minimal_pairs(scorer, paradigms) == {"first": 2 / 3, "second": 0.25}


@pytest.mark.parametrize("part", ["discriminator", "generator"])
def test_equal_sentences_are_an_exact_tie(runs: dict[str, Path], part: str, tmp_path: Path) -> None:
    pairs = [(text, text.upper()) for text in ("a fine film", "the play", "one very good book")]
    pairs += [("a zzz film here", "a yyy film here")]  # both unknown words
    write_pairs(tmp_path / "same.jsonl", pairs)
    model = runs["modern"] / part
    for batch_size in (1, 2, 5):
        result = evaluate(
            model=model,
            data=str(tmp_path / "same.jsonl"),
            task="minimal-pairs",
            batch_size=batch_size,
            device="cpu",
        )
        assert result["metrics"] == {"accuracy": 0.5}


def test_the_contract(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [("a fine film", "film a fine"), ("the good play", "good play the"), ("a", "a film")]
    write_pairs(tmp_path / "x.jsonl", pairs, UID="order")
    write_pairs(tmp_path / "y.jsonl", [("one book", "book one")])
    model = runs["classic"]
    line = f"evaluate --model {model} --data {tmp_path} --task minimal-pairs --json"
    assert run(line.split()) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert list(result) == ["task", "data", "n", "metric", "metrics", "paradigms"]
    assert result["task"] == "minimal-pairs"
    assert result["data"] == str(tmp_path)
    assert result["n"] == 4
    assert result["metric"] == "accuracy"
    scorer = TextScorer.open(model / "discriminator", device="cpu")
    right = [scorer.score([good])[0].total > scorer.score([bad])[0].total for good, bad in pairs]
    last = scorer.score(["one book"])[0].total > scorer.score(["book one"])[0].total
    assert result["paradigms"] == {"order": sum(right) / 3, "y": float(last)}
    assert result["metrics"] == {"accuracy": (sum(right) / 3 + last) / 2}
    assert f"{model}/discriminator, discriminator: sum of log P(original)" in shown.err
    assert run([*line.split(), "--limit", "1", "--method", "pseudo-log-likelihood"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n"] == 2
    assert f"{model}/generator, pseudo-log-likelihood: sum of log P(token" in shown.err


def test_tables(runs: dict[str, Path], tmp_path: Path) -> None:
    write_pairs(tmp_path / "x.jsonl", [("a fine film", "a fine film")], UID="[order]")
    file = io.StringIO()
    options: dict[str, Any] = {
        "model": runs["mlm"],
        "data": str(tmp_path / "x.jsonl"),
        "task": "minimal-pairs",
        "output": tmp_path / "o.json",
        "console": Console(file=file, width=100),
        "device": "cpu",
    }
    result = evaluate(**options, progress=Console(file=io.StringIO(), force_terminal=True))
    assert json.loads((tmp_path / "o.json").read_text()) == result
    for word in ("minimal-pairs: 1 pairs of", "[order]", "mean over 1", "0.5000"):
        assert word in file.getvalue()


def test_flags_that_do_not_go_together(runs: dict[str, Path], tmp_path: Path) -> None:
    data = str(write_pairs(tmp_path / "x.jsonl", [("a", "b")]))
    with pytest.raises(ConfigError, match="--limit and --method are for --task minimal-pairs"):
        evaluate(model=runs["mlm"], data=data, limit=3)
    columns = LabelledDataConfig(text_column="a")
    with pytest.raises(ConfigError, match="columns of their own"):
        evaluate(model=runs["mlm"], data=data, task="minimal-pairs", columns=columns)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets in {DATA}; set ELECTRA_DATA")
@pytest.mark.parametrize(("folder", "paradigms"), [("blimp", 34), ("climp", 16)])
def test_the_published_files(folder: str, paradigms: int) -> None:
    pairs = read_minimal_pairs(DATA / folder)
    assert len(pairs) == paradigms
    assert {len(p) for p in pairs.values()} == {1000}
