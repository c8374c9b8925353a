"""The three kinds of tokenizers that are trained, and what languages ask of them."""

import json
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from electra.corpus.encoding import DocumentEncoder
from electra.corpus.languages import LANGUAGES, language_facts, language_settings, normalizer_of
from electra.corpus.tokenizer import (
    SPECIAL_TOKENS,
    SpecialIds,
    load_tokenizer,
    save_tokenizer,
    tokenizer_hash,
)
from electra.corpus.tokenizer_training import KINDS, _repeatable, train_tokenizer
from electra.corpus.words import is_word_piece, line_encoding, word_starts
from electra.errors import ConfigError, DataError

TEXTS = [
    "The river crosses the city, slowly; the cities cross 12 rivers (at night).",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u3002",
    "\u81fa\u7063\u7684\u5929\u6c23\u5f88\u597d",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3067\u3059\u3002\uff28\uff45\uff4c\uff4c\uff4f",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4",
    "\u0130stanbul'da I\u015fIK ve \u0131\u015f\u0131k, iyi g\u00fcnler",
    "\u0645\u064f\u062d\u064e\u0645\u064e\u0651\u062f \u0622\u0628 "
    "\u0643\u062a\u0640\u0640\u0627\u0628 \u0623\u062d\u0645\u062f",
    "Stra\u00dfe und \u00c4pfel in K\u00f6ln",
    "cafe\u0301 na\u00efve \u00e9t\u00e9",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f600 emoji \U0001f468\u200d\U0001f469\u200d\U0001f467 and [MASK] [SEP] <s> as text",
]
WORDS = ["river", "city", "cross", "slow", "night", "\u5929\u6c14", "\u516c\u56ed", "g\u00fcn"]
MADE = [" ".join(WORDS[(i * k) % 8] + "s" * (i % 3) for k in range(1, 9)) for i in range(60)]


def trained(kind: str, language: str = "other", **chosen: Any) -> Tokenizer:
    settings = language_settings(language, **chosen)
    return train_tokenizer([*TEXTS, *MADE], kind=kind, vocab_size=600, settings=settings)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_template(kind: str) -> None:
    tokenizer = trained(kind)
    assert SpecialIds.of(tokenizer) == SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
    one, two = (tokenizer.encode(t, add_special_tokens=False).ids for t in ("a river", "slow"))
    assert tokenizer.encode("a river").ids == [2, *one, 3]
    pair = tokenizer.encode("a river", "slow")
    assert pair.ids == [2, *one, 3, *two, 3]
    assert pair.type_ids == [0] * (len(one) + 2) + [1] * (len(two) + 1)
    assert tokenizer.encode("[MASK]", add_special_tokens=False).ids == [4]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["other", "en"])
def test_text_that_looks_like_a_special_token_is_text(kind: str, language: str) -> None:
    tokenizer = trained(kind, language)
    tokenizer.encode_special_tokens = True
    for token in SPECIAL_TOKENS:
        ids = tokenizer.encode(f"a {token} b{token}\u4e02", add_special_tokens=False).ids
        assert not set(ids) & {0, 2, 3, 4}, token


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model_type", [None, "electra", "modernbert"])
def test_auto_tokenizer_agrees(kind: str, model_type: str | None, tmp_path: Path) -> None:
    """Also beside a model's config.json, whose own tokenizer class must not be taken instead."""
    tokenizer = trained(kind, "tr", lowercase=True)
    save_tokenizer(tokenizer, tmp_path, max_length=64, token_types=True)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    opened = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert opened(text)["input_ids"] == tokenizer.encode(text).ids
    assert opened(TEXTS[0], TEXTS[1])["input_ids"] == tokenizer.encode(TEXTS[0], TEXTS[1]).ids
    assert (opened.cls_token_id, opened.mask_token_id, opened.pad_token_id) == (2, 4, 0)
    assert tokenizer_hash(load_tokenizer(tmp_path)) == tokenizer_hash(tokenizer)


def test_byte_level_goes_there_and_back() -> None:
    tokenizer = trained("bpe")
    tokenizer.encode_special_tokens = True
    for text in [*TEXTS, "\u1234 never seen \U0001f9ff", "two\nlines \t and  spaces "]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(encoding.ids) == unicodedata.normalize("NFC", text)
        assert 1 not in encoding.ids


def test_unigram_goes_there_and_back_but_for_white_space() -> None:
    tokenizer = trained("unigram")
    tokenizer.encode_special_tokens = True
    for text in TEXTS:
        ids = tokenizer.encode(f" {text}\n\t{text} ", add_special_tokens=False).ids
        one = " ".join(unicodedata.normalize("NFC", text).split())
        assert 1 not in ids
        assert tokenizer.decode(ids) == f"{one} {one}"


