"""Documents of a file and of ranges of it: each document once, whatever the cuts."""

import gzip
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electra.corpus.documents import read_documents
from electra.corpus.files import ReadReport, read_lines
from electra.corpus.spans import _SPACE, located_documents
from electra.errors import DataError

BLANK = ["", " ", "\t", "\r", "\u3000", "\xa0 ", "\x85", "\x1f\x0b", " \u2003\u2028"]
INK = ["a", "  b c", "é\r", "文字", "\u3002", "\u2014 ", "\x00", "\U0001f600", "\u200b", "ï»¿"]


def by_lines(text: str) -> Iterator[str]:
    """The documents of a text, said a line at a time."""
    held: list[str] = []
    for line in text.split("\n"):
        if line.strip():
            held.append(line.rstrip("\r"))
        elif held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def test_space_is_what_python_says() -> None:
    import re

    space = re.compile(_SPACE)
    for code in (*range(0xD800), *range(0xE000, 0x11000)):
        if code != ord("\n"):
            assert bool(space.fullmatch(chr(code).encode())) == chr(code).isspace(), hex(code)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spans")


TEXTS = st.builds(
    lambda lines, end, last: end.join(lines) + last,
    st.lists(st.sampled_from(BLANK + INK), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\n", "\r\n", "\n\n"]),
)


def spans_of(size: int, cuts: list[int]) -> list[tuple[int, int]]:
    bounds = [0, *sorted(cut % (size + 1) for cut in cuts), size]
    return list(itertools.pairwise(bounds))


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    mark=st.booleans(),
    block=st.integers(1, 9),
    back=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_ranges_of_text_give_its_documents(
    folder: Path, text: str, mark: bool, block: int, back: int, cuts: list[int]
) -> None:
    path = folder / "a.txt"
    raw = (b"\xef\xbb\xbf" if mark else b"") + text.encode()
    path.write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("electra.corpus.compression._BLOCK", block)
        patch.setattr("electra.corpus.spans._LOOK_BACK", back)
        whole = list(read_documents(path))
        assert whole == list(by_lines(text))
        ranges = spans_of(len(raw), cuts)
        assert [d for span in ranges for d in read_documents(path, span=span)] == whole
        # each begins in its range
        for start, end in ranges:
            assert all(
                start <= at < end for at, _ in located_documents(path, (start, end)) if at > 3
            )


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.sampled_from([*INK[1:6], "\u2028", "long " * 9]), max_size=8),
    blanks=st.lists(st.sampled_from(["", " ", "\t"]), min_size=8, max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    mark=st.booleans(),
    block=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 500), max_size=5),
)
def test_ranges_of_jsonl_give_its_rows(
    folder: Path,
    texts: list[str],
    blanks: list[str],
    end: str,
    last: bool,
    mark: bool,
    block: int,
    cuts: list[int],
) -> None:
    lines = [
        line
        for text, blank in zip(texts, blanks, strict=False)
        for line in (json.dumps({"id": 1, "text": text}, ensure_ascii=False), *blank.split("x"))
    ]
    raw = (b"\xef\xbb\xbf" if mark else b"") + (end.join(lines) + (end if last else "")).encode()
    path = folder / "a.jsonl"
    path.write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("electra.corpus.compression._BLOCK", block)
        found = [d for span in spans_of(len(raw), cuts) for d in read_documents(path, span=span)]
    assert found == [text for text in texts if text.strip()] == list(read_documents(path))


def test_the_column_of_a_range_is_the_one_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "a", "x": 1}\n{"text": "b", "content": "c"}\n{"text": "d"}\n')
    size = path.stat().st_size
    assert list(read_documents(path)) == ["a", "c", "d"]
    for cut in range(size):
        spans = ((0, cut), (cut, size))
        assert [d for span in spans for d in read_documents(path, span=span)] == ["a", "c", "d"]


def test_places_in_ranges(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\ntwo\ntw\xffo\n\nthree\n")
    assert list(read_documents(path, span=(0, 4))) == ["one"]
    with pytest.raises(DataError, match=r"is not UTF-8: byte 11 \(line 4\) is 0xff; convert"):
        list(read_documents(path, span=(4, 9)))
    report = ReadReport()
    found = list(read_documents(path, span=(4, 9), encoding_errors="replace", report=report))
    assert found == ["two\ntw\ufffdo"]
    assert report.replaced_bytes == {str(path): 1}
    assert report.position == 5  # of the range, and not beyond it
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"text": "a"}\n\n{"text": "b"}\n{"text": 1\n[2]\n')
    with pytest.raises(DataError, match=r"a\.jsonl line 4 is not JSON"):
        list(read_documents(rows, span=(20, 40)))
    with pytest.raises(DataError, match=r"a\.jsonl line 5 is list; a JSON object"):
        list(read_documents(rows, span=(40, 50)))


def test_ranges_are_of_plain_text_and_jsonl(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a"))
    for name in ("a.csv", "a.txt.gz"):
        with pytest.raises(ValueError, match="as a whole"):
            list(read_documents(tmp_path / name, span=(0, 1)))


def test_a_document_on_one_long_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    line = b"word " * 800_000  # four blocks
    path.write_bytes(b"first\n\n" + line + b"\n\nlast\n")
    size = path.stat().st_size
    third = size // 3
    parts = [list(read_documents(path, span=s)) for s in spans_of(size, [third, 2 * third])]
    assert [len(part) for part in parts] == [2, 0, 1]
    assert parts[0][1] == line.decode()
    assert parts[2] == ["last"]


def test_lines_know_their_position(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    report = ReadReport()
    assert [report.position for _ in read_lines(path, report=report)] == [4, 8]


def test_a_run_of_carriage_returns_ends_a_line_quickly(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" + b"\r" * 200_000 + b"\nb" + b"\r" * 200_000 + b"c\r\n")
    (text,) = read_documents(path)
    assert text == "a\nb" + "\r" * 200_000 + "c"


@pytest.mark.parametrize("block", [7, 64, 2**20])
def test_a_document_without_an_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("electra.corpus.compression._BLOCK", block)
    monkeypatch.setattr("electra.corpus.spans._LONGEST", 1000)
    path = tmp_path / "a.txt"
    mend = 'give .jsonl with one a line: {"text": "..."}'
    path.write_bytes(b"first\n\n" + b"a line\n" * 200)
    place = r"a\.txt: no blank line in the 1,000 bytes from byte 7 on"
    with pytest.raises(DataError, match=f"{place}.*; if there are several, {re.escape(mend)}$"):
        list(read_documents(path))
    path.write_bytes(b"first\n\n" + b"a word " * 200)
    with pytest.raises(DataError, match=r"no (blank line|end of line) in the 1,000 bytes from"):
        list(read_documents(path))
    # many documents and lines of any size together are not one
    whole = (b"a line\n" * 100 + b"\n") * 9
    path.write_bytes(whole)
    assert len(list(read_documents(path))) == 9
    (tmp_path / "a.jsonl").write_text(json.dumps([{"text": "words"}] * 200))
    with pytest.raises(DataError, match=r"a\.jsonl: no end of line in the 1,000 bytes from byte 0"):
        list(read_documents(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text('{"text": "words"}\n' * 200)
    assert len(list(read_documents(tmp_path / "a.jsonl"))) == 200
