import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from electra.config import FinetuneConfig, LabelledDataConfig
from electra.errors import DataError
from electra.tasks.tagged_data import TaggedExample, WordRule, stands_alone
from electra.tasks.tagged_files import Entity, TaggedRow
from electra.tasks.token_classification import TokenClassification

CONLL = """-DOCSTART- -X- -X- O

U.N. NNP B-NP B-ORG
official NN I-NP O
Ekeus NNP I-NP B-PER
heads VBZ B-VP O
. . O O

-DOCSTART- -X- -X- O

New NNP B-NP B-LOC
York NNP I-NP I-LOC
"""


def learn(
    path: Path, content: str | list[Any], data: LabelledDataConfig | None = None
) -> tuple[TokenClassification, list[TaggedExample]]:
    write(path, content)
    config = FinetuneConfig(data=data or LabelledDataConfig())
    return TokenClassification.from_training(str(path), config)


def write(path: Path, content: str | list[Any]) -> Path:
    if not isinstance(content, str):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content, encoding="utf-8")
    return path


def marked(example: TaggedExample) -> list[tuple[str, str]]:
    return [(example.text[e.start : e.end], e.label) for e in example.entities or ()]


def words(example: TaggedExample) -> list[str]:
    return [example.text[start:end] for start, end in example.words]


@pytest.mark.parametrize("name", ["a.txt", "a.conll.gz", "a"])
@pytest.mark.parametrize("separator", [" ", "\t", "   "])
def test_conll_columns(tmp_path: Path, name: str, separator: str) -> None:
    task, (first, second) = learn(tmp_path / name, CONLL.replace(" ", separator))
    assert (task.scheme, task.types) == ("BIO", ("LOC", "ORG", "PER"))
    assert first.text == "U.N. official Ekeus heads ."
    assert words(first) == first.text.split()
    assert marked(first) == [("U.N.", "ORG"), ("Ekeus", "PER")]
    assert marked(second) == [("New York", "LOC")]
    assert (first.id, second.id) == (0, 1)
    assert second.place.endswith("line 11")


def test_another_column(tmp_path: Path) -> None:
    chunks = LabelledDataConfig(label_column="2")
    task, (first, _) = learn(tmp_path / "a.txt", CONLL, chunks)
    assert marked(first) == [("U.N. official Ekeus", "NP"), ("heads", "VP")]
    assert marked(task.read(str(tmp_path / "a.txt"))[0]) == marked(first)  # it is remembered
    named = LabelledDataConfig(text_column="word", label_column="ner")
    headed = "ner\tword\nB-X\tone two\nO\tthree\n"
    _, (example,) = learn(tmp_path / "b.tsv", headed, named)
    assert marked(example) == [("one two", "X")]
    assert words(example) == ["one two", "three"]
    with pytest.raises(DataError, match='has no column "9"; it has: 0, 1, 2, 3'):
        learn(tmp_path / "a.txt", CONLL, LabelledDataConfig(label_column="9"))
    with pytest.raises(DataError, match=r'line 3 has the tag "NNP"; allowed: O, or B-TYPE'):
        learn(tmp_path / "a.txt", CONLL, LabelledDataConfig(label_column="1"))


def test_characters_of_chinese(tmp_path: Path) -> None:
    task, (one, two) = learn(
        tmp_path / "a.bmes",
        "高 B-NAME\n勇 E-NAME\n， O\nM O\nB S-T\n\n中 B-CONT\n国 M-CONT\n籍 E-CONT\n",
    )
    assert task.scheme == "BMES"
    assert task.rule == WordRule("", by_character=True)
    assert one.text == "高勇，MB"
    assert marked(one) == [("高勇", "NAME"), ("B", "T")]
    assert marked(two) == [("中国籍", "CONT")]
    assert [words(e) for e in task.of_texts(["MB 国", list("高勇")])] == [
        ["M", "B", "国"],
        ["高", "勇"],
    ]


