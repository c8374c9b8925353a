"""What runs left on disk, read to be compared: unfinished ones and those of older versions, too."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import json
import math
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from electra.artifacts.samples import SAMPLES
from electra.config import FINETUNE_DEFAULTS, FinetuneConfig, PretrainConfig
from electra.errors import ConfigError, DataError

MOST_POINTS = 500
"""Of a curve; longer ones are averaged."""
Axis = Literal["tokens", "minutes"]
AXES: tuple[Axis, ...] = ("tokens", "minutes")
Points = list[tuple[float, float]]
NOT_CURVES = ("step", "tokens_seen", "seconds", "examples_seen")


@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """A run folder as it is now."""

    name: str
    """Its last folder, with as many parents as tell it from the others."""
    path: Path
    rows: list[dict[str, Any]]
    """Of metrics.jsonl, by step."""
    lines_left_out: int
    """Lines of metrics.jsonl that are no rows: one that a kill cut short, or is being written."""
    settings: dict[str, Any]
    """`section.field` -> value, of config.toml; fields that are none are not in it."""
    environment: dict[str, Any]
    """environment.json, tables in it flattened."""
    report: dict[str, Any] | None
    """Of a finished run."""
    samples: dict[str, Any] | None
    """samples.json, see `artifacts/samples.py`."""

    @property
    def kind(self) -> Literal["pretraining", "fine-tuning"] | None:
        """By its recipe; none where it has none yet."""
        if not self.settings:
            return None
        pretraining = any(field.startswith("objective.") for field in self.settings)
        return "pretraining" if pretraining else "fine-tuning"

    @property
    def corpus(self) -> str | None:
        """The fingerprint of what it read."""
        return self.environment.get("inputs.data.sha256")

    @property
    def warnings(self) -> list[str]:
        """What was said of it while it ran, a line each."""
        return [row["warning"] for row in self.rows if isinstance(row.get("warning"), str)]

    def columns(self) -> list[str]:
        """Names of what was measured, `eval_` and all, in the order they came."""
        return list(
            dict.fromkeys(
                name
                for row in self.rows
                for name, value in row.items()
                if name not in NOT_CURVES and _number(value) is not None
            )
        )

    def curve(self, column: str, over: Axis) -> Points:
        """At most `MOST_POINTS` points of a column, over tokens or minutes of training.

        Evaluations have no time of their own: it is read off the steps around them.
        """
        places = ((self._place(row, over), _number(row.get(column))) for row in self.rows)
        return thinned([(x, y) for x, y in places if x is not None and y is not None])

    def length(self, over: Axis) -> float:
        """Tokens or minutes of the last row; 0 without."""
        return max((self._place(row, over) or 0.0 for row in self.rows), default=0.0)

    def summary(self) -> dict[str, Any]:
        """How far it is and what it reached: plain values for a table or JSON.

        Returns:
            "status" (`finished`, `unfinished`, `no metrics yet`), "steps", "tokens", "minutes",
            "tokens_per_second", "encoder_parameters", "epochs", "corpus_tokens" (what is not known
            is none), "metrics" {name: number} of held-out data and their step "evaluated_at",
            "warnings".
        """
        report = self.report or {}
        last = self.rows[-1] if self.rows else {}
        timed: dict[str, Any] = next(
            (row for row in reversed(self.rows) if _number(row.get("seconds"))), {}
        )
        speed = timed["tokens_seen"] / timed["seconds"] if "tokens_seen" in timed else None
        minutes = timed["seconds"] / 60 if timed else None
        metrics, evaluated_at = self._last_evaluation()
        return {
            "status": "finished" if self.report else "unfinished" if self.rows else _NOTHING_YET,
            "steps": report.get("steps", last.get("step")),
            "tokens": report.get("tokens", last.get("tokens_seen")),
            "minutes": report.get("minutes", minutes),
            "tokens_per_second": report.get("tokens_per_second", speed),
            "encoder_parameters": flat(report).get("parameters.encoder"),
            "epochs": report.get("epochs"),
            "corpus_tokens": flat(report).get("corpus.train.tokens"),
            "metrics": metrics,
            "evaluated_at": evaluated_at,
            "warnings": self.warnings,
        }

    def _last_evaluation(self) -> tuple[dict[str, float | None], int | None]:
        if self.report is not None and isinstance(self.report.get("metrics"), dict):
            at = self.report.get("best_step", self.report.get("steps"))
            return {name: _number(v) for name, v in self.report["metrics"].items()}, at
        for row in reversed(self.rows):
            found = {
                name.removeprefix("eval_"): _number(value)
                for name, value in row.items()
                if name.startswith("eval_")
            }
            if found:
                return found, row.get("step")
        return {}, None

    def _place(self, row: Mapping[str, Any], over: Axis) -> float | None:
        if over == "tokens":
            return _number(row.get("tokens_seen"))
        seconds, step = _number(row.get("seconds")), _number(row.get("step"))
        if seconds is None and step is not None:
            seconds = time_at(step, self._times)
        return None if seconds is None else seconds / 60

    @functools.cached_property
    def _times(self) -> Points:
        times = [
            (float(row["step"]), float(row["seconds"]))
            for row in self.rows
            if _number(row.get("seconds")) is not None and _number(row.get("step")) is not None
        ]
        return [(0.0, 0.0), *times] if times else []


_NOTHING_YET = "no metrics yet"


def read_runs(folders: Sequence[Path]) -> list[RecordedRun]:
    """The runs in these folders, with names that differ.

    Raises:
        ConfigError: no folder, one twice, or runs of pretraining and of fine-tuning together.
        DataError: a folder holds no run, or a file of it is damaged.
    """
    if not folders:
        raise ConfigError("no run given: electra report RUN..., folders of electra pretrain")
    places = [folder.resolve() for folder in folders]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise ConfigError(f"the run {folders[number]} is given twice; give it once")
    for folder in folders:
        _check_is_run(folder)
    names = distinct_names(places)
    runs = [_read(folder, name) for folder, name in zip(folders, names, strict=True)]
    kinds = {run.kind: run for run in runs if run.kind is not None}
    if len(kinds) > 1:
        raise ConfigError(
            "; ".join(f"{run.path} is a run of {kind}" for kind, run in kinds.items())
            + ": give runs of one kind"
        )
    return runs


def distinct_names(places: Sequence[Path]) -> list[str]:
    """The last folder of each, with as many parents as tell it from all others."""
    names = []
    for place in places:
        parts, size = place.parts, 1
        while size < len(parts) and any(
            other.parts[-size:] == parts[-size:] for other in places if other != place
        ):
            size += 1
        names.append(str(Path(*parts[-size:])))
    return names


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most `most` points: means of neighbours in equal shares, and the last as it is."""
    if len(points) <= most:
        return points
    body, shares = points[:-1], most - 1
    borders = [number * len(body) // shares for number in range(shares + 1)]
    means = []
    for start, end in itertools.pairwise(borders):
        xs, ys = zip(*body[start:end], strict=True)
        means.append((math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)))
    return [*means, points[-1]]


