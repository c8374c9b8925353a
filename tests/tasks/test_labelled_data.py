import dataclasses
import json
from pathlib import Path

import pytest

from electra.config import LabelledDataConfig
from electra.errors import DataError
from electra.tasks import labelled_data
from electra.tasks.labelled_data import Columns, choose_columns, label_name, read_examples

AUTO = LabelledDataConfig()


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        (["sentence", "label"], Columns("sentence", None, "label")),
        (["index", "sentence1", "sentence2", "label"], Columns("sentence1", "sentence2", "label")),
        (["label", "text_a"], Columns("text_a", None, "label")),
        (["text", "category"], Columns("text", None, "category")),
        (["id", "label", "text"], Columns("text", None, "label")),
        (["id", "category", "words"], Columns("words", None, "category")),
        (["0", "1"], Columns("0", None, "1")),
        (["question", "sentence", "label"], Columns("question", "sentence", "label")),
        (["words", "verdict"], Columns("words", None, "verdict")),
        (["stars", "words"], Columns("words", None, "stars")),
        (["gold", "review"], Columns("review", None, "gold")),
    ],
)
def test_columns_are_found_by_name(available: list[str], expected: Columns) -> None:
    assert choose_columns(available, AUTO, "file.tsv") == expected


def test_asked_columns_win() -> None:
    asked = LabelledDataConfig(text_column="1", text_pair_column="c", label_column="a")
    chosen = choose_columns(["a", "b", "c", "label"], asked, "file.tsv")
    assert chosen == Columns("b", "c", "a")
    only = LabelledDataConfig(text_column="sentence1")
    available = ["sentence1", "sentence2", "label"]
    assert choose_columns(available, only, "f").text_pair is None


def test_the_columns_of_training_come_before_guessing() -> None:
    known = Columns("body", None, "topic")
    available = ["text", "body", "topic", "label"]
    assert choose_columns(available, AUTO, "f", known=known) == known
    assert choose_columns(["text", "label"], AUTO, "f", known=known) == Columns(
        "text", None, "label"
    )


def test_a_missing_column_lists_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "sentence\tlabel\na b\t1\n")
    for field in ("text_column", "text_pair_column", "label_column"):
        with pytest.raises(DataError, match=r'a\.tsv has no column "x"; it has: sentence, label'):
            read_examples(path, dataclasses.replace(AUTO, **{field: "x"}))


def test_rows_become_examples_with_places(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": 1}\n{"text":"y","label":0,"id":"k"}')
    columns, examples = read_examples(path, AUTO)
    assert columns == Columns("text", None, "label")
    assert [(e.id, e.text, e.label) for e in examples] == [(0, "x", "1"), ("k", "y", "0")]
    assert examples[1].place.endswith("a.jsonl row 2")


def test_glue_tsv_is_unquoted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'sentence\tlabel\n"quoted , here\t1\nsecond\t0\n')
    assert [e.text for e in read_examples(path, AUTO)[1]] == ['"quoted , here', "second"]


def test_a_first_row_that_looks_like_a_header_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "good film\tpos\nbad film\tneg\nfine\tpos\n")
    columns, examples = read_examples(path, AUTO)
    assert columns == Columns("0", None, "1")
    assert [e.label for e in examples] == ["pos", "neg", "pos"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, 'row 2 has no label in column "label"'),
        ({"text": "x", "label": ""}, 'row 2 has no label in column "label"'),
        ({"text": " ", "label": "1"}, 'row 2 has an empty text in column "text"'),
        ({"text": None, "label": "1"}, 'row 2 has no text in column "text"'),
        ({"text": 3, "label": "1"}, 'row 2 has int, not text, in column "text"'),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    rows = [{"text": "fine", "label": "1"}, row]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=message):
        read_examples(path, AUTO)


def test_no_file_no_rows_one_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.tsv does not exist \(a CSV, TSV, JSONL"):
        read_examples(str(tmp_path / "gone.tsv"), AUTO)
    with pytest.raises(DataError, match="holds no rows"):
        read_examples(write(tmp_path / "a.csv", "text,label\n"), AUTO)
    with pytest.raises(DataError, match="no column for the text beside the label's; it has: text"):
        read_examples(write(tmp_path / "b.csv", "text\nhere\n"), AUTO)


def test_the_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled_data, "hub_is_reachable", lambda: False)
    with pytest.raises(DataError, match="owner/name:train is no file here, and the Hub cannot be"):
        read_examples("owner/name:train", AUTO)


