"""What a tokenizer makes of a text: how many tokens, what it does not know, what it has learned."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tokenizers import Encoding, Tokenizer

from electra.corpus.tokenizer import SpecialIds, num_ids, tokenizer_hash
from electra.corpus.words import word_starts

SAMPLE_CHARS = 2_000_000
"""Characters of the texts that a report reads; what follows is left out."""
LEAST_SAMPLE_CHARS = 300_000
"""What is read of a small corpus, of which a hundredth would be less."""
MOST_SHOWN = 20
KINDS = (
    *("special", "words", "continuations", "single_characters", "digits", "han"),
    "parts_of_characters",
)
"""Kinds of pieces; each piece is of one of them."""
_SAMPLE_TEXTS = 3
_SAMPLE_LENGTH = 160
_TEXT_CHARS = 100_000
_GROUP = 64


def tokenizer_report(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, Any]:
    """Count on a sample of text; ready for JSON, the same for the same texts.

    Args:
        tokenizer: any; it is left as it was.
        texts: documents; about `SAMPLE_CHARS` characters from the beginning are read.

    Returns:
        `tokens_per_word` (words: what white space parts), `tokens_per_character` (white space not
        counted), `unknown_share` of the tokens, `documents_with_unknown`, `unknown_characters`
        (the most frequent), `vocabulary` (pieces of each of `KINDS`, and `unused` in the sample),
        `longest_pieces`, `samples` with their tokens, and what was counted.
    """
    was, tokenizer.encode_special_tokens = tokenizer.encode_special_tokens, True
    try:
        return _report(tokenizer, _bounded(texts))
    finally:
        tokenizer.encode_special_tokens = was


def _report(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Any]:
    unknown = SpecialIds.of(tokenizer).unk
    counts = np.zeros(num_ids(tokenizer), dtype=np.int64)
    characters: Counter[str] = Counter()
    documents_with_unknown = long_words = 0
    known = _known_characters(tokenizer)
    for start in range(0, len(texts), _GROUP):
        group = texts[start : start + _GROUP]
        for text, encoding in zip(
            group, tokenizer.encode_batch(group, add_special_tokens=False), strict=True
        ):
            ids = np.array(encoding.ids, dtype=np.int64)
            counts += np.bincount(ids, minlength=len(counts))
            places = np.flatnonzero(ids == unknown)
            documents_with_unknown += len(places) > 0
            for span in _spans(encoding, places):
                lost = [c for c in text[slice(*span)] if not _is_known(c, known, tokenizer)]
                characters.update(lost)
                long_words += not lost
    tokens = int(counts.sum())
    words = sum(len(text.split()) for text in texts)
    visible = sum(len("".join(text.split())) for text in texts)
    shown = sorted(characters.items(), key=lambda entry: (-entry[1], entry[0]))[:MOST_SHOWN]
    pieces = _pieces(tokenizer)
    return {
        "tokenizer_sha256": tokenizer_hash(tokenizer),
        "model": json.loads(tokenizer.to_str())["model"]["type"],
        "documents": len(texts),
        "words": words,
        "characters": visible,
        "tokens": tokens,
        "tokens_per_word": _ratio(tokens, words),
        "tokens_per_character": _ratio(tokens, visible),
        "unknown_tokens": int(counts[unknown]),
        "unknown_share": _ratio(int(counts[unknown]), tokens),
        "documents_with_unknown": documents_with_unknown,
        "unknown_characters": dict(shown),
        "unknown_words_of_known_characters": long_words,
        "vocabulary": _vocabulary(pieces, counts),
        "longest_pieces": _longest(pieces),
        "samples": [
            {"text": text, "tokens": tokenizer.encode(text, add_special_tokens=False).tokens}
            for text in _samples(texts)
        ],
    }


def _bounded(texts: Iterable[str]) -> list[str]:
    """The first texts, and of long ones the beginnings."""
    kept, left = [], SAMPLE_CHARS
    for text in texts:
        kept.append(text[: min(left, _TEXT_CHARS)])
        left -= len(kept[-1])
        if left <= 0:
            break
    return kept


def _spans(encoding: Encoding, places: Iterable[int]) -> Iterator[tuple[int, int]]:
    offsets = encoding.offsets if len(encoding) else []
    for place in places:
        yield offsets[place]


def _known_characters(tokenizer: Tokenizer) -> set[str]:
    """Characters that are pieces by themselves, at the beginning of a word or inside of it."""
    pieces = _pieces(tokenizer)
    return {text for text, kind, _ in pieces if len(text) == 1 and kind != "special"}


def _is_known(character: str, known: set[str], tokenizer: Tokenizer) -> bool:
    if character.isspace():
        return True
    normalizer = tokenizer.normalizer
    parts = normalizer.normalize_str(character) if normalizer is not None else character
    return all(part in known or part.isspace() for part in parts)


Piece = tuple[str, str, int]
"""The text of a piece, its kind, its id."""


def _pieces(tokenizer: Tokenizer) -> list[Piece]:
    """All pieces, by id."""
    table = json.loads(tokenizer.to_str())
    special = {token["id"] for token in table["added_tokens"] if token["special"]}
    byte_level = (table.get("decoder") or {}).get("type") == "ByteLevel"
    prefix = table["model"].get("continuing_subword_prefix") or ""
    starts = word_starts(tokenizer)
    found = []
    for piece, number in tokenizer.get_vocab(with_added_tokens=True).items():
        if number in special:
            found.append((piece, "special", number))
            continue
        text = _decoded(piece) if byte_level else piece.removeprefix("\u2581")
        text = text.removeprefix(prefix).strip() or text
        found.append((text, _kind(text, bool(starts[number])), number))
    return sorted(found, key=lambda entry: entry[2])


def _kind(text: str, starts_word: bool) -> str:
    if "\ufffd" in text:
        return "parts_of_characters"
    if text and all(map(_is_han, text)):
        return "han"
    if text.isdigit():
        return "digits"
    if len(text) < 2:
        return "single_characters"
    return "words" if starts_word else "continuations"


def _is_han(character: str) -> bool:
    return unicodedata.name(character, "").startswith("CJK UNIFIED")


def _decoded(piece: str) -> str:
    """A byte-level piece as text, U+FFFD where it is a part of a character (as GPT-2 spells)."""
    try:
        data = bytes(_BYTES[character] for character in piece)
    except KeyError:  # a token that was added as it is
        return piece
    return data.decode("utf-8", errors="replace")


def _bytes_of_characters() -> dict[str, int]:
    """Printable bytes stand for themselves, the others for U+0100 and on (Radford et al. 2019)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    table = {chr(b): b for b in plain}
    return table | {chr(0x100 + n): b for n, b in enumerate(others)}


