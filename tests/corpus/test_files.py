"""Reading people's files, whole and broken."""

import gzip
import json
from pathlib import Path

import pytest

from electra.corpus.documents import read_documents
from electra.corpus.files import ReadReport, expand, pick_column, read_lines, read_rows
from electra.errors import DataError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_blank_lines_separate_documents(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\ntwo\n\n \n\nthree\n")
    assert list(read_documents(path)) == ["one\ntwo", "three"]


def test_gzip_is_read_alike(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"text": "你好"}\n\n{"text": "b"}\n')
    assert list(read_documents(tmp_path / "a.jsonl.gz")) == ["你好", "b"]


def test_bytes_that_are_not_utf8_are_placed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"fine\nbad \xff here\n")
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8: byte 9 \(line 2\) is 0xff"):
        list(read_lines(path))
    report = ReadReport()
    assert (
        list(read_lines(path, encoding_errors="replace", report=report))[1] == "bad \ufffd here\n"
    )
    assert report.replaced_bytes == {str(path): 1}


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\nhello,x\n")
    assert list(read_rows(tmp_path / "a.csv")) == [{"text": "hello", "label": "x"}]


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"hello world\n" * 500)[:-20])
    with pytest.raises(DataError, match=r"a\.txt\.gz is truncated"):
        list(read_lines(path))
    path.write_bytes(b"not gzip at all")
    with pytest.raises(DataError, match=r"is not a whole \.gz file"):
        list(read_lines(path))


def test_glue_tsv_is_unquoted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'sentence\tlabel\nhe said " so\t1\nplain\t0\n')
    assert [row["sentence"] for row in read_rows(path)] == ['he said " so', "plain"]


@pytest.mark.parametrize(
    ("text", "header", "columns"),
    [
        (
            "text,category\nI am still waiting on my card?,card_arrival\n",
            "auto",
            ["text", "category"],
        ),
        ("A plane is taking off.,An air plane is taking off.,5.0\n", "auto", ["0", "1", "2"]),
        ("Oil prices soar to an all-time record again,Business\nx,y\n", "auto", ["0", "1"]),
        ("a,b\nc,d\n", "false", ["0", "1"]),
        ("9,8\n7,6\n", "true", ["9", "8"]),
        ("good movie\nbad movie\n", "auto", ["0"]),
        ("text\nbad movie\n", "auto", ["text"]),
        ("Review\nbad movie\n", "auto", ["Review"]),
        ("good movie\nbad movie\n", "true", ["good movie"]),
    ],
)
def test_headers_are_found(tmp_path: Path, text: str, header: str, columns: list[str]) -> None:
    row = next(read_rows(write(tmp_path / "a.csv", text), header=header))
    assert list(row) == columns


def test_a_named_column_makes_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "the text of it all,7\nhello,1\n")
    assert list(next(read_rows(path, columns=["the text of it all"]))) == [
        "the text of it all",
        "7",
    ]


def test_a_single_column_keeps_its_first_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "good movie\nbad movie\n")
    assert list(read_documents(path)) == ["good movie", "bad movie"]
    path = write(tmp_path / "b.csv", "tweet\nbad movie\n")
    assert list(read_documents(path, text_column="tweet")) == ["bad movie"]


def test_advice_is_the_callers(tmp_path: Path) -> None:
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_bytes(b"bad \xff here\n")
        with pytest.raises(DataError, match=r"is 0xff; convert it$"):
            list(read_rows(tmp_path / name))
        with pytest.raises(DataError, match=r"or go on with --encoding-errors replace$"):
            list(read_documents(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": "a"}\nnope\n', r"a\.jsonl line 2 is not JSON"),
        ("a.jsonl", "[1]\n", r"line 1 is list; a JSON object is wanted"),
        ("a.tsv", "a\tb\nx\n", r"line 2 has 1 columns, the first line has 2"),
        ("a.jsonl", '{"x": "a", "y": "b"}\n', r"has the columns x, y; say which one"),
        ("a.jsonl", '{"text": 3}\n', r'line 1: column "text" holds int, not text'),
        ("a.parquet", "PAR?", r"a\.parquet is not a whole Parquet file"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_documents(write(tmp_path / name, text)))


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    parquet.write_table(arrow.table({"text": ["a", "b", None]}), tmp_path / "a.parquet")
    assert list(read_documents(tmp_path / "a.parquet")) == ["a", "b"]
    packed = gzip.compress((tmp_path / "a.parquet").read_bytes())
    (tmp_path / "b.parquet.gz").write_bytes(packed)
    assert list(read_documents(tmp_path / "b.parquet.gz")) == ["a", "b"]


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a \\ud83d b \\ud83d\\ude00"}\n')
    (text,) = read_documents(path)
    assert text == "a \ufffd b \U0001f600"
    text.encode("utf-8")


def test_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.txt", "a.jsonl", "deep/c.csv.gz", "deep/readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [p.name for p in expand([tmp_path])] == ["a.jsonl", "b.txt", "c.csv.gz"]
    assert [p.name for p in expand([tmp_path / "*.txt", tmp_path / "b.txt"])] == ["b.txt"]
    with pytest.raises(DataError, match=r"nothing\.txt does not exist"):
        expand([tmp_path / "nothing.txt"])
    with pytest.raises(DataError, match="ending that is not read"):
        expand([tmp_path / "deep" / "readme.md"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file ending in"):
        expand([tmp_path / "empty"])


def test_columns_by_name_and_number() -> None:
    path = Path("a.csv")
    assert pick_column(["text", "label"], "1", path) == "label"
    with pytest.raises(DataError, match=r'a\.csv has no column "lable"; it has: text, label'):
        pick_column(["text", "label"], "lable", path)


def test_json_rows_keep_their_types(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", json.dumps({"text": "a", "n": 1, "f": None}) + "\n")
    assert list(read_rows(path)) == [{"text": "a", "n": 1, "f": None}]


@pytest.mark.parametrize("header", ["auto", "true"])
@pytest.mark.parametrize("first", ["label,text,label", "text,what it says,text "])
def test_two_columns_of_one_name(tmp_path: Path, header: str, first: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{first}\n1,2,3\n")
    with pytest.raises(DataError, match=r"a\.csv has two columns of one name: "):
        list(read_rows(path, header=header, columns=["text"]))
    assert next(read_rows(path, header="false")) == dict(zip("012", first.split(","), strict=True))
    path.write_text("v1,text,,\n1,2,,\n")
    assert [row["text"] for row in read_rows(path, header=header, columns=["text"])] == ["2"]
