"""The whole way in seconds, on text made for it."""

import io
import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from electra import quickstart as module
from electra.corpus.python_documentation import (
    Example,
    PackageClassification,
    PythonDocumentation,
)
from electra.errors import ConfigError
from electra.quickstart import quickstart
from tests.conftest import make_text

DRAWS_FIGURES = True

TOPICS = {"boats": "harbour sail anchor deck wave", "bread": "oven flour dough crust baker"}
TINY = {
    "model": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
    "training": {"global_batch_size": 8},
    "data": {"max_length": 32},
}


def documentation() -> PythonDocumentation:
    chooser = random.Random(0)

    def passages(count: int) -> tuple[Example, ...]:
        return tuple(
            Example(" ".join(chooser.choices(words.split(), k=12)), label, f"{label}.py")
            for label, words in TOPICS.items()
            for _ in range(count)
        )

    texts = make_text(150).split("\n\n")
    more = [e.text for e in passages(60)]
    task = PackageClassification(tuple(TOPICS), passages(16), passages(10), passages(10))
    held_out = tuple(t.replace(". ", " and ") for t in make_text(40, seed=3).split("\n\n"))
    return PythonDocumentation((*texts, *more), held_out, task, files=9, skipped_files=0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEARNING_RATES", (1e-3, 3e-3))
    tuning = {**module.FINETUNING, "training": {"epochs": 2, "global_batch_size": 16}}
    monkeypatch.setattr(module, "FINETUNING", tuning)


@pytest.mark.usefixtures("small")
def test_the_whole_way(tmp_path: Path) -> None:
    shown = Console(record=True, width=160, file=io.StringIO())
    output = tmp_path / "quickstart"
    report = quickstart(
        output=output,
        minutes=0.03,
        compare=True,
        overrides=TINY,
        documentation=documentation(),
        console=shown,
    )
    assert report == json.loads((output / "report.json").read_text("utf-8"))
    training, tuning = report["pretraining"], report["finetuning"]
    assert training["minutes"] == pytest.approx(0.03, abs=0.03)
    assert training["tokens"] > 0
    assert training["tokens_per_second"] > 0
    assert 0 <= training["generator_accuracy"] <= 1
    assert 0 <= training["discriminator_auc"] <= 1
    assert (tuning["classes"], tuning["examples_per_class"]) == (2, 16)
    assert len(tuning["accuracy"]) == len(tuning["accuracy_from_scratch"]) == 3
    assert set(tuning["contestants"]) == {"pretrained", "masked LM alone", "from scratch"}
    assert tuning["accuracy_tf_idf"] == 1.0  # the topics share no word
    page = (output / "report.html").read_text("utf-8")
    for part in ("<svg", "from scratch", "TF-IDF", 'class="replaced"', "bananas", "generator's"):
        assert part in page
    text = shown.export_text()
    for part in ("1/6", "6/6", "electra predict --model", "electra finetune", "electra prepare"):
        assert part in text
    # finished: the next one starts beside it
    quickstart(
        output=output, minutes=0.01, overrides=TINY, documentation=documentation(), console=None
    )
    assert (tmp_path / "quickstart.old-1" / "report.json").is_file()


@pytest.mark.usefixtures("small")
def test_an_interrupted_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise MemoryError

    output = tmp_path / "quickstart"
    with monkeypatch.context() as patch:
        patch.setattr(module, "finetune_all", gone)
        with pytest.raises(MemoryError):
            quickstart(output=output, minutes=0.02, overrides=TINY, documentation=documentation())
    before = (output / "pretraining" / "report.json").stat().st_mtime_ns
    corpus = (output / "corpus" / "manifest.json").stat().st_mtime_ns
    quickstart(output=output, minutes=0.02, overrides=TINY)
    assert (output / "pretraining" / "report.json").stat().st_mtime_ns == before
    assert (output / "corpus" / "manifest.json").stat().st_mtime_ns == corpus
    assert (output / "report.html").is_file()


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--minutes is 0"):
        quickstart(output=tmp_path / "q", minutes=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="holds something else"):
        quickstart(output=tmp_path / "mine")
