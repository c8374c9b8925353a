"""Which positions are chosen: tokens apart, the tokens of a word together, or runs of words.

Every choice keeps to a number of tokens a row and fills P slots a row. B sequences, L tokens, W = L
places for words, P slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from electra.training.noise import Noise

SPAN_PROB = 0.2
"""p of the geometric distribution of span lengths, in words (SpanBERT, section 3.1)."""
LONGEST_SPAN = 10
"""Words; with `SPAN_PROB` 3.8 on average."""


@dataclass(frozen=True)
class Choice:
    """Chosen positions, all (B, P)."""

    positions: Tensor
    """int64; 0 in unused slots."""
    used: Tensor
    """bool."""
    together: Tensor | None = None
    """int64 below P: slots of one row with one number are shown or hidden as one; None: apart."""


def choose_tokens(candidates: Tensor, wanted: Tensor, slots: int, noise: Noise) -> Choice:
    """Single tokens, in random order, each at most once.

    Args:
        candidates: (B, L) bool, what may be chosen.
        wanted: (B,) tokens to choose, at most `slots`; fewer where there are fewer candidates.
        slots: P.
        noise: the only source of randomness.
    """
    rows, length = candidates.shape
    drawn = noise.uniform((rows, length), candidates.device)
    # candidates first, in random order
    positions = (drawn - candidates.float()).topk(slots, largest=False).indices  # (B, P)
    wanted = torch.minimum(wanted, candidates.sum(1))
    used = torch.arange(slots, device=candidates.device) < wanted.unsqueeze(1)
    return Choice(torch.where(used, positions, 0), used)


def choose_with_repeats(candidates: Tensor, wanted: Tensor, slots: int, noise: Noise) -> Choice:
    """Single tokens drawn with replacement, as the reference does; arguments as `choose_tokens`."""
    so_far = candidates.cumsum(1)  # (B, L)
    number = noise.uniform((len(candidates), slots), candidates.device) * so_far[:, -1:]
    number = number.long().minimum(so_far[:, -1:] - 1)  # (B, P) among the candidates, from 0
    positions = torch.searchsorted(so_far, number, right=True)
    wanted = wanted * candidates.any(1)
    used = torch.arange(slots, device=candidates.device) < wanted.unsqueeze(1)
    return Choice(torch.where(used, positions, 0), used)


def choose_words(
    candidates: Tensor,
    wanted: Tensor,
    slots: int,
    noise: Noise,
    *,
    starts_word: Tensor,
) -> Choice:
    """All tokens of words drawn at random; a word that would exceed `wanted` is passed over.

    So BERT's whole-word masking has it. Where no word is short enough the shortest is taken; where
    each is longer than the P slots, `wanted` tokens in a row of one, from any place.

    Args:
        candidates: as in `choose_tokens`.
        wanted: as there.
        slots: as there.
        noise: as there.
        starts_word: (B, L) bool; a word also ends before a token that is no candidate.
    """
    drawn = noise.uniform(candidates.shape, candidates.device)
    words = _find_words(candidates, starts_word).cut(wanted, slots, noise)
    wanted = words.at_least_one(wanted)
    order = (drawn + (words.sizes == 0)).argsort(1)  # (B, W)
    sizes = words.sizes.gather(1, order)
    kept = sizes > 0
    while True:  # a few times: the words passed over get shorter each time
        exceeds = kept & ((sizes * kept).cumsum(1) > wanted.unsqueeze(1))
        if not exceeds.any():
            break
        room = wanted - (sizes * (kept & ~exceeds)).sum(1)  # (B,) only ever less of it
        kept &= ~exceeds | (sizes <= room.unsqueeze(1))
    chosen = torch.zeros_like(kept).scatter(1, order, kept)
    return _in_slots(words.of_tokens(chosen), slots)


def choose_spans(
    candidates: Tensor,
    wanted: Tensor,
    slots: int,
    noise: Noise,
    *,
    starts_word: Tensor,
) -> Choice:
    """Runs of whole words until `wanted` is reached (SpanBERT, Joshi et al. 2020, section 3.1).

    A span begins at any word not chosen yet, each alike; its length in words is geometric, cut off
    at `LONGEST_SPAN`. It ends early before a word that is chosen already, before a special token,
    and where `wanted` would be exceeded. Arguments as `choose_words`; the slots of a span are
    `together`.
    """
    rows, length = candidates.shape
    drawn = noise.uniform((rows, length), candidates.device)
    lengths = _span_lengths((rows, slots), noise, candidates.device)
    words = _find_words(candidates, starts_word).cut(wanted, slots, noise)
    wanted = words.at_least_one(wanted)
    place = torch.arange(length, device=candidates.device)
    span = torch.full_like(words.sizes, -1)  # (B, W) number of the span a word is in
    for number in range(slots):
        free = (span < 0) & (words.sizes > 0) & (words.sizes <= wanted.unsqueeze(1))
        if not free.any():
            break
        # the free word of the least noise is any of them, each alike
        start = torch.where(free, drawn, 2.0).argmin(1, keepdim=True)  # (B, 1)
        behind = place >= start
        border = (span >= 0) | (words.after_gap & (place > start)) | (words.sizes == 0)
        run = behind & (place < start + lengths[:, number : number + 1])
        run &= (border & behind).cumsum(1) == 0
        run &= (words.sizes * behind).cumsum(1) <= wanted.unsqueeze(1)
        run &= free.any(1, keepdim=True)
        span = torch.where(run, number, span)
        wanted = wanted - (words.sizes * run).sum(1)
    choice = _in_slots(words.of_tokens(span >= 0), slots)
    together = words.of_tokens(span.clamp(min=0)).gather(1, choice.positions)
    return Choice(choice.positions, choice.used, together)


@dataclass(frozen=True)
class _Words:
    """The words of a batch, each row's counted from 0."""

    of_token: Tensor
    """(B, L) the word of each candidate; W for the others."""
    sizes: Tensor
    """(B, W) tokens of each word; 0 where there is none."""
    after_gap: Tensor
    """(B, W) bool: something that is no candidate stands before the word."""

    def of_tokens(self, values: Tensor) -> Tensor:
        """Values of words (B, W) at their tokens, (B, L); 0 for the others."""
        nothing = torch.zeros_like(values[:, :1])
        return torch.cat([values, nothing], 1).gather(1, self.of_token)

    def cut(self, wanted: Tensor, slots: int, noise: Noise) -> _Words:
        """The same words, but in rows where all are longer than P, `wanted` (B,) tokens of one.

        Each place that has as many tokens of its word from it on is alike. Without such rows
        nothing is drawn.
        """
        longer = (self.sizes > slots).any(1) & ~((self.sizes > 0) & (self.sizes <= slots)).any(1)
        if not longer.any():
            return self
        word, length = self.of_token, self.of_token.shape[1]
        place = torch.arange(length, device=word.device)
        last = place + wanted.unsqueeze(1) - 1  # (B, L)
        inside = (word < length) & (word.gather(1, last.clamp(0, length - 1)) == word)
        drawn = noise.uniform(word.shape, word.device)
        begin = torch.where(inside & (last < length), drawn, 2.0).argmin(1, keepdim=True)
        part = (place >= begin) & (place < begin + wanted.unsqueeze(1))
        kept = torch.where(longer.unsqueeze(1), part, word < length)
        begins = torch.cat([torch.ones_like(kept[:, :1]), word[:, 1:] != word[:, :-1]], 1)
        return _find_words(kept, begins)

    def at_least_one(self, wanted: Tensor) -> Tensor:
        """`wanted`, or the size of the shortest word where all are longer; 0 without words."""
        longest = self.sizes.shape[1] + 1
        shortest = torch.where(self.sizes > 0, self.sizes, longest).amin(1)
        return torch.where(shortest < longest, wanted.maximum(shortest), 0)


