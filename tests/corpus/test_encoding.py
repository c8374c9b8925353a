"""Lines and words of documents, for the tokenizers people have."""

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import electra.corpus.encoding
from electra.config import PrepareSettings
from electra.corpus.encoding import DocumentEncoder, _has_han_apart
from electra.corpus.examples import Examples
from electra.corpus.folder import Corpus, Split
from electra.corpus.languages import language_defaults
from electra.corpus.pieces import pieces_of
from electra.corpus.shards import ShardWriter
from electra.corpus.tokenizer import SpecialIds
from electra.corpus.tokenizer_training import train_tokenizer
from electra.corpus.words import load_segmenter, word_starts
from electra.errors import ConfigError
from electra.prepare import prepare
from tests.conftest import make_text
from tests.word_pieces import train_word_piece

TEXTS = [
    "The river crosses\nthe city, slowly.\nAt night",
    "one line alone",
    "cafe\u0301 na\u00efve \u4f60\u597d\n\u00e9t\u00e9\n(brackets) don't",
    "\u2028\n a\t b \nc",
]


def word_piece() -> Tokenizer:
    return train_word_piece(
        [make_text(40), *TEXTS], vocab_size=150, lowercase=True, strip_accents=False
    )


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    tokenizer.train_from_iterator([make_text(40), *TEXTS], trainer)
    return tokenizer


def sentence_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\n", " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<s>", "<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator([make_text(40), *TEXTS], trainer)
    return tokenizer


TOKENIZERS: list[Callable[[], Tokenizer]] = [word_piece, byte_level, sentence_piece]


@pytest.mark.parametrize("make", TOKENIZERS)
def test_tokens_are_those_of_the_whole_document(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    texts = [*TEXTS, *(make_text(3, seed).replace(". ", ".\n") for seed in range(20))]
    for text, document in zip(texts, DocumentEncoder(tokenizer).encode(texts), strict=True):
        assert document.ids.tolist() == tokenizer.encode(text, add_special_tokens=False).ids
        assert len(document.line_lengths) == text.count("\n") + 1
        assert sum(document.line_lengths) == len(document.ids)
        assert document.starts_word is None


def test_long_documents_are_encoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = word_piece()
    texts = [
        make_text(30).replace("\n\n", "\n"),
        *TEXTS,
        make_text(30, 1).replace("\n\n", " "),
        "x",
    ]
    texts.append("the lamp " + "ab" * 900 + " \u0301near \u4f60\u597d" * 300)
    expected = list(DocumentEncoder(tokenizer).encode(texts))
    monkeypatch.setattr(electra.corpus.encoding, "_GROUP", 700)
    monkeypatch.setattr(electra.corpus.encoding, "_PIECE", 90)

    class Spy:
        longest = calls = 0

        def __getattr__(self, name: str) -> object:
            return getattr(tokenizer, name)

        def encode_batch_fast(self, batch: list[str], **options: bool) -> object:
            Spy.longest = max(Spy.longest, sum(map(len, batch)) - len(batch[-1]))
            Spy.calls += 1
            return tokenizer.encode_batch_fast(batch, **options)

    spied: Any = Spy()
    for text, one, other in zip(texts, expected, DocumentEncoder(spied).encode(texts), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.ids.tolist() == tokenizer.encode(text, add_special_tokens=False).ids
        assert one.line_lengths == other.line_lengths
    assert Spy.longest < 700
    assert Spy.calls > 10


@given(line=st.text("ab c\u4f60", max_size=60), size=st.integers(1, 20), anywhere=st.booleans())
def test_pieces_are_the_line(line: str, size: int, anywhere: bool) -> None:
    pieces = list(pieces_of(line, size, anywhere=anywhere))
    assert "".join(pieces) == line
    for piece in pieces:
        assert len(piece) <= size or (not anywhere and " " not in piece[1:size])
    assert anywhere or all(piece[0] == " " for piece in pieces[1:])


@given(line=st.text("ab \u4f60\u597d\uff0c", max_size=60), size=st.integers(1, 20))
def test_pieces_end_before_chinese_characters(line: str, size: int) -> None:
    pieces = list(pieces_of(line, size, before_han=True))
    assert "".join(pieces) == line
    for piece in pieces:
        assert len(piece) <= size or not set(" \u4f60\u597d") & set(piece[1:size])
    assert all(piece[0] in " \u4f60\u597d" for piece in pieces[1:])


_HAN_WORDS = st.lists(
    st.sampled_from(
        [*"\u4f60\u597d\u3002\uff0c a.'", "ab", "\u0301", "\uf900", "\u30ab", "\ufb01"]
    ),
    max_size=40,
).map("".join)


@pytest.mark.parametrize("language", ["zh", "ja", "tr", "ar", "en"])
def test_chinese_lines_are_cut_to_the_same_tokens(language: str) -> None:
    settings = replace(language_defaults(language), lowercase=True, strip_accents=True)
    texts = ["\u4f60\u597d\u3002 ab \u0301", "\u30ab ab ba"]
    tokenizer = train_tokenizer(texts, kind="word_piece", vocab_size=90, settings=settings)
    assert _has_han_apart(tokenizer)

    @given(line=_HAN_WORDS, size=st.integers(1, 9))
    def check(line: str, size: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(electra.corpus.encoding, "_PIECE", size)
            (document,) = DocumentEncoder(tokenizer).encode([line])
        assert document.ids.tolist() == tokenizer.encode(line, add_special_tokens=False).ids

    check()


def test_a_long_chinese_line_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = word_piece()
    monkeypatch.setattr(electra.corpus.encoding, "_PIECE", 100)
    line = "\u4f60\u597d" * 400
    assert max(map(len, DocumentEncoder(tokenizer)._pieces(line))) == 100
    # where a run of them is a word, it is not cut
    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=False)
    assert list(DocumentEncoder(tokenizer)._pieces(line)) == [line]
    for old, cut in (("a", True), ("\u4f60", False)):
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Replace(old, "b"), normalizers.BertNormalizer()]
        )
        assert _has_han_apart(tokenizer) is cut
    assert not _has_han_apart(byte_level())


