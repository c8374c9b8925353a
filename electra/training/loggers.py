"""Where numbers go while training: `metrics.jsonl` always, the terminal when there is one."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.padding import Padding
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

from electra.errors import ElectraError, cannot_write


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
        self._path = path
        # without a buffer: what a full disk did not take is not tried again as the file is closed
        self._file = path.open("ab", buffering=0)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row.

        Raises:
            ElectraError: it cannot be written.
        """
        data = (json.dumps(row) + "\n").encode()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise ElectraError(
                f"{cannot_write(str(self._path), error)}, and go on from the last checkpoint with "
                "--resume auto"
            ) from None

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # what matters was said as it was written
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


class Tracking(Protocol):
    """Another place where rows go (`trackers.Trackers`)."""

    def log(self, row: dict[str, Any]) -> None:
        """Keep a row of metrics; fails silently or says so once."""

    def close(self) -> None:
        """End the run there."""


class RunLogger:
    """The file and a progress bar; prints a plain line now and then where there is no terminal.

    Rows with a `warning` are printed, too.
    """

    def __init__(
        self,
        file: MetricsFile | None,
        console: Console,
        *,
        title: str,
        quiet: bool = False,
        trackers: Tracking | None = None,
        watch: Callable[[dict[str, Any]], list[str]] | None = None,
    ) -> None:
        """Make it.

        Args:
            file: none: rows are not kept.
            console: where progress and warnings go.
            title: of the bar.
            quiet: nothing is shown.
            trackers: where rows go besides.
            watch: says what is wrong by the rows so far, of which this is the last; each line
                becomes a row of its own.
        """
        self._file = file
        self._trackers, self._watch = trackers, watch
        self._auc = ""
        self._begun: tuple[float, float] | None = None
        self._console = console
        self._quiet = quiet
        self._title = title
        self._progress: Progress | None = None
        self._last_plain = 0.0
        if console.is_terminal and not quiet:
            self._progress = progress_bar(console)
            self._task = self._progress.add_task(title, total=1.0, numbers="", below="")
            self._progress.start()

    def log(self, row: dict[str, Any]) -> None:
        """Keep a row of metrics."""
        if self._file is not None:
            self._file.write(row)
        if self._trackers is not None:
            self._trackers.log(row)
        aucs = [v for k, v in row.items() if k.startswith("eval_") and k.endswith("auc")]
        self._auc = f"  AUC {aucs[0]:.3f}" if aucs else self._auc
        if "warning" in row and not self._quiet:
            self._console.print(
                f"warning: {row['warning']}", highlight=False, markup=False, soft_wrap=True
            )
        for line in self._watch(row) if self._watch is not None else ():
            self.log({"step": row["step"], "warning": line})

    def show(self, progress: float, text: str) -> None:
        """Move the bar; without a terminal print a line every ten seconds.

        An empty text only says where training begins or goes on, which the time left is judged by.
        """
        if self._quiet:
            return
        now = time.monotonic()
        begun, since = self._begun = self._begun or (progress, now)
        text += self._auc if text else ""
        if self._progress is not None:
            self._progress.update(self._task, completed=progress, below=text, begun=begun)
        elif not text:
            return
        elif progress >= 1 or now - self._last_plain > 10:
            self._last_plain = now
            left = time_left(now - since, progress, begun)
            self._console.print(
                f"{self._title} {progress:4.0%}  {left}  {text}", highlight=False, soft_wrap=True
            )

    def close(self) -> None:
        """Take the bar down, end the trackers' runs, close the file."""
        if self._progress is not None:
            self._progress.stop()
        if self._trackers is not None:
            self._trackers.close()
        if self._file is not None:
            self._file.close()


def progress_bar(console: Console) -> Progress:
    """Stage, bar, share, time gone, time left, numbers (task field `numbers`).

    A task's field `below` has lines of its own, however narrow the terminal.
    """
    return _Bar(
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


class _Bar(Progress):
    """With a line below each bar that has one."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars and what stands below them."""
        yield from super().get_renderables()
        for task in self.tasks:
            if task.fields.get("below"):
                yield Padding(Text(task.fields["below"], style="dim"), (0, 0, 0, 2))


class _TimeLeft(ProgressColumn):
    """Time left by the share done; rich's own column needs several updates a second."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text("")
        begun = task.fields.get("begun", 0.0)
        left = time_left(task.elapsed or 0.0, task.percentage / 100, begun)
        return Text(left, style="cyan")


def time_left(elapsed: float, progress: float, begun: float = 0.0) -> str:
    """`0:01:40 left`, by the seconds it took from the share `begun` of the whole to `progress`."""
    if progress <= begun:
        return "-:--:-- left"
    left = int(elapsed * (1 - progress) / (progress - begun))
    return f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
