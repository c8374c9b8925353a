"""`prepare`: the folder it makes, and everything it refuses without leaving a trace."""

import gzip
import json
from pathlib import Path

import pytest

from electra.config import PrepareSettings
from electra.corpus.shards import Corpus
from electra.errors import ConfigError, DataError, OutputExistsError
from electra.prepare import prepare
from tests.conftest import make_text


def text_file(folder: Path, text: str, name: str = "a.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_manifest_counts_what_is_on_disk(tmp_path: Path) -> None:
    source = text_file(tmp_path, make_text(60) + "\n\nshort\n\n" + make_text(60))
    manifest = prepare(
        [source],
        output=tmp_path / "c",
        settings=PrepareSettings(vocab_size=100, validation_share=0.2),
    )
    assert manifest == json.loads((tmp_path / "c" / "manifest.json").read_text("utf-8"))
    assert manifest["removed"] == {"shorter than min_chars": 1, "exact duplicate": 60}
    assert manifest["sources"] == {str(source): 60}
    corpus = Corpus(tmp_path / "c")
    documents = 0
    for name in ("train", "validation"):
        split = corpus.split(name)
        assert split.num_tokens == manifest["splits"][name]["tokens"] > 0
        assert sum(s.lines for s in split.shards) == manifest["splits"][name]["lines"]
        assert split.lines(0, 0, split.shards[0].lines).tolist() == split.offsets[0][:-1].tolist()
        documents += sum(len(o) - 1 for o in split.offsets)
    assert documents == 60


def test_lines_of_text_and_of_rows(tmp_path: Path) -> None:
    text_file(tmp_path, "a first line of text\n  \na second document\nof two lines\n\nthird one")
    rows = [{"text": "in jsonl a text may\n\nhave lines, too\n"}, {"text": "or be just one line"}]
    text_file(tmp_path, "\n".join(map(json.dumps, rows)), "b.jsonl")
    settings = PrepareSettings(vocab_size=90, min_chars=5)
    manifest = prepare([tmp_path], output=tmp_path / "c", settings=settings)
    splits = manifest["splits"].values()
    assert sum(s["documents"] for s in splits) == 5
    assert sum(s["lines"] for s in splits) == 7


def test_a_segmenter_that_is_not_there(tmp_path: Path) -> None:
    source = text_file(tmp_path, make_text(20))
    settings = PrepareSettings(vocab_size=90, segmenter="mecab")
    with pytest.raises(ConfigError, match="--segmenter is mecab; allowed: none, jieba"):
        prepare([source], output=tmp_path / "c", settings=settings)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_same_text_gives_the_same_folder(tmp_path: Path) -> None:
    source = text_file(tmp_path, make_text(50))
    one = prepare([source], output=tmp_path / "one", settings=PrepareSettings(vocab_size=90))
    two = prepare([source], output=tmp_path / "two", settings=PrepareSettings(vocab_size=90))
    assert one["fingerprint"] == two["fingerprint"]


def test_two_documents_are_enough(tmp_path: Path) -> None:
    source = text_file(tmp_path, "the first of two documents\n\nthe second of two documents\n")
    manifest = prepare([source], output=tmp_path / "c", settings=PrepareSettings(vocab_size=70))
    assert [s["documents"] for s in manifest["splits"].values()] == [1, 1]


def test_special_tokens_in_text_are_text(tmp_path: Path) -> None:
    texts = [f"the token [MASK] hides word number {i} and [PAD] fills" for i in range(40)]
    source = text_file(tmp_path, "\n\n".join(texts))
    prepare([source], output=tmp_path / "c", settings=PrepareSettings(vocab_size=90))
    split = Corpus(tmp_path / "c").split("train")
    ids = set(split.tokens(0, 0, split.num_tokens).tolist())
    assert not ids & {0, 2, 4}  # [PAD], [CLS], [MASK]
    assert 3 in ids  # the [SEP] that ends a document


def test_a_small_validation_split_is_filled_up(tmp_path: Path) -> None:
    source = text_file(tmp_path, make_text(200))
    manifest = prepare([source], output=tmp_path / "c", settings=PrepareSettings(vocab_size=90))
    train, validation = (manifest["splits"][name] for name in ("train", "validation"))
    total = train["tokens"] + validation["tokens"]
    assert train["documents"] + validation["documents"] == 200
    assert 0.09 * total < validation["tokens"] < 0.15 * total


def test_a_tokenizer_from_a_folder(tmp_path: Path, corpus: Path) -> None:
    source = text_file(tmp_path, make_text(30, seed=5))
    settings = PrepareSettings(tokenizer=str(corpus))
    manifest = prepare([source], output=tmp_path / "c", settings=settings)
    assert manifest["tokenizer_sha256"] == Corpus(corpus).manifest["tokenizer_sha256"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no text"),
        ("just one document in this file\n", "one document only; at least two are needed"),
        ("\n\n   \n", "no text"),
    ],
)
def test_too_little_text(tmp_path: Path, text: str, message: str) -> None:
    source = text_file(tmp_path, text)
    with pytest.raises(DataError, match=message):
        prepare([source], output=tmp_path / "c", settings=PrepareSettings(vocab_size=70))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_broken_file_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(make_text(200).encode())[:-30])
    with pytest.raises(DataError, match="truncated"):
        prepare([tmp_path / "a.txt.gz"], output=tmp_path / "c")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt.gz"]


def test_encoding_errors_can_be_replaced_and_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_bytes(make_text(20).encode() + b"\n\nbad \xfe\xff bytes in this document\n")
    with pytest.raises(DataError, match="is 0xfe"):
        prepare([source], output=tmp_path / "c")
    settings = PrepareSettings(vocab_size=90, encoding_errors="replace")
    manifest = prepare([source], output=tmp_path / "c", settings=settings)
    assert manifest["replaced_bytes"] == {str(source): 2}


def test_an_old_folder_is_kept_until_told_otherwise(tmp_path: Path) -> None:
    source = text_file(tmp_path, make_text(20))
    settings = PrepareSettings(vocab_size=90)
    prepare([source], output=tmp_path / "c", settings=settings)
    with pytest.raises(OutputExistsError, match="move it aside with --overwrite"):
        prepare([source], output=tmp_path / "c", settings=settings)
    prepare([source], output=tmp_path / "c", settings=settings, overwrite=True)
    assert (tmp_path / "c.old-1" / "manifest.json").is_file()
    with pytest.raises(OutputExistsError, match="is a file"):
        prepare([source], output=source, settings=settings, overwrite=True)
    assert source.is_file()


def test_settings_are_checked(tmp_path: Path) -> None:
    for settings, message in (
        (PrepareSettings(validation_share=1.5), "--validation-share is 1.5"),
        (PrepareSettings(encoding_errors="ignore"), "allowed: strict, replace"),
        (PrepareSettings(vocab_size=3), "--vocab-size is 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            prepare([tmp_path], output=tmp_path / "c", settings=settings)


def test_a_folder_that_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a prepared corpus"):
        Corpus(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        Corpus(tmp_path)
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(DataError, match="is not the manifest of a corpus"):
        Corpus(tmp_path)
    (tmp_path / "manifest.json").write_text(
        '{"format": "electra-corpus", "version": 99, "splits": {}}'
    )
    with pytest.raises(DataError, match="version 99; this electra reads"):
        Corpus(tmp_path)
    (tmp_path / "manifest.json").write_text(
        '{"format": "electra-corpus", "version": 1, "splits": {}}'
    )
    with pytest.raises(DataError, match="version 2: prepare again with: electra prepare TEXT"):
        Corpus(tmp_path)
