"""Schemes, the constrained decoder and the metrics, against seqeval and brute force."""

import itertools
import random

import numpy as np
import pytest
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOBES, Entities

from electra.tasks import entity_metrics
from electra.tasks.tag_schemes import (
    BIO,
    BIOES,
    BMES,
    IOB1,
    Tagset,
    entities_of,
    recognise,
    tags_of,
)

TYPES = ("LOC", "ORG", "PER")


def random_tags(count: int, letters: str, seed: int) -> list[list[str]]:
    """Sentences of any tags whatever, odd ones in the main."""
    generator = random.Random(seed)
    tags = ["O", *(f"{x}-{label}" for label in TYPES[:2] for x in letters)]
    return [generator.choices(tags, k=generator.randint(1, 9)) for _ in range(count)]


def test_odd_bio_is_read_as_conlleval_reads_it() -> None:
    assert entities_of(["O", "I-PER", "I-PER", "I-LOC"], BIO) == [(1, 3, "PER"), (3, 4, "LOC")]
    assert entities_of(["B-PER", "B-PER", "I-PER"], BIO) == [(0, 1, "PER"), (1, 3, "PER")]
    for tags in random_tags(2_000, "BI", 0):
        expected = [(start, end + 1, label) for label, start, end in get_entities(tags)]
        assert entities_of(tags, BIO) == entities_of(tags, IOB1) == expected


def test_bioes_is_strict() -> None:
    assert entities_of(["B-PER", "O", "S-LOC", "E-LOC"], BIOES) == [(2, 3, "LOC")]
    assert entities_of(["B-PER", "E-LOC", "B-LOC", "I-LOC", "E-LOC"], BIOES) == [(2, 5, "LOC")]
    whole = 0
    for tags in random_tags(4_000, "BIES", 1):
        expected = [(e.start, e.end, e.tag) for e in Entities([tags], IOBES).entities[0]]
        assert entities_of(tags, BIOES) == expected
        middle = [tag.replace("I-", "M-") for tag in tags]
        assert entities_of(middle, BMES) == expected
        whole += len(expected)
    assert whole > 1_000


@pytest.mark.parametrize("scheme", [BIO, BIOES, BMES])
def test_entities_survive_writing_and_reading(scheme: str) -> None:
    spans = [(0, 1, "PER"), (1, 2, "PER"), (2, 5, "LOC"), (6, 8, "LOC")]
    tags = tags_of(9, spans, scheme)
    assert entities_of(tags, scheme) == spans
    assert recognise([tags]) == scheme
    assert set(tags) <= set(Tagset(scheme, TYPES).names)


def test_schemes_are_recognised() -> None:
    assert recognise([["O", "I-PER", "I-PER"], ["I-LOC", "B-LOC"]]) == IOB1
    assert recognise([["O", "I-PER"], ["B-LOC", "O"]]) == BIO  # odd, but not IOB1
    assert recognise([["O", "O"]]) == BIO
    assert recognise([["B-X", "E-X", "O"]]) == BIOES
    assert recognise([["B-X", "M-X", "E-X"]]) == BMES
    with pytest.raises(ValueError, match="both I- and M-"):
        recognise([["B-X", "M-X", "I-X"]])
    for tag in ("PER", "X-PER", "B-", "-", "o"):
        with pytest.raises(ValueError, match=tag):
            recognise([[tag]])


@pytest.mark.parametrize("scheme", [BIO, BIOES, BMES])
def test_viterbi_is_the_best_of_all_whole_sequences(scheme: str) -> None:
    tagset = Tagset(scheme, ("A", "B"))
    size = len(tagset.names)

    def is_whole(ids: tuple[int, ...]) -> bool:
        tags = [tagset.names[i] for i in ids]
        return tags_of(len(tags), entities_of(tags, scheme), scheme) == tags

    generator = np.random.default_rng(0)
    repaired = 0
    for length in (1, 2, 3, 4):
        whole = [ids for ids in itertools.product(range(size), repeat=length) if is_whole(ids)]
        for _ in range(15):
            scores = generator.normal(size=(length, size))
            ids = tuple(tagset.decode(scores).tolist())
            best = max(whole, key=lambda w: sum(scores[i, t] for i, t in enumerate(w)))
            assert ids == best
            repaired += ids != tuple(scores.argmax(-1).tolist())
    assert repaired > 20


def test_the_metrics_are_those_of_seqeval() -> None:
    truth, guess = random_tags(300, "BI", 2), random_tags(300, "BI", 3)
    guess = [
        t if i % 3 else (g + ["O"] * len(t))[: len(t)]
        for i, (t, g) in enumerate(zip(truth, guess, strict=True))
    ]
    ours = entity_metrics.micro(
        [entities_of(t, BIO) for t in truth], [entities_of(g, BIO) for g in guess]
    )
    assert ours["f1"] == pytest.approx(f1_score(truth, guess))
    assert ours["precision"] == pytest.approx(precision_score(truth, guess))
    assert ours["recall"] == pytest.approx(recall_score(truth, guess))
    check_rows(truth, guess, BIO, classification_report(truth, guess, output_dict=True))


def test_the_strict_metrics_are_those_of_seqeval() -> None:
    truth = [tags_of(len(t), entities_of(t, BIO), BIOES) for t in random_tags(300, "BI", 4)]
    odd = random_tags(300, "BIES", 5)
    guess = [
        t if i % 2 else (g + ["O"] * len(t))[: len(t)]
        for i, (t, g) in enumerate(zip(truth, odd, strict=True))
    ]
    report = classification_report(truth, guess, mode="strict", scheme=IOBES, output_dict=True)
    ours = check_rows(truth, guess, BIOES, report)
    assert ours["f1"] == pytest.approx(report["micro avg"]["f1-score"])


def check_rows(
    truth: list[list[str]], guess: list[list[str]], scheme: str, report: dict[str, dict[str, float]]
) -> dict[str, float]:
    true = [entities_of(t, scheme) for t in truth]
    found = [entities_of(g, scheme) for g in guess]
    rows = entity_metrics.per_class(true, found)
    assert [row["label"] for row in rows] == ["LOC", "ORG"]
    for row in rows:
        theirs = report[row["label"]]
        assert row["precision"] == pytest.approx(theirs["precision"])
        assert row["recall"] == pytest.approx(theirs["recall"])
        assert row["f1"] == pytest.approx(theirs["f1-score"])
        assert row["support"] == theirs["support"]
    return entity_metrics.micro(true, found)


def test_nothing_found_and_nothing_there() -> None:
    nothing = {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert entity_metrics.micro([[]], [[]]) == nothing
    assert entity_metrics.micro([[(0, 1, "A")]], [[]]) == nothing
    assert entity_metrics.per_class([[]], [[]]) == []
