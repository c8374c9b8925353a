"""Where numbers go while training: `metrics.jsonl` always, the terminal when there is one."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


class Logger(Protocol):
    """What the loop needs of a logger."""

    def log(self, row: dict[str, Any]) -> None:
        """Keep a row of metrics."""

    def show(self, progress: float, text: str) -> None:
        """Tell how far training is, 0 to 1, with a short line of numbers."""


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, flushed at once."""

    def __init__(self, path: Path, *, cut_after_step: int | None = None) -> None:
        """Open for appending; with `cut_after_step` drop the rows past that step first."""
        if cut_after_step is not None and path.is_file():
            kept = [
                line
                for line in path.read_text(encoding="utf-8").splitlines()
                if _step_of(line) is not None and (_step_of(line) or 0) <= cut_after_step
            ]
            aside = path.with_name(path.name + ".partial")
            aside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            os.replace(aside, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Append one row."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _step_of(line: str) -> int | None:
    try:
        step = json.loads(line).get("step")
    except ValueError:  # the last line of a killed run may be half a line
        return None
    return step if isinstance(step, int) else None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class RunLogger:
    """The file and a progress bar; prints a plain line now and then where there is no terminal."""

    def __init__(
        self, file: MetricsFile | None, console: Console, *, title: str, quiet: bool = False
    ) -> None:
        self._file = file
        self._console = console
        self._quiet = quiet
        self._title = title
        self._progress: Progress | None = None
        self._last_plain = 0.0
        if console.is_terminal and not quiet:
            self._progress = progress_bar(console)
            self._task = self._progress.add_task(title, total=1.0, numbers="")
            self._progress.start()

    def log(self, row: dict[str, Any]) -> None:
        """Keep a row of metrics."""
        if self._file is not None:
            self._file.write(row)

    def show(self, progress: float, text: str) -> None:
        """Move the bar; without a terminal print a line every ten seconds."""
        if self._quiet:
            return
        if self._progress is not None:
            self._progress.update(self._task, completed=progress, numbers=text)
        elif progress >= 1 or time.monotonic() - self._last_plain > 10:
            self._last_plain = time.monotonic()
            self._console.print(
                f"{self._title} {progress:4.0%}  {text}", highlight=False, soft_wrap=True
            )

    def close(self) -> None:
        """Take the bar down and close the file."""
        if self._progress is not None:
            self._progress.stop()
        if self._file is not None:
            self._file.close()


def progress_bar(console: Console) -> Progress:
    """Stage, bar, share, time gone, time left, numbers (task field `numbers`)."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        _TimeLeft(),
        TextColumn("{task.fields[numbers]}", style="dim"),
        console=console,
        transient=False,
    )


class _TimeLeft(ProgressColumn):
    """Time left by the share done; rich's own column needs several updates a second."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text("")
        share = task.percentage / 100
        if not share or task.elapsed is None:
            return Text("-:--:-- left", style="cyan")
        left = int(task.elapsed * (1 - share) / share)
        return Text(f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left", style="cyan")
