"""Official files as they are published, where there is a folder of data sets; else skipped."""

import os
from pathlib import Path

import pytest

from electra.config import FinetuneConfig, LabelledDataConfig
from electra.corpus.documents import read_documents
from electra.tasks.labelled_data import read_examples
from electra.tasks.squad_data import notes, read_questions
from electra.tasks.token_classification import TokenClassification

DATA = Path(os.environ.get("ELECTRA_DATA", Path(__file__).parents[2] / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no data sets in {DATA}; set ELECTRA_DATA to run this"
)


@pytest.mark.parametrize(
    ("file", "rows", "labels", "pair"),
    [
        ("sst2/dev.tsv", 872, {"0", "1"}, False),
        ("rte/dev.tsv", 277, {"entailment", "not_entailment"}, True),
        ("banking77/test.csv", 3080, None, False),
        ("chnsenticorp/dev.tsv", 1200, {"0", "1"}, False),
        ("ag_news/test.tsv.gz", 7600, {"World", "Sports", "Business", "Sci/Tech"}, False),
        ("trec/train.txt", 5452, {"ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"}, False),
        ("trec/test.txt", 500, {"ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"}, False),
        ("20newsgroups/test.jsonl.gz", 7532, None, False),
        ("tnews/dev.json.gz", 10_000, None, False),
        ("clinc150/data_full.json.gz:train+oos_train", 15_100, None, False),
        ("clinc150/data_full.json.gz:val+oos_val", 3_100, None, False),
        ("clinc150/data_full.json.gz:test+oos_test", 5_500, None, False),
    ],
)
def test_official_counts(file: str, rows: int, labels: set[str] | None, pair: bool) -> None:
    columns, examples = read_examples(str(DATA / file), LabelledDataConfig())
    assert len(examples) == rows
    assert (columns.text_pair is not None) == pair
    if labels is not None:
        assert {e.label for e in examples} == labels


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("banking77/test.csv", 77),
        ("20newsgroups/test.jsonl.gz", 20),
        ("tnews/dev.json.gz", 15),
        ("clinc150/data_full.json.gz:train+oos_train", 151),
    ],
)
def test_official_numbers_of_labels(file: str, count: int) -> None:
    _, examples = read_examples(str(DATA / file), LabelledDataConfig())
    assert len({e.label for e in examples}) == count


def test_fine_types_of_questions() -> None:
    fine = LabelledDataConfig(label_column="fine")
    _, examples = read_examples(str(DATA / "trec" / "train.txt"), fine)
    assert len({e.label for e in examples}) == 50


def test_columns_by_number_where_there_is_no_header() -> None:
    columns = LabelledDataConfig(text_column="0", text_pair_column="1", label_column="2")
    _, examples = read_examples(str(DATA / "stsb" / "stsb-en-test.csv"), columns)
    assert len(examples) == 1379
    assert all(e.text_pair and 0 <= float(e.label or "-1") <= 5 for e in examples)


def test_articles_of_wikipedia() -> None:
    documents = list(read_documents(DATA / "enwiki" / "enwiki_2018.txt.gz"))
    assert len(documents) == 6_435


@pytest.mark.parametrize(
    ("folder", "files", "scheme", "types", "sentences", "entities"),
    [
        ("conll2003", ("train.txt.gz", "valid.txt", "test.txt"), "BIO", 4,
         (14_041, 3_250, 3_453), (23_499, 5_942, 5_648)),
        ("cluener", ("train.json.gz", "dev.json"), "BIO", 10, (10_748, 1_343), (23_972, 3_072)),
        ("resume_ner", ("train.char.bmes.gz", "dev.char.bmes", "test.char.bmes"), "BMES", 8,
         (3_821, 463, 477), (13_436, 1_497, 1_630)),
        ("atis", ("train", "valid", "test"), "BIO", 79,
         (4_478, 500, 893), (14_851, 1_709, 2_837)),
    ],
)  # fmt: skip
def test_tagged_data(
    folder: str,
    files: tuple[str, ...],
    scheme: str,
    types: int,
    sentences: tuple[int, ...],
    entities: tuple[int, ...],
) -> None:
    paths = [str(DATA / folder / file) for file in files]
    task, train = TokenClassification.from_training(paths[0], FinetuneConfig())
    assert (task.scheme, len(task.types)) == (scheme, types)
    assert len(task.intents) == (21 if folder == "atis" else 0)
    splits = [train, *map(task.read, paths[1:])]
    assert tuple(map(len, splits)) == sentences
    assert tuple(sum(len(e.entities or ()) for e in split) for split in splits) == entities
    for example in train[:500]:
        assert example.words[-1][1] <= len(example.text)
        for start, end, _ in example.entities or ():
            assert example.text[start:end].strip() == example.text[start:end] != ""


@pytest.mark.parametrize(
    ("file", "questions", "unanswerable", "lost"),
    [
        ("squad_v1/dev-v1.1.part1.json.gz", 4961, 0, 0),
        ("squad_v1/dev-v1.1.part2.json.gz", 5609, 0, 0),
        ("squad_v2/dev-v2.0.half.json.gz", 6078, 3168, 0),
        ("cmrc2018/cmrc2018_dev.json.gz", 3219, 0, 200),
        ("cmrc2018/cmrc2018_trial.json", 1002, 0, 5),
    ],
)
def test_questions_of_squad_and_cmrc(
    file: str, questions: int, unanswerable: int, lost: int
) -> None:
    found = read_questions(str(DATA / file))
    assert len(found) == questions
    assert sum(question.answers == () for question in found) == unanswerable
    assert sum(question.lost for question in found) == lost
    assert bool(notes(found)) == bool(lost)