_BYTES = _bytes_of_characters()


def _vocabulary(pieces: Sequence[Piece], counts: np.ndarray[Any, Any]) -> dict[str, int]:
    kinds = Counter(kind for _, kind, _ in pieces)
    unused = sum(kind != "special" and not counts[number] for _, kind, number in pieces)
    return {"size": len(pieces), **{kind: kinds[kind] for kind in KINDS}, "unused": unused}


def _longest(pieces: Sequence[Piece]) -> list[str]:
    texts = {text for text, kind, _ in pieces if kind not in ("special", "parts_of_characters")}
    return sorted(texts, key=lambda text: (-len(text), text))[:MOST_SHOWN]


def _samples(texts: Sequence[str]) -> list[str]:
    """Beginnings of a first, a middle and a last text."""
    filled = [text.strip() for text in texts if text.strip()]
    places = sorted({0, len(filled) // 2, len(filled) - 1})[:_SAMPLE_TEXTS] if filled else []
    shown = []
    for place in places:
        line = filled[place].split("\n")[0]
        shown.append(
            line[:_SAMPLE_LENGTH].rsplit(" ", 1)[0] if len(line) > _SAMPLE_LENGTH else line
        )
    return shown


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def print_report(report: dict[str, Any], console: Console) -> None:
    """Show a report as tables."""
    table = Table("tokenizer", "", title_justify="left")
    table.add_row("model", report["model"])
    table.add_row("tokens a word", f"{report['tokens_per_word']:.3f}")
    table.add_row("tokens a character", f"{report['tokens_per_character']:.3f}")
    unknown = f"{report['unknown_share']:.3%} of {report['tokens']:,} tokens"
    table.add_row("unknown", unknown)
    some = f"{report['documents_with_unknown']:,} of {report['documents']:,}"
    table.add_row("documents with unknown tokens", some)
    if report["unknown_characters"]:
        shown = "  ".join(f"{_shown(c)} {n:,}" for c, n in report["unknown_characters"].items())
        table.add_row("unknown characters", Text(shown))
    if report["unknown_words_of_known_characters"]:
        count = report["unknown_words_of_known_characters"]
        table.add_row("unknown words of known characters", f"{count:,} (too long, or added text)")
    for kind, count in report["vocabulary"].items():
        name = {"size": "vocabulary", "unused": "unused in the sample"}.get(kind, f"  {kind}")
        table.add_row(name.replace("_", " "), f"{count:,}")
    table.add_row("longest pieces", Text("  ".join(map(_shown, report["longest_pieces"]))))
    for number, sample in enumerate(report["samples"], start=1):
        table.add_row(f"sample {number}", Text(" ".join(sample["tokens"])))
    console.print(table)


def _shown(text: str) -> str:
    return text if text.isprintable() else " ".join(f"U+{ord(c):04X}" for c in text)