def _find_words(candidates: Tensor, starts_word: Tensor) -> _Words:
    rows, length = candidates.shape
    before = torch.cat([torch.zeros_like(candidates[:, :1]), candidates[:, :-1]], 1)
    begins = candidates & (starts_word | ~before)
    of_token = torch.where(candidates, begins.cumsum(1) - 1, length)
    table = torch.zeros(rows, length + 1, dtype=torch.int64, device=candidates.device)
    sizes = table.scatter_add(1, of_token, candidates.long())[:, :-1]
    after_gap = table.scatter_add(1, of_token, (begins & ~before).long())[:, :-1] > 0
    return _Words(of_token, sizes, after_gap)


def _in_slots(chosen: Tensor, slots: int) -> Choice:
    """Chosen tokens (B, L) from left to right, the first P of them."""
    length = chosen.shape[1]
    place = torch.arange(length, device=chosen.device)
    positions = torch.where(chosen, place, length).topk(slots, largest=False).values  # ascending
    used = positions < length
    return Choice(torch.where(used, positions, 0), used)


def _span_lengths(shape: tuple[int, int], noise: Noise, device: torch.device) -> Tensor:
    """Geometric, given that it is at most `LONGEST_SPAN`: the inverse of its distribution."""
    uniform = noise.uniform(shape, device)
    stay = 1 - SPAN_PROB
    tail = torch.log1p(-uniform * (1 - stay**LONGEST_SPAN)) / math.log(stay)
    return tail.ceil().clamp(1, LONGEST_SPAN).long()