def test_iob1_is_written_down_and_learned_as_bio(tmp_path: Path) -> None:
    task, (example,) = learn(tmp_path / "a.txt", "a I-X\nb B-X\nc O\nd I-Y\ne I-Y\n")
    assert task.scheme == task.settings()["scheme"] == "IOB1"
    assert task.tagset.names == ("O", "B-X", "I-X", "B-Y", "I-Y")
    assert marked(example) == [("a", "X"), ("b", "X"), ("d e", "Y")]


def test_another_file_may_be_in_another_scheme(tmp_path: Path) -> None:
    task, _ = learn(tmp_path / "a.txt", CONLL)
    dev = write(tmp_path / "dev.txt", "New B-LOC\nYork E-LOC\nis O\nhot S-PER\n")
    assert marked(task.read(str(dev))[0]) == [("New York", "LOC"), ("hot", "PER")]


TEXT = "Zoë (London) said: 😀 “hi”, 上海!"


@pytest.mark.parametrize("key", ["entities", "labels", "label", "spans"])
def test_json_spans(tmp_path: Path, key: str) -> None:
    places = [(0, 3, "PER"), (5, 11, "LOC"), (19, 20, "FACE"), (27, 29, "LOC")]
    spans = [{"start": s, "end": e, "label": label} for s, e, label in places]
    task, examples = learn(tmp_path / "a.jsonl", [{"id": "x", "text": TEXT, key: spans}])
    assert task.types == ("FACE", "LOC", "PER")
    (example,) = examples
    assert example.id == "x"
    assert marked(example) == [("Zoë", "PER"), ("London", "LOC"), ("😀", "FACE"), ("上海", "LOC")]
    assert " ".join(words(example)) == "Zoë ( London ) said : 😀 “ hi ” , 上 海 !"
    assert [words(example)[s] for s, _, _ in example.spans] == ["Zoë", "London", "😀", "上"]
    assert task.notes(examples) == []
    triples, _ = learn(tmp_path / "b.jsonl", [{"text": TEXT, key: places}])
    assert triples.types == task.types


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.jsonl"])
def test_cluener(tmp_path: Path, name: str) -> None:
    row = {
        "text": "温格说，温格在曼联",
        "label": {"name": {"温格": [[0, 1], [4, 5]]}, "organization": {"曼联": [[7, 8]]}},
    }
    _, (example,) = learn(tmp_path / name, [row])
    assert sorted(marked(example)) == [("曼联", "organization"), ("温格", "name"), ("温格", "name")]
    assert example.spans == ((0, 2, "name"), (4, 6, "name"), (7, 9, "organization"))
    wrong = {**row, "label": {"name": {"曼联": [[0, 1]]}}}
    with pytest.raises(
        DataError, match='line 1 says that "曼联" stands from 0 to 1; there the text'
    ):
        learn(tmp_path / "b.json", [wrong])


def test_json_words_with_tags(tmp_path: Path) -> None:
    row = {"tokens": ["New", "York", "!"], "ner_tags": ["B-LOC", "I-LOC", "O"]}
    task, (example,) = learn(tmp_path / "a.jsonl", [row])
    assert marked(example) == [("New York", "LOC")]
    assert task.scheme == "BIO"
    with pytest.raises(DataError, match="line 1 has 3 words and 2 tags"):
        learn(tmp_path / "a.jsonl", [{**row, "ner_tags": ["O", "O"]}])
    with pytest.raises(DataError, match='line 1 has the tag "3"; allowed: O, or B-TYPE'):
        learn(tmp_path / "a.jsonl", [{**row, "ner_tags": [3, 0, 0]}])


def parallel(folder: Path, words: str, tags: str, intents: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "seq.in").write_text(words)
    (folder / "seq.out").write_text(tags)
    if intents is not None:
        (folder / "label").write_text(intents)
    return folder