def time_at(step: float, times: Points) -> float | None:
    """Seconds at a step, on the line between its neighbours in (step, seconds), or beyond the last.

    None where nothing was timed.
    """
    if len(times) < 2:
        return None
    right = bisect.bisect_left(times, step, lo=1, hi=len(times) - 1, key=lambda point: point[0])
    (from_step, from_time), (to_step, to_time) = times[right - 1], times[right]
    if to_step == from_step:
        return to_time
    return from_time + (to_time - from_time) * (step - from_step) / (to_step - from_step)


def differing(tables: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys at which the tables differ, with the value in each; none where it has none."""
    keys = dict.fromkeys(key for table in tables for key in table)
    values = {key: [table.get(key) for table in tables] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def default_settings(kind: str | None) -> dict[str, Any]:
    """`section.field` -> default, of pretraining or fine-tuning; fields that are none are left out.

    They are what holds where neither a recipe nor a flag says otherwise.
    """
    tuned = kind == "fine-tuning"
    config = FinetuneConfig if tuned else PretrainConfig
    fields = {
        # TOML has lists alone
        f"{section}.{field.name}": (
            list(field.default) if isinstance(field.default, tuple) else field.default
        )
        for section, table in typing.get_type_hints(config).items()
        for field in dataclasses.fields(table)
        if field.default is not None
    }
    return fields | (flat(FINETUNE_DEFAULTS) if tuned else {})


def _check_is_run(folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; give the folder of a run (--output of electra pretrain)")
    if _is_run(folder):
        return
    inside = sorted(child.name for child in folder.iterdir() if child.is_dir() and _is_run(child))
    shown = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
    raise DataError(
        f"{folder} is no run: it has neither config.toml nor metrics.jsonl; give the --output of "
        "electra pretrain" + (f", or one of the runs in it: {shown}" if inside else "")
    )


def _is_run(folder: Path) -> bool:
    return (folder / "config.toml").is_file() or (folder / "metrics.jsonl").is_file()


def _read(folder: Path, name: str) -> RecordedRun:
    rows, left_out = _read_rows(folder / "metrics.jsonl")
    return RecordedRun(
        name,
        folder,
        rows,
        left_out,
        settings=flat(_read_toml(folder / "config.toml") or {}),
        environment=flat(_read_json(folder / "environment.json") or {}),
        report=_read_json(folder / "report.json"),
        samples=_read_json(folder / SAMPLES),
    )


def _read_rows(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows by step, and how many lines are none."""
    if not file.is_file():
        return [], 0
    rows, left_out = [], 0
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and _number(row.get("step")) is not None:
            rows.append(row)
        else:
            left_out += 1
    return sorted(rows, key=lambda row: float(row["step"])), left_out


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}; mend it or leave the run out") from None
    if not isinstance(found, dict):
        raise DataError(f"{file} is not a JSON object; mend it or leave the run out")
    return found


def _read_toml(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} cannot be read: {error}; mend it or leave the run out") from None


def flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Tables in tables as `outer.inner`; lists stay."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = value
    return found


def _number(value: Any) -> float | None:
    """The value where it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def columns_of(runs: Iterable[RecordedRun]) -> list[str]:
    """What any of the runs measured, without `eval_`: training and held-out data stand together."""
    found = dict.fromkeys(c.removeprefix("eval_") for run in runs for c in run.columns())
    if "loss" in found:  # of fine-tuning, where it is the whole one
        found.pop("task_loss", None)
    return list(found)
