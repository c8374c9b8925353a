"""The command line: verbs to functions.

Imports neither torch nor transformers until a verb runs, so that `--help` and mistakes are
answered at once. Exit codes: 0; 2 what the user mends; 1 the machine's failures; 130 Ctrl-C; 143
SIGTERM.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from cyclopts import CycloptsError
from rich.console import Console

from electra.cli import applications, encoders, tools  # noqa: F401  (they register themselves)
from electra.cli.app import app
from electra.errors import ConfigError, ElectraError

_USERS_OS_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
_SECTION_FLAG = re.compile(r"--[a-z][a-z-]*\.[a-z0-9_-]+")
_OWN_SECTIONS = {"prepare": ("cleaning", "cluster")}
"""Sections whose flags a command takes by itself: its recipe has them beside other fields."""
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. A user's mistake prints one line, no traceback."""
    _quieten_libraries()
    with _sigterm_raises():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    try:
        own = _OWN_SECTIONS.get(next(iter(arguments), ""), ())
        rest, overrides = _split_overrides(list(arguments), own)
        verb, bound, unparsed = app.parse_args(rest, exit_on_error=False, print_error=False)
        if "overrides" in unparsed:
            bound.arguments["overrides"] = overrides
        elif overrides:
            raise ConfigError(f"electra {verb.__name__} takes no --{next(iter(overrides))}")
        if "given" in unparsed:
            bound.arguments["given"] = _flags_given(rest)
        verb(*bound.args, **bound.kwargs)
    except ElectraError as error:
        errors.print(f"electra: {error}", markup=False)
        return error.exit_code
    except CycloptsError as error:
        command = " ".join(["electra", *(error.command_chain or ())])
        errors.print(f"electra: {_one_line(error)} (see {command} --help)", markup=False)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `electra predict ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        errors.print(f"electra: {error}", markup=False)
        return 2 if isinstance(error, _USERS_OS_ERRORS) else 1
    except KeyboardInterrupt:
        errors.print("electra: interrupted")
        return 130
    except _Terminated:
        errors.print("electra: terminated")
        return 143
    return 0


class _Terminated(BaseException):
    """SIGTERM came."""


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise, so that unfinished folders are removed; training has its own way."""

    def terminate(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Terminated

    try:
        ours = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if ours:
            signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread: signals are somebody else's
        ours = False
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _one_line(error: CycloptsError) -> str:
    return " ".join(str(error).split())


def _quieten_libraries() -> None:
    """Progress bars and advice of libraries are not ours to show; errors still come through."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _flags_given(arguments: Sequence[str]) -> frozenset[str]:
    """Fields that flags name, as `vocab_size` and `cleaning.c4`, whatever values they are given."""
    flags = itertools.takewhile(lambda argument: argument != "--", arguments)
    names = (flag.partition("=")[0].removeprefix("--") for flag in flags if flag.startswith("--"))
    return frozenset(re.sub(r"(^|\.)no-", r"\1", name).replace("-", "_") for name in names)


def _split_overrides(
    arguments: list[str], own: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Take flags of the form `--section.field VALUE` out; their types are known to the recipe.

    Those of the sections in `own` stay.
    """
    rest: list[str] = []
    overrides: dict[str, str] = {}
    waiting = iter(arguments)
    for argument in waiting:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *waiting]
        elif not _SECTION_FLAG.fullmatch(flag) or flag[2:].partition(".")[0] in own:
            rest.append(argument)
        else:
            given = value if equals else next(waiting, None)
            if given is None:
                raise ConfigError(f"{flag} needs a value")
            overrides[flag.removeprefix("--")] = given
    return rest, overrides
