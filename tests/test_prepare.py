"""`prepare`: the folder it makes, and everything it refuses without leaving a trace."""

import gzip
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import electra.prepare
from electra.cli import run
from electra.config import PrepareSettings
from electra.corpus.folder import Corpus
from electra.errors import ConfigError, DataError, OutputExistsError
from electra.prepare import prepare
from electra.training.signals import noted_signals
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
    (of_source,) = manifest["sources"]
    assert (of_source["name"], of_source["documents"], of_source["read"]) == (str(source), 60, 121)
    assert of_source["tokens"] + 60 == sum(s["tokens"] for s in manifest["splits"].values())
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
    # a tenth of the characters, which is about a tenth of the tokens
    assert 0.08 * total < validation["tokens"] <= 0.11 * total + validation["documents"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_long_document_is_for_training(tmp_path: Path, share: float, seed: int) -> None:
    texts = [" ".join(make_text(2, 100 * seed + n).split()) for n in range(8)]
    long = " ".join(make_text(200, seed).split())
    texts.insert(2 * seed, long)
    source = text_file(tmp_path, "\n\n".join(texts))
    settings = PrepareSettings(vocab_size=100, validation_share=share)
    manifest = prepare([source], output=tmp_path / "c", settings=settings)
    train, validation = (manifest["splits"][name] for name in ("train", "validation"))
    assert train["documents"] + validation["documents"] == 9
    assert validation["documents"] > 0
    assert validation["tokens"] < 0.15 * train["tokens"]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_share_is_kept(tmp_path: Path, share: float) -> None:
    source = text_file(tmp_path, make_text(1500))
    settings = PrepareSettings(vocab_size=100, validation_share=share)
    manifest = prepare([source], output=tmp_path / "c", settings=settings)
    assert abs(manifest["splits"]["validation"]["documents"] / 1500 - share) < 0.05


def test_long_documents_alone_train_a_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(electra.prepare, "TOKENIZER_SAMPLE_BYTES", 40_000)
    for n in range(3):
        long = make_text(600, seed=n).replace("\n\n", "\n" if n else " ")
        text_file(tmp_path, long, f"{n}.txt")
    held = []
    train = electra.prepare.train_tokenizer

    def spy(texts: list[str], **settings: Any) -> object:
        held.append(list(texts))
        return train(held[-1], **settings)

    monkeypatch.setattr(electra.prepare, "train_tokenizer", spy)
    for name in ("c", "d"):
        prepare([tmp_path], output=tmp_path / name, settings=PrepareSettings(vocab_size=120))
    assert held[0] == held[1]
    assert 20_000 < sum(map(len, held[0])) < 60_000
    # from every document but the one that is held out
    texts = [(tmp_path / f"{n}.txt").read_text("utf-8") for n in range(3)]
    assert sum(any(piece in text for piece in held[0]) for text in texts) == 2


def test_a_tokenizer_given_takes_no_settings_of_one_trained(tmp_path: Path, corpus: Path) -> None:
    for setting in ({"vocab_size": 99}, {"language": "de"}, {"strip_accents": False}):
        settings = PrepareSettings(tokenizer=str(corpus), **setting)
        flag = "--" + next(iter(setting)).replace("_", "-")
        with pytest.raises(ConfigError, match=f"{flag} is for a tokenizer that is trained"):
            prepare([tmp_path], output=tmp_path / "c", settings=settings)


def test_here_can_be_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = text_file(tmp_path, make_text(20))
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    settings = PrepareSettings(vocab_size=90)
    said = io.StringIO()
    console = Console(file=said, width=40)
    prepare([source], output=Path("."), settings=settings, overwrite=True, console=console)
    assert (tmp_path / "c" / "manifest.json").is_file()
    assert (tmp_path / "c.old-1").is_dir()
    assert f"--data {tmp_path / 'c'} --output" in said.getvalue()


def test_what_is_told_can_be_pasted(tmp_path: Path) -> None:
    source = text_file(tmp_path, make_text(20))
    said = io.StringIO()
    console = Console(file=said, width=40)
    output = tmp_path / "my [red]corpus"
    settings = PrepareSettings(vocab_size=90)
    prepare([source], output=output, settings=settings, console=console)
    assert f"next: electra pretrain --data '{output}' --output runs/first\n" in said.getvalue()
    assert "warning" not in said.getvalue()
    lines = said.getvalue().splitlines()
    (bar,) = (line for line in lines if line.startswith("  writing token shards"))
    assert "left" not in bar


def test_many_unknown_tokens_are_warned_of(tmp_path: Path, corpus: Path) -> None:
    texts = [f"{n} {'abc' * 40} {'def' * 50} words" for n in range(40)]
    source = text_file(tmp_path, "\n\n".join(texts))
    for settings, message in (
        (PrepareSettings(vocab_size=90), "--language en keeps the 1,000 most frequent characters"),
        (PrepareSettings(tokenizer=str(corpus)), "take a --tokenizer made for this text"),
    ):
        said = io.StringIO()
        console = Console(file=said, width=40)
        output = tmp_path / str(settings.tokenizer is None)
        prepare([source], output=output, settings=settings, console=console)
        (line,) = (li for li in said.getvalue().splitlines() if li.startswith("warning:"))
        assert "of the tokens are [UNK]" in line
        assert message in line
        if settings.tokenizer is None:
            assert "words over 100 characters" in line


def test_documents_without_tokens_do_not_count(tmp_path: Path, corpus: Path) -> None:
    tokens_of_none = "\u00ad" * 30  # soft hyphens, which the normalizer removes
    source = text_file(tmp_path, f"{tokens_of_none}\n\nthe only document there is in it\n")
    settings = PrepareSettings(tokenizer=str(corpus))
    with pytest.raises(DataError, match="one document only"):
        prepare([source], output=tmp_path / "c", settings=settings)


def test_a_tokenizer_from_a_folder(tmp_path: Path, corpus: Path) -> None:
    source = text_file(tmp_path, make_text(30, seed=5))
    settings = PrepareSettings(tokenizer=str(corpus))
    manifest = prepare([source], output=tmp_path / "c", settings=settings)
    assert manifest["tokenizer_sha256"] == Corpus(corpus).manifest["tokenizer_sha256"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no text"),
        (
            "just one document in this file\n",
            "one document only; at least two documents are needed",
        ),
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
        (PrepareSettings(validation_share=1.5), "--validation-share is 1.5; allowed: 0 to 0.5"),
        (PrepareSettings(validation_share=0.999), "--validation-share is 0.999"),
        (PrepareSettings(validation_share=-0.1), "--validation-share is -0.1"),
        (PrepareSettings(validation_share=float("nan")), "--validation-share is nan"),
        (PrepareSettings(min_chars=-1), "--min-chars is -1; allowed: 0 or more"),
        (PrepareSettings(encoding_errors="ignore"), "allowed: strict, replace"),
        (PrepareSettings(vocab_size=3), "--vocab-size is 3"),
    ):
        with pytest.raises(ConfigError, match=message):
            prepare([tmp_path], output=tmp_path / "c", settings=settings)


def test_sigterm_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = text_file(tmp_path, make_text(20))
    before = signal.getsignal(signal.SIGTERM)
    assert before is signal.SIG_DFL
    seen = []

    def stopped(*_arguments: object, **_more: object) -> None:
        seen.extend(path.name for path in tmp_path.glob("c.partial"))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)  # the signal comes within

    monkeypatch.setattr(electra.prepare.LocalRunner, "__call__", stopped)
    assert run(["prepare", str(source), "--output", str(tmp_path / "c")]) == 143
    assert len(seen) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert "electra: terminated" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_in_training_is_trainings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    noted = []

    def trained(*_arguments: object, **_settings: object) -> None:
        with noted_signals() as caught:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            noted.append(caught.number)
        os.kill(os.getpid(), signal.SIGTERM)  # behind it the command line has it again
        time.sleep(10)

    monkeypatch.setattr(electra.prepare, "prepare", trained)
    assert run(["prepare", "x", "--output", str(tmp_path / "c")]) == 143
    assert noted == [signal.SIGTERM]


@pytest.mark.parametrize("workers", [0, -2])
def test_workers_are_one_or_more(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ConfigError, match=f"--workers is {workers}; allowed: 1 or more"):
        prepare([tmp_path], output=tmp_path / "c", workers=workers)


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
