"""Two-segment examples against a slow builder written by hand, and their statistics."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electra.corpus.batches import CorpusSource
from electra.corpus.examples import Examples
from electra.corpus.folder import Split
from electra.corpus.segments import gather_lines
from electra.corpus.shards import ShardWriter
from electra.corpus.tokenizer import SpecialIds

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
Documents = list[list[int]]
"""Tokens of each line of each document."""


def make_split(folder: Path, documents: Documents, max_tokens: int = 2**26) -> Split:
    """Tokens are numbered from 10 on, so that a token tells its place."""
    writer = ShardWriter(folder, "train", vocab_size=70_000, sep_id=3, max_tokens=max_tokens)
    number = 10
    for lines in documents:
        writer.add(range(number, number + sum(lines)), lines)
        number += sum(lines)
    writer.flush()
    return Split(folder, "train", writer.dtype, writer.shards)


def open_rows(split: Split, length: int, seed: int = 0) -> Examples:
    return Examples(split, SPECIAL, max_length=length, kind="two_segments", seed=seed)


def all_rows(examples: Examples) -> dict[str, np.ndarray]:
    return examples.rows(np.arange(len(examples), dtype=np.uint64))


class SlowBuilder:
    """The reference's procedure on lists of tokens, sentence by sentence, in its order of draws."""

    def __init__(self, max_length: int, draws: random.Random) -> None:
        self.longest = self.goal = max_length
        self.draws = draws
        self.waiting: list[list[int]] = []
        self.rows: list[tuple[list[int], list[int]]] = []

    def sentence(self, tokens: list[int]) -> None:
        self.waiting.append(tokens)
        if sum(map(len, self.waiting)) >= self.goal:
            self.finish()

    def end_of_document(self) -> None:
        if self.waiting:
            self.finish()

    def finish(self) -> None:
        alone = self.draws.random() < 0.1
        half = 100_000 if alone else (self.goal - 3) // 2
        one: list[int] = []
        two: list[int] = []
        for tokens in self.waiting:
            to_first = not one or len(one + tokens) < half
            if not to_first and not two and len(one) < half:
                to_first = self.draws.random() < 0.5
            (one if to_first else two).extend(tokens)
        one = one[: self.longest - 2]
        two = two[: max(0, self.longest - 3 - len(one))]
        ids = [2, *one, 3]
        types = [0] * len(ids)
        if two:
            ids += [*two, 3]
            types += [1] * (len(two) + 1)
        self.rows.append((ids, types))
        self.waiting = []
        short = self.draws.random() < 0.05
        self.goal = self.draws.randint(5, self.longest) if short else self.longest


def slow_rows(
    documents: Documents, length: int, draws: random.Random, first_token: int = 10
) -> list[tuple[list[int], list[int]]]:
    builder = SlowBuilder(length, draws)
    number = first_token
    for lines in documents:
        for line in lines:
            builder.sentence(list(range(number, number + line)))
            number += line
        builder.end_of_document()
    return builder.rows


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(
        st.lists(st.one_of(st.integers(1, 12), st.integers(1, 90)), min_size=1, max_size=25),
        min_size=1,
        max_size=8,
    ),
    length=st.integers(8, 40),
    seed=st.integers(0, 2**40),
)
def test_rows_are_the_slow_builders(
    tmp_path_factory: pytest.TempPathFactory, documents: Documents, length: int, seed: int
) -> None:
    split = make_split(tmp_path_factory.mktemp("s"), documents)
    rows = all_rows(open_rows(split, length, seed))
    expected = slow_rows(documents, length, random.Random(f"{seed}/0"))
    assert len(rows["input_ids"]) == len(expected)
    for i, (ids, types) in enumerate(expected):
        padding = [0] * (length - len(ids))
        assert rows["input_ids"][i].tolist() == ids + padding
        assert rows["token_type_ids"][i].tolist() == types + padding
        assert rows["attention_mask"][i].tolist() == [1] * len(ids) + padding


def test_every_shard_draws_for_itself(tmp_path: Path) -> None:
    documents = [[3, 9, 4, 8, 2] * 6 for _ in range(9)]
    split = make_split(tmp_path, documents, max_tokens=400)
    assert len(split.shards) == 3
    expected = []
    for shard in range(3):
        first = 10 + shard * 3 * sum(documents[0])
        draws = random.Random(f"5/{shard}")
        expected += slow_rows(documents[3 * shard : 3 * shard + 3], 20, draws, first)
    rows = all_rows(open_rows(split, 20, seed=5))["input_ids"]
    assert [row[row != 0].tolist() for row in rows] == [ids for ids, _ in expected]


