"""Sources, and the parts they are cut into."""

import gzip
import io
import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electra.corpus.files import ReadReport, expand
from electra.corpus.hub import HubDataSet
from electra.corpus.sources import Part, Source, plan_parts, read_piece, read_sources
from electra.corpus.standard_input import spool
from electra.errors import ConfigError, DataError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def documents(sources: tuple[Source, ...], parts: tuple[Part, ...]) -> list[str]:
    return [
        t for p in parts for piece in p.pieces for t in read_piece(sources[piece.source], piece)
    ]


def test_each_argument_is_a_source(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.txt", "one")
    write(tmp_path / "a" / "deep" / "x.txt", "two")  # the same name in two folders
    b = write(tmp_path / "b.jsonl", '{"text": "three"}')
    sources, left_out = read_sources([tmp_path / "a", str(b), str(b), tmp_path / "a" / "x.txt"])
    assert [(s.name, len(s.files), s.weight) for s in sources] == [
        (str(tmp_path / "a"), 2, None),
        (str(b), 1, None),
    ]
    assert sources[1].sizes == (b.stat().st_size,)
    assert left_out == {}
    assert sorted(documents(sources, plan_parts(sources))) == ["one", "three", "two"]


def test_copies_are_read_once(tmp_path: Path) -> None:
    a = write(tmp_path / "a.txt", "one " * 30_000)
    same = write(tmp_path / "b.txt", "one " * 30_000)
    write(tmp_path / "c.txt", "one " * 29_999 + "two ")  # as long, and differs at its end alone
    write(tmp_path / "empty-1.txt", "")
    write(tmp_path / "empty-2.txt", "")
    (tmp_path / "link.txt").symlink_to(a)
    os.link(a, tmp_path / "hard.txt")
    (source,), left_out = read_sources([tmp_path])
    names = [Path(f).name for f in source.files]
    assert names == ["a.txt", "c.txt", "empty-1.txt", "empty-2.txt"]
    assert left_out == {str(tmp_path / n): str(a) for n in ("b.txt", "hard.txt", "link.txt")}
    (source,), left_out = read_sources([tmp_path], drop_copies=False)
    assert str(same) in source.files
    assert set(left_out) == {str(tmp_path / "hard.txt"), str(tmp_path / "link.txt")}


def test_links_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.txt", "one")
    top = tmp_path / "top"
    top.mkdir()
    (top / "linked").symlink_to(tmp_path / "real")
    (top / "up").symlink_to(top)
    (top / "loop").symlink_to(top / "loop")
    assert expand([top]) == [top / "linked" / "a.txt"]
    (top / "gone.txt").symlink_to(top / "nowhere")
    with pytest.raises(DataError, match=r"gone\.txt is a link that leads nowhere; mend or remove"):
        expand([top])


def test_tables(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", '{"title": "t", "body": "b"}\n')
    c = write(tmp_path / "c.txt", "c")
    tables = [
        {"path": str(a), "name": "titles", "text_column": "title", "weight": 2},
        {"path": [str(a), str(c)], "name": "bodies", "text_column": "body", "weight": 1},
    ]
    sources, left_out = read_sources(tables=tables)
    assert [s.weight for s in sources] == [2.0, 1.0]
    assert not left_out  # two columns of one file are two texts
    assert documents(sources, plan_parts(sources)) == ["t", "b", "c"]
    with pytest.raises(DataError, match='"again" holds only files that an earlier source holds'):
        read_sources(
            tables=[*tables, {"path": str(c), "name": "again", "text_column": "body", "weight": 1}]
        )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"paht": "a"}, r'\[\[sources\]\] 1 has the unknown key "paht"; did you mean "path"\?'),
        ({}, "path is None; allowed: a text, or a list"),
        ({"path": []}, r"path is \[\]; allowed"),
        ({"path": "a", "weight": 0}, "weight is 0; allowed: a number above 0"),
        ({"path": "a", "weight": True}, "weight is True; allowed"),
        ({"path": "a", "weight": float("inf")}, "weight is inf; allowed"),
        ({"path": "a", "name": ""}, "name is ''; allowed: a text"),
        ({"path": "a", "text_column": 1}, 'text_column is 1; allowed: a text, as "text_column"'),
        ({"path": ["a", "hub:o/n"]}, "does not exist|holds hub:o/n and more"),
        ("a", r"\[\[sources\]\] 1 is str; a table is wanted"),
    ],
)
def test_bad_tables(table: Any, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        read_sources(tables=[table])


def test_what_is_given_once_and_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no text is given; name files"):
        read_sources()
    with pytest.raises(ConfigError, match="texts are given twice"):
        read_sources(["a"], [{"path": "a"}])
    with pytest.raises(ConfigError, match=r'two \[\[sources\]\] have the name "a"'):
        read_sources(tables=[{"path": "a"}, {"path": "b", "name": "a"}])
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")
    Path(bad).write_text("x")
    with pytest.raises(DataError, match="is not a name in UTF-8; rename the file"):
        read_sources([bad])


SOURCES = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["a.txt", "a.jsonl", "a.csv", "a.txt.zst"]), st.integers(0, 400)),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(files=SOURCES, part_bytes=st.integers(1, 300))
def test_parts_cover_every_byte_once_and_in_order(
    files: list[list[tuple[str, int]]], part_bytes: int
) -> None:
    sources = tuple(
        Source(
            name=str(n),
            files=tuple(f"{i}{name}" for i, (name, _) in enumerate(of)),
            sizes=tuple(size for _, size in of),
        )
        for n, of in enumerate(files)
    )
    parts = plan_parts(sources, part_bytes)
    assert [part.number for part in parts] == list(range(len(parts)))
    place = iter(
        (n, path, size)
        for n, source in enumerate(sources)
        for path, size in zip(source.files, source.sizes, strict=True)
    )
    current, covered = next(place), 0
    for part in parts:
        assert len({piece.source for piece in part.pieces}) == 1
        if len(part.pieces) > 1:
            weights = [p.size * (3 if p.path.endswith("zst") else 1) for p in part.pieces]
            assert sum(weights) <= part_bytes
        for piece in part.pieces:
            if covered == current[2] and (piece.source, piece.path) != current[:2]:
                current, covered = next(place), 0
            assert (piece.source, piece.path) == current[:2]
            if piece.span is not None:
                assert piece.span == (covered, covered + piece.size)
                assert 0 < piece.size <= part_bytes
                assert piece.path.endswith(("txt", "jsonl"))
            covered += piece.size
            assert covered <= current[2]
    assert covered == current[2]
    assert next(place, None) is None
    again = json.loads(json.dumps([part.to_dict() for part in parts]))
    assert tuple(map(Part.from_dict, again)) == parts == pickle.loads(pickle.dumps(parts))
    kept = json.loads(json.dumps([source.to_dict() for source in sources]))
    assert tuple(map(Source.from_dict, kept)) == sources


