"""The output folder of a run: refused, continued, found finished, or moved aside.

    run = open_run(output, resume="auto", overwrite=False, world=world)
    for line in run.notes:
        console.print(line)
    if run.status == "finished":
        return run.report()
    store = CheckpointStore(run.checkpoints)    # holds something whole iff status is "continued"
    ...
    run.finish({"metrics": ...})                # writes report.json, the mark of a finished run

`report.json` is written last and whole, so that its presence says that the run is finished.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from electra.errors import ConfigError, DataError, ElectraError, OutputExistsError, cannot_write

if TYPE_CHECKING:
    from electra.training.distributed import World

Status = Literal["fresh", "continued", "finished"]
_STATUSES: tuple[Status, ...] = ("fresh", "continued", "finished")
_REPORT = "report.json"
_OF_A_RUN = ("config.toml", "metrics.jsonl", "checkpoints", _REPORT)


@dataclass(frozen=True)
class RunFolder:
    """What `open_run` found or made."""

    path: Path
    status: Status
    notes: tuple[str, ...] = ()
    """Lines for the person at the terminal."""

    @property
    def checkpoints(self) -> Path:
        """The folder for a `CheckpointStore`."""
        return self.path / "checkpoints"

    def report(self) -> dict[str, Any]:
        """What a finished run wrote last.

        Raises:
            DataError: report.json cannot be read.
        """
        try:
            report = json.loads((self.path / _REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path / _REPORT} cannot be read: {error}") from None
        assert isinstance(report, dict), "a report is a JSON object"
        return report

    def finish(self, report: dict[str, Any]) -> None:
        """Write report.json, whole or not at all; the run is finished. For the main process.

        What the report stands for is on the disk before it.
        """
        for file in self.path.rglob("*"):
            if file.is_file() and self.checkpoints not in file.parents:
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        write_text(self.path / _REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def open_run(
    output: str | Path,
    *,
    resume: str = "never",
    overwrite: bool = False,
    world: World | None = None,
    of_runs: bool = False,
) -> RunFolder:
    """The folder to write a run to, made if it is not there.

    Args:
        output: the folder.
        resume: `never` refuses a folder that holds anything; `auto` continues from the newest
            whole checkpoint, starts afresh where there is none, and reports a finished run; a path
            is `auto` for that folder, which must be the output and hold a run. Where the same
            torchrun began the run and starts its processes again, it is `auto` in any case.
        overwrite: move what is there to NAME.old-1 (the next free number) and start afresh; not
            where torchrun starts its processes again.
        world: the main process does the work, the others follow.
        of_runs: the folder holds folders of runs, and no checkpoints of its own.

    Raises:
        OutputExistsError: the folder holds something and neither `resume` nor `overwrite` is given.
        ConfigError: `resume` and `overwrite` contradict each other, `resume` names another
            folder, or the folder cannot be written to.
        DataError: the folder named by `resume` holds no run.
    """
    path = Path(output)
    if began_here(path):
        resume, overwrite = "auto", False
    found: RunFolder | None = None
    failure: ElectraError | None = None
    if world is None or world.is_main:
        try:
            found = _open(path, resume, overwrite, of_runs)
            if found.status != "finished":
                _try_writing(path)
        except ElectraError as error:
            failure = error
        except OSError as error:
            failure = ConfigError(cannot_write(f"--output {path}", error))
    # every process must leave by the same door, or the others wait for ever
    code = -1 if found is None else _STATUSES.index(found.status)
    if world is not None:
        code = round(world.same_number(float(code)))
    if failure is not None:
        raise failure
    if code < 0:
        raise OutputExistsError(f"{path} was refused by the main process")
    return found or RunFolder(path, _STATUSES[code])


def launcher() -> str | None:
    """The torchrun that started this process (host, process, its start); none: none did."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    parent = os.getppid()
    try:
        fields = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        started = fields.split()[19]
    except OSError:  # no Linux
        started = "?"
    return f"{socket.gethostname()} {parent} {started}"