def test_parallel_lines(tmp_path: Path) -> None:
    train = parallel(
        tmp_path / "train", "to new york \ngo home\n", "O B-to I-to\nO O\n", "flight\nother\n"
    )
    task, (first, second) = TokenClassification.from_training(str(train), FinetuneConfig())
    assert task.intents == ("flight", "other")
    assert task.labels == ("O", "B-to", "I-to", "intent:flight", "intent:other")
    assert (marked(first), first.intent) == ([("new york", "to")], "flight")
    assert (marked(second), second.intent) == ([], "other")
    no_intents = parallel(tmp_path / "dev", "a b\n", "O O\n")
    with pytest.raises(DataError, match="line 1 has no intent; the model was trained with intents"):
        task.read(str(no_intents))
    assert task.read(str(no_intents), labelled=False)[0].text == "a b"
    plain, _ = TokenClassification.from_training(
        str(parallel(tmp_path / "slots", "a b\n", "O B-x\n")), FinetuneConfig()
    )
    assert plain.intents == ()
    for words_, tags, intents, message in (
        ("a b\n", "O\n", "x\n", r"seq\.in line 1 has 2 words and 1 tags"),
        ("a b\nc\n", "O O\n", "x\ny\n", r"seq\.out has 1 lines, seq\.in has 2"),
        ("a b\n\nc\n", "O B-x\n\nO\n", "x\ny\nz\n", r"seq\.in line 2 is empty"),
        ("a b\nc\n", "O B-x\nO\n", "x\nx\n", 'has one intent alone, "x"; two are wanted'),
    ):
        folder = parallel(tmp_path / "bad", words_, tags, intents)
        with pytest.raises(DataError, match=message):
            TokenClassification.from_training(str(folder), FinetuneConfig())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is a folder without seq\.in"):
        task.read(str(tmp_path / "empty"))


