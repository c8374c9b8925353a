"""Parquet, Arrow and WARC files."""

import gzip
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from electra.corpus.documents import read_documents
from electra.corpus.files import ReadReport, expand, read_rows
from electra.errors import DataError

TABLE = arrow.table({"id": [1, 2, 3], "text": ["a", "", None], "other": ["x", "y", "z"]})


def write_arrow(path: Path, table: arrow.Table, *, stream: bool = False) -> Path:
    make = arrow.ipc.new_stream if stream else arrow.ipc.new_file
    with arrow.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize("stream", [False, True])
def test_arrow_files_and_streams(tmp_path: Path, stream: bool) -> None:
    path = write_arrow(tmp_path / "a.arrow", TABLE, stream=stream)
    report = ReadReport()
    assert list(read_documents(path, report=report)) == ["a"]
    assert 0 < report.position <= path.stat().st_size
    assert list(read_documents(path, text_column="2")) == ["x", "y", "z"]
    assert list(read_rows(path)) == TABLE.to_pylist()
    packed = tmp_path / "b.feather.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_documents(packed)) == ["a"]
    with pytest.raises(DataError, match=r'a\.arrow row 1: column "id" holds int, not text'):
        list(read_documents(path, text_column="id"))
    with pytest.raises(DataError, match='has no column "body"; it has: id, text, other'):
        list(read_documents(path, text_column="body"))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"a\.arrow is not a whole Arrow file"):
        list(read_documents(path))


def test_a_saved_data_set_is_its_files(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"]})
    datasets.DatasetDict(train=rows, test=rows.select([0])).save_to_disk(
        tmp_path, num_shards={"train": 2, "test": 1}
    )
    write_arrow(tmp_path / "train" / "cache-1.arrow", TABLE)  # left over, not part of the set
    files = expand([tmp_path / "train"])
    assert [f.name for f in files] == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert [text for file in files for text in read_documents(file)] == ["a", "b", "c"]
    assert len(expand([tmp_path])) == 3


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_text_in_tables_that_is_not_utf8(tmp_path: Path, kind: str) -> None:
    raw = arrow.array([b"fine", None, b"bad \xff"], arrow.binary())
    offsets = raw.buffers()
    text = arrow.StringArray.from_buffers(len(raw), offsets[1], offsets[2], offsets[0])
    table = arrow.table({"text": text})
    path = tmp_path / f"a.{kind}"
    if kind == "arrow":
        write_arrow(path, table)
    else:
        parquet.write_table(table, path)
    with pytest.raises(DataError, match=r"row 3 is not UTF-8: byte 4 of the text is 0xff; convert"):
        list(read_documents(path))
    with pytest.raises(DataError, match="holds text that is not UTF-8"):
        list(read_rows(path))
    report = ReadReport()
    found = list(read_documents(path, encoding_errors="replace", report=report))
    assert found == ["fine", "bad \ufffd"]
    assert report.replaced_bytes == {str(path): 1}


def record(
    kind: str, body: bytes, *, content: str = "text/plain", length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.example/é\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nContent-Type: {content}\r\n"
        f"content-length: {size}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


TEXTS = ["one\n\ntwo WARC/1.0\r\n", "文字\n" * 200_000, "a\x00b"]


def test_wet(tmp_path: Path) -> None:
    records = [record("warcinfo", b"x"), *(record("conversion", t.encode()) for t in TEXTS)]
    records.insert(2, record("metadata", b"not text"))
    records.append(record("resource", b"{}", content="application/json"))
    plain = tmp_path / "a.wet"
    plain.write_bytes(b"".join(records))
    assert list(read_documents(plain)) == TEXTS
    packed = tmp_path / "a.warc.wet.gz"  # a gzip member a record, as Common Crawl has it
    packed.write_bytes(b"".join(map(gzip.compress, records)))
    report = ReadReport()
    assert list(read_documents(packed, report=report, text_column="url")) == TEXTS
    assert report.position == packed.stat().st_size
    assert next(read_rows(plain)) == {
        "text": TEXTS[0],
        "url": "http://a.example/é",
        "date": "2026-01-01T00:00:00Z",
    }


def test_broken_wet(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    good = record("conversion", b"good")
    for data, message in (
        (good + b"HTTP/1.1 200\r\n", f"record at byte {len(good)} does not begin with WARC/1.0"),
        (good + record("conversion", b"x", length=9**15), f"byte {len(good)} is cut: .* missing"),
        (good + record("conversion", b"x")[:30], "has no whole header"),
        (good.replace(b"length: 4", b"length: -4"), "record at byte 0 has no whole header"),
        (record("response", b"<html>"), r"is a web page, not text; take the \.wet file"),
        (good + record("conversion", b"a \xff"), r"is not UTF-8: byte \d+ \(line \d+\) is 0xff"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            list(read_documents(path))
