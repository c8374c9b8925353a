from pathlib import Path

import numpy as np
import pytest

import electra.corpus.text_store
from electra.corpus.filters import document_digest, uniform
from electra.corpus.selection import (
    DROPPED,
    TRAIN,
    VALIDATION,
    choose_validation,
    read_selection,
    save_selection,
)
from electra.corpus.text_store import TextStore, TextWriter
from tests.conftest import make_text


def store(folder: Path, texts: list[str]) -> TextStore:
    with TextWriter(folder, bands=3) as writer:
        for number, text in enumerate(texts):
            bands = np.arange(3, dtype=np.uint64) + np.uint64(number)
            writer.add(text, text.encode(), document_digest(text), bands, source=number % 2)
        writer.finish({"found": len(texts)})
    return TextStore(folder)


@pytest.mark.parametrize("block", [10, 100, 2**23])
def test_what_is_written_is_read(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(electra.corpus.text_store, "_READ", block)
    texts = ["one", "zwei Wörter", "", "三个汉字", "x" * 300, "the end"]
    found = store(tmp_path / "a", texts)
    assert list(found.texts(np.ones(6, dtype=bool))) == texts
    some = np.array([True, False, False, True, False, True])
    assert list(found.texts(some)) == [texts[0], texts[3], texts[5]]
    assert found.chars.tolist() == [len(text) for text in texts]
    assert found.sources.tolist() == [0, 1, 0, 1, 0, 1]
    assert found.report == {"found": 6}
    for text, digest in zip(texts, found.digests, strict=True):
        assert digest[0] / 2.0**64 == pytest.approx(uniform(document_digest(text)))


def test_a_part_that_did_not_come_to_its_end_is_not_there(tmp_path: Path) -> None:
    with TextWriter(tmp_path / "a") as writer:
        writer.add("one", b"one", document_digest("one"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial"]
    assert len(store(tmp_path / "a", ["two"])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def selections(stores: list[TextStore], share: float) -> list[int]:
    kept = [np.ones(len(s), dtype=bool) for s in stores]
    return np.concatenate(choose_validation(stores, kept, share)).tolist()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.5])
def test_how_documents_are_dealt_to_parts_does_not_matter(tmp_path: Path, share: float) -> None:
    texts = make_text(300).split("\n\n")
    whole = selections([store(tmp_path / "whole", texts)], share)
    parts = [store(tmp_path / f"{i}", texts[i : i + 70]) for i in range(0, 300, 70)]
    assert selections(parts, share) == whole
    assert set(whole) == {TRAIN, VALIDATION}
    held = sum(len(t) for t, kind in zip(texts, whole, strict=True) if kind == VALIDATION)
    assert held <= max(0.1, 1.5 * share) * sum(map(len, texts))
    if share >= 0.2:
        assert abs(whole.count(VALIDATION) / 300 - share) < 0.07


def test_what_is_dropped_stays_dropped(tmp_path: Path) -> None:
    texts = make_text(40).split("\n\n")
    one = store(tmp_path / "a", texts)
    kept = np.arange(40) % 2 == 0
    (found,) = choose_validation([one], [kept], 0.3)
    assert ((found == DROPPED) == ~kept).all()
    save_selection(tmp_path / "s.bin", found)
    assert (read_selection(tmp_path / "s.bin") == found).all()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_neither_split_is_empty(tmp_path: Path, share: float) -> None:
    texts = ["a short one", "one that is quite a bit longer than the other"]
    found = selections([store(tmp_path / "a", texts)], share)
    assert sorted(found) == [TRAIN, VALIDATION]
    assert found[1] == TRAIN
