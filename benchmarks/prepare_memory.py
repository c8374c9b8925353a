"""Memory of `electra prepare` on a text of any size, killed once on its way.

    python -m benchmarks.prepare_memory --gigabytes 10 --work FOLDER --json FILE

The text is English Wikipedia of ELECTRA_DATA again and again, every fourth word replaced by a
seeded draw, so that no two documents agree in a run of five words; of some documents repeats are
put in, exact ones and ones with one word changed. The command runs in a process of its own; the
resident memory of it and its children is added up every tenth of a second (pages that they share
are counted for each). With half of its parts done it gets SIGKILL, and the same command is begun
again at once. Then the manifest's counts must be those of the text, and what was written before the
kill must not have been written again. `--compare` prepares once more without a kill: the same
fingerprint. `--quick`: 14 MB in small parts, with `--compare`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.large_text import Made, text_in
from benchmarks.record import finish

WANTED_MEGABYTES = 1500.0
EVERY = 0.1
"""Seconds between two looks at the memory."""
_LOOK_AT_DISK = 20
"""Looks at the memory between two at the disk."""


@dataclass(frozen=True)
class Ended:
    """How a command went."""

    seconds: float
    peak_megabytes: float
    left: tuple[psutil.Process, ...] = ()
    """Children of a process that was killed."""


_CALL = "from electra.cli import main; main()"
Look = Callable[[float, float], bool]
"""Called with seconds and megabytes; whether the process is to be killed."""


def main() -> None:
    """Make the text, prepare it, check and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--work", type=Path, default=Path("runs/prepare-memory"))
    parser.add_argument("--kill-in", choices=("clean", "encode", "never"), default="encode")
    parser.add_argument("--near-duplicates", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compare", action="store_true", help="prepare again without a kill")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--part-megabytes", type=float, help="none: as prepare has it")
    parser.add_argument("--vocab-size", type=int, default=16_384)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.quick:
        given.gigabytes, given.vocab_size = 0.014, 2_000
        given.part_megabytes, given.compare = 2.0, True
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(work).free / 1e9
    if free < 4 * given.gigabytes:
        sys.exit(f"{work} has {free:.1f} GB free; {4 * given.gigabytes:.1f} are wanted")
    made = text_in(work, given.gigabytes, given.seed)
    for old in work.glob("corpus*"):
        shutil.rmtree(old)
    output = work / "corpus"

    def command_to(folder: Path) -> list[str]:
        command = prepare_command(
            work / "text.txt", folder, workers=given.workers, part_megabytes=given.part_megabytes
        )
        command += ["--vocab-size", str(given.vocab_size)]
        return [*command, "--near-duplicates"] if given.near_duplicates else command

    first = _Stages(output, given.kill_in)
    runs = [first]
    kept: dict[str, int] = {}
    left: tuple[psutil.Process, ...] = ()
    if given.kill_in != "never":
        ended = watch(command_to(output), work / "first.log", look=first)
        left = ended.left
        if not first.killed:
            sys.exit(f"it ended before it could be killed; more than {given.gigabytes} GB, please")
        kept = _written(first.folder, given.kill_in)
        runs.append(_Stages(output, "never"))
    watch(command_to(output), work / "last.log", look=runs[-1])
    manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
    corpus = _size(output)
    wrong = _wrong_counts(manifest, made, near=given.near_duplicates)
    if first.killed:
        wrong += _done_again(output, kept, given.kill_in, (work / "last.log").read_text("utf-8"))
    if any(_runs(process) for process in left):
        wrong.append("processes of the command that was killed are still there")
    if given.compare:
        watch(command_to(work / "corpus-again"), work / "again.log")
        other = json.loads((work / "corpus-again" / "manifest.json").read_text(encoding="utf-8"))
        if other["fingerprint"] != manifest["fingerprint"]:
            wrong.append("without a kill the fingerprint is another")
    rows = [row for number, run in enumerate(runs) for row in run.rows(number)]
    seconds = sum(row["seconds"] for row in rows)
    peak = max(row["peak_resident_megabytes"] for row in rows)
    summary = {
        "gigabytes": made.bytes / 1e9,
        "peak_resident_megabytes": peak,
        "wanted_megabytes": WANTED_MEGABYTES,
        "minutes": seconds / 60,
        "megabytes_per_second": made.bytes / 1e6 / seconds,
        "documents_read": manifest["read"],
        "removed": json.dumps(manifest["removed"]),
        "planted_exact": made.exact,
        "planted_near": made.near if given.near_duplicates else 0,
        "files_kept_from_before_the_kill": len(kept),
        "compared_without_a_kill": given.compare,
        "disk_text_gigabytes": made.bytes / 1e9,
        "disk_work_gigabytes_at_most": max(run.disk for run in runs) / 1e9,
        "disk_corpus_gigabytes": corpus / 1e9,
        "wrong": "; ".join(wrong) or "nothing",
    }
    finish(rows, summary, json_file=given.json)
    if wrong:
        sys.exit(f"wrong: {'; '.join(wrong)}; the work is in {work}")


def prepare_command(
    text: Path,
    output: Path,
    *,
    workers: int | None = None,
    part_megabytes: float | None = None,
) -> list[str]:
    """`electra prepare`, in this Python; with parts of another size, if wanted."""
    electra = ["-m", "electra"]
    if part_megabytes is not None:
        size = int(part_megabytes * 1e6)
        electra = ["-c", f"import electra.prepare as p; p.PART_BYTES = {size}; {_CALL}"]
    command = [sys.executable, *electra, "prepare", str(text), "--output", str(output)]
    return command if workers is None else [*command, "--workers", str(workers)]


