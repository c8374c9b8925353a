"""`electra inspect`: what it finds in a folder that is made by hand, and what it refuses."""

import hashlib
import io
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from electra.cli import run
from electra.corpus.folder import FORMAT, VERSION
from electra.corpus.languages import language_settings
from electra.corpus.shards import ShardWriter
from electra.corpus.tokenizer import num_ids, tokenizer_hash
from electra.corpus.tokenizer_training import train_tokenizer
from electra.errors import ConfigError, DataError
from electra.inspect_corpus import inspect_corpus

SENTENCE = "the cat sees the river at night and the farmer paints a boat. "


def write_corpus(folder: Path, facts: dict[str, Any], kind: str = "word_piece") -> list[int]:
    """A corpus of 12 documents in two training shards; the tokens of each training document."""
    folder.mkdir()
    texts = [SENTENCE * n + f"number {n}" for n in range(1, 13)]
    tokenizer = train_tokenizer(texts, kind=kind, vocab_size=300, settings=language_settings("en"))
    tokenizer.save(str(folder / "tokenizer.json"))
    writers = {
        name: ShardWriter(folder, name, vocab_size=num_ids(tokenizer), sep_id=3, max_tokens=500)
        for name in ("train", "validation")
    }
    lengths = []
    for number, text in enumerate(texts):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        split = "validation" if number == 5 else "train"
        writers[split].add(ids, [len(ids) - 2, 2])
        if split == "train":
            lengths.append(len(ids))
    table = {}
    for name, writer in writers.items():
        writer.flush()
        table[name] = {"shards": [asdict(info) for info in writer.shards]}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": "f" * 64,
        "dtype": "uint16",
        "words_marked": False,
        "tokenizer_sha256": tokenizer_hash(tokenizer),
        "vocab_size": num_ids(tokenizer),
        "splits": table,
        **facts,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return lengths


NEW = {
    "unknown_share": 0.001,
    "sources": [
        {"name": "wiki", "weight": 0.7, "documents": 8, "files": ["a", "b"]},
        {"name": "novels", "weight": 0.3, "documents": 4},
    ],
    "removed": {"exact duplicate": 1234},
    "changed": {"e-mail masked": 3},
    "examples": {"exact duplicate": ["a text that [bold]was there before"]},
}


def test_counts(tmp_path: Path) -> None:
    lengths = sorted(write_corpus(tmp_path / "c", NEW))
    found = inspect_corpus(tmp_path / "c", samples=0)
    train = found["splits"]["train"]
    assert train["documents"] == 11
    assert train["lines"] == 22
    assert train["tokens"] == sum(lengths) + 11  # a [SEP] each
    assert train["shards"] > 1
    assert train["document_tokens"] == {
        "median": lengths[5],
        "95_percent": lengths[-1],
        "longest": lengths[-1],
    }
    windows = sum(max(1, n // 126 + (n % 126 >= 8)) for n in lengths)
    assert train["sequences"]["128"]["documents"] == windows
    assert train["sequences"]["128"]["packed"] <= (sum(lengths) + 11) // 126
    assert train["sequences"]["512"]["packed"] <= 1
    assert found["splits"]["validation"]["documents"] == 1
    assert found["sources"] == NEW["sources"]
    assert found["verified"] is True
    assert found["tokenizer"]["unknown_tokens"] == 0
    assert found["tokenizer"]["documents"] == 11


@pytest.mark.parametrize("kind", ["word_piece", "bpe", "unigram"])
def test_samples_and_masks(tmp_path: Path, kind: str) -> None:
    write_corpus(tmp_path / "c", {}, kind)
    found = inspect_corpus(tmp_path / "c", samples=2)
    assert len(found["samples"]) == 2
    assert all(s["beginning"].startswith("the cat sees the river") for s in found["samples"])
    assert [m["masking"] for m in found["masked"]] == ["token", "whole_word"] * 2
    for masked in found["masked"]:
        assert masked["text"].startswith("[CLS]")
        assert 0 < masked["text"].count("[MASK]") <= len(masked["chosen"])
    again = inspect_corpus(tmp_path / "c", samples=2)
    assert again["masked"] == found["masked"]


def test_older_manifests(tmp_path: Path) -> None:
    old = {"sources": {"a.txt": 9, "b.txt": 3}, "removed": {"exact duplicate": 2}}
    write_corpus(tmp_path / "c", old)
    stream = io.StringIO()
    found = inspect_corpus(tmp_path / "c", samples=0, console=Console(file=stream, width=120))
    assert found["sources"] == [
        {"name": "a.txt", "documents": 9},
        {"name": "b.txt", "documents": 3},
    ]
    assert "b.txt" in stream.getvalue()
    assert "exact duplicate" in stream.getvalue()


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "c", NEW)
    assert run(["inspect", str(tmp_path / "c"), "--samples", "1"]) == 0
    shown = capsys.readouterr().out
    for words in ("every shard is", "wiki", "0.7", "1,234", "[bold]was", "masked by token", "95"):
        assert words in shown, words


def test_json_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "c", NEW)
    assert run(["inspect", str(tmp_path / "c"), "--json", "--samples", "1"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert json.loads(shown.out)["removed"] == {"exact duplicate": 1234}


def test_an_altered_shard_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "c", NEW)
    path = tmp_path / "c" / "train-00001.bin"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert run(["inspect", str(tmp_path / "c")]) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert f"shard {path} is altered: its SHA-256 is" in shown
    assert hashlib.sha256(data).hexdigest()[:12] in shown
    found = inspect_corpus(tmp_path / "c", samples=0, verify=False)
    assert found["verified"] is False


@pytest.mark.parametrize(
    ("change", "message"),
    [(-1, "is cut short"), (1, "is longer than it was"), (None, "is missing")],
)
def test_a_shard_of_another_size_is_named(tmp_path: Path, change: int | None, message: str) -> None:
    write_corpus(tmp_path / "c", NEW)
    path = tmp_path / "c" / "train-00000.bin"
    data = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(data[:change] if change < 0 else data + b"x")
        (tmp_path / "c" / "validation-00000.bin").write_bytes(b"")
    with pytest.raises(DataError, match=f"shard .*train-00000.bin {message}") as caught:
        inspect_corpus(tmp_path / "c", verify=False)
    assert ("(and 1 more)" in str(caught.value)) == (change is not None)


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a prepared corpus"):
        inspect_corpus(tmp_path)
    write_corpus(tmp_path / "c", NEW)
    with pytest.raises(ConfigError, match="--samples is -1"):
        inspect_corpus(tmp_path / "c", samples=-1)
    other = train_tokenizer(["a b"], kind="bpe", vocab_size=300, settings=language_settings("en"))
    other.save(str(tmp_path / "c" / "tokenizer.json"))
    with pytest.raises(DataError, match="is not the one that the shards were made with"):
        inspect_corpus(tmp_path / "c")
    (tmp_path / "c" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.json is missing"):
        inspect_corpus(tmp_path / "c")


def test_counts_need_no_torch(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c", NEW)
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from electra.inspect_corpus import inspect_corpus\n"
        "print(inspect_corpus(Path(sys.argv[1]), samples=0)['splits']['train']['documents'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "c")], capture_output=True, text=True
    )
    assert done.stdout == "11\n", done.stderr