def test_hub_rows_have_label_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(name: str, configuration: str | None, split: str) -> datasets.Dataset:
        asked.append((name, configuration, split))
        features = datasets.Features(
            sentence=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"])
        )
        return datasets.Dataset.from_dict(
            {"sentence": ["x", "y"], "label": [1, 0]}, features=features
        )

    monkeypatch.setattr(labelled_data, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    _, examples = read_examples("nyu/glue/cola:train", AUTO)
    assert [e.label for e in examples] == ["yes", "no"]
    assert asked == [("nyu/glue", "cola", "train")]


def test_label_names() -> None:
    values = [1, 1.0, "1", " 1 ", "1.0", 2.5, True, None, float("nan")]
    assert [label_name(v) for v in values] == ["1", "1", "1", "1", "1.0", "2.5", "True", "", ""]


@pytest.mark.parametrize(
    ("asked", "available", "expected"),
    [
        ({"label_column": "gold", "text_pair_column": "b"}, "gold,a,b", Columns("a", "b", "gold")),
        ({"text_column": "review"}, "stars,review", Columns("review", None, "stars")),
        ({"text_column": "review"}, "points,review", Columns("review", None, "points")),
        ({"text_column": "label"}, "label,other", Columns("label", None, "other")),
        ({"text_pair_column": "text2"}, "id,x,text1,text2,y", Columns("text1", "text2", "y")),
        ({"text_pair_column": "0"}, "0,1,2", Columns("1", "0", "2")),
    ],
)
def test_what_is_asked_for_is_not_guessed_again(
    asked: dict[str, str], available: str, expected: Columns
) -> None:
    assert choose_columns(available.split(","), LabelledDataConfig(**asked), "f.csv") == expected


def test_columns_for_two_things_and_too_few() -> None:
    twice = LabelledDataConfig(text_column="1", label_column="b")
    with pytest.raises(
        DataError,
        match=r'^--data\.text-column and --data\.label-column both name column "b" of f\.csv; each '
        r"wants one of its own \(there are: a, b\)$",
    ):
        choose_columns(["a", "b"], twice, "f.csv")
    assert choose_columns(["a", "b"], twice, "f.csv", labelled=False).text == "b"
    alone = LabelledDataConfig(text_column="text")
    with pytest.raises(DataError, match="no column for the label beside the text's; it has: text"):
        choose_columns(["text"], alone, "f.csv")


def test_a_first_row_of_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{}\n{"text": "x", "label": 1}')
    with pytest.raises(DataError, match=r"a\.jsonl row 1 has no columns$"):
        read_examples(path, AUTO)


def test_another_file_is_read_as_the_training_file_was(tmp_path: Path) -> None:
    headerless = write(tmp_path / "a.csv", "spam,hello there\nham,good day\n")
    trained = Columns("1", None, "0")
    asked = LabelledDataConfig(text_column="1", label_column="0")
    for data in (AUTO, asked):
        columns, examples = read_examples(headerless, data, known=trained)
        assert columns == trained
        assert [e.label for e in examples] == ["spam", "ham"]
    named = LabelledDataConfig(text_column="body")
    path = write(tmp_path / "b.csv", "gold,body\nspam,hello\n")
    assert [e.text for e in read_examples(path, named, known=trained)[1]] == ["hello"]
    # a header too long to be one by its looks, but training knew the name
    known = Columns("body", None, "what it is called")
    path = write(tmp_path / "c.csv", "body,what it is called\nhello,spam\n")
    columns, examples = read_examples(path, AUTO, known=known)
    assert columns == known
    assert [e.text for e in examples] == ["hello"]


def test_a_column_called_like_one_of_its_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,spam\nbuy it,spam\nhello you,ham\n")
    columns, examples = read_examples(path, AUTO)
    assert columns == Columns("text", None, "spam")
    assert [e.text for e in examples] == ["buy it", "hello you"]
    path = write(tmp_path / "b.csv", "body2,spam\nbuy it,spam\nhello you,ham\n")
    asked = LabelledDataConfig(label_column="spam")
    assert len(read_examples(path, asked)[1]) == 2
    assert len(read_examples(path, AUTO, known=Columns("body2", None, "spam"))[1]) == 2
    assert len(read_examples(path, AUTO)[1]) == 3  # nothing tells it from a row


def test_names_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(name: str, configuration: str | None, split: str) -> datasets.Dataset:
        asked.append((name, configuration, split))
        return datasets.Dataset.from_dict({"text": ["x"], "label": ["a"]})

    monkeypatch.setattr(labelled_data, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    for name in ("google/xtreme/PAN-X.zh:train", "owner/name.v2:train[:80%]"):
        assert len(read_examples(name, AUTO)[1]) == 1
    assert asked == [
        ("google/xtreme", "PAN-X.zh", "train"),
        ("owner/name.v2", None, "train[:80%]"),
    ]
    for name in ("gone.csv:train", "gone.json:train", "gone.TSV:x", "gone.jsonl.gz:x"):
        with pytest.raises(DataError, match="does not exist"):
            read_examples(name, AUTO)
    assert len(asked) == 2


@pytest.mark.parametrize("kind", ["RuntimeError", "DatasetsError", "ValueError"])
def test_what_the_hub_complains_of_is_one_line(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    error = {"RuntimeError": RuntimeError, "ValueError": ValueError}.get(
        kind, datasets.exceptions.DatasetsError
    )

    def load(*_: object, **__: object) -> None:
        raise error("scripts are no longer supported\nand more")

    monkeypatch.setattr(labelled_data, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        DataError,
        match=r"^a/b:train could not be had from the Hub: scripts are no longer supported$",
    ):
        read_examples("a/b:train", AUTO)
