"""The exceptions of the package: one small tree, each with the exit code of the command line.

A message is one line for the person who reads it: what was given, what is allowed, how to mend it.
Asserts are for programmers; every mistake a user can make raises one of these.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class ElectraError(Exception):
    """Base of all errors raised on purpose. Exit code 1: the machine failed, not the user."""

    exit_code = 1


class UserError(ElectraError):
    """Something the user can mend in the command or in the input. Exit code 2."""

    exit_code = 2


class ConfigError(UserError):
    """A recipe or a flag holds an unknown key, a wrong type or a value that is not allowed."""


class DataError(UserError):
    """A data file is missing, empty, damaged, or lacks what was asked of it."""


class OutputExistsError(UserError):
    """The output folder already holds something that must not be lost."""


class CheckpointError(ElectraError):
    """A checkpoint or a model folder is torn, altered, or does not fit what is being resumed."""


class DivergedError(ElectraError):
    """A loss or a gradient is not finite."""


class Interrupted(ElectraError):
    """Training stopped by a signal after a checkpoint was written. Exit code 128 + signal."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """A clause naming what is allowed, the nearest name first.

    Returns `did you mean "warmup_steps"?` where a name is near, else `allowed: a, b, c`.
    """
    names = list(allowed)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"allowed: {', '.join(names)}" if names else "nothing is allowed here"


def no_network(said: str, folder: Path, inside: Iterable[str]) -> str:
    """A line on a folder without config.json, itself and inside; a run that goes on is one."""
    line = f"{said} holds no config.json, neither itself nor in {', '.join(inside)}"
    if (folder / "config.toml").is_file() and not (folder / "report.json").is_file():
        return f"{line}; its run is not finished: go on with it by --resume auto"
    return line


_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


def cannot_write(what: str, error: Exception) -> str:
    """A line that says why something cannot be written, and what to do.

    Args:
        what: the file or folder, or what was to be written there.
        error: an `OSError`, or one of a library in Rust, which has but its text.
    """
    known = _known_cause(error)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    cause, mend = known or (text, "look at the disk")
    return f"{what} cannot be written: {cause}; {mend}"


def _known_cause(error: Exception) -> tuple[str, str] | None:
    """Why, and what to do, where the disk is full or may not be written."""
    number = error.errno if isinstance(error, OSError) else None
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if number in _FULL or any(f"(os error {full})" in text for full in _FULL):
        return "the disk is full", "make room there"
    if number in _FORBIDDEN or any(f"(os error {one})" in text for one in _FORBIDDEN):
        return text, "make it writable, or choose another --output"
    return None


@contextmanager
def writing_to(output: Path) -> Iterator[None]:
    """Within, what any library raises of a full or forbidden disk is one line about `output`.

    Raises:
        ElectraError: the line; the run can be resumed.
    """
    try:
        yield
    except ElectraError:
        raise
    except Exception as error:
        if _known_cause(error) is None:
            raise
        line = cannot_write(str(output), error)
        raise ElectraError(f"{line}, and go on with --resume auto") from None