def test_form_of_the_rows(tmp_path: Path) -> None:
    chooser = random.Random(1)
    documents = [
        [chooser.randint(1, 14) for _ in range(chooser.randint(1, 60))] for _ in range(150)
    ]
    ends = 10 + np.cumsum([sum(lines) for lines in documents])
    rows = all_rows(open_rows(make_split(tmp_path, documents), 32))
    for ids, types, mask in zip(
        rows["input_ids"], rows["token_type_ids"], rows["attention_mask"], strict=True
    ):
        size = int(mask.sum())
        assert 3 <= size <= 32
        assert not ids[size:].any()
        assert not types[size:].any()
        assert (mask[:size] == 1).all()
        seps = np.flatnonzero(ids == 3)
        assert ids[0] == 2
        assert seps[-1] == size - 1
        assert len(seps) == 1 + types.any()
        assert (types[:size] == (np.arange(size) > seps[0])).all()
        inside = [ids[1 : seps[0]], ids[seps[0] + 1 : size - 1]]
        assert all((np.diff(part) > 0).all() for part in inside)  # in the order of the text
        tokens = np.concatenate(inside)
        assert len(np.unique(np.searchsorted(ends, tokens, side="right"))) == 1  # one document


def test_shares_of_single_segments_and_short_targets() -> None:
    # lines of one token fill every target exactly
    length = 64
    counts, in_first = gather_lines([[1] * 800_000], max_length=length, draws=random.Random(0))
    sizes = np.array(counts[:-1])  # the last is what was left
    assert 12_000 < len(sizes) < 13_500
    assert sizes.max() == length
    starts = np.cumsum([0, *counts])[:-2]
    firsts = np.add.reduceat(np.frombuffer(in_first, dtype=np.uint8), np.append(starts, sum(sizes)))
    single = firsts[:-1] == sizes
    assert abs(single.mean() - 0.1) < 0.008
    short = sizes[sizes < length]
    assert abs(len(short) / len(sizes) - 0.05 * 59 / 60) < 0.006
    assert short.min() == 5
    assert abs(short.mean() - 34) < 3  # uniform from 5 to 63
    # a first segment ends at half of the target or one token later, as a coin falls
    full = firsts[:-1][(sizes == length) & ~single]
    assert set(full) == {29, 30}
    assert abs((full == 30).mean() - 0.5) < 0.02


def test_what_does_not_fit_is_left_out_and_counted(tmp_path: Path) -> None:
    # one line of 1,000 tokens: a row has room for 30 of them
    examples = open_rows(make_split(tmp_path, [[1000], [1000]]), 32)
    assert len(examples) == 2
    rows = all_rows(examples)
    assert rows["input_ids"][1].tolist() == [2, *range(1010, 1040), 3]
    assert examples.unused_share == pytest.approx(0.97)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_unused_share_is_what_rows_lack(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chooser = random.Random(seed)
    documents = [[chooser.randint(1, 50) for _ in range(20)] for _ in range(5)]
    split = make_split(tmp_path_factory.mktemp("s"), documents)
    examples = open_rows(split, 40, seed)
    held = sum(int((row > 4).sum()) for row in all_rows(examples)["input_ids"])
    assert examples.unused_share == pytest.approx(1 - held / sum(map(sum, documents)))


def test_seeds_and_places(tmp_path: Path) -> None:
    split = make_split(tmp_path, [[7, 5, 11, 3] * 40 for _ in range(10)])
    one, again, other = (open_rows(split, 24, seed) for seed in (1, 1, 2))
    assert (all_rows(one)["input_ids"] == all_rows(again)["input_ids"]).all()
    few = min(len(one), len(other))
    assert (all_rows(one)["input_ids"][:few] != all_rows(other)["input_ids"][:few]).any()
    source = CorpusSource(one, seed=3)
    whole = source.batch(100, 12)
    resumed = CorpusSource(again, seed=3)
    for i in range(12):
        for name, tensor in resumed.batch(100 + i, 1).items():
            assert (tensor[0] == whole[name][i]).all()
