"""The files that the runs of a benchmark's set read: held out, sampled and joined where asked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from electra.config import LabelledDataConfig
from electra.errors import DataError
from electra.evaluation.samples import Split, Units, read_units, split
from electra.evaluation.suites import BenchmarkSet
from electra.tasks.labelled_data import is_file_name
from electra.training.run_identity import Identity, identity

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

    def sampled(name: str, sources: list[str], most: int | None, *, training: bool = False) -> str:
        if len(sources) == 1 and most is None and not is_hub(sources[0]):
            return sources[0]
        units = _units(sources, each.task, columns)
        drawn = split(units.units, seed=SPLIT_SEED, max_rows=most, every_label=training)
        return _written(folder, name, units, drawn.kept)

    def held_out(
        units: Units, share: float, max_rows: int | None = None, max_held_out: int | None = None
    ) -> Split:
        try:
            return split(
                units.units,
                seed=SPLIT_SEED,
                held_out=share,
                max_rows=max_rows,
                max_held_out=max_held_out,
            )
        except DataError as error:
            raise DataError(f"set {each.name}: {error}") from None

    train = [_located(source, data) for source in each.train]
    given = {
        name: [] if isinstance(sources, float) else [_located(s, data) for s in sources]
        for name, sources in (("validation", each.validation), ("test", each.test))
    }
    paths = {
        name: sampled(name, sources, getattr(each, f"max_{name}_rows"))
        for name, sources in given.items()
        if sources
    }
    if len(paths) == 2:
        return Files(sampled("train", train, each.max_train_rows, training=True), **paths)
    units = _units(train, each.task, columns)
    if isinstance(each.test, float):  # before all else: the same rows whatever is trained on
        drawn = held_out(units, each.test)
        test = replace(units, units=[units.units[i] for i in drawn.held_out])
        units = replace(units, units=[units.units[i] for i in drawn.kept])
        few = split(test.units, seed=SPLIT_SEED, max_rows=each.max_test_rows, every_label=False)
        paths["test"] = _written(folder, "test", test, few.kept)
    if isinstance(each.validation, float):
        drawn = held_out(units, each.validation, each.max_train_rows, each.max_validation_rows)
        paths["validation"] = _written(folder, "validation", units, drawn.held_out)
    else:
        drawn = split(units.units, seed=SPLIT_SEED, max_rows=each.max_train_rows)
    return Files(_written(folder, "train", units, drawn.kept), **paths)


def contents(each: BenchmarkSet, data: Path | None) -> dict[str, Identity]:
    """The identities of a set's files and folders by their names in the suite.

    What is of the Hub, or not there, is left out.
    """
    found = {}
    for source in each.sources:
        try:
            place = _located(source, data)
        except MissingDataError:
            continue
        if not is_hub(place):
            found[source] = {**identity(place), "name": source}
    return found


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
    chosen = [units.units[number].content for number in numbers]
    if units.files is None:
        partial.write_bytes(units.written(chosen))
        os.replace(partial, path)
        return str(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for file, content in units.files(chosen).items():
        (partial / file).write_bytes(content)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)
    return str(path)


def is_hub(source: str) -> bool:
    """Whether a source is `ID:split`, and no file with splits of its own (`FILE.json:train`)."""
    name, colon, split_name = source.partition(":")  # as `source_rows` parts it
    return bool(
        colon
        and split_name
        and name.count("/") <= 2
        and not name.startswith(("/", "."))
        and not is_file_name(name)
        and not Path(source).exists()
    )


def _located(source: str, data: Path | None) -> str:
    path = (data or Path()) / source
    if path.exists():
        return str(path)
    if is_hub(source):
        return source
    if not Path(str(path).rpartition(":")[0]).is_file():
        raise MissingDataError(f"{path} does not exist")
    return str(path)
