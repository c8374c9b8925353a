"""Files of a work that may be killed, or find the disk full, at any moment."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from electra.errors import ElectraError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_IN_RUST = ("os error 28", "os error 122")


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole, or as it was."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    sync(partial)
    partial.replace(file)


def sync(file: Path) -> None:
    """Have a file on the disk before anything is said of it."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def remove_folder(folder: Path) -> None:
    """Remove a folder that has a meaning by its name: first the name, then what is in it."""
    gone = folder.with_name(f"{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def disk_full(folder: Path) -> Iterator[None]:
    """Say in a line that the disk is full, for whatever finds it so.

    Raises:
        ElectraError: it is.
    """
    try:
        yield
    except ElectraError:
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        if full or any(said in str(error) for said in _FULL_IN_RUST):
            raise ElectraError(
                f"{folder}: the disk is full; make room and run the same command"
            ) from error
        raise
