"""Fine-tuning runs of a second on toy data."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from electra.config import FINETUNE_DEFAULTS, FinetuneConfig
from electra.finetune import FinetuneResult, finetune
from electra.recipe import resolve
from tests.tiny import make_encoder, pairs, sentences, write_tsv

QUICK: dict[str, Any] = {"epochs": 3, "global_batch_size": 16}


def make_home(folder: Path) -> Path:
    """Tiny encoders `modernbert` and `electra`, and toy data of one sentence and of two."""
    for family in ("modernbert", "electra"):
        make_encoder(folder / family, family)
    write_tsv(folder / "train.tsv", ["sentence", "label"], sentences(160, 0))
    write_tsv(folder / "dev.tsv", ["sentence", "label"], sentences(60, 1))
    header = ["index", "sentence1", "sentence2", "label"]
    for name, count, seed in (("pairs_train", 240, 0), ("pairs_dev", 60, 1)):
        rows = [(str(i), *row) for i, row in enumerate(pairs(count, seed))]
        write_tsv(folder / f"{name}.tsv", header, rows)
    return folder


def config(**sections: dict[str, Any]) -> FinetuneConfig:
    """The defaults with these sections changed."""
    layers = [("defaults", FINETUNE_DEFAULTS), ("test", sections)]
    return resolve(FinetuneConfig, layers)


def run(home: Path, output: Path, training: dict[str, Any], **more: Any) -> FinetuneResult:
    """`finetune` on the toy data of one sentence, with whatever else is given."""
    arguments: dict[str, Any] = {
        "model": str(home / "modernbert"),
        "train": str(home / "train.tsv"),
        "validation": str(home / "dev.tsv"),
        "output": output,
        "config": config(training=training, optimizer={"learning_rate": 5e-3}),
    }
    return finetune(**(arguments | more))


def said(console: Console) -> str:
    """What was printed to it."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
