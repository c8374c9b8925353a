"""Training WordPiece, the languages' defaults, and what older tools find on disk."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from electra.corpus.languages import language_defaults
from electra.corpus.tokenizer import SpecialIds, load_tokenizer, save_tokenizer
from electra.errors import ConfigError, DataError
from tests.word_pieces import train_word_piece


def test_special_ids_come_first() -> None:
    tokenizer = train_word_piece(["a b c"], vocab_size=64, lowercase=True, strip_accents=True)
    assert SpecialIds.of(tokenizer) == SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
    assert tokenizer.encode("a b").tokens == ["[CLS]", "a", "b", "[SEP]"]
    assert tokenizer.encode("a", "b").type_ids == [0, 0, 0, 1, 1]


def test_han_characters_are_split() -> None:
    tokenizer = train_word_piece(
        ["今天天气很好"], vocab_size=64, lowercase=True, strip_accents=False
    )
    tokens = tokenizer.encode("今天天气", add_special_tokens=False).tokens
    assert tokens == ["今", "天", "天", "气"]


@pytest.mark.parametrize(
    ("lowercase", "strip", "expected"),
    [(True, True, "cafe"), (True, False, "café"), (False, False, "Café")],
)
def test_case_and_accents_are_explicit(lowercase: bool, strip: bool, expected: str) -> None:
    tokenizer = train_word_piece(
        ["Café cafe café Cafe"] * 5, vocab_size=64, lowercase=lowercase, strip_accents=strip
    )
    assert tokenizer.normalizer is not None
    assert tokenizer.normalizer.normalize_str("Café") == expected


def test_languages() -> None:
    assert language_defaults("zh").alphabet >= 6000
    assert not language_defaults("de").lowercase
    with pytest.raises(ConfigError, match="--language is english; allowed: en, "):
        language_defaults("english")


def test_saved_for_auto_tokenizer_and_older_tools(tmp_path: Path) -> None:
    tokenizer = train_word_piece(
        ["hello wide world"] * 3, vocab_size=60, lowercase=True, strip_accents=True
    )
    save_tokenizer(tokenizer, tmp_path, max_length=77, token_types=False)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert opened.model_max_length == 77
    assert set(opened("hello world")) == {"input_ids", "attention_mask"}
    assert opened("Hello world")["input_ids"] == tokenizer.encode("Hello world").ids
    vocabulary = (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert vocabulary == [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    assert load_tokenizer(tmp_path).to_str() == tokenizer.to_str()


def test_a_tokenizer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is not a tokenizer"):
        load_tokenizer(tmp_path)


def test_no_text() -> None:
    with pytest.raises(DataError, match="no text"):
        train_word_piece([], vocab_size=64, lowercase=True, strip_accents=True)


def test_words_too_long_are_not_learned() -> None:
    texts = [f"hello{'qz' * 47} {'vw' * 51} a-{'jk' * 400}! \u597d{'gh' * 60}"] * 5
    tokenizer = train_word_piece(texts, vocab_size=400, lowercase=True, strip_accents=True)
    pieces = set(tokenizer.get_vocab())
    assert max(len(piece.removeprefix("##")) for piece in pieces) > 2  # of the 99 letters
    assert any("qzqz" in piece for piece in pieces)
    assert not any(pair in piece for piece in pieces for pair in ("vw", "wv", "jk", "kj", "gh"))
    assert set("vwjkgh") <= pieces  # their characters count


def test_long_runs_of_short_words_are_learned_alike() -> None:
    # what a pattern alone would take for one word: Thai has marks, Han characters stand alone
    texts = ["\u597d\u4eca" * 60 + " " + "ab.cd," * 40 + "\u3002ef" * 50 + " \uff0cgh" * 3] * 3
    apart = ["\u597d \u4eca " * 60 + "ab . cd , " * 40 + "\u3002 ef " * 50 + "\uff0c gh " * 3] * 3
    vocabularies = [
        train_word_piece(t, vocab_size=100, lowercase=True, strip_accents=True).get_vocab()
        for t in (texts, apart)
    ]
    assert vocabularies[0] == vocabularies[1]


def test_training_is_repeatable() -> None:
    texts = [f"word{i % 7} {'ab' * (i % 5)}c d{i % 3}e" for i in range(200)]
    vocabularies = [
        train_word_piece(texts, vocab_size=70, lowercase=True, strip_accents=True).get_vocab()
        for _ in range(4)
    ]
    assert all(v == vocabularies[0] for v in vocabularies)
    assert sorted(vocabularies[0].values()) == list(range(len(vocabularies[0])))


def test_rare_characters_beyond_the_alphabet_are_unknown() -> None:
    tokenizer = train_word_piece(
        ["abc abc z"] * 3 + ["\u00e6"],
        vocab_size=64,
        lowercase=True,
        strip_accents=False,
        alphabet=4,
    )
    assert tokenizer.encode("\u00e6 abc", add_special_tokens=False).tokens == ["[UNK]", "abc"]