def test_documents_are_the_same_in_any_parts(tmp_path: Path) -> None:
    texts = [f"document {i}\n" + "line\n" * (i % 7) for i in range(200)]
    write(tmp_path / "a.txt", "\n".join(texts))
    write(tmp_path / "b.jsonl", "".join(json.dumps({"text": t}) + "\n" for t in texts))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    sources, _ = read_sources([tmp_path])
    whole = documents(sources, plan_parts(sources))
    assert len(whole) == 600
    for part_bytes in (1, 50, 333, 5000):
        assert documents(sources, plan_parts(sources, part_bytes)) == whole


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\n\ntwo\n\nthree")
    for part_bytes in (4, 100):
        path.write_text("one\n\ntwo\n\nthree")
        sources, _ = read_sources([path])
        parts = plan_parts(sources, part_bytes)
        path.write_text("one")
        with pytest.raises(DataError, match=r"a\.txt has 3 bytes now, and had 15 when this began"):
            documents(sources, parts)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.txt is gone, and had 15"):
        documents(sources, parts)


@pytest.mark.parametrize(
    ("data", "name", "texts"),
    [
        (b"one\nline\n\ntwo\n", "in.txt", ["one\nline", "two"]),
        (b'\n {"text": "one"}\n{"text": "two"}\n', "in.jsonl", ["one", "two"]),
        (b'\xef\xbb\xbf{"text": "one"}', "in.jsonl", ["one"]),
        (b'{"text": "' + b"x" * 3_000_000 + b'"}\n', "in.jsonl", ["x" * 3_000_000]),
        (b"{curly} text\n", "in.txt", ["{curly} text"]),
        (b"[1]\n", "in.txt", ["[1]"]),
        (gzip.compress(b'{"text": "one"}\n', mtime=0), "in.jsonl.gz", ["one"]),
    ],
)
def test_standard_input(tmp_path: Path, data: bytes, name: str, texts: list[str]) -> None:
    path = spool(io.BytesIO(data), tmp_path / "in")
    assert path.name == name
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == data
    sources, _ = read_sources(["-"], spooled=path)
    assert sources[0].name == "-"
    assert documents(sources, plan_parts(sources)) == texts


def test_an_empty_standard_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="standard input is empty; pipe text into it"):
        spool(io.BytesIO(), tmp_path / "in")
    assert not list(tmp_path.iterdir())


