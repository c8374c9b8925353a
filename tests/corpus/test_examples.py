"""Rows of a corpus: what they hold, at any length, and what a cut shard says."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from electra.corpus.batches import CorpusSource
from electra.corpus.examples import Examples
from electra.corpus.folder import Corpus, Split
from electra.corpus.shards import ShardWriter
from electra.corpus.tokenizer import SpecialIds
from electra.errors import DataError, ElectraError

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


def make_split(folder: Path, lengths: list[int], max_tokens: int = 50) -> Split:
    """Document d is the ids 10 + d, 10 + d, ... so that a token tells its document."""
    writer = ShardWriter(folder, "train", vocab_size=5000, sep_id=3, max_tokens=max_tokens)
    for d, length in enumerate(lengths):
        writer.add([10 + d] * length)
    writer.flush()
    return Split(folder, "train", writer.dtype, writer.shards)


def all_rows(examples: Examples) -> np.ndarray:
    return examples.rows(np.arange(len(examples), dtype=np.uint64))["input_ids"]


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=12), length=st.integers(8, 20))
def test_rows_within_documents(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], length: int
) -> None:
    split = make_split(tmp_path_factory.mktemp("s"), lengths)
    rows = all_rows(Examples(split, SPECIAL, max_length=length, kind="documents"))
    seen = dict.fromkeys(range(len(lengths)), 0)
    for row in rows:
        real = row[row != 0]
        assert real[0] == 2
        assert real[-1] == 3
        assert (row[len(real) :] == 0).all()
        documents = set(real[1:-1])
        assert len(documents) == 1
        seen[int(documents.pop()) - 10] += len(real) - 2
    for d, total in seen.items():
        # only a last window under 8 tokens may be left out
        assert lengths[d] - 8 < total <= lengths[d]
        assert total > 0


def test_rows_across_documents_are_full(tmp_path: Path) -> None:
    split = make_split(tmp_path, [5, 30, 9, 2, 40], max_tokens=1000)
    rows = all_rows(Examples(split, SPECIAL, max_length=10, kind="packed"))
    assert len(rows) == (5 + 30 + 9 + 2 + 40 + 5) // 8
    assert (rows[:, 0] == 2).all()
    assert (rows[:, -1] == 3).all()
    assert not (rows == 0).any()
    assert rows[0].tolist() == [2, 10, 10, 10, 10, 10, 3, 11, 11, 3]


def test_a_corpus_folder_serves_every_length(corpus: Path) -> None:
    split = Corpus(corpus).split("train")
    sizes = [len(Examples(split, SPECIAL, max_length=n, kind="packed")) for n in (8, 16, 32)]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_batches_are_a_function_of_the_position(corpus: Path) -> None:
    examples = Examples(Corpus(corpus).split("train"), SPECIAL, max_length=16, kind="documents")
    source = CorpusSource(examples, seed=3)
    whole = source.batch(40, 8)
    assert whole["input_ids"].shape == (8, 16)
    assert ((whole["input_ids"] != 0).long() == whole["attention_mask"]).all()
    for i in range(8):
        assert (source.batch(40 + i, 1)["input_ids"] == whole["input_ids"][i]).all()


def test_batches_say_which_examples_they_hold(corpus: Path) -> None:
    examples = Examples(Corpus(corpus).split("train"), SPECIAL, max_length=16, kind="packed")
    batch = CorpusSource(examples, seed=3, with_ids=True).batch(40, 8)
    assert batch["positions"].tolist() == list(range(40, 48))
    rows = examples.rows(batch["example_ids"].numpy().astype("uint64"))
    assert (torch.from_numpy(rows["input_ids"]) == batch["input_ids"]).all()
    assert "positions" not in CorpusSource(examples, seed=3).batch(40, 8)


def test_a_cut_shard_is_named(tmp_path: Path) -> None:
    split = make_split(tmp_path, [30, 30], max_tokens=1000)
    path = tmp_path / "train-00000.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    with pytest.raises(DataError, match=r"train-00000\.bin is cut short"):
        split.tokens(0, 10, 20)
    with pytest.raises(DataError, match=r"train-00000\.bin is cut short"):
        Split(tmp_path, "train", "uint16", split.shards)
    path.write_bytes(whole[:-1])  # the end, which opening does not read
    with pytest.raises(DataError, match=r"is cut short: 155 bytes, the manifest says 156; run ele"):
        Split(tmp_path, "train", "uint16", split.shards)
    path.write_bytes(whole + b"x")
    with pytest.raises(DataError, match=r"00000\.bin is longer than it was: 157 bytes, the man"):
        Split(tmp_path, "train", "uint16", split.shards)
    path.write_bytes(whole)
    with pytest.raises(DataError, match="is cut short"):  # there should be marks of words
        Split(tmp_path, "train", "uint16", split.shards, words_marked=True)
    path.unlink()
    with pytest.raises(DataError, match=r"train-00000\.bin is missing"):
        Split(tmp_path, "train", "uint16", split.shards)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
def test_more_shards_than_files_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    split = make_split(tmp_path, [30, 30], max_tokens=20)
    assert len(split.shards) == 2

    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")  # what macOS says

    monkeypatch.setattr(resource, "getrlimit", lambda _: (8, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    Split(tmp_path, "train", "uint16", split.shards)

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", full)
    message = r"has 2 shards, more files than .* \(Too many open files\).*: ulimit -n 516$"
    with pytest.raises(ElectraError, match=message):
        Split(tmp_path, "train", "uint16", split.shards)


def test_a_machine_without_positioned_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split(tmp_path, [30])
    monkeypatch.delattr(os, "pread")
    with pytest.raises(ElectraError, match=r"no positioned reads .*; use WSL, Linux or macOS"):
        Split(tmp_path, "train", "uint16", split.shards)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    split = make_split(tmp_path, [30, 30], max_tokens=1000)
    path = tmp_path / "train-00000.bin"
    whole = path.read_bytes()

    def damaged(place: int) -> Split:
        path.write_bytes(whole[:place] + b"\xff\xff" + whole[place + 2 :])
        return Split(tmp_path, "train", "uint16", split.shards, vocab_size=100)

    bad = damaged(2 * 40)
    examples = Examples(bad, SPECIAL, max_length=10, kind="packed")
    assert examples.rows(np.array([0], dtype=np.uint64))["input_ids"].max() < 100
    with pytest.raises(DataError, match=r"train-00000\.bin is damaged: token id 65535, the voc"):
        all_rows(examples)
    with pytest.raises(DataError, match=r"train-00000\.bin is damaged"):
        bad.token_counts(100)
    with pytest.raises(DataError, match="is damaged: the documents do not follow"):
        damaged(2 * 62 + 8)


def test_a_corpus_knows_its_vocabulary(corpus: Path) -> None:
    split = Corpus(corpus).split("train")
    assert split.tokens(0, 0, split.num_tokens).max() < 120
    narrow = Corpus(corpus)
    narrow.manifest["vocab_size"] = 50
    with pytest.raises(DataError, match="the vocabulary has 50"):
        narrow.split("train").tokens(0, 0, split.num_tokens)


def test_too_little_text_for_one_row(tmp_path: Path) -> None:
    split = make_split(tmp_path, [3])
    with pytest.raises(DataError, match="too few for one sequence of 64"):
        Examples(split, SPECIAL, max_length=64, kind="packed")


def test_wide_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", vocab_size=70_000, sep_id=3)
    writer.add([69_999, 1])
    writer.flush()
    split = Split(tmp_path, "train", writer.dtype, writer.shards)
    assert split.tokens(0, 0, 3).tolist() == [69_999, 1, 3]


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=3, max_size=20), length=st.integers(8, 20))
def test_packed_rows_say_where_documents_begin(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], length: int
) -> None:
    split = make_split(tmp_path_factory.mktemp("s"), [20, *lengths])
    examples = Examples(split, SPECIAL, max_length=length, kind="packed", with_documents=True)
    every = np.arange(len(examples), dtype=np.uint64)
    found = examples.rows(every)["document_starts"]
    most = 0
    for ids, starts in zip(all_rows(examples).tolist(), found.tolist(), strict=True):
        # a document begins behind the [SEP] of another, but for the one the row ends with
        slow = [0] + [c for c in range(2, length - 1) if ids[c - 1] == 3]
        assert starts == slow + [length] * (len(starts) - len(slow))
        most = max(most, len(slow))
    # a last piece of a shard that fills no row may be fuller than all rows
    assert most <= found.shape[1] <= length
    some = examples.rows(every[1:3])["document_starts"]
    assert (some == found[1:3]).all()
    plain = Examples(split, SPECIAL, max_length=length, kind="packed").rows(every)
    assert "document_starts" not in plain
