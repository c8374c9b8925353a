"""Official files as they are published, where there is a folder of data sets; else skipped."""

import os
from pathlib import Path

import pytest

from electra.config import LabelledDataConfig
from electra.corpus.documents import read_documents
from electra.tasks.labelled_data import read_examples

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
    ],
)
def test_official_counts(file: str, rows: int, labels: set[str] | None, pair: bool) -> None:
    columns, examples = read_examples(str(DATA / file), LabelledDataConfig())
    assert len(examples) == rows
    assert (columns.text_pair is not None) == pair
    if labels is not None:
        assert {e.label for e in examples} == labels


def test_columns_by_number_where_there_is_no_header() -> None:
    columns = LabelledDataConfig(text_column="0", text_pair_column="1", label_column="2")
    _, examples = read_examples(str(DATA / "stsb" / "stsb-en-test.csv"), columns)
    assert len(examples) == 1379
    assert all(e.text_pair and 0 <= float(e.label or "-1") <= 5 for e in examples)


def test_articles_of_wikipedia() -> None:
    documents = list(read_documents(DATA / "enwiki" / "enwiki_2018.txt.gz"))
    assert len(documents) == 6_435
