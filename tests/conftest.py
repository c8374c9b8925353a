"""Fixtures: a small corpus that is made, never downloaded."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from electra.config import PrepareSettings
from electra.prepare import prepare

torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # a loaded machine is no fault
settings.load_profile("untimed")

SUBJECTS = ["cat", "dog", "bird", "child", "farmer", "teacher", "sailor", "river", "city", "garden"]
VERBS = [
    "sees",
    "likes",
    "follows",
    "finds",
    "paints",
    "crosses",
    "remembers",
    "helps",
    "builds",
    "leaves",
]
OBJECTS = [
    "house",
    "bridge",
    "song",
    "letter",
    "boat",
    "field",
    "window",
    "market",
    "forest",
    "lamp",
]
PLACES = [
    "today",
    "slowly",
    "in",
    "spring",
    "at",
    "night",
    "near",
    "the",
    "sea",
    "without",
    "a",
    "word",
]


def make_text(documents: int, seed: int = 0) -> str:
    """Documents of a few simple sentences, separated by blank lines."""
    chooser = random.Random(seed)
    pick = chooser.choice

    def sentence() -> str:
        return f"the {pick(SUBJECTS)} {pick(VERBS)} the {pick(OBJECTS)} {pick(PLACES)}."

    return "\n\n".join(
        " ".join(sentence() for _ in range(chooser.randint(2, 12))) for _ in range(documents)
    )


@pytest.fixture(autouse=True, scope="module")
def figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """None, but in modules that say `DRAWS_FIGURES`: drawing takes longer than a toy's training."""
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "DRAWS_FIGURES", False):
            patch.setitem(sys.modules, "matplotlib.figure", None)
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of 400 documents and about 120 word pieces."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text(make_text(400), encoding="utf-8")
    settings = PrepareSettings(vocab_size=120, validation_share=0.1, licence="made for the tests")
    prepare([folder / "text.txt"], output=folder / "corpus", settings=settings)
    return folder / "corpus"
