"""From rows to examples: words with their places in the text, and the entities over them.

Words do not depend on a tokenizer: white space parts them, and every punctuation mark, symbol, CJK
ideograph and kana is one of its own. Tagged files bring their words along; the text is then those
words joined, and all offsets are in it.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from electra.errors import DataError
from electra.tasks import tag_schemes
from electra.tasks.tag_schemes import Span
from electra.tasks.tagged_files import Entity, TaggedRow

TOLERATED = 0.01
"""Share of the entities that may overlap, or have unknown types, before a file is refused."""


@dataclass(frozen=True)
class TaggedExample:
    """A text, its words and, where they are known, its entities."""

    id: str | int
    text: str
    words: tuple[tuple[int, int], ...]
    """Start and end of each word in the text, code points."""
    entities: tuple[Entity, ...] | None = None
    """As marked; None where labels were not asked for."""
    spans: tuple[Span, ...] = ()
    """What of it can be said with tags on words: whole words, nothing twice."""
    intent: str | None = None
    joined: bool = False
    """Whether the text was made from words."""
    off_border: int = 0
    """Entities that begin or end inside a word; their span has the whole word."""
    dropped: int = 0
    """Entities without a span, as a longer one has the words."""
    stray_tags: int = 0
    """Tags of BIOES or BMES that belong to no whole entity."""
    unknown: int = 0
    """Entities, and intents, of a type that the training data does not have."""
    place: str = ""


@dataclass(frozen=True)
class WordRule:
    """What a word is, learned from the training data."""

    joiner: str = " "
    """What stands between the words of tagged files: nothing where they are Chinese."""
    by_character: bool = False
    """Whether every character of a text is a word, as in files with a character a line."""

    @classmethod
    def of(cls, rows: Sequence[TaggedRow]) -> WordRule:
        """No joiner where half of the words hold an ideograph; by character where all are one."""
        words = [word for row in rows for word in row.words or ()]
        ideographic = sum(any(map(is_ideograph, word)) for word in words)
        if not words or 2 * ideographic < len(words):
            return cls()
        single = sum(len(word) == 1 for word in words)
        return cls("", single >= 0.99 * len(words))

    def split(self, text: str) -> tuple[tuple[int, int], ...]:
        """Start and end of each word of a raw text."""
        words: list[tuple[int, int]] = []
        open_at: int | None = None
        for position, character in enumerate(text):
            if character.isspace():
                open_at = None
            elif self.by_character or stands_alone(character):
                words.append((position, position + 1))
                open_at = None
            elif open_at is None:
                words.append((position, position + 1))
                open_at = position
            else:
                words[-1] = (open_at, position + 1)
        return tuple(words)

    def join(self, words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
        """The text of some words, and their places in it."""
        places = []
        start = 0
        for word in words:
            places.append((start, start + len(word)))
            start += len(word) + len(self.joiner)
        return self.joiner.join(words), tuple(places)


@functools.cache
def is_ideograph(character: str) -> bool:
    """A CJK ideograph or kana."""
    name = unicodedata.name(character, "")
    return name.startswith(("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA"))


@functools.cache
def stands_alone(character: str) -> bool:
    """Whether a character is a word by itself: ideographs, kana, punctuation, symbols."""
    return is_ideograph(character) or unicodedata.category(character)[0] in "PS"


def to_examples(rows: Sequence[TaggedRow], rule: WordRule, source: str) -> list[TaggedExample]:
    """Rows of one file as examples; its tags are read in the scheme they are written in.

    Raises:
        DataError: its tags are of no scheme, or too many of its entities overlap.
    """
    tagged = [row.tags for row in rows if row.tags is not None]
    scheme = scheme_of(tagged, source) if tagged else tag_schemes.BIO
    examples = [to_example(row, rule, scheme) for row in rows]
    _tolerate(
        examples,
        lambda e: e.dropped,
        source,
        "entities that share a word with a longer one, and a word has one tag alone",
        "keep one of each such pair",
    )
    return examples


def scheme_of(sequences: Sequence[Sequence[str]], source: str) -> str:
    """`recognise`, with the file in its complaint.

    Raises:
        DataError: the tags are of no scheme.
    """
    try:
        return tag_schemes.recognise(sequences)
    except ValueError as error:
        raise DataError(
            f"{source} has tags of no one scheme ({error}); allowed: "
            f"{', '.join(tag_schemes.SCHEMES)}"
        ) from None


def to_example(row: TaggedRow, rule: WordRule, scheme: str = tag_schemes.BIO) -> TaggedExample:
    """One row; `scheme` is what its tags are written in."""
    if row.words is None:
        words = rule.split(row.text)
        spans, off_border, dropped = word_spans(words, row.entities or ())
        return TaggedExample(
            id=row.id,
            text=row.text,
            words=words,
            entities=row.entities,
            spans=spans,
            intent=row.intent,
            off_border=off_border,
            dropped=dropped,
            place=row.place,
        )
    text, words = rule.join(row.words)
    example = TaggedExample(row.id, text, words, intent=row.intent, joined=True, place=row.place)
    if row.tags is None:
        return example
    found = tuple(tag_schemes.entities_of(row.tags, scheme))
    inside = sum(tag != tag_schemes.OUTSIDE for tag in row.tags)
    return replace(
        example,
        entities=tuple(Entity(words[s][0], words[e - 1][1], label) for s, e, label in found),
        spans=found,
        stray_tags=inside - sum(e - s for s, e, _ in found),
    )


def word_spans(
    words: Sequence[tuple[int, int]], entities: Sequence[Entity]
) -> tuple[tuple[Span, ...], int, int]:
    """Entities as spans of the words they touch.

    Returns:
        the spans in order; how many entities begin or end inside a word; how many were left out as
        a longer one has one of their words (of two as long the later one is left out).
    """
    first = {p: i for i, (start, end) in enumerate(words) for p in range(start, end)}
    spans: list[Span] = []
    off_border = 0
    taken: set[int] = set()
    for start, end, label in sorted(entities, key=lambda e: (e.start - e.end, e.start)):
        head, tail = first[start], first[end - 1]
        if not taken.isdisjoint(range(head, tail + 1)):
            continue
        taken.update(range(head, tail + 1))
        spans.append((head, tail + 1, label))
        off_border += (words[head][0], words[tail][1]) != (start, end)
    return tuple(sorted(spans)), off_border, len(entities) - len(spans)


def check_known(
    examples: Sequence[TaggedExample],
    types: Sequence[str],
    intents: Sequence[str],
    source: str,
) -> list[TaggedExample]:
    """Entities and intents of unknown types are counted; they can only be missed.

    Raises:
        DataError: there are too many of them, or the intents are missing.
    """
    known, known_intents = set(types), set(intents)
    checked: list[TaggedExample] = []
    strange: set[str] = set()
    for example in examples:
        others = [e.label for e in example.entities or () if e.label not in known]
        if intents:
            if example.intent is None:
                raise DataError(
                    f"{example.place} has no intent; the model was trained with intents"
                )
            if example.intent not in known_intents:
                others.append(example.intent)
        strange.update(others)
        spans = tuple(span for span in example.spans if span[2] in known)
        checked.append(replace(example, spans=spans, unknown=len(others)) if others else example)
    _tolerate(
        checked,
        lambda e: e.unknown,
        source,
        f"labels that the training data does not have ({listed(sorted(strange))})",
        f"known labels: {listed([*types, *intents])}",
    )
    return checked


def notes(examples: Sequence[TaggedExample]) -> list[str]:
    """What had to be put up with, a line for each kind."""
    entities = sum(len(e.entities or ()) for e in examples)
    kinds = (
        ("off_border", "begin or end inside a word: the whole word is tagged"),
        (
            "dropped",
            "share a word with a longer one and are left out of the tags; they count as missed",
        ),
        ("unknown", "have a label the training data does not have; they count as missed"),
    )
    lines = []
    for name, meaning in kinds:
        count = sum(getattr(e, name) for e in examples)
        if count:
            lines.append(f"{count} of {entities:,} entities {meaning}")
    stray = sum(e.stray_tags for e in examples)
    if stray:
        lines.append(f"{stray} tags belong to no whole entity and are read as O")
    return lines


def _tolerate(
    examples: Sequence[TaggedExample],
    count: Callable[[TaggedExample], int],
    source: str,
    what: str,
    mend: str,
) -> None:
    number = sum(map(count, examples))
    if number > TOLERATED * sum(len(e.entities or ()) for e in examples):
        place = next(e.place for e in examples if count(e))
        raise DataError(
            f"{source} has {number} {what}, first in {place.rpartition('/')[2]}; {mend}"
        )


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message; of many the first."""
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