def spans(*places: tuple[Any, Any, Any]) -> list[dict[str, Any]]:
    return [{"text": "one two", "entities": [list(place) for place in places]}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (spans((0, 99, "X")), r"line 1 has the entity X from 0 to 99, outside its text of 7 char"),
        (spans((-3, 2, "X")), "from -3 to 2, outside its text"),
        (spans((3, 1, "X")), "has the entity X from 3 to 1: it ends too early"),
        (spans((2, 2, "X")), "from 2 to 2: it ends too early"),
        (spans((3, 4, "X")), "from 3 to 4 on white space"),
        (spans(("0", 3, "X")), "entity without whole numbers start and end and a label: '0', 3"),
        (spans((0, 3, "")), "entity without whole numbers"),
        (spans((0, 3, "X"), (0, 7, "Y")), r"has 1 entities that share a word with a longer one, .*"
         r"first in a\.jsonl line 1; keep one"),
        (spans(), "marks no entity in 1 sentences: there is nothing to learn"),
        ([{"text": "a"}], "line 1 has none of entities, labels, label, spans; it has: text"),
        ([{"entities": []}], 'line 1 has no "text" .nor tokens.; it has: entities'),
        ([{"text": "a", "entities": 3}], "entities must be a list of"),
        ([{"text": "a", "label": {"x": [1]}}], "labels must be {type"),
        ([["a"]], "line 1 is list; a JSON object a line is wanted"),
        ("", "holds no sentences"),
        ("{\n", "line 1 is not JSON"),
    ],
)  # fmt: skip
def test_bad_spans(tmp_path: Path, content: str | list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        learn(tmp_path / "a.jsonl", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a B-X\nb c O\n", r"a\.txt line 2 has 3 columns, the first line has 2"),
        ("a B-X\n\nb\n", r"a\.txt line 3 has 1 column, the first line has 2"),
        ("a\nb\n", "line 1 has one column; a word and its tag are wanted"),
        ("a B-X\n\tb\n", r"line 2 has the tag|has 1 column"),
        ("a\tB-X\n\tO\n", "line 2 has no word in column 0"),
        ("a PER\n", 'line 1 has the tag "PER"; allowed: O, or B-TYPE'),
        ("a B-X\nb M-X\nc I-X\n", r"has tags of no one scheme \(both I- and M-\); allowed: BIO, "),
        ("a O\nb O\n", "marks no entity in 1 sentences"),
        ("\n\n", "holds no sentences"),
        ("-DOCSTART- O\n\n", "holds no sentences"),
    ],
)
def test_bad_columns(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        learn(tmp_path / "a.txt", content)


def test_files_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv: CSV is not read for tags; give CoNLL columns"):
        learn(tmp_path / "a.csv", "a,b\n")
    with pytest.raises(DataError, match=r"gone\.txt does not exist"):
        TokenClassification.from_training(str(tmp_path / "gone.txt"), FinetuneConfig())


def test_unknown_labels_are_refused_or_few_and_counted(tmp_path: Path) -> None:
    task, _ = learn(tmp_path / "a.txt", CONLL)
    dev = tmp_path / "dev.txt"
    write(dev, "a B-LOC\nb B-VERB\n")
    with pytest.raises(
        DataError,
        match=r"dev\.txt has 1 labels that the training data does not have \(VERB\), first in "
        r"dev\.txt line 1; known labels: LOC, ORG, PER",
    ):
        task.read(str(dev))
    write(dev, "a B-LOC\n\n" * 120 + "a B-VERB\nb B-LOC\n")
    examples = task.read(str(dev))
    assert examples[-1].spans == ((1, 2, "LOC"),)
    assert task.notes(examples) == [
        "1 of 122 entities have a label the training data does not have; they count as missed"
    ]
    predictions = [
        {"entities": [{"start": s, "end": e, "label": "LOC"} for s, e, _ in x.entities or ()]}
        for x in examples
    ]
    assert task.metrics(examples, predictions)["recall"] == pytest.approx(121 / 122)


def test_spans_off_the_borders_of_words_are_counted(tmp_path: Path) -> None:
    rows = [
        {"text": "iPhone6s here", "entities": [[0, 6, "X"]]},
        {"text": " New York , ", "entities": [[0, 10, "Y"]]},  # white space is left out silently
    ]
    task, examples = learn(tmp_path / "a.jsonl", rows)
    assert examples[0].spans == ((0, 1, "X"),)
    assert examples[0].entities == (Entity(0, 6, "X"),)
    assert marked(examples[1]) == [("New York", "Y")]
    assert task.notes(examples) == [
        "1 of 2 entities begin or end inside a word: the whole word is tagged"
    ]


def test_tags_of_no_whole_entity_are_counted(tmp_path: Path) -> None:
    task, examples = learn(tmp_path / "a.txt", "a B-X\nb O\nc S-X\n")
    assert marked(examples[0]) == [("c", "X")]
    assert task.notes(examples) == ["1 tags belong to no whole entity and are read as O"]


def test_words_of_raw_text() -> None:
    rule = WordRule()
    cases = {
        "don't stop-me": "don ' t stop - me",
        "naïve e\u0301t\u00e9": "naïve e\u0301t\u00e9",
        "3.5% of $10": "3 . 5 % of $ 10",
        "我love北京": "我 love 北 京",
        "カナ ひら 한국어": "カ ナ ひ ら 한국어",
        "  a\u3000b\n": "a b",
        "𠀀𝐀👩‍👧": "𠀀 𝐀 👩 ‍ 👧",
        "हिन्दी में": "हिन्दी में",
        "": "",
    }
    for text, expected in cases.items():
        places = rule.split(text)
        assert [text[s:e] for s, e in places] == expected.split(" " if expected else None), text
    assert stands_alone("，")
    assert not stands_alone("é")


def test_what_joins_words() -> None:
    def rule(*sentences: list[str]) -> WordRule:
        return WordRule.of([TaggedRow(0, "", words=tuple(words)) for words in sentences])

    assert rule(["New", "York"]) == WordRule(" ", by_character=False)
    assert rule(["北京", "在", "中国", "iPhone"]) == WordRule("", by_character=False)
    assert rule(["北", "京", "A"]) == WordRule("", by_character=True)
    assert rule() == WordRule()
    assert WordRule().join(["New", "York"]) == ("New York", ((0, 3), (4, 8)))
    assert WordRule("").join(["北", "京"]) == ("北京", ((0, 1), (1, 2)))


def test_half_a_surrogate_pair_keeps_offsets(tmp_path: Path) -> None:
    line = r'{"text": "a \ud83d b \ud83d\ude00 c", "entities": [[4, 5, "X"], [8, 9, "Y"]]}'
    _, (example,) = learn(tmp_path / "a.jsonl", line)
    assert example.text == "a \ufffd b 😀 c"
    assert marked(example) == [("b", "X"), ("c", "Y")]
