"""What the report on a tokenizer counts."""

import io
import json

import pytest
from rich.console import Console

import electra.corpus.tokenizer_report as module
from electra.corpus.languages import language_settings
from electra.corpus.tokenizer_report import KINDS, print_report, tokenizer_report
from electra.corpus.tokenizer_training import train_tokenizer
from tests.tiny import SPECIAL

TEXTS = ["the film was good", "the 12 films, \u5929\u6c14", "very good\nfilms 12 12"] * 4


def report_of(kind: str, texts: list[str], vocab_size: int = 320) -> dict[str, object]:
    settings = language_settings("other")
    tokenizer = train_tokenizer(TEXTS, kind=kind, vocab_size=vocab_size, settings=settings)
    tokenizer.encode_special_tokens = False
    report = tokenizer_report(tokenizer, texts)
    assert tokenizer.encode_special_tokens is False
    assert json.loads(json.dumps(report)) == report
    return report


def test_counts_by_hand() -> None:
    found = report_of(
        "word_piece", ["the film \u00e6\u00e6", "the film", "f\u00f8 \u5929\u6c14 12"]
    )
    assert found["documents"] == 3
    assert found["words"] == 8
    assert found["characters"] == 7 + 2 + 7 + 2 + 2 + 2
    # the film [UNK] | the film | [UNK] 天 气 12
    assert found["tokens"] == 9
    assert found["tokens_per_word"] == pytest.approx(9 / 8)
    assert found["tokens_per_character"] == pytest.approx(9 / 22, abs=1e-6)
    assert found["unknown_tokens"] == 2
    assert found["unknown_share"] == pytest.approx(2 / 9, abs=1e-6)
    assert found["documents_with_unknown"] == 2
    assert found["unknown_characters"] == {"\u00e6": 2, "\u00f8": 1}  # and not the f
    assert found["unknown_words_of_known_characters"] == 0


def test_a_long_word_is_unknown_though_its_characters_are_not() -> None:
    found = report_of("word_piece", ["film" * 40])
    assert found["unknown_characters"] == {}
    assert found["unknown_words_of_known_characters"] == 1


@pytest.mark.parametrize("kind", ["word_piece", "bpe", "unigram"])
def test_every_piece_is_of_one_kind(kind: str) -> None:
    found = report_of(kind, TEXTS)
    vocabulary = found["vocabulary"]
    assert isinstance(vocabulary, dict)
    assert vocabulary["size"] == sum(vocabulary[name] for name in KINDS)
    assert vocabulary["special"] == len(SPECIAL)
    assert vocabulary["han"] >= (0 if kind == "bpe" else 2)
    assert (vocabulary["parts_of_characters"] > 0) == (kind == "bpe")
    assert vocabulary["words"] > 0
    assert 0 <= vocabulary["unused"] < vocabulary["size"]
    assert found["unknown_tokens"] == 0
    longest = found["longest_pieces"]
    assert isinstance(longest, list)
    assert list(map(len, longest)) == sorted(map(len, longest), reverse=True)
    assert not any(mark in piece for piece in longest for mark in ("##", "\u2581", "\u0120"))
    samples = found["samples"]
    assert [s["text"] for s in samples] == [TEXTS[0], TEXTS[6], "very good"]


def test_special_tokens_of_the_text_are_text() -> None:
    assert (
        report_of("unigram", ["[MASK] film"])["vocabulary"]
        == (report_of("unigram", ["[MASK] film"])["vocabulary"])
    )
    found = report_of("bpe", ["[MASK]"])
    assert found["tokens"] == 6


def test_the_sample_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_CHARS", 30)
    monkeypatch.setattr(module, "_TEXT_CHARS", 20)
    taken = []

    def texts() -> object:
        for _ in range(9):
            taken.append(1)
            yield "a film " * 100

    settings = language_settings("other")
    tokenizer = train_tokenizer(TEXTS, kind="bpe", vocab_size=300, settings=settings)
    found = tokenizer_report(tokenizer, texts())  # type: ignore[arg-type]
    assert found["documents"] == len(taken) == 2
    assert found["words"] == 6 + 4


def test_no_text_at_all() -> None:
    found = report_of("word_piece", [])
    assert found["tokens_per_word"] == found["unknown_share"] == 0
    assert found["samples"] == []


def test_shown_as_a_table() -> None:
    stream = io.StringIO()
    found = report_of("word_piece", ["the film [bold] \u00e6 \u0007"])
    print_report(found, Console(file=stream, width=140))
    shown = stream.getvalue()
    assert "WordPiece" in shown
    assert "unknown characters" in shown
    assert "\u00e6 1" in shown
    assert "[UNK]" in shown  # no markup
