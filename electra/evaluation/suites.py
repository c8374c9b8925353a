r"""Suites of benchmarks: TOML files that name data sets, what is read of them, and a recipe each.

    [sets.sst2]
    task = "text-classification"
    train = "sst2/train.tsv.gz"     # below the data folder, or ID:split of the Hub; or a list
    validation = 0.1                # a share of the training rows; or a source
    test = "sst2/dev.tsv"           # or a share of the training rows
    metric = "accuracy"             # or several: their mean is the score, the first chooses
    max_train_rows = 8000           # also max_validation_rows, max_test_rows
    recipe.training.epochs = 3      # whatever `electra finetune` has flags for

A file may have a `name` and a `description` of its own above its sets.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from electra.config import FinetuneConfig, finetune_defaults
from electra.errors import ConfigError, did_you_mean
from electra.recipe import Values, resolve
from electra.tasks.task import TASKS

Sources = tuple[str, ...]
METRICS: dict[str, tuple[str, ...]] = {
    "text-classification": (
        "accuracy", "macro_f1", "mcc", "auc", "pearson", "spearman", "micro_f1",
        "subset_accuracy", "in_scope_accuracy", "out_of_scope_recall",
    ),
    "token-classification": (
        "f1", "precision", "recall", "intent_accuracy", "sentence_accuracy",
    ),
    "question-answering": ("f1", "exact_match", "has_answer_f1", "no_answer_accuracy"),
    "relation-extraction": ("macro_f1", "micro_f1", "accuracy"),
    "multiple-choice": ("accuracy",),
}  # fmt: skip
"""Task -> metrics that a set may be scored by."""
_ROWS = ("max_train_rows", "max_validation_rows", "max_test_rows")


@dataclass(frozen=True, kw_only=True)
class BenchmarkSet:
    """A data set of a suite."""

    name: str
    task: str
    train: Sources
    validation: Sources | float
    """A share of the training rows where it is a number."""
    test: Sources | float
    """A share of the training rows where it is a number; held out before the validation rows."""
    metric: Sources
    """Their mean is the score; the first chooses a run's model where the task can do so."""
    max_train_rows: int | None = None
    max_validation_rows: int | None = None
    max_test_rows: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the fine-tuning recipe."""

    def config(self, overrides: Values, seed: int) -> FinetuneConfig:
        """The recipe of one run; its best model is chosen by the set's first metric.

        Args:
            overrides: sections from the command line.
            seed: of the run.

        Raises:
            ConfigError: an unknown field, or a value that is not allowed.
        """
        layers = [
            *finetune_defaults(self.task),
            ("metric", {"training": {"metric_for_best_model": self.metric[0]}}),
            (f"set {self.name}", self.recipe),
            ("command line", overrides),
            ("benchmark", {"training": {"seed": seed}}),
        ]
        return resolve(FinetuneConfig, layers)

    @property
    def sources(self) -> Sources:
        """All that is read, each once."""
        given = (self.train, self.validation, self.test)
        return tuple(
            dict.fromkeys(s for part in given if not isinstance(part, float) for s in part)
        )

    def rows_wanted(self) -> dict[str, Any]:
        """What decides which rows are read, ready for JSON."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            **{name: x if isinstance(x, float) else list(x) for name, x in given.items()},
            **{name: getattr(self, name) for name in _ROWS},
        }


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named list of sets."""

    name: str
    description: str
    sets: tuple[BenchmarkSet, ...]


def suite_names() -> list[str]:
    """The suites that come with the package."""
    folder = resources.files("electra") / "suites"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def read_suite(name: str) -> Suite:
    """A suite that comes with the package, or a .toml file.

    Raises:
        ConfigError: there is none of that name, or the file holds what a suite does not.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"suite file {name} does not exist")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"suite file {name} is not UTF-8: {error}") from None
    elif name in suite_names():
        text = (resources.files("electra") / "suites" / f"{name}.toml").read_text("utf-8")
    else:
        near = did_you_mean(name, suite_names())
        listed = "" if near.startswith("allowed") else f" (allowed: {', '.join(suite_names())})"
        raise ConfigError(
            f'there is no suite "{name}"; {near}{listed}; or give the path of a .toml file'
        )
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"suite {name} is not valid TOML: {error}") from None
    return _suite(name, tables)


def _suite(name: str, tables: Mapping[str, Any]) -> Suite:
    place = f"suite {name}"
    _check_keys(tables, ("name", "description", "sets"), place)
    sets = tables.get("sets")
    if not isinstance(sets, Mapping) or not sets:
        raise ConfigError(f"{place} has no set: a table [sets.NAME] for each is wanted")
    for key in ("name", "description"):
        if not isinstance(tables.get(key, ""), str):
            raise ConfigError(f"{place}: {key} must be text")
    return Suite(
        name=tables.get("name", Path(name).stem),
        description=tables.get("description", ""),
        sets=tuple(_set(key, table, f"{place}, set {key}") for key, table in sets.items()),
    )


def _set(name: str, table: Any, place: str) -> BenchmarkSet:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{place} is not a table")
    allowed = [f.name for f in fields(BenchmarkSet) if f.name != "name"]
    _check_keys(table, allowed, place)
    for key in ("task", "train", "validation", "test", "metric"):
        if key not in table:
            raise ConfigError(f"{place} has no {key}")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
        raise ConfigError(f"{place}: a name of letters, digits, - and _ is wanted")
    task = table["task"]
    if task not in TASKS:
        raise ConfigError(f"{place}: task is {task}; {did_you_mean(str(task), TASKS)}")
    metric = _sources(table["metric"], "metric", place)
    for one in metric:
        if one not in METRICS[task]:
            raise ConfigError(f"{place}: metric is {one}; {did_you_mean(one, METRICS[task])}")
    for key in _ROWS:
        if key in table and (type(table[key]) is not int or table[key] < 1):
            raise ConfigError(f"{place}: {key} is {table[key]!r}; allowed: 1 or more")
    recipe = table.get("recipe", {})
    if not isinstance(recipe, Mapping):
        raise ConfigError(f"{place}: recipe must hold sections, such as recipe.training.epochs = 3")
    found = BenchmarkSet(
        name=name,
        task=task,
        train=_sources(table["train"], "train", place),
        validation=_share_or_sources(table["validation"], "validation", place),
        test=_share_or_sources(table["test"], "test", place),
        metric=metric,
        recipe=recipe,
        **{key: table.get(key) for key in _ROWS},
    )
    if isinstance(found.test, float) and isinstance(found.validation, float):
        if found.test + found.validation >= 1:
            raise ConfigError(f"{place}: validation and test leave no rows to train on")
    try:
        found.config({}, 0)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    return found


def _check_keys(table: Mapping[str, Any], allowed: Any, place: str) -> None:
    for key in table:
        if key not in allowed:
            raise ConfigError(f'{place} has an unknown key "{key}"; {did_you_mean(key, allowed)}')


def _share_or_sources(value: Any, key: str, place: str) -> Sources | float:
    if not isinstance(value, int | float):
        return _sources(value, key, place)
    if not 0 < value < 1:
        raise ConfigError(
            f"{place}: {key} is {value}; allowed: a share between 0 and 1 of the training rows, or "
            "a source"
        )
    return float(value)


def _sources(value: Any, key: str, place: str) -> Sources:
    values = [value] if isinstance(value, str) else value
    if (
        not isinstance(values, list)
        or not values
        or not all(isinstance(v, str) and v for v in values)
    ):
        raise ConfigError(f"{place}: {key} must be text, or a list of texts")
    return tuple(values)
