"""The fast fixed protocol: four scores of a pretraining run in a few minutes on two cores.

BLiMP (34 paradigms, 200 pairs each), SST-2 (8,000 rows, 2 epochs, dev accuracy), STS-B (3 epochs,
test, mean of Pearson and Spearman), CoNLL-2003 (4,000 sentences, 3 epochs, test, entity F1). One
learning rate and one seed for all; nothing is selected: the last step counts.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.conll import conll_f1
from electra.config import FinetuneConfig
from electra.evaluate import evaluate
from electra.finetune import finetune
from electra.recipe import resolve

DATA = Path(os.environ.get("ELECTRA_DATA", Path(__file__).parents[2] / "shared" / "data"))
PAIRS = 200
LEARNING_RATE = 1e-3
SETTINGS: dict[str, Any] = {
    "optimizer": {"learning_rate": LEARNING_RATE, "layerwise_lr_decay": 1.0},
    "schedule": {"warmup_ratio": 0.1},
    "training": {
        "global_batch_size": 32,
        "save_total_limit": 1,
        "eval_steps": 100_000,
        "save_steps": 100_000,
    },
    "data": {"max_length": 64},
}
SCORES = ("blimp", "sst2", "stsb", "conll2003")


def available() -> bool:
    """Whether the data sets are there."""
    return all((DATA / name).is_dir() for name in SCORES)


def score(
    parts: Path, work: Path, *, seed: int, pairs: int = PAIRS, console: Console
) -> dict[str, Any]:
    """The four scores as fractions, their mean, and BLiMP of the generator where there is one.

    Args:
        parts: a run folder of `electra pretrain`.
        work: where the fine-tuned models go.
        seed: of the fine-tuning.
        pairs: of each BLiMP paradigm.
        console: where progress goes.
    """
    result: dict[str, Any] = dict(blimp(parts, pairs=pairs))
    encoder = str(parts / "encoder")
    result["sst2"] = _text_classification(encoder, work, "sst2", seed, 2.0, console)["accuracy"]
    similarity = _text_classification(encoder, work, "stsb", seed, 3.0, console)
    result["stsb"] = (similarity["pearson"] + similarity["spearman"]) / 2
    result["conll2003"] = conll_f1(
        encoder,
        train=DATA / "conll2003" / "train.txt.gz",
        test=DATA / "conll2003" / "test.txt",
        sentences=4_000,
        epochs=3,
        learning_rate=LEARNING_RATE,
        seed=seed,
    )
    result["mean"] = sum(result[name] for name in SCORES) / len(SCORES)
    return result


def blimp(parts: Path, *, pairs: int = PAIRS, folder: Path = DATA / "blimp") -> dict[str, Any]:
    """Accuracy on minimal pairs: of the encoder with its head, and of the generator alone."""
    found: dict[str, Any] = {}
    for name, folders in {
        "blimp": ("discriminator", "masked_lm", "generator"),
        "blimp_generator": ("generator",),
    }.items():
        part = next((f for f in folders if (parts / f).is_dir()), None)
        if part is not None:
            result = evaluate(
                model=parts / part, data=str(folder), task="minimal-pairs", limit=pairs
            )
            found[name] = result["metrics"]["accuracy"]
            if name == "blimp":
                found["blimp_scored_by"] = part
    return found


def _text_classification(
    encoder: str, work: Path, name: str, seed: int, epochs: float, console: Console
) -> dict[str, float]:
    train, validation, test = _files(work, name)
    settings = {
        **SETTINGS,
        "training": {**SETTINGS["training"], "epochs": epochs, "seed": seed},
    }
    result = finetune(
        model=encoder,
        train=str(train),
        validation=str(validation),
        output=work / name,
        config=resolve(FinetuneConfig, [("protocol", settings)]),
        resume="auto",
        console=console,
    )
    metrics: dict[str, float] = evaluate(model=result.output, data=str(test))["metrics"]
    return metrics


def _files(work: Path, name: str) -> tuple[Path, Path, Path]:
    """Training rows, rows that are evaluated but choose nothing, test."""
    train, validation, test = (work / f"{name}-{part}.tsv" for part in ("train", "held", "test"))
    work.mkdir(parents=True, exist_ok=True)
    if name == "sst2":
        with gzip.open(DATA / "sst2" / "train.tsv.gz", "rt", encoding="utf-8") as file:
            header, *lines = file.readlines()  # in random order
        train.write_text("".join([header, *lines[:8_000]]), encoding="utf-8")
        validation.write_text("".join([header, *lines[-500:]]), encoding="utf-8")
        return train, validation, DATA / "sst2" / "dev.tsv"
    for path, part in ((train, "train"), (validation, "dev"), (test, "test")):
        rows = itertools.chain([("sentence1", "sentence2", "score")], _similarities(part))
        path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return train, validation, test


def _similarities(part: str) -> Iterator[tuple[str, ...]]:
    file = DATA / "stsb" / f"stsb-en-{part}.csv"
    with file.open(encoding="utf-8", newline="") as opened:
        for row in csv.reader(opened):
            yield tuple(" ".join(cell.split()) for cell in row)
