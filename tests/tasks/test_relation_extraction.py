import gzip
import io
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from electra.cli import run
from electra.config import FinetuneConfig, HeadConfig, LabelledDataConfig, finetune_defaults
from electra.errors import ConfigError, DataError
from electra.finetune import FinetuneResult, finetune
from electra.predict import predict
from electra.recipe import resolve
from electra.tasks import relation_scores
from electra.tasks.model_folder import add_special_tokens, load_tokenizer, save_model_folder
from electra.tasks.predictor import Predictor
from electra.tasks.relation_extraction import (
    MARKERS,
    RelationExtraction,
    around_entities,
    mark_entities,
)
from electra.tasks.relation_files import ColumnNames, RelationExample, parse_marks, read_relations
from electra.tasks.task import load_task, save_task
from tests.tiny import BAD, GOOD, PLAIN

CONFIG = FinetuneConfig()
LABELS = ("Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Other")
TASK = RelationExtraction(LABELS, ColumnNames(), 32)
OFFICIAL = """\
1\t"The <e1>smoke</e1> was caused by a <e2>fire</e2>."
Cause-Effect(e2,e1)
Comment: passive

2\t"A <e1>cup</e1> and a "small" <e2>plate</e2>"
Other
Comment:
goes on here

"""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def read(source: str, **more: Any) -> list[RelationExample]:
    return read_relations(source, "auto", ColumnNames(), **more)


