"""How tags of words spell entities: BIO, IOB1, BIOES and BMES, read, written and decoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BIO, IOB1, BIOES, BMES = "BIO", "IOB1", "BIOES", "BMES"
SCHEMES = (BIO, IOB1, BIOES, BMES)
"""IOB1 has B only between two entities of one type that touch; BMES calls the inside M."""
OUTSIDE = "O"

Span = tuple[int, int, str]
"""First word, the word behind the last one, type."""


def parse_tag(tag: str) -> tuple[str, str]:
    """`B-PER` as ("B", "PER"); ("O", "") outside.

    Raises:
        ValueError: it is neither O nor a letter of B, I, M, E, S with a type.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    letter, dash, label = tag.partition("-")
    if letter not in ("B", "I", "M", "E", "S") or not dash or not label:
        raise ValueError(tag)
    return letter, label


def recognise(sequences: Iterable[Sequence[str]]) -> str:
    """The scheme that sentences of tags are written in.

    E and S tell BIOES, with M for the inside BMES. Of B and I alone it is IOB1 where entities begin
    with I, and B stands between two of one type and nowhere else; otherwise BIO.

    Raises:
        ValueError: a tag of none of them, or the insides of two schemes, as its text.
    """
    letters: set[str] = set()
    begins_with_i = begins_with_b = False
    for tags in sequences:
        before = (OUTSIDE, "")
        for tag in tags:
            letter, label = parse_tag(tag)
            letters.add(letter)
            touches = label == before[1]
            begins_with_i |= letter == "I" and not touches
            begins_with_b |= letter == "B" and not touches
            before = letter, label
    if {"I", "M"} <= letters:
        raise ValueError("both I- and M-")
    if "M" in letters:
        return BMES
    if letters & {"E", "S"}:
        return BIOES
    return IOB1 if begins_with_i and not begins_with_b else BIO


def entities_of(tags: Sequence[str], scheme: str) -> list[Span]:
    """The entities that a sentence of tags spells.

    BIO and IOB1 are read as conlleval reads them: an I that continues nothing begins an entity. In
    BIOES and BMES an entity that is not whole is none.
    """
    found: list[Span] = []
    start: int | None = None
    open_label = ""
    whole = scheme in (BIOES, BMES)
    for position, tag in enumerate([*tags, OUTSIDE]):
        letter, label = parse_tag(tag)
        goes_on = start is not None and letter in ("I", "M", "E") and label == open_label
        if start is not None and not goes_on:
            if not whole:
                found.append((start, position, open_label))
            start = None
        if whole and letter == "S":
            found.append((position, position + 1, label))
        elif whole and letter == "E" and goes_on and start is not None:
            found.append((start, position + 1, label))
            start = None
        elif letter == "B" or (letter == "I" and start is None and not whole):
            start, open_label = position, label
    return found


def tags_of(length: int, spans: Iterable[Span], scheme: str) -> list[str]:
    """The tags of a sentence of `length` words; spans must not overlap, IOB1 is written as BIO."""
    tags = [OUTSIDE] * length
    inside = "M" if scheme == BMES else "I"
    for start, end, label in spans:
        tags[start] = f"B-{label}"
        for position in range(start + 1, end):
            tags[position] = f"{inside}-{label}"
        if scheme in (BIOES, BMES):
            tags[end - 1] = f"S-{label}" if end - start == 1 else f"E-{label}"
    return tags


@dataclass(frozen=True)
class Tagset:
    """The tags of some types in a scheme, and which of them may follow which."""

    scheme: str
    types: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme {self.scheme}; allowed: {', '.join(SCHEMES)}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """O, then for each type its tags."""
        letters = {BIOES: "BIES", BMES: "BMES"}.get(self.scheme, "BI")
        return (OUTSIDE, *(f"{x}-{label}" for label in self.types for x in letters))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Tag -> number."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def allowed(self) -> NDArray[np.bool_]:
        """[T + 1, T + 1]: whether the second may follow the first; the last is the border."""
        tags = [*map(parse_tag, self.names), (OUTSIDE, "")]
        table = np.zeros((len(tags), len(tags)), dtype=np.bool_)
        for (i, before), (j, after) in itertools.product(enumerate(tags), repeat=2):
            continues = after[0] in ("I", "M", "E")
            within = before[0] in ("B", "I", "M")
            if self.scheme in (BIOES, BMES):
                must = within
                table[i, j] = before[1] == after[1] if continues and within else continues == must
            else:
                table[i, j] = not continues or (within and before[1] == after[1])
        return table

    def decode(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """The best tags that spell whole entities (Viterbi).

        Args:
            scores: [W, T] log-probabilities of each word's tags.

        Returns:
            [W] the allowed sequence of the highest sum; ties to the lower numbers.
        """
        best: NDArray[np.int64] = scores.argmax(-1)
        border = len(self.names)
        around = np.concatenate([[border], best, [border]])
        if self.allowed[around[:-1], around[1:]].all():
            return best  # nothing can be better than the best tag of every word
        penalty = np.where(self.allowed, 0.0, -np.inf)
        total = scores[0] + penalty[border, :-1]  # [T]
        back = np.zeros(scores.shape, dtype=np.int64)
        for word in range(1, len(scores)):
            paths = total[:, None] + penalty[:-1, :-1]  # [T before, T]
            back[word] = paths.argmax(0)
            total = paths.max(0) + scores[word]
        best[-1] = int((total + penalty[:-1, border]).argmax())
        for word in range(len(scores) - 1, 0, -1):
            best[word - 1] = back[word, best[word]]
        return best
