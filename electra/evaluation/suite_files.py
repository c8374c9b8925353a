"""The files that the runs of a benchmark's set read: held out, sampled and joined where asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from electra.config import LabelledDataConfig
from electra.errors import DataError
from electra.evaluation.samples import Units, read_units, split
from electra.evaluation.suites import BenchmarkSet

SPLIT_SEED = 0
"""Which rows are held out and sampled does not depend on the seed of a run."""


class MissingDataError(DataError):
    """A set's data is not below the data folder, or not to be had from the Hub."""


@dataclass(frozen=True)
class Files:
    """What the runs of a set read: paths."""

    train: str
    validation: str
    test: str


def set_files(
    each: BenchmarkSet, data: Path | None, folder: Path, columns: LabelledDataConfig
) -> Files:
    """The files a set's runs read: its own where whole ones will do, else drawn into `folder`.

    Args:
        each: the set.
        data: the folder its local sources lie below.
        folder: for what is held out, sampled, joined, or from the Hub.
        columns: where text and label stand.

    Raises:
        DataError: a file is damaged, or cannot be parted.
        MissingDataError: a file is not there, or the Hub does not give it.
    """
    train = [_located(source, data) for source in each.train]
    test = [_located(source, data) for source in each.test]
    share = each.validation if isinstance(each.validation, float) else 0.0
    given = () if isinstance(each.validation, float) else each.validation
    validation = [_located(source, data) for source in given]

    def sampled(name: str, sources: list[str], most: int | None, *, training: bool = False) -> str:
        if len(sources) == 1 and most is None and not is_hub(sources[0]):
            return sources[0]
        units = _units(sources, each.task, columns)
        drawn = split(units.units, seed=SPLIT_SEED, max_rows=most, every_label=training)
        return _written(folder, name, units, drawn.kept)

    if not share:
        return Files(
            sampled("train", train, each.max_train_rows, training=True),
            sampled("validation", validation, each.max_validation_rows),
            sampled("test", test, each.max_test_rows),
        )
    units = _units(train, each.task, columns)
    try:
        drawn = split(
            units.units,
            seed=SPLIT_SEED,
            held_out=share,
            max_rows=each.max_train_rows,
            max_held_out=each.max_validation_rows,
        )
    except DataError as error:
        raise DataError(f"set {each.name}: {error}") from None
    return Files(
        _written(folder, "train", units, drawn.kept),
        _written(folder, "validation", units, drawn.held_out),
        sampled("test", test, each.max_test_rows),
    )


def _units(sources: Sequence[str], task: str, columns: LabelledDataConfig) -> Units:
    try:
        return read_units(sources, task, columns)
    except DataError as error:
        if any(is_hub(source) for source in sources):
            raise MissingDataError(str(error)) from None
        raise


def _written(folder: Path, name: str, units: Units, numbers: Sequence[int]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / f"{name}{units.suffix}", folder / f".{name}.partial"
    partial.write_bytes(units.written([units.units[number].content for number in numbers]))
    os.replace(partial, path)
    return str(path)


def is_hub(source: str) -> bool:
    """Whether a source is `ID:split`, and no file with parts of its own (`FILE.json:part`)."""
    name, colon, split_name = source.rpartition(":")
    return bool(colon and split_name) and not Path(name).suffix and not Path(source).exists()


def _located(source: str, data: Path | None) -> str:
    if is_hub(source):
        return source
    path = (data or Path()) / source
    file = path if path.exists() else Path(str(path).rpartition(":")[0])
    if not path.exists() and not file.is_file():
        raise MissingDataError(f"{path} does not exist")
    return str(path)