def toy(count: int, seed: int) -> list[dict[str, Any]]:
    """Whether a good word acts on a bad one; the same text is there with the marks exchanged."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        words = generator.choices(PLAIN[:15], k=generator.randint(2, 9))
        first, second = sorted(generator.sample(range(len(words)), 2))
        words[first], words[second] = generator.choice(GOOD), generator.choice(BAD)
        if generator.random() < 0.5:
            words[first], words[second] = words[second], words[first]
        starts = [len(" ".join([*words[:k], ""])) for k in range(len(words))]
        spans = [{"start": starts[k], "end": starts[k] + len(words[k])} for k in (first, second)]
        generator.shuffle(spans)
        text = " ".join(words)
        head = text[spans[0]["start"] : spans[0]["end"]]
        label = "Acts(e1,e2)" if head in GOOD else "Acts(e2,e1)"
        rows.append(
            {"id": f"r{i}", "text": text, "head": spans[0], "tail": spans[1], "label": label}
        )
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


# reading


@pytest.mark.parametrize("name", ["a.txt", "A.TXT", "A.TXT.gz"])
def test_the_official_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = OFFICIAL.replace("\n", "\r\n").encode()
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    first, second = read(str(path))
    assert first.id == 1
    assert first.text == "The smoke was caused by a fire."
    assert (first.text[slice(*first.head)], first.text[slice(*first.tail)]) == ("smoke", "fire")
    assert (first.label, second.label) == ("Cause-Effect(e2,e1)", "Other")
    assert second.text == 'A cup and a "small" plate'
    assert second.place == f"{path} line 5"


def test_the_official_format_without_relations(tmp_path: Path) -> None:
    source = write(
        tmp_path / "test.txt",
        '8001\t"The <e1>a</e1> <e2>b</e2>."\n8002\t"<e2>c</e2> of <e1>d</e1>"\n',
    )
    first, second = read(source, labelled=False)
    assert (first.id, first.head, first.tail, first.label) == (8001, (4, 5), (6, 7), None)
    assert (second.head, second.tail) == ((5, 6), (0, 1))
    with pytest.raises(DataError, match=r"test\.txt line 1: no relation stands on the line behind"):
        read(source)
    lines = write(tmp_path / "lines.txt", "<e1>a</e1> <e2>b</e2>\n\n<e1>c</e1> <e2>d</e2>\n")
    assert [e.id for e in read(lines, labelled=False)] == [0, 1]
    lines = write(tmp_path / "lines.txt", "<e1>a</e1> <e2>b</e2>\nno marks\n")
    with pytest.raises(DataError, match='line 2 is "no marks"; wanted: a number, a tab'):
        read(lines, labelled=False)


def test_rows_of_spans_and_of_marks(tmp_path: Path) -> None:
    row = {
        "id": "x",
        "text": "𝔸好 书",
        "head": {"start": 0, "end": 2, "type": "PER"},
        "tail": {"start": 3, "end": 4},
        "label": "owns",
    }
    (example,) = read(write_rows(tmp_path / "a.jsonl", [row]))
    assert example == RelationExample(
        "x", "𝔸好 书", (0, 2), (3, 4), "owns", f"{tmp_path}/a.jsonl row 1"
    )
    tsv = write(tmp_path / "a.tsv", "sentence\trelation\n<e1>A</e1> b <e2>C</e2>\tr\n")
    assert [(e.id, e.text, e.head, e.tail, e.label) for e in read(tsv)] == [
        (0, "A b C", (0, 1), (4, 5), "r")
    ]
    other = write(tmp_path / "b.tsv", "words\tkind\n<e1>A</e1> b <e2>C</e2>\tr\n")
    assert read_relations(other, "auto", ColumnNames("words", "kind"))[0].label == "r"
    with pytest.raises(DataError, match="row 1 has no text or sentence; it has: words, kind"):
        read(other)


SPAN = {"start": 0, "end": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tail": {"start": 2, "end": 9}}, "a tail from 2 to 9, which is no span of its text of 5"),
        ({"tail": {"start": 3, "end": 3}}, "a tail from 3 to 3, which is no span"),
        ({"tail": {"start": -1, "end": 3}}, "a tail from -1 to 3, which is no span"),
        ({"tail": {"start": True, "end": 3}}, "a tail from True to 3"),
        ({"tail": {"start": "2", "end": "3"}}, "a tail from '2' to '3'"),
        ({"tail": {"start": 1, "end": 2}}, "row 1 has white space alone in its tail"),
        ({"tail": {"start": 0, "end": 3}}, r"overlapping entities \(head and tail: 0 to 1 and 0"),
        ({"tail": None}, r'row 1 has no span in tail; "tail": \{"start": 0, "end": 5\} is wanted'),
        ({"label": None}, 'row 1 has no label in column "label"'),
        ({"text": " "}, 'row 1 has no text in column "text"'),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    row = {"text": "a b c", "head": SPAN, "tail": {"start": 4, "end": 5}, "label": "r"}
    with pytest.raises(DataError, match=message):
        read(write_rows(tmp_path / "a.jsonl", [row | change]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<e1>a</e1> b", "t has no <e2> and no </e2>; a text is wanted with <e1>"),
        ("<e1>a <e2>b</e2>", "t has no </e1>; a text"),
        ("<e1>a</e1> <e1>b</e1> <e2>c</e2>", "t has <e1> twice"),
        ("</e1>a<e1> <e2>b</e2>", "t has </e1> before <e1>"),
        ("<e1> </e1><e2>b</e2>", "t has nothing between <e1> and </e1>"),
        ("<e1>a <e2>b</e2></e1>", "t has overlapping entities"),
    ],
)
def test_bad_marks_are_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_marks(text, "t")


def test_what_the_labels_are(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", OFFICIAL)
    task, examples = RelationExtraction.from_training(source, CONFIG)
    assert task.labels == LABELS  # the other direction, too
    assert len(examples) == 2
    other = write(tmp_path / "b.txt", OFFICIAL.replace("Other", "Else"))
    with pytest.raises(
        DataError, match=r'b\.txt line 5 has the label "Else", which the .* known labels: Cause-Eff'
    ):
        task.read(other)
    same = write(tmp_path / "c.txt", OFFICIAL.replace("Cause-Effect(e2,e1)", "Other"))
    with pytest.raises(DataError, match='holds one label alone, "Other"; two are wanted'):
        RelationExtraction.from_training(same, CONFIG)
    short = FinetuneConfig(data=LabelledDataConfig(max_length=8))
    with pytest.raises(ConfigError, match=r"max-length is 8; allowed in relation-.*: 16 or more"):
        RelationExtraction.from_training(source, short)
    with pytest.raises(DataError, match=r"empty\.txt holds no rows"):
        read(write(tmp_path / "empty.txt", "\n"))


def test_task_json_round_trip(tmp_path: Path) -> None:
    task = RelationExtraction(LABELS, ColumnNames("words", None), 64)
    save_task(task, tmp_path)
    assert load_task(tmp_path) == task


# marking


def test_markers_stand_around_the_entities() -> None:
    assert mark_entities("The author of a book.", (16, 20), (4, 10)) == (
        "The [E2] author[/E2] of a [E1] book[/E1]."
    )
    assert mark_entities("作者的书", (0, 2), (3, 4)) == "[E1]作者[/E1]的[E2]书[/E2]"
    assert mark_entities("a[E2]b [/E1]", (0, 1), (5, 6)) == ("[E1]a[/E1][ E2 ][E2]b[/E2] [ /E1 ]")


def numbers(kept: list[int], length: int) -> list[int]:
    """Sizes of what is kept and of what is left out, in turn."""
    runs: list[int] = []
    last = None
    for i in range(length):
        if (i in kept) != last:
            runs.append(0)
            last = i in kept
        runs[-1] += 1
    return runs


def test_a_cut_keeps_both_entities() -> None:
    special = [1, *[0] * 98, 1]
    near = around_entities(special, [40, 42, 50, 52], 33)
    assert numbers(near, 100) == [1, 30, 31, 37, 1]  # 9 on either side
    assert near[1:-1] == list(range(31, 62))
    edge = around_entities(special, [2, 4, 10, 12], 33)
    assert edge == [*range(32), 99]
    far = around_entities(special, [90, 92, 10, 12], 20)  # the middle is cut
    assert far == [0, *range(10, 19), *range(84, 93), 99]
    long = around_entities(special, [10, 40, 50, 90], 16)
    assert long == [0, *range(10, 16), 40, *range(50, 56), 90, 99]  # each from its start


def test_long_texts_keep_both_entities(encoders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(str(encoders["bert"]))
    model = TASK.build_model(str(encoders["bert"]), HeadConfig())
    add_special_tokens(model, tokenizer, TASK.special_tokens)
    text = "a " * 100 + "good " + "film " * 100 + "bad " + "the " * 100
    good, bad = text.index("good"), text.index("bad")
    example = RelationExample(0, text, (bad, bad + 3), (good, good + 4), "Other")
    (feature,) = TASK.features([example], tokenizer, token_types=True)
    assert len(feature.input_ids) == 32
    assert feature.token_type_ids == [0] * 32
    kept = tokenizer.decode(feature.input_ids)
    assert "[E1] bad [/E1]" in kept
    assert "[E2] good [/E2]" in kept
    assert kept.startswith("[CLS]")
    assert kept.endswith("[SEP]")


# scores


PUBLISHED = """
300    0    0    0    4    1    0    2    2   12     3
  1  235    5    1    1   11   11    6    3   29     8
  0    5  160    7    2    0    1    1    1   11     4
  0    2    7  264    0    0    0    1    1   16     1
  3    1    1    4  226    1    0    1    3   16     1
  0    4    1    1    1  118    0    4    5   21     0
  0    4    0    0    2    0  206    1    0   19     0
  1    5    0    1    2    0    2  229    1   19     1
  5    1    2    0    4    9    0    3  177   27     2
 16   25   18   23   27   24   29   33   26  231     0
