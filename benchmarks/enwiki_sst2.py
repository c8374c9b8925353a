"""An encoder from Wikipedia in minutes, fine-tuned on SST-2, beside the same network from scratch.

    python -m benchmarks.enwiki_sst2 [--minutes 15] [--work runs/enwiki-sst2] [--json FILE]

Learning rate and best step are chosen on 1,000 rows held back from the training file; the official
dev set (872 rows) is read once for each seed. The data is in the folder named by ELECTRA_DATA
(default: ../shared/data). The work folder is kept: a stopped run goes on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.record import finish
from electra.config import PrepareSettings, PretrainConfig
from electra.corpus.folder import Corpus
from electra.prepare import prepare
from electra.pretrain import pretrain
from electra.quickstart import Contestant, finetune_all
from electra.recipe import read_recipe, resolve

DATA = Path(os.environ.get("ELECTRA_DATA", Path(__file__).parents[2] / "shared" / "data"))
HELD_BACK = 1_000


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--work", type=Path, default=Path("runs/enwiki-sst2"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not (DATA / "enwiki").is_dir() or not (DATA / "sst2").is_dir():
        sys.exit(f"skipped: no enwiki and sst2 in {DATA}; set ELECTRA_DATA")
    minutes, epochs = (0.5, 0.1) if given.quick else (given.minutes, given.epochs)
    console, work = Console(stderr=True), given.work
    if not (work / "corpus").is_dir():
        prepare(
            [DATA / "enwiki"],
            output=work / "corpus",
            settings=PrepareSettings(vocab_size=8_192, licence="Wikipedia text, CC BY-SA 3.0"),
            console=console,
        )
    config = resolve(
        PretrainConfig,
        [("tiny", read_recipe("tiny")), ("budget", {"training": {"minutes": minutes}})],
    )
    report = pretrain(
        data=work / "corpus", output=work / "run", config=config, resume="auto", console=console
    )
    train, validation = _split(work)
    results = finetune_all(
        [
            Contestant("pretrained", work / "run" / "encoder"),
            Contestant("from scratch", work / "run" / "encoder", from_scratch=True),
        ],
        train=train,
        validation=validation,
        test=DATA / "sst2" / "dev.tsv",
        output=work / "sst2",
        settings={
            "optimizer": {"layerwise_lr_decay": 1.0},
            "training": {"epochs": epochs, "global_batch_size": 32, "save_total_limit": 1},
            "data": {"max_length": 64},
        },
        console=console,
    )
    rows = [
        {
            "contestant": name,
            "learning_rate": result["learning_rate"],
            "validation_accuracy": result["validation_accuracy"],
            "dev_accuracy": result["accuracy"],
            "dev_mean": statistics.fmean(result["accuracy"]),
            "dev_deviation": statistics.stdev(result["accuracy"]),
        }
        for name, result in results.items()
    ]
    finish(rows, _summary(rows, report, work), json_file=given.json)


def _split(work: Path) -> tuple[Path, Path]:
    """The training file without its last rows, and those: they are in random order."""
    train, validation = work / "train.tsv", work / "validation.tsv"
    with gzip.open(DATA / "sst2" / "train.tsv.gz", "rt", encoding="utf-8") as file:
        header, *lines = file.readlines()
    train.write_text("".join([header, *lines[:-HELD_BACK]]), encoding="utf-8")
    validation.write_text("".join([header, *lines[-HELD_BACK:]]), encoding="utf-8")
    return train, validation


def _summary(rows: list[dict[str, Any]], report: dict[str, Any], work: Path) -> dict[str, Any]:
    splits = Corpus(work / "corpus").manifest["splits"]
    return {
        "points_over_scratch": 100 * (rows[0]["dev_mean"] - rows[1]["dev_mean"]),
        "corpus_tokens": splits["train"]["tokens"],
        "pretraining_minutes": report["minutes"],
        "pretraining_tokens": report["tokens"],
        "tokens_per_second": report["tokens_per_second"],
        "metrics": json.dumps({k: round(v, 4) for k, v in report["metrics"].items()}),
    }


if __name__ == "__main__":
    main()
