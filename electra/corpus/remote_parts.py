"""What a task on another machine does: parts of a stage, for the process that started it.

Task `rank` of `world_size` gets the parts rank, rank + world_size, ... of those that are left. All
machines see the work folder under one path; what a task needs is read there, and what it says is
said there, in `cluster/`:

    launch.json     who was started; a task that finds another one there, or none, stops
    STAGE/done/     NUMBER of each part that was done, with the bytes that were
    STAGE/errors/   NUMBER of a part that failed, and why; tasks stop before their next part
    STAGE/          datatrove's logs
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from electra.corpus.stages import STAGES, Plan
from electra.errors import ElectraError

FOLDER = "cluster"
"""Of launches, errors and logs, in the work folder."""
LAUNCH = "launch.json"
LOOK_SECONDS = 1.0
"""Between two looks at the launch."""


def said(folder: Path) -> set[int]:
    """The parts that `done/` or `errors/` speak of; one look at a folder, which freshens NFS."""
    return {int(name) for name in os.listdir(folder) if name.isdecimal()}


def _say(folder: Path, number: int, text: str) -> None:
    partial = folder / f"{number}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.rename(folder / str(number))


class _Unwanted(Exception):
    """Who started this task is gone, or has started another."""


class _Watch:
    """Stops a task nobody waits for any more; a `Tick`."""

    def __init__(self, folder: Path, token: str) -> None:
        self._file, self._token = folder / FOLDER / LAUNCH, token
        self._parent = os.getppid()
        self._next = 0.0
        self.bytes = 0

    def __call__(self, size: int) -> None:
        self.bytes += size
        if os.getppid() != self._parent:
            raise _Unwanted("the process that started this task has ended")
        if time.monotonic() >= self._next:
            self.look()

    def look(self) -> None:
        """Whether the launch is still this one."""
        self._next = time.monotonic() + LOOK_SECONDS
        try:
            token = json.loads(self._file.read_text("utf-8"))["token"]
        except (FileNotFoundError, ValueError):
            token = None
        if token != self._token:
            raise _Unwanted("this task was started by a process that has ended")


def do_parts(
    folder: Path, stage: str, numbers: Sequence[int], token: str, directory: str
) -> Iterator[int]:
    """What a task does; gives the numbers of the parts as they are done.

    Args:
        folder: of the work.
        stage: a name in `STAGES`.
        numbers: of the task's parts; those that the launch has done are passed over.
        token: of the launch.
        directory: that relative paths of the sources are relative to.

    Raises:
        RuntimeError: a part failed; said in `errors/`, too.
    """
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # a task has one core
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with contextlib.suppress(OSError):  # then paths that are absolute are found all the same
        os.chdir(directory)
    plan = Plan.read(folder)
    done, failed = (folder / FOLDER / stage / name for name in ("done", "errors"))
    watch = _Watch(folder, token)
    for number in numbers:
        watch.look()
        if said(failed):
            return
        if number in said(done):  # by a task that was queued again
            continue
        watch.bytes = 0
        try:
            STAGES[stage](plan, number, watch)
            watch.look()
        except _Unwanted:
            raise
        except Exception as error:
            watch.look()  # what was taken away from it is no failure
            message, kind = str(error), type(error).__name__
            if not isinstance(error, ElectraError):  # of the machine: a full disk, no memory
                message, kind = f"{kind}: {error}", "ElectraError"
            _say(failed, number, json.dumps({"error": message, "kind": kind}))
            raise RuntimeError(f"part {number}: {message}") from error
        _say(done, number, str(watch.bytes))
        yield number