"""
"""A confusion matrix that the official scorer printed (last column: in the wrong direction)."""


def test_the_official_score_of_a_published_output() -> None:
    names = ["C-E", "C-W", "C-C", "E-D", "E-O", "I-A", "M-C", "M-T", "P-P"]
    truth: list[str] = []
    answers: list[str] = []
    for row, line in enumerate(PUBLISHED.split("\n")[1:-1]):
        *counts, wrong = map(int, line.split())
        true = f"{names[row]}(e2,e1)" if row < 9 else "Other"
        for column, count in enumerate(counts):
            truth += [true] * count
            answers += [f"{names[column]}(e2,e1)" if column < 9 else "Other"] * count
        truth += [true] * wrong
        answers += [true.replace("(e2,e1)", "(e1,e2)")] * wrong
    assert len(truth) == 2706
    table = {row["label"]: row for row in relation_scores.relation_table(truth, answers)}
    component = table["C-W"]
    assert component["precision"] == pytest.approx(235 / (282 + 8))
    assert component["recall"] == pytest.approx(235 / 311)
    assert component["f1"] == pytest.approx(0.7820, abs=5e-5)
    assert table["Other"]["f1"] == pytest.approx(0.5416, abs=5e-5)
    assert relation_scores.macro_f1(truth, answers) == pytest.approx(0.8325, abs=5e-5)
    assert relation_scores.micro_f1(truth, answers) == pytest.approx(0.8401, abs=5e-5)


def test_the_wrong_direction_is_wrong_twice() -> None:
    truth = ["A(e1,e2)", "A(e1,e2)", "B(e1,e2)", "Other"]
    answers = ["A(e1,e2)", "A(e2,e1)", "B(e1,e2)", "B(e1,e2)"]
    # A: 1 of 2 answered, 1 of 2 true: 1/2; B: 1 of 2, 1 of 1: 2/3
    assert relation_scores.macro_f1(truth, answers) == pytest.approx((1 / 2 + 2 / 3) / 2)
    # 2 right of 4 answered and of 3 true
    assert relation_scores.micro_f1(truth, answers) == pytest.approx(2 * 2 / (4 + 3))


def test_labels_without_direction() -> None:
    from sklearn.metrics import f1_score

    generator = random.Random(0)
    for nothing in ("no_relation", "NA", "Other"):
        names = ["per:age", "org:city", "per:title", nothing]
        truth, answers = (generator.choices(names, k=200) for _ in range(2))
        for average, ours in (
            ("macro", relation_scores.macro_f1),
            ("micro", relation_scores.micro_f1),
        ):
            theirs = f1_score(truth, answers, labels=names[:3], average=average)
            assert ours(truth, answers) == pytest.approx(theirs)
    assert relation_scores.macro_f1(["Other"], ["A(e1,e2)"]) == 0.0
    assert relation_scores.micro_f1(["Other"], ["Other"]) == 0.0


def test_metrics_table_and_collapse() -> None:
    examples = [RelationExample(i, "a b", (0, 1), (2, 3), LABELS[i]) for i in (0, 1, 2)]
    right = [{"label": e.label} for e in examples]
    assert TASK.metrics(examples, right) == {"macro_f1": 1.0, "micro_f1": 1.0, "accuracy": 1.0}
    assert [row["label"] for row in TASK.per_class(examples, right)] == ["Cause-Effect", "Other"]
    assert TASK.collapsed(examples, right) is None
    assert 'answers "Other" to all 3 validation' in str(TASK.collapsed(examples, right[2:] * 3))


# models


@pytest.mark.parametrize("family", ["modernbert", "electra", "bert", "roberta"])
def test_markers_survive_saving(encoders: dict[str, Path], family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = TASK.build_model(str(encoders[family]), HeadConfig())
    tokenizer = load_tokenizer(str(encoders[family]))
    before = model.get_input_embeddings().weight.clone()
    add_special_tokens(model, tokenizer, TASK.special_tokens)
    after = model.get_input_embeddings().weight
    assert after.shape[0] == before.shape[0] + 4 == model.config.vocab_size
    assert after[:-4].equal(before)
    assert len({tuple(row.tolist()) for row in after[-4:]}) == 4
    add_special_tokens(model, tokenizer, TASK.special_tokens)  # nothing is new now
    assert model.config.vocab_size == before.shape[0] + 4

    predictor = Predictor(TASK, model, tokenizer)
    texts = ["a <e1>good</e1> film was <e2>bad</e2>", "<e2>one</e2><e1>two</e1>"]
    ours = predictor.logits(predictor.features(TASK.of_texts(texts)))
    save_model_folder(tmp_path, TASK, model, tokenizer)
    vocabulary = (tmp_path / "vocab.txt").read_text().splitlines()
    assert vocabulary[-4:] == list(MARKERS)
    reopened = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    own = AutoTokenizer.from_pretrained(tmp_path)
    marked = ["a [E1] good [/E1] film was [E2] bad [/E2]", "[E2]one[/E2][E1]two[/E1]"]
    for text, logits in zip(marked, ours, strict=True):
        theirs = reopened(**own(text, return_tensors="pt")).logits[0].detach().numpy()
        np.testing.assert_allclose(theirs, logits, atol=1e-6)
    assert reopened.config.id2label == dict(enumerate(LABELS))
    again = Predictor.open(tmp_path, device="cpu").predict(texts)
    assert [list(p) for p in again] == [["label", "score", "scores"]] * 2


def test_direction_is_read_from_the_markers(encoders: dict[str, Path]) -> None:
    model = TASK.build_model(str(encoders["electra"]), HeadConfig())
    tokenizer = load_tokenizer(str(encoders["electra"]))
    add_special_tokens(model, tokenizer, TASK.special_tokens)
    one, other = Predictor(TASK, model, tokenizer).predict(
        ["<e1>good</e1> film <e2>bad</e2>", "<e2>good</e2> film <e1>bad</e1>"]
    )
    assert one["scores"] != other["scores"]


def test_neighbours_do_not_change_scores(encoders: dict[str, Path]) -> None:
    model = TASK.build_model(str(encoders["modernbert"]), HeadConfig())
    tokenizer = load_tokenizer(str(encoders["modernbert"]))
    add_special_tokens(model, tokenizer, TASK.special_tokens)
    examples = TASK.of_texts(toy(20, 3))
    alone, together = (
        Predictor(TASK, model, tokenizer, batch_size=size).predict_examples(examples)
        for size in (1, 20)
    )
    for a, b in zip(alone, together, strict=True):
        assert a["score"] == pytest.approx(b["score"], abs=1e-6)
    with pytest.raises(DataError, match="input 0 is int; a text or a row is wanted"):
        TASK.of_texts([3])


@pytest.fixture(scope="module")
def trained(
    encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FinetuneResult]:
    home = tmp_path_factory.mktemp("relations")
    flags = {
        "training": {"epochs": 30, "global_batch_size": 16, "dtype": "float32"},
        "optimizer": {"learning_rate": 3e-3, "layerwise_lr_decay": 1.0},
    }
    result = finetune(
        model=str(encoders["modernbert"]),
        train=write_rows(home / "train.jsonl", toy(480, 0)),
        validation=write_rows(home / "dev.jsonl", toy(80, 1)),
        output=home / "run",
        task="relation-extraction",
        config=resolve(
            FinetuneConfig, [*finetune_defaults("relation-extraction"), ("test", flags)]
        ),
    )
    return home, result


def test_direction_is_learned(trained: tuple[Path, FinetuneResult]) -> None:
    _, result = trained
    assert result.score > 0.9
    assert (result.metric, set(result.metrics)) == (
        "macro_f1",
        {"macro_f1", "micro_f1", "accuracy"},
    )


def test_the_model_answers_whatever_the_form(
    trained: tuple[Path, FinetuneResult], tmp_path: Path
) -> None:
    home, result = trained
    rows = toy(80, 1)
    from_rows = list(predict(model=result.output, input=str(home / "dev.jsonl")))
    assert [p["id"] for p in from_rows] == [row["id"] for row in rows]
    right = [p["label"] == row["label"] for p, row in zip(from_rows, rows, strict=True)]
    assert sum(right) / 80 == result.metrics["accuracy"]
    marked = "the <e1>good</e1> film was <e2>bad</e2>"
    (by_argument,) = predict(model=result.output, texts=[marked])
    assert list(by_argument) == ["id", "label", "score", "scores"]
    official = write(tmp_path / "a.txt", f'8001\t"{marked}"\nOther\nComment:\n\n')
    assert list(predict(model=result.output, input=official)) == [by_argument | {"id": 8001}]
    (by_line,) = predict(model=result.output, input="-", stdin=io.StringIO(marked + "\n"))
    assert by_line == by_argument
    listed = write(tmp_path / "a.json", json.dumps(rows[:2]))
    two = [(p["id"], p["label"]) for p in from_rows[:2]]
    assert [(p["id"], p["label"]) for p in predict(model=result.output, input=listed)] == two
    assert [e.label for e in read(listed)] == [row["label"] for row in rows[:2]]
    splits = write(tmp_path / "b.json", json.dumps({"dev": rows[:2], "test": rows[2:]}))
    named = predict(model=result.output, input=f"{splits}:dev")
    assert [(p["id"], p["label"]) for p in named] == two
    assert len(read(f"{splits}:test")) == 78
    with pytest.raises(DataError, match="input 0 has no <e1> and no </e1> and no <e2>"):
        predict(model=result.output, texts=["no marks"])


def test_command_line(
    trained: tuple[Path, FinetuneResult], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home, _ = trained
    encoder = home / "run"
    arguments = f"--train {home}/train.jsonl --validation {home}/dev.jsonl --output {tmp_path}/run"
    flags = "--training.max-steps 2 --task relation-extraction"
    # a fine-tuned model is an encoder, too, and has the markers already
    assert run(f"finetune --model {encoder} {arguments} {flags}".split()) == 0
    capsys.readouterr()
    data = f"--model {tmp_path}/run --data {home}/dev.jsonl"
    assert run(f"evaluate {data} --json".split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["task"], result["metric"], result["n"]) == (
        "relation-extraction",
        "macro_f1",
        80,
    )
    text = "the <e1>good</e1> film was <e2>bad</e2>"
    assert run(["predict", text, "--model", f"{tmp_path}/run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"id", "label", "score", "scores"}
    assert set(answer["scores"]) == {"Acts(e1,e2)", "Acts(e2,e1)"}


# official data

DATA = Path(os.environ.get("ELECTRA_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no data sets in {DATA}; set ELECTRA_DATA to run this"
)
@pytest.mark.parametrize(
    ("file", "rows"), [("TRAIN_FILE.TXT.gz", 8000), ("TEST_FILE_FULL.TXT", 2717)]
)
def test_official_counts(file: str, rows: int) -> None:
    examples = read(str(DATA / "semeval2010_task8" / file))
    assert len(examples) == rows
    relations = Counter(relation_scores.relation_of(e.label or "") for e in examples)
    assert len(relations) == 10
    assert relations["Other"] == {8000: 1410, 2717: 454}[rows]
    assert all(e.head[1] <= e.tail[0] for e in examples)
