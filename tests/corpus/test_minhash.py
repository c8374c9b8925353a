"""MinHash against definitions in plain Python, against datasketch, and against its statistics."""

import hashlib
import pickle
import random

import numpy as np
import pytest

from electra.corpus import minhash
from electra.corpus.minhash import MinHash, signature_bands, words_of
from electra.errors import ConfigError

BY_WORD = MinHash(shingle=1)


def pair(similarity: float, size: int, draw: random.Random) -> tuple[str, str]:
    """Two texts whose sets of words have that Jaccard similarity, of `size` words together."""
    words = [f"w{draw.getrandbits(40):x}" for _ in range(size)]
    common = round(similarity * size)
    half = (size - common) // 2
    one, other = words[: common + half], words[:common] + words[common + half :]
    draw.shuffle(one)
    return " ".join(one), " ".join(other)


def test_words() -> None:
    assert words_of("The cat's 3 HATS -- ok.") == ["the", "cat", "s", "3", "hats", "ok"]
    assert words_of("Ärger, über_all! 한국어 단어") == ["ärger", "über_all", "한국어", "단어"]
    assert words_of("我喜欢 Python3。カナ") == ["我", "喜", "欢", "python3", "カ", "ナ"]
    assert words_of("ที่นี่") == list("ที่นี่")  # vowel signs count


def signature_by_hand(text: str, settings: MinHash) -> list[int]:
    words = words_of(text) or [text]
    hashes = [
        int.from_bytes(hashlib.blake2b(w.encode(), digest_size=8).digest(), "little") for w in words
    ]
    size = min(settings.shingle, len(words))
    shingles = set()
    for i in range(len(words) - size + 1):
        value = 0
        for word in hashes[i : i + size]:
            value = (value * 0x9E3779B97F4A7C15 + word) % 2**64
        shingles.add(value >> 32)
    found = []
    for i in range(settings.bands * settings.rows):
        data = hashlib.blake2b(i.to_bytes(8, "little"), digest_size=16, person=b"minhash").digest()
        a, b = int.from_bytes(data[:8], "little") | 1, int.from_bytes(data[8:], "little")
        found.append(min((a * x + b) % 2**64 >> 32 for x in shingles))
    return found


@pytest.mark.parametrize("settings", [MinHash(), MinHash(bands=3, rows=2, shingle=2), BY_WORD])
@pytest.mark.parametrize(
    "text", ["", "!?", "one", "one two", "a b c d e", "a b c d e f " * 70, "汉字" * 300 + " end"]
)
def test_signature_by_hand(text: str, settings: MinHash) -> None:
    assert settings.signature(text).tolist() == signature_by_hand(text, settings)


def test_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    texts = [
        " ".join(f"word{draw.randrange(500)}" for _ in range(400)),
        "".join(chr(draw.randrange(0x4E00, 0x5000)) for _ in range(400)) + ", und Wörter.",
        "x" * 500,
        "one, two;  " + "y" * 300 + " ... " * 30 + "end",
    ]
    whole = [MinHash().band_keys(text) for text in texts]
    monkeypatch.setattr(minhash, "_PIECE", 16)
    monkeypatch.setattr(minhash, "_BLOCK", 3)
    monkeypatch.setattr(minhash._WordHashes, "MOST", 5)
    assert np.array_equal(whole, [MinHash().band_keys(text) for text in texts])
    assert len(minhash._HASHES) <= 5


def test_what_counts() -> None:
    def keys(text: str) -> list[int]:
        return signature_bands(text).tolist()

    assert keys("A small, short text!") == keys("a small short   text")
    assert keys("two words") != keys("words two")
    assert keys("two words") != keys("two words two words two")
    assert not set(keys("!!!")) & set(keys("???"))
    assert keys("\ud800") != keys("\ud801")  # no crash on what cannot be encoded