def test_other_processes_train_the_same() -> None:
    """Hash tables of the trainers differ between processes, and sums with their threads."""
    program = (
        "from tests.corpus.test_tokenizer_training import *\n"
        "print(*(tokenizer_hash(trained(kind)) for kind in KINDS))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"RAYON_NUM_THREADS": threads, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for threads in ("1", "3")
    }
    assert outputs == {" ".join(tokenizer_hash(trained(kind)) for kind in KINDS) + "\n"}


def test_what_differs_between_runs_of_the_unigram_trainer_is_made_even() -> None:
    one = [("ab", -2.00000000001), ("x", -9.0003), ("y", -9.0), ("cd", -2.0), ("z", -9.0001)]
    two = [("cd", -2.0), ("ab", -1.9999999999), ("z", -9.0003), ("y", -9.0002), ("x", -9.0)]
    assert [p for p, _ in _repeatable(one)] == ["ab", "cd", "x", "y", "z"]
    assert [p for p, _ in _repeatable(two)] == ["ab", "cd", "x", "y", "z"]
    assert len({score for p, score in _repeatable(one) if len(p) == 1}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_rare_characters(kind: str) -> None:
    settings = language_settings("other")
    settings = type(settings)(**{**settings.__dict__, "alphabet": 4})
    texts = ["abc abc d"] * 3 + ["\u00e6"]
    tokenizer = train_tokenizer(texts, kind=kind, vocab_size=300, settings=settings)
    unknown = tokenizer.encode("\u00e6", add_special_tokens=False).ids.count(1)
    assert unknown == (0 if kind == "bpe" else 1)
    assert 1 not in tokenizer.encode("abc d", add_special_tokens=False).ids


def test_unknown_kind_and_no_text() -> None:
    settings = language_settings("en")
    with pytest.raises(ConfigError, match='--tokenizer-kind is wordpiece; did you mean "word_pie'):
        train_tokenizer(["a"], kind="wordpiece", vocab_size=64, settings=settings)
    for kind in KINDS:
        with pytest.raises(DataError, match="no text"):
            train_tokenizer([" ", ""], kind=kind, vocab_size=64, settings=settings)
        tiny = train_tokenizer(["a b c"], kind=kind, vocab_size=64, settings=settings)
        assert 1 not in tiny.encode("a b c", add_special_tokens=False).ids


def test_long_runs_do_not_hold_up_bpe() -> None:
    settings = language_settings("other")
    tokenizer = train_tokenizer(
        ["\u5929\u6c14" * 20_000, "abcd " * 50], kind="bpe", vocab_size=280, settings=settings
    )
    assert "\u5929\u6c14" in tokenizer.decode([max(tokenizer.get_vocab().values())]) or any(
        len(piece) == 6 for piece in tokenizer.get_vocab()
    )
    assert tokenizer.encode("abcd", add_special_tokens=False).tokens == ["abcd"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("language", "chosen", "text", "expected"),
    [
        ("en", {}, "Caf\u00e9", "cafe"),
        ("de", {}, "\u00c4pfel", "\u00c4pfel"),
        ("de", {}, "A\u0308pfel", "\u00c4pfel"),
        ("de", {"lowercase": True}, "\u00c4pfel", "\u00e4pfel"),
        ("tr", {}, "I\u015fIK \u0130L", "I\u015fIK \u0130L"),
        ("tr", {"lowercase": True}, "I\u015eIK \u0130L", "\u0131\u015f\u0131k il"),
        ("tr", {"lowercase": True}, "I\u0307L", "il"),
        ("en", {"strip_accents": False}, "I\u0307L \u0130", None),
        ("ja", {}, "\uff28\uff49 \uff76\uff9e", "Hi \u30ac"),
        ("ko", {}, "\u1112\u1161\u11ab A", "\ud55c A"),
        ("ar", {}, "\u0645\u064f\u062d", "\u0645\u064f\u062d"),
        (
            "ar",
            {"strip_accents": True},
            "\u0645\u064f\u062d\u064e\u0645\u0640\u0640\u0651\u062f \u0622\u0628 \u0623",
            "\u0645\u062d\u0645\u062f \u0622\u0628 \u0623",
        ),
    ],
)
def test_normalisation(
    kind: str, language: str, chosen: dict[str, bool], text: str, expected: str | None
) -> None:
    normalizer = normalizer_of(language_settings(language, **chosen), kind)
    found = normalizer.normalize_str(text)
    assert found == expected if expected is not None else "\u0131" not in found


def test_han_characters_are_words_for_word_piece() -> None:
    for language, row in LANGUAGES.items():
        normalizer = normalizer_of(row, "word_piece")
        assert normalizer.normalize_str("\u5929\u6c14").split() == ["\u5929", "\u6c14"], language


def test_facts_are_json_and_say_what_is_done() -> None:
    for row in LANGUAGES.values():
        for kind in KINDS:
            facts = language_facts(row, kind)
            assert json.loads(json.dumps(facts)) == facts
            assert facts["reason"]
    turkish = language_facts(language_settings("tr", lowercase=True), "unigram")
    assert turkish["lowercase_rule"] == "turkish"
    arabic = language_facts(language_settings("ar", strip_accents=True), "bpe")
    assert arabic["stripped_accents"] == "short vowels and tatweel"
    assert LANGUAGES["zh-hant"].alphabet >= LANGUAGES["zh"].alphabet >= 6000
    with pytest.raises(ConfigError, match='--language is zh-hnat; did you mean "zh-hant"'):
        language_settings("zh-hnat")


@pytest.mark.parametrize("language", ["en", "ja", "tr", "ar", "zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_a_document_are_those_of_its_lines(kind: str, language: str) -> None:
    tokenizer = trained(kind, language, lowercase=True, strip_accents=True)
    tokenizer.encode_special_tokens = True
    how = line_encoding(tokenizer)
    assert how == ("with_ends" if kind == "bpe" else "without_ends")
    text = "\n".join(" ".join(text.split()) for text in [*TEXTS, "\u0301x \u0308y", *TEXTS])
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    end = "\n" if how == "with_ends" else ""
    lines = text.split("\n")
    pieces = [line + end for line in lines[:-1]] + lines[-1:]
    cut = [part for piece in pieces for part in _before_spaces(piece)]
    for parts in (pieces, cut):
        ids = [i for p in parts for i in tokenizer.encode(p, add_special_tokens=False).ids]
        assert ids == whole


def _before_spaces(line: str) -> list[str]:
    places = [0, *(i for i, c in enumerate(line) if c == " "), len(line)]
    return [line[a:b] for a, b in pairwise(places) if b > a]


def test_of_other_tokenizers_nothing_is_known() -> None:
    plain = Tokenizer(models.BPE())
    assert line_encoding(plain) == "whole"
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert line_encoding(plain) == "whole"
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    assert line_encoding(plain) == "whole"  # a line end would be part of a word
    word_piece = trained("word_piece")
    word_piece.normalizer = normalizers.Replace("\n", "x")
    assert not is_word_piece(word_piece)


@pytest.mark.parametrize("kind", KINDS)
def test_word_starts_and_documents(kind: str) -> None:
    tokenizer = trained(kind)
    starts = word_starts(tokenizer)
    assert starts[:5].all()
    text = "the rivers cross\n\u4eca\u5929\u5929\u6c14 cities"
    (document,) = DocumentEncoder(tokenizer).encode([text])
    assert document.ids.tolist() == tokenizer.encode(text, add_special_tokens=False).ids
    assert len(document.line_lengths) == 2
    words: list[str] = []
    encoding = tokenizer.encode(text, add_special_tokens=False)
    for number, (begin, stop) in zip(encoding.ids, encoding.offsets, strict=True):
        if starts[number] or not words:
            words.append("")
        words[-1] += text[begin:stop]
    found = [word for word in (word.strip() for word in words) if word]
    assert found[:3] == ["the", "rivers", "cross"]
    assert found[-1] == "cities"
    assert len(found) > 5 or kind != "word_piece"
    assert np.array_equal(starts, word_starts(tokenizer))


def test_without_spaces_a_piece_is_a_word() -> None:
    for kind in ("bpe", "unigram"):
        tokenizer = trained(kind)
        starts = word_starts(tokenizer)
        ids = tokenizer.encode("\u5929\u6c14\u4eca\u516c\u56ed", add_special_tokens=False).ids
        pieces = tokenizer.decode_batch([[i] for i in ids])
        whole = [bool(starts[i]) for i, p in zip(ids, pieces, strict=True) if "\ufffd" not in p]
        assert all(whole), pieces
    accents = trained("unigram", "de")
    number = accents.token_to_id("\u00e9")
    assert number is not None
    assert not word_starts(accents)[number]  # the byte of a Han character, but not here