def watch(command: Sequence[str], log: Path, *, look: Look | None = None) -> Ended:
    """Run a command to its end, or until `look` wants it killed; only it, not its children.

    Its output goes to `log`; where it fails, so does the script, with the end of that.
    """
    began, peak = time.perf_counter(), 0.0
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(EVERY)
                break
            megabytes = _resident(process.pid) / 1e6
            peak = max(peak, megabytes)
            if look is not None and look(time.perf_counter() - began, megabytes):
                left = tuple(psutil.Process(process.pid).children(recursive=True))
                process.kill()
                process.wait()
                return Ended(time.perf_counter() - began, peak, left)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}: {log.read_text('utf-8')[-2000:]}")
    return Ended(time.perf_counter() - began, peak)


def _resident(pid: int) -> int:
    """Bytes of a process and of all that it has started."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


class _Stages:
    """Which stage the command is in, by the files of its work folder; what each one takes."""

    def __init__(self, output: Path, kill_in: str) -> None:
        self.folder = output.with_name(f"{output.name}.partial")
        self.killed, self.disk = False, 0
        self._kill_in, self._looks, self._parts = kill_in, 0, 0
        self._found: dict[str, list[float]] = {}  # seconds at its end, megabytes at most
        self._corpus = output

    def __call__(self, seconds: float, megabytes: float) -> bool:
        found = self._found.setdefault(self._stage(), [0.0, 0.0])
        found[0], found[1] = seconds, max(found[1], megabytes)
        if self._looks % _LOOK_AT_DISK == 0:
            self.disk = max(self.disk, _size(self.folder))
        self._looks += 1
        if self._kill_in != "never":
            self.killed = self._halfway()
        return self.killed

    def _stage(self) -> str:
        names = {
            "tokenizer.json": "writing shards",
            "selection/found.json": "tokenizer",
            "selection": "duplicates",
            "plan.json": "cleaning",
        }
        if self._corpus.is_dir():
            return "writing shards"
        return next((s for name, s in names.items() if (self.folder / name).exists()), "start")

    def _halfway(self) -> bool:
        """Whether half of the parts have been through the stage."""
        if not self._parts:
            with contextlib.suppress(OSError, ValueError):
                plan = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
                self._parts = len(plan["parts"])
        done = len(_done(self.folder, self._kill_in))
        return 0 < self._parts // 2 <= done < self._parts

    def rows(self, number: int) -> list[dict[str, Any]]:
        """A row a stage."""
        name = "to the kill" if self.killed else "after the kill" if number else "whole"
        rows, before = [], 0.0
        for stage, (seconds, megabytes) in self._found.items():
            rows.append(
                {
                    "run": name,
                    "stage": stage,
                    "seconds": seconds - before,
                    "peak_resident_megabytes": megabytes,
                }
            )
            before = seconds
        return rows


def _done(folder: Path, stage: str) -> list[str]:
    """The numbers of parts that are through a stage."""
    if stage == "clean":
        return [path.name for path in (folder / "texts").glob("[0-9][0-9][0-9][0-9][0-9]")]
    return [path.stem for path in (folder / "encoded").glob("*.json")]


def _written(folder: Path, stage: str) -> dict[str, int]:
    """Files of the parts that are done, and when they were written."""
    numbers = _done(folder, stage)
    if stage == "clean":
        files = [folder / "texts" / number / "texts.bin" for number in numbers]
    else:
        files = [path for number in numbers for path in folder.glob(f"*-{number}-*.bin")]
    return {str(path.relative_to(folder)): _changed(path) for path in files}


def _done_again(output: Path, kept: dict[str, int], stage: str, log: str) -> list[str]:
    """What was done before the kill and again after it; cleaned texts are gone by now."""
    going_on = re.search(r"going on in .*: (\d+) of \d+ parts", " ".join(log.split()))
    if going_on is None:
        return ["the command began again"]
    if stage == "clean" and int(going_on[1]) < len(kept):
        return [f"{len(kept)} parts were cleaned before the kill, {going_on[1]} are said to be"]
    if stage == "encode" and any(_changed(output / name) != at for name, at in kept.items()):
        return ["shards that were there before the kill were written again"]
    return []


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def _size(folder: Path) -> int:
    """Bytes of the files; some may go while they are looked at."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _wrong_counts(manifest: dict[str, Any], made: Made, *, near: bool) -> list[str]:
    removed = manifest["removed"]
    documents = sum(split["documents"] for split in manifest["splits"].values())
    counts = {
        "documents read": (manifest["read"], made.documents),
        "documents kept": (documents, made.documents - sum(removed.values())),
        "exact duplicates": (removed.get("exact duplicate", 0), made.exact),
    }
    wrong = [f"{found:,} {what}, not {n:,}" for what, (found, n) in counts.items() if found != n]
    # found by probability: one in a million is missed at 97 %, others may share a key by chance
    found = removed.get("near-duplicate", 0)
    if near and abs(found - made.near) > 1 + made.near // 1000:
        wrong.append(f"{found:,} near-duplicates, not {made.near:,}")
    return wrong


if __name__ == "__main__":
    main()