def began_here(path: Path) -> bool:
    """Whether the run in a folder was begun by the torchrun that started this process."""
    try:
        facts = json.loads((path / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    ours = launcher()
    return ours is not None and facts.get("launcher") == ours


def _try_writing(path: Path) -> None:
    """Find out before hours of training that the folder can be written to."""
    probe = path / ".writable.partial"
    probe.write_bytes(b"x")
    probe.unlink(missing_ok=True)  # of another process


def _open(path: Path, resume: str, overwrite: bool, of_runs: bool) -> RunFolder:
    if resume not in ("never", "auto"):
        if Path(resume).resolve() != path.resolve():
            raise ConfigError(
                f"--resume {resume} is another folder than --output {path}; "
                "allowed: never, auto, or the output folder itself"
            )
        if not _is_run(path):
            raise DataError(f"--resume {resume}: there is no run in that folder")
    if overwrite and resume != "never":
        raise ConfigError(f"--overwrite and --resume {resume} contradict each other; give one")
    if path.exists() and not path.is_dir():
        raise OutputExistsError(f"{path} is a file; --output wants a folder")
    notes: tuple[str, ...] = ()
    empty = not path.exists() or not any(path.iterdir())
    if not empty and overwrite:
        if path.resolve() in (here := Path.cwd(), *here.parents):
            raise ConfigError(
                f"--overwrite cannot move {path}: you are in that folder; go out of it (cd) and "
                "give its name to --output"
            )
        notes = (f"moved what was in {path} to {move_aside(path)}",)
    if empty or overwrite:
        path.mkdir(parents=True, exist_ok=True)
        return RunFolder(path, "fresh", notes)
    if resume == "never":
        what = "a run" if _is_run(path) else "files"
        mend = "--resume auto continues it, " if _is_run(path) else ""
        raise OutputExistsError(
            f"{path} already holds {what}: {mend}--overwrite moves it to "
            f"{_next_free(path).name} and starts afresh"
        )
    if not _is_run(path):
        raise OutputExistsError(
            f"{path} holds files but no run that could be resumed; choose another --output, or "
            f"give --overwrite to move it to {_next_free(path).name}"
        )
    if of_runs and not (path / _REPORT).is_file():
        return RunFolder(path, "continued", (f"continuing the runs in {path}",))
    return _resume(path)


def _resume(path: Path) -> RunFolder:
    if (path / _REPORT).is_file():
        note = f"the run in {path} is finished: nothing to do (--overwrite starts afresh)"
        return RunFolder(path, "finished", (note,))
    # with torch, which those who only write a file do without
    from electra.training.checkpoint import CheckpointStore, torn

    store = CheckpointStore(path / "checkpoints")
    notes = []
    for step in reversed(store.steps()):
        problem = torn(store.path(step))
        if problem is None:
            notes.append(f"continuing the run in {path} from step {step:,}")
            return RunFolder(path, "continued", tuple(notes))
        notes.append(f"passing over a torn checkpoint: {problem}")
    if store.steps():
        notes.append(f"moved the torn checkpoints to {move_aside(path / 'checkpoints')}")
    notes.append(f"no whole checkpoint in {path}: starting afresh")
    return RunFolder(path, "fresh", tuple(notes))


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in _OF_A_RUN)


def _next_free(path: Path) -> Path:
    number, path = 1, path.resolve()  # "." and ".." have no name to extend
    while (aside := path.parent / f"{path.name}.old-{number}").exists():
        number += 1
    return aside


def move_aside(path: Path) -> Path:
    """Rename to NAME.old-1, or the next number that is free; return the new path."""
    return path.resolve().rename(_next_free(path))


def write_text(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, even if power fails."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def copy_file(file: Path, folder: Path) -> None:
    """Copy a file into a folder, whole or not at all."""
    partial = folder / f".{file.name}.partial"
    shutil.copyfile(file, partial)
    os.replace(partial, folder / file.name)