def test_the_same_everywhere() -> None:
    keys = signature_bands("The quick brown fox jumps over the lazy dog.")
    assert (keys.dtype, keys.shape) == (np.uint64, (14,))
    assert keys[:2].tolist() == [2151833361302331459, 9074101365716774481]
    settings = pickle.loads(pickle.dumps(MinHash(bands=2)))
    assert settings == MinHash(bands=2)


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8])
def test_estimates_have_the_standard_error(similarity: float) -> None:
    draw = random.Random(2)
    rows = BY_WORD.bands * BY_WORD.rows
    deviations = []
    for _ in range(200):
        one, other = (BY_WORD.signature(text) for text in pair(similarity, 200, draw))
        error = np.sqrt(similarity * (1 - similarity) / rows)
        deviations.append((np.mean(one == other) - similarity) / error)
    assert abs(np.mean(deviations)) < 4 / np.sqrt(200)
    assert 0.8 < np.std(deviations) < 1.2


@pytest.mark.parametrize("similarity", [0.5, 0.65, 0.75, 0.9])
def test_candidates_follow_the_curve(similarity: float) -> None:
    draw = random.Random(3)
    found = 0
    for _ in range(300):
        one, other = (BY_WORD.band_keys(text) for text in pair(similarity, 120, draw))
        found += bool((one == other).any())
    expected = BY_WORD.candidate_probability(similarity)
    assert abs(found / 300 - expected) < 4 * np.sqrt(expected * (1 - expected) / 300) + 1e-9


def test_the_curve_as_documented() -> None:
    curve = {s: MinHash().candidate_probability(s) for s in (0.3, 0.5, 0.7, 0.75, 0.8, 0.9)}
    expected = {0.3: 0.001, 0.5: 0.053, 0.7: 0.565, 0.75: 0.772, 0.8: 0.924, 0.9: 0.9996}
    assert curve == pytest.approx(expected, abs=6e-4)


def test_like_datasketch() -> None:
    datasketch = pytest.importorskip("datasketch", reason="pip install datasketch")
    draw = random.Random(4)
    for similarity in (0.3, 0.7):
        ours, theirs = [], []
        for _ in range(60):
            one, other = pair(similarity, 200, draw)
            ours.append(np.mean(BY_WORD.signature(one) == BY_WORD.signature(other)))
            hashes = [datasketch.MinHash(num_perm=112) for _ in range(2)]
            for found, text in zip(hashes, (one, other), strict=True):
                found.update_batch([word.encode() for word in words_of(text)])
            theirs.append(hashes[0].jaccard(hashes[1]))
        error = np.sqrt(2 * similarity * (1 - similarity) / 112 / 60)
        assert abs(np.mean(ours) - np.mean(theirs)) < 4 * error


def test_the_candidates_of_datasketch() -> None:
    datasketch = pytest.importorskip("datasketch", reason="pip install datasketch")
    draw = random.Random(5)
    texts = [text for _ in range(40) for text in pair(draw.uniform(0.4, 0.95), 60, draw)]
    index = datasketch.MinHashLSH(num_perm=112, params=(14, 8))
    hashes = [
        datasketch.MinHash(112, hashvalues=BY_WORD.signature(text), scheme="affine32")
        for text in texts
    ]
    for number, found in enumerate(hashes):
        index.insert(number, found)
    keys = [BY_WORD.band_keys(text) for text in texts]
    number_found = 0
    for number, found in enumerate(hashes):
        ours = {i for i, other in enumerate(keys) if (keys[number] == other).any()}
        assert ours == set(index.query(found))
        number_found += len(ours) - 1
    assert 20 < number_found < 80


@pytest.mark.parametrize(("name", "most"), [("bands", 256), ("rows", 64), ("shingle", 64)])
def test_settings_are_checked(name: str, most: int) -> None:
    with pytest.raises(ConfigError, match=f"^MinHash: {name} is 0; allowed: 1 to {most}$"):
        MinHash(**{name: 0})