def test_whole_documents_are_encoded_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = sentence_piece()
    texts = [make_text(3, seed) for seed in range(12)]
    expected = [document.ids.tolist() for document in DocumentEncoder(tokenizer).encode(texts)]
    monkeypatch.setattr(electra.corpus.encoding, "_GROUP", 700)
    sizes: list[int] = []

    class Spy:
        def __getattr__(self, name: str) -> object:
            return getattr(tokenizer, name)

        def encode_batch(self, batch: list[str], **options: bool) -> object:
            sizes.append(sum(map(len, batch[:-1])))
            return tokenizer.encode_batch(batch, **options)

    spied: Any = Spy()
    assert [d.ids.tolist() for d in DocumentEncoder(spied).encode(texts)] == expected
    assert len(sizes) > 1
    assert max(sizes) < 700


@pytest.mark.parametrize("make", TOKENIZERS)
def test_lines_begin_where_they_begin(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    lines = [
        "the cat sees the song today.",
        "the dog",
        "likes",
        "the lamp, at night.",
    ]
    (document,) = DocumentEncoder(tokenizer).encode(["\n".join(lines)])
    tokens = [tokenizer.id_to_token(i) for i in document.ids]
    ends = np.cumsum(document.line_lengths)
    for line, end, length in zip(lines, ends, document.line_lengths, strict=True):
        inside = "".join(tokens[end - length : end])
        for mark in ("##", "\u0120", "\u010a", "\u2581"):  # of continuations, spaces, line ends
            inside = inside.replace(mark, "")
        assert inside == line.replace(" ", "")


def test_a_line_without_tokens_is_no_line(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", vocab_size=100, sep_id=3)
    writer.add([5, 6, 7, 8], [2, 0, 2, 0])
    writer.add([9])
    writer.flush()
    split = Split(tmp_path, "train", writer.dtype, writer.shards)
    assert writer.shards[0].lines == 3
    assert split.lines(0, 0, 3).tolist() == [0, 2, 5]
    assert split.lines(0, 1, 2).tolist() == [2, 5]


def test_word_starts_by_the_tokenizers_marks() -> None:
    def starts(tokenizer: Tokenizer, text: str) -> list[str]:
        """The tokens of a text, glued where no word begins."""
        table = word_starts(tokenizer)
        words: list[str] = []
        for i in tokenizer.encode(text, add_special_tokens=False).ids:
            if table[i] or not words:
                words.append("")
            words[-1] += tokenizer.id_to_token(i).removeprefix("##")
        return words

    text = "the gardener sees, slowly"
    assert starts(word_piece(), text) == ["the", "gardener", "sees", ",", "slowly"]
    # there a word keeps the punctuation behind it
    assert starts(byte_level(), text) == ["the", "\u0120gardener", "\u0120sees,", "\u0120slowly"]
    assert starts(sentence_piece(), text) == [
        "\u2581the",
        "\u2581gardener",
        "\u2581sees,",
        "\u2581slowly",
    ]
    assert starts(word_piece(), "\u4f60\u597d") == ["\u4f60", "\u597d"]
    assert word_starts(byte_level())[0]  # <s>


def test_word_marks_come_back_from_any_place(tmp_path: Path) -> None:
    chooser = random.Random(0)
    writer = ShardWriter(tmp_path, "train", vocab_size=100, sep_id=3)
    marks: list[bool] = []
    for length in (3, 8, 21, 1, 40):
        flags = [chooser.random() < 0.5 for _ in range(length)]
        writer.add([9] * length, None, np.array(flags))
        marks += [*flags, True]  # the document's [SEP]
    writer.flush()
    split = Split(tmp_path, "train", writer.dtype, writer.shards, words_marked=True)
    runs = [(a, n) for a in range(len(marks)) for n in range(len(marks) - a + 1)]
    starts, counts = np.array(runs).T
    found = split.runs_of_word_starts(np.zeros(len(runs), dtype=np.int64), starts, counts)
    assert found.tolist() == [mark for a, n in runs for mark in marks[a : a + n]]


def test_a_segmenter_has_to_be_known_and_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_segmenter("none") is None
    with pytest.raises(ConfigError, match="--segmenter is jeiba; allowed: none, jieba"):
        load_segmenter("jeiba")
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(ConfigError, match=r'pip install "electra\[zh\]"'):
        load_segmenter("jieba")


def test_a_segmenter_wants_word_pieces() -> None:
    with pytest.raises(ConfigError, match="--segmenter needs a WordPiece tokenizer"):
        DocumentEncoder(byte_level(), str.split)


def test_words_of_a_segmenter() -> None:
    def pairs(text: str) -> list[str]:  # a segmenter of two characters a word
        return [text[i : i + 2] for i in range(0, len(text), 2)]

    tokenizer = train_word_piece(
        ["\u4e00\u4e8c\u4e09\u56db abcd"], vocab_size=64, lowercase=True, strip_accents=False
    )
    encoder = DocumentEncoder(tokenizer, pairs)
    (document,) = encoder.encode(["\u4e00\u4e8c\u4e09\n\u56db abcd"])
    tokens = [tokenizer.id_to_token(i) for i in document.ids]
    assert tokens[:4] == ["\u4e00", "\u4e8c", "\u4e09", "\u56db"]
    assert document.starts_word is not None
    # 一二 | 三\n | 四_ | ab | cd, and a continuing piece begins nothing
    assert document.starts_word.tolist() == [True, False, True, True, True] + [False] * (
        len(tokens) - 5
    )
    assert document.line_lengths == [3, len(tokens) - 3]


def test_jieba_marks_the_words_of_a_corpus(tmp_path: Path) -> None:
    pytest.importorskip("rjieba", reason='no rjieba; pip install "electra[zh]"')
    segment = load_segmenter("jieba")
    assert segment is not None
    sentence = "我们在北京大学学习语言学"
    mixed = f"{sentence}，iPhone手机 don't\u3000Ünïcödé — привет\n１２３ 3.5%\r\t\U0001f600"
    assert "".join(segment(mixed)) == mixed
    assert segment("我们在北京大学") == ["我们", "在", "北京大学"]

    texts = [f"{sentence}。\n今天天气很好，第{i}天。" for i in range(40)]
    (tmp_path / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    rows = {}
    for segmenter in ("none", "jieba"):
        settings = PrepareSettings(
            vocab_size=90, language="zh", segmenter=segmenter, min_chars=5, validation_share=0.1
        )
        prepare([tmp_path / "a.txt"], output=tmp_path / segmenter, settings=settings)
        corpus = Corpus(tmp_path / segmenter)
        tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
        for kind in ("packed", "documents", "two_segments"):
            examples = Examples(
                corpus.split("train"),
                SpecialIds.of(tokenizer),
                max_length=32,
                kind=kind,
                word_starts=word_starts(tokenizer),
            )
            rows[segmenter, kind] = examples.rows(np.arange(len(examples), dtype=np.uint64))
    for kind in ("packed", "documents", "two_segments"):
        assert (rows["none", kind]["input_ids"] == rows["jieba", kind]["input_ids"]).all()
        assert rows["none", kind]["starts_word"].all()
        first = rows["jieba", kind]
        words: list[str] = []
        for token, begins in zip(first["input_ids"][0], first["starts_word"][0], strict=True):
            if begins:
                words.append("")
            words[-1] += tokenizer.id_to_token(int(token))
        assert words[0] == "[CLS]"
        assert words[1:7] == ["我们", "在", "北京大学", "学习", "语言学", "。"]