def test_names_of_hub_data_sets() -> None:
    for given_name, parts in {
        "hub:owner/name": ("owner/name", None, "train", None),
        "hub:name@main:test": ("name", None, "test", "main"),
        "hub:owner/name/20231101.en:train[:10%]": (
            "owner/name",
            "20231101.en",
            "train[:10%]",
            None,
        ),
        "hub:owner/name/en@v1.2": ("owner/name", "en", "train", "v1.2"),
    }.items():
        found = HubDataSet.parse(given_name)
        assert (found.name, found.configuration, found.split, found.revision) == parts
        assert HubDataSet.parse(str(found)) == found
    for bad in ("hub:", "hub:a//b", "hub:a/b/c/d", "hub:a/b:", "hub:/a", "hub: a/b", "hub:a/b@"):
        with pytest.raises(DataError, match="names no data set; allowed: hub:owner/name, "):
            HubDataSet.parse(bad)


def test_hub_data_sets_are_read_by_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    asked = []

    def rows(files: list[int]) -> Any:
        for n in files:
            yield {"id": n, "text": f"text {n}"}
            yield {"id": n, "text": None}

    def load(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments, options))
        return datasets.IterableDataset.from_generator(rows, gen_kwargs={"files": [0, 1, 2]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(huggingface_hub, "dataset_info", commit)
    tables = [
        {"path": "hub:owner/name/en", "name": "web"},
        {"path": str(write(tmp_path / "a.txt", "x"))},
    ]
    sources, _ = read_sources(tables=tables)
    given = {"split": "train", "revision": "c0ffee", "streaming": True}
    assert asked == [(("owner/name", "en"), given)]
    assert (sources[0].hub, sources[0].shards) == ("hub:owner/name/en@c0ffee:train", 3)
    parts = plan_parts(sources)
    assert [[p.shard for p in part.pieces] for part in parts] == [[0], [1], [2], [None]]
    assert documents(sources, parts) == ["text 0", "text 1", "text 2", "x"]
    assert tuple(Part.from_dict(json.loads(json.dumps(p.to_dict()))) for p in parts) == parts
    with pytest.raises(DataError, match='hub:owner/name/en@c0ffee:train has no column "body"'):
        list(read_piece(sources[0], parts[0].pieces[0], text_column="body"))
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda *_, **__: datasets.IterableDataset.from_generator(rows, gen_kwargs={"files": [0]}),
    )
    with pytest.raises(DataError, match="has 1 files, and had 3 when this began"):
        documents(sources, parts)


def commit(*_: Any, **__: Any) -> Any:
    """What the Hub says of a data set."""
    return SimpleNamespace(sha="c0ffee")


def test_hub_failures_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*_: Any, **__: Any) -> Any:
        raise LookupError("Name or service not known")  # each version has a class of its own

    monkeypatch.setattr(huggingface_hub, "dataset_info", unreachable)
    with pytest.raises(DataError, match=r"a/b:train: the Hub cannot be reached.*\(Name or service"):
        read_sources(["hub:a/b"])
    monkeypatch.setattr(huggingface_hub, "dataset_info", commit)

    def fails(error: Exception) -> Any:
        def load(*_: Any, **__: Any) -> Any:
            raise error

        return load

    monkeypatch.setattr(datasets, "load_dataset", fails(ConnectionError("Couldn't reach\nit")))
    with pytest.raises(DataError, match="hub:a/b@c0ffee:train: the Hub cannot be reached; "):
        read_sources(["hub:a/b"])
    monkeypatch.setattr(datasets, "load_dataset", fails(ValueError('Unknown split "x".')))
    with pytest.raises(DataError, match='could not be had from the Hub: Unknown split "x"'):
        read_sources(["hub:a/b:x"])

    def broken(files: list[int]) -> Any:
        yield {"text": "one"}
        raise RuntimeError("the line went dead")

    made = datasets.IterableDataset.from_generator(broken, gen_kwargs={"files": [0]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    sources, _ = read_sources(["hub:a/b"])
    with pytest.raises(DataError, match=r"could not be had from the Hub: .*the line went dead"):
        documents(sources, plan_parts(sources))


def test_reports_of_json(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a \\ud800 b \\udc00 \\ufffd \\ud83d\\ude00"}\n')
    report = ReadReport()
    sources, _ = read_sources([path])
    (piece,) = plan_parts(sources)[0].pieces
    (text,) = read_piece(sources[0], piece, report=report)
    assert text == "a \ufffd b \ufffd \ufffd \U0001f600"
    assert report.replaced_surrogates == {str(path): 2}
    write(path, "[" * 100_000)
    with pytest.raises(DataError, match=r"a\.jsonl line 1 is (JSON nested too deep|not JSON)"):
        list(read_piece(sources[0], plan_parts(read_sources([path])[0])[0].pieces[0]))
