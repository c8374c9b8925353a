"""Whole words, spans and repeats: against slow choices by hand, and their statistics."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from electra.config import ObjectiveConfig
from electra.corpus.tokenizer import SpecialIds
from electra.errors import ConfigError
from electra.objectives.choice import Choice, choose_spans, choose_words
from electra.objectives.masking import Masked, choose_and_mask, max_masked, with_masks
from electra.pretrain import pretrain
from electra.training.noise import Noise
from tests.shapes import tiny_config

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
Row = list[int]


def make_rows(lengths: Row, width: int, seed: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [CLS] ... [SEP] ... [SEP] with padding; a `share` of the tokens begins a word."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (len(lengths), width), generator=generator)
    starts_word = torch.rand(ids.shape, generator=generator) < share
    for row, length in enumerate(lengths):
        ids[row, 0] = SPECIAL.cls
        ids[row, length // 2] = ids[row, length - 1] = SPECIAL.sep
        ids[row, length:] = SPECIAL.pad
    return ids, (ids != SPECIAL.pad).long(), starts_word


def words_of(candidates: list[bool], starts_word: list[bool]) -> list[Row]:
    """Positions of each word."""
    words: list[Row] = []
    for place, inside in enumerate(candidates):
        if inside:
            if starts_word[place] or not candidates[place - 1]:
                words.append([])
            words[-1].append(place)
    return words


def slow_words(words: list[Row], wanted: int, noise: list[float]) -> Row:
    wanted = max(wanted, min(map(len, words)))
    chosen: Row = []
    for number in sorted(range(len(words)), key=noise.__getitem__):
        if len(chosen) + len(words[number]) <= wanted:
            chosen += words[number]
    return sorted(chosen)


def slow_spans(
    words: list[Row], wanted: int, noise: list[float], lengths: Row
) -> list[tuple[Row, int]]:
    """The words of each span and how many tokens were still wanted when it began."""
    left = max(wanted, min(map(len, words)))
    taken: set[int] = set()
    spans = []
    for length in lengths:
        free = [n for n, word in enumerate(words) if n not in taken and len(word) <= left]
        if not free:
            break
        start = min(free, key=noise.__getitem__)
        span: Row = []
        before = left
        for number in range(start, min(start + length, len(words))):
            gap = span and words[number][0] != words[number - 1][-1] + 1
            if number in taken or gap or len(words[number]) > left:
                break
            span.append(number)
            left -= len(words[number])
        taken |= set(span)
        spans.append((span, before))
    return spans


def span_length(uniform: float) -> int:
    """By adding up P(l) = 0.2 * 0.8 ** (l - 1), normalised over 1 to 10."""
    total = sum(0.2 * 0.8**i for i in range(10))
    cumulated = 0.0
    for length in range(1, 11):
        cumulated += 0.2 * 0.8 ** (length - 1) / total
        if uniform <= cumulated:
            return length
    return 10


def used_positions(choice: Choice, row: int) -> Row:
    return choice.positions[row][choice.used[row]].tolist()


def cut_out(words: list[Row], wanted: int, positions: Row) -> bool:
    """Whether all words are longer than 12 slots; there it is any `wanted` in a row of one."""
    if min(map(len, words)) <= 12:
        return False
    runs = [word[n : n + wanted] for word in words for n in range(len(word) - wanted + 1)]
    assert positions in runs
    return True


CASES = {
    "lengths": st.lists(st.integers(5, 48), min_size=1, max_size=6),
    "share": st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]),
    "wanted": st.integers(1, 12),
    "seed": st.integers(0, 2**31),
}


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_words_are_the_slow_choice(lengths: Row, share: float, wanted: int, seed: int) -> None:
    ids, mask, starts_word = make_rows(lengths, 48, seed, share)
    candidates = (ids > 4) & mask.bool()
    choice = choose_words(
        candidates,
        torch.full((len(lengths),), wanted),
        12,
        Noise(seed),
        starts_word=starts_word,
    )
    drawn = Noise(seed).uniform(ids.shape).tolist()
    for row in range(len(lengths)):
        words = words_of(candidates[row].tolist(), starts_word[row].tolist())
        if cut_out(words, wanted, used_positions(choice, row)):
            continue
        expected = slow_words(words, wanted, drawn[row])
        assert used_positions(choice, row) == expected[:12]


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_spans_are_the_slow_choice(lengths: Row, share: float, wanted: int, seed: int) -> None:
    ids, mask, starts_word = make_rows(lengths, 48, seed, share)
    candidates = (ids > 4) & mask.bool()
    choice = choose_spans(
        candidates,
        torch.full((len(lengths),), wanted),
        12,
        Noise(seed),
        starts_word=starts_word,
    )
    again = Noise(seed)
    noise = again.uniform(ids.shape).tolist()
    uniform = again.uniform((len(lengths), 12)).tolist()
    assert choice.together is not None
    for row in range(len(lengths)):
        words = words_of(candidates[row].tolist(), starts_word[row].tolist())
        if cut_out(words, wanted, used_positions(choice, row)):
            continue
        drawn = [span_length(u) for u in uniform[row]]
        number_of = {
            place: number
            for number, (span, _) in enumerate(slow_spans(words, wanted, noise[row], drawn))
            for word in span
            for place in words[word]
        }
        positions = used_positions(choice, row)
        assert positions == sorted(number_of)[:12]
        together = choice.together[row][choice.used[row]].tolist()
        assert together == [number_of[place] for place in positions]


def mask_many(masking: str, *, rows: int = 3000, width: int = 66) -> tuple[Masked, Tensor]:
    """Words of 1, 2, 3, 1, 2, 3, ... tokens between [CLS] and [SEP]."""
    ids = torch.full((rows, width), 7)
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    starts_word = torch.ones(rows, width, dtype=torch.bool)
    for place in range(1, width - 1):
        starts_word[:, place] = (place - 1) % 6 in (0, 1, 3)
    masked = choose_and_mask(
        ids,
        None,
        SPECIAL,
        mask_prob=0.15,
        mask_token_prob=0.85,
        noise=Noise(1),
        masking=masking,
        starts_word=starts_word,
    )
    return masked, starts_word


@pytest.mark.parametrize("masking", ["whole_word", "span"])
def test_words_are_whole_and_the_number_is_kept(masking: str) -> None:
    masked, starts_word = mask_many(masking)
    wanted = round(66 * 0.15)
    words = words_of([False, *[True] * 64, False], starts_word[0].tolist())
    sizes = Counter()
    for positions, weights in zip(
        masked.masked_positions.tolist(), masked.masked_weights.tolist(), strict=True
    ):
        chosen = {p for p, w in zip(positions, weights, strict=True) if w}
        sizes[len(chosen)] += 1
        assert len(chosen) == sum(weights)  # distinct
        for word in words:
            assert len(chosen & set(word)) in (0, len(word))
    assert set(sizes) <= {wanted - 2, wanted - 1, wanted}  # a word of one token is mostly left
    assert sizes[wanted] > 0.9 * 3000
    hidden = (masked.masked_input_ids == SPECIAL.mask).sum() / masked.masked_weights.sum()
    assert abs(float(hidden) - 0.85) < 0.01
    assert not (masked.masked_input_ids[:, 0] == SPECIAL.mask).any()


def test_each_token_of_a_word_is_shown_for_itself_and_a_span_as_one() -> None:
    mixed = {}
    for masking in ("whole_word", "span"):
        masked, starts_word = mask_many(masking)
        hidden = masked.masked_input_ids == SPECIAL.mask
        chosen = torch.zeros_like(hidden).scatter(
            1, masked.masked_positions, masked.masked_weights > 0
        )
        inside = chosen[:, 1:] & ~starts_word[:, 1:]  # with the token before of the same word
        mixed[masking] = float((hidden[:, 1:] != hidden[:, :-1])[inside].float().mean())
    assert abs(mixed["whole_word"] - 2 * 0.85 * 0.15) < 0.02
    assert mixed["span"] == 0


def test_spans_are_geometric_runs() -> None:
    # one span only: as many tokens as the longest has, each a word
    rows, width = 20_000, 40
    candidates = torch.ones(rows, width, dtype=torch.bool)
    choice = choose_spans(
        candidates,
        torch.full((rows,), 10),
        10,
        Noise(0),
        starts_word=candidates,
    )
    assert choice.together is not None
    first = (choice.together == 0) & choice.used
    lengths = first.sum(1)
    positions = torch.where(first, choice.positions, 0)
    begin = torch.where(first, choice.positions, width).amin(1)
    assert (positions.amax(1) - begin + 1 == lengths).all()  # nothing is between them
    whole = lengths[begin <= width - 10]  # not cut off by the end of the row
    total = sum(0.2 * 0.8**i for i in range(10))
    for length in range(1, 11):
        share = float((whole == length).float().mean())
        assert abs(share - 0.2 * 0.8 ** (length - 1) / total) < 0.01
    assert abs(float(whole.float().mean()) - 3.8) < 0.06  # SpanBERT, section 3.1
    counts = begin.bincount(minlength=width).float() / rows
    assert abs(float(counts.max()) - 1 / width) < 0.006
    assert abs(float(counts.min()) - 1 / width) < 0.006


@pytest.mark.parametrize("masking", ["token", "whole_word", "span"])
def test_a_seed_gives_one_choice(masking: str) -> None:
    ids, mask, starts_word = make_rows([40, 30, 12], 40, 3, 0.6)
    drawn = []
    for seed in (1, 1, 2):
        batch = {"input_ids": ids, "attention_mask": mask, "starts_word": starts_word}
        config = ObjectiveConfig(masking=masking, mask_prob=0.3)
        masked = with_masks(batch, SPECIAL, config, Noise(seed))
        drawn.append((masked["masked_positions"], masked["masked_input_ids"]))
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not torch.equal(drawn[0][0], drawn[2][0])


@pytest.mark.parametrize("masking", ["whole_word", "span"])
def test_one_long_word_and_none(masking: str) -> None:
    ids = torch.tensor([[2, 9, 9, 9, 9, 9, 9, 9, 9, 3], [2, 3, 0, 0, 0, 0, 0, 0, 0, 0]])
    masked = choose_and_mask(
        ids,
        (ids != 0).long(),
        SPECIAL,
        mask_prob=0.2,
        mask_token_prob=1.0,
        noise=Noise(0),
        masking=masking,
        starts_word=torch.tensor([[True, True] + [False] * 8] * 2),
    )
    # the only word is longer than the slots: as much of it as they hold
    assert max_masked(10, 0.2) == 2
    first, second = masked.masked_positions[0].tolist()
    assert second == first + 1
    assert masked.masked_positions[1].tolist() == [0, 0]
    assert masked.masked_weights.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("choose", [choose_words, choose_spans])
def test_words_too_long_are_cut_at_any_place(choose: Callable[..., Choice]) -> None:
    rows, width = 4000, 40
    candidates = torch.ones(rows, width, dtype=torch.bool)
    candidates[:, [0, 21, 39]] = False  # words of 20 and 17 tokens
    starts_word = torch.zeros_like(candidates)
    candidates[0, 3:] = False  # beside a row of a short word
    choice = choose(
        candidates,
        torch.full((rows,), 4),
        5,
        Noise(0),
        starts_word=starts_word,
    )
    assert used_positions(choice, 0) == [1, 2]
    begins = Counter()
    for row in range(1, rows):
        positions = used_positions(choice, row)
        assert positions == list(range(positions[0], positions[0] + 4))
        begins[positions[0]] += 1
    assert sorted(begins) == [*range(1, 18), *range(22, 36)]
    assert min(begins.values()) > 0.6 * rows / len(begins)


def draw_with_repeats(rows: int) -> tuple[Tensor, Masked]:
    ids = torch.full((rows, 128), 7)
    ids[:, 0], ids[:, 40], ids[:, -1] = SPECIAL.cls, SPECIAL.sep, SPECIAL.sep
    masked = choose_and_mask(
        ids,
        None,
        SPECIAL,
        mask_prob=0.15,
        mask_token_prob=0.85,
        noise=Noise(0),
        duplicate_positions=True,
    )
    return ids, masked


def test_repeated_draws_are_those_of_the_reference() -> None:
    ids, masked = draw_with_repeats(8000)
    assert masked.masked_weights.sum(1).unique().tolist() == [19.0]
    drawn = masked.masked_positions.sort(1).values
    distinct = 1 + (drawn[:, 1:] != drawn[:, :-1]).sum(1)
    # 19 draws from 125 positions meet 125 (1 - (124/125)^19) of them
    expected = 125 * (1 - (124 / 125) ** 19)
    assert math.isclose(expected, 17.7, abs_tol=0.05)
    assert abs(float(distinct.float().mean()) - expected) < 0.05
    counts = masked.masked_positions.flatten().bincount(minlength=128)
    assert counts[[0, 40, 127]].tolist() == [0, 0, 0]
    chosen = counts[counts > 0].float()
    assert len(chosen) == 125
    assert chosen.min() > 0.85 * 8000 * 19 / 125
    # hidden if one of its draws says so: 0.85 of those drawn once, 1 - 0.15^2 of those drawn twice
    times = torch.zeros_like(ids).scatter_add(
        1, masked.masked_positions, torch.ones_like(masked.masked_positions)
    )
    hidden = masked.masked_input_ids == SPECIAL.mask
    assert not hidden[times == 0].any()
    assert abs(float(hidden[times == 1].float().mean()) - 0.85) < 0.005
    assert abs(float(hidden[times == 2].float().mean()) - 0.9775) < 0.006
    assert (masked.original_ids == 7).all()


def test_repeats_leave_out_rows_of_special_tokens() -> None:
    ids = torch.tensor([[2, 3, 0, 0, 0, 0, 0, 0], [2, 9, 3, 0, 0, 0, 0, 0]])
    masked = choose_and_mask(
        ids,
        (ids != 0).long(),
        SPECIAL,
        mask_prob=0.6,
        mask_token_prob=1.0,
        noise=Noise(0),
        duplicate_positions=True,
    )
    assert masked.masked_weights[0].sum() == 0
    # round(0.6 * 3) draws from the only candidate
    assert masked.masked_positions[1].tolist() == [1, 1, 0, 0]
    assert masked.masked_input_ids.tolist()[1][:3] == [2, 4, 3]


def test_repeats_are_of_tokens_alone() -> None:
    with pytest.raises(ConfigError, match="duplicate-positions is True; allowed: false"):
        ObjectiveConfig(masking="span", duplicate_positions=True)


@pytest.mark.parametrize(
    "objective",
    [{"masking": "whole_word"}, {"masking": "span"}, {"duplicate_positions": True}],
)
def test_pretraining_takes_them(corpus: Path, tmp_path: Path, objective: dict[str, object]) -> None:
    config = tiny_config(
        "classic",
        objective=objective,
        training={"max_steps": 3},
        data={"examples": "two_segments"},
    )
    report = pretrain(data=corpus, output=tmp_path / "run", config=config)
    assert report["steps"] == 3
    assert math.isfinite(report["metrics"]["generator_loss"])
