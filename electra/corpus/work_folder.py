"""The folder that `electra prepare` works in until all of it is done: OUTPUT.partial.

It has a meaning at any moment at which the process may be killed:

    plan.json       the plan whose results these are; without it only `texts/` counts, whose parts
                    say by themselves what they were made of
    texts/          of each part that is cleaned
    earlier/        parts of an earlier plan, on their way to their new numbers
    selection/, tokenizer.json, encoded/ and the shards, each with the key of what decides it
    manifest.json   beside the plan it is of: all is done, but for clearing and the name
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Console

from electra.corpus.disk import disk_full, remove_folder
from electra.corpus.filters import write_contamination
from electra.corpus.manifest import MANIFEST, no_documents
from electra.corpus.remote_parts import FOLDER as CLUSTER
from electra.corpus.sources import Part
from electra.corpus.stages import PARTS, PLAN, Plan
from electra.corpus.standard_input import STANDARD_INPUT, spool
from electra.corpus.text_store import TextStore
from electra.corpus.work_keys import KEY
from electra.errors import ElectraError, OutputExistsError

_STANDARD_INPUT, _EARLIER, _LOCK = "standard-input", "earlier", ".lock"


@contextlib.contextmanager
def locked(folder: Path, output: Path) -> Iterator[None]:
    """Make the folder of the work; one process at a time has it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputExistsError(f"{folder} is a file; it is in the way of {output}") from None
    file = (folder / _LOCK).open("w")
    try:
        if importlib.util.find_spec("fcntl") is not None:  # not on Windows
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OutputExistsError(
                    f"another electra prepare is writing {output}; wait for it, or choose another "
                    "--output"
                ) from None
        yield
    finally:
        file.close()


def reads_standard_input(
    sources: Sequence[str | Path], tables: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether it is among what is asked for."""
    paths = [table.get("path") for table in tables if isinstance(table, Mapping)]
    listed = [path for entry in paths if isinstance(entry, list) for path in entry]
    return STANDARD_INPUT in (*map(str, sources), *paths, *listed)


def spooled(folder: Path, stdin: BinaryIO) -> Path:
    """Standard input as a file."""
    place = folder / _STANDARD_INPUT
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    with disk_full(folder):
        return spool(stdin, place / "text")


def begin(plan: Plan, console: Console, *, standard_input: bool) -> bool:
    """Write the plan; what was done before stays where it is still right.

    Returns:
        Whether all is done, the manifest, too.
    """
    if not plan.parts:
        raise no_documents(0, plan.settings)
    folder = plan.folder
    if not standard_input:
        remove_folder(folder / _STANDARD_INPUT)
    if plan.is_written():
        if (folder / MANIFEST).is_file():
            return True
        done = sum(plan.texts(n).is_dir() for n in range(len(plan.parts)))
        _say(console, f"going on in {folder}: {done} of {len(plan.parts)} parts are cleaned")
        return False
    for name in (PLAN, MANIFEST):  # from here on they are of no plan
        (folder / name).unlink(missing_ok=True)
    found, kept = _kept_parts(plan)
    if kept:
        _say(
            console,
            f"going on in {folder}: {kept} of {len(plan.parts)} parts are cleaned; it was begun "
            f"otherwise, and {found - kept} that were cleaned are not wanted any more",
        )
    elif found:
        _say(console, f"what is in {folder} was begun otherwise: beginning again")
    remove_folder(folder / "contamination")
    write_contamination(
        plan.settings.cleaning, folder, encoding_errors=plan.settings.encoding_errors
    )
    plan.write()
    return False


def _kept_parts(plan: Plan) -> tuple[int, int]:
    """Take over parts that were cleaned as they would be now, under their new numbers.

    Returns:
        How many parts there were, and how many are kept.
    """
    texts, earlier = plan.texts(0).parent, plan.folder / _EARLIER
    if not texts.is_dir() and not earlier.is_dir():
        return 0, 0
    earlier.mkdir(exist_ok=True)
    for place in sorted(texts.iterdir()) if texts.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no part, or no more
            target = earlier / TextStore(place).report["key"]
            if place.name.isdecimal() and not target.exists():
                place.rename(target)
    remove_folder(texts)
    texts.mkdir()
    found, kept = len(list(earlier.iterdir())), 0
    for number, key in enumerate(plan.keys):
        store = TextStore(earlier / key)
        if store.folder.is_dir() and _is_right(store, plan.parts[number], plan):
            store.folder.rename(plan.texts(number))
            kept += 1
    remove_folder(earlier)
    return found, kept


def _is_right(store: TextStore, part: Part, plan: Plan) -> bool:
    """Whether the texts are whole; then they get the numbers that their sources have now."""
    try:
        store.check()
        report = store.report
    except (ElectraError, OSError, ValueError):
        return False
    if plan.settings.encoding_errors == "strict" and report["replaced_bytes"]:
        return False
    before = [piece["source"] for piece in report["part"]["pieces"]]
    numbers = dict(zip(before, (piece.source for piece in part.pieces), strict=True))
    if any(old != new for old, new in numbers.items()):
        cleaned = {str(numbers[int(n)]): own for n, own in report["cleaned"].items()}
        store.renumber(numbers, report | {"part": part.to_dict(), "cleaned": cleaned})
    return True


def clear(folder: Path) -> None:
    """Remove what the corpus folder does not need, but for the plan: the work is known by it."""
    names = ("texts", "selection", "encoded", "contamination", _STANDARD_INPUT, CLUSTER)
    for name in names:
        remove_folder(folder / name)
    for pattern in ("*.gone", "*.partial", f"*{KEY}"):
        for place in folder.glob(pattern):
            shutil.rmtree(place) if place.is_dir() else place.unlink()


def finish(folder: Path) -> None:
    """Remove what `clear` has left, once the folder has its name."""
    for name in (PARTS, PLAN, _LOCK):
        (folder / name).unlink(missing_ok=True)


def leave(folder: Path, console: Console, *, by_mistake: bool, standard_input: bool) -> None:
    """What is done of a work that was stopped is kept, if it is worth it."""
    done = len(list((folder / "texts").glob("[0-9]*[0-9]")))
    if (done <= by_mistake and not (folder / MANIFEST).is_file()) or standard_input:
        (folder / PLAN).unlink(missing_ok=True)
        remove_folder(folder / "texts")
        shutil.rmtree(folder, ignore_errors=True)
        return
    _say(console, f"what is done is kept in {folder}: the same command goes on from there")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
