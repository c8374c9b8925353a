"""Trackers that others make, where they are installed: TensorBoard, W&B, trackio, MLflow.

    [logging]
    trackers = ["tensorboard", "wandb"]

Where a tracker keeps its runs, and whether it asks a server, is its own affair: `WANDB_MODE`,
`WANDB_PROJECT`, `TRACKIO_DIR`, `MLFLOW_TRACKING_URI` and their like are read by it.
`trackers.json` in the run folder keeps what each calls this run, so that a resumed one goes on
there. What fails on the way is said once and left out: no tracker stops training.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from electra.errors import ConfigError
from electra.training.run_folder import write_text

_PROJECT = "electra"
_FILE = "trackers.json"


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run."""

    folder: Path
    config: Mapping[str, Mapping[str, Any]]
    """Tables of the resolved recipe."""
    id: str | None
    """What the tracker called it before; none: it begins."""
    step: int
    """Where it goes on."""

    @property
    def fresh_name(self) -> str:
        """The folder's name, made unlike that of any other run."""
        return f"{self.folder.resolve().name}-{secrets.token_hex(4)}"

    @property
    def flat(self) -> dict[str, Any]:
        """`section.field` -> value."""
        return {f"{s}.{k}": value for s, table in self.config.items() for k, value in table.items()}


class Tracker(ABC):
    """A `Logger` of numbers over steps."""

    id: str
    """What it calls the run."""

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None:
        """Begin or go on with the run."""

    @abstractmethod
    def write(self, step: int, values: dict[str, float]) -> None:
        """Keep numbers of a step."""

    @abstractmethod
    def close(self) -> None:
        """End the run."""

    def log(self, row: dict[str, Any]) -> None:
        """Keep the numbers of a row of metrics."""
        numbers = {k: v for k, v in row.items() if isinstance(v, int | float) and k != "step"}
        if numbers:
            self.write(row["step"], numbers)

    def show(self, progress: float, text: str) -> None:
        """Do nothing: that is for the terminal."""
        return


class TensorBoard(Tracker):
    """Event files in `tensorboard/` of the run folder."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a killed run wrote behind its last checkpoint is struck out
        purge = run.step + 1 if run.id else None
        self.id = "tensorboard"
        self._writer: Any = SummaryWriter(str(run.folder / self.id), purge_step=purge)

    def write(self, step: int, values: dict[str, float]) -> None:
        """A point on each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is held."""
        self._writer.close()


class WeightsAndBiases(Tracker):
    """A run of Weights & Biases, its files in `wandb/` of the run folder."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self.id = run.id or secrets.token_hex(4)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            dir=str(run.folder),
            id=self.id,
            name=run.folder.resolve().name,
            config={name: dict(table) for name, table in run.config.items()},
            resume="allow",
            allow_val_change=True,
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """A row; several of one step are put together."""
        self._run.log(values, step=step)

    def close(self) -> None:
        """End it."""
        self._run.finish()


class Trackio(Tracker):
    """A run of trackio, in its own data base."""

    def __init__(self, run: TrackedRun) -> None:
        import trackio

        self.id = run.id or run.fresh_name
        self._trackio: Any = trackio
        trackio.init(
            project=_PROJECT, name=self.id, config=run.flat, resume="allow" if run.id else "never"
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """A row."""
        self._trackio.log(values, step=step)

    def close(self) -> None:
        """End it."""
        self._trackio.finish()


class MLflow(Tracker):
    """A run of MLflow, where its tracking URI says."""

    def __init__(self, run: TrackedRun) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        name = run.folder.resolve().name
        begun = mlflow.start_run(run_id=run.id, run_name=None if run.id else name)
        self.id = str(begun.info.run_id)
        if not run.id:
            mlflow.log_params(run.flat)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Points, sent by a thread of MLflow's: a server that is away is not waited for."""
        self._mlflow.log_metrics(values, step=step, synchronous=False, run_id=self.id)

    def close(self) -> None:
        """Send what is held, end it."""
        self._mlflow.flush_async_logging()
        self._mlflow.end_run()


TRACKERS: Mapping[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
    "mlflow": MLflow,
}
"""By the name of the package that is to be installed."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse what is not installed, before anything is trained.

    Raises:
        ConfigError: with the command that installs it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"--logging.trackers {name}: {name} is not installed; get it with: "
                f"pip install {name}"
            )


class Trackers:
    """Those that a recipe names, as one."""

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        *,
        config: Mapping[str, Mapping[str, Any]],
        step: int = 0,
        continued: bool = False,
        say: Callable[[str], None],
    ) -> None:
        """Begin a run with each; for the main process.

        Args:
            names: of `TRACKERS`; none twice.
            folder: of the run.
            config: tables of the resolved recipe.
            step: where training goes on.
            continued: go on with the runs there were.
            say: takes the line that says what failed.

        Raises:
            ConfigError: a fresh run cannot be begun, as without a login.
        """
        self._say = say
        self._trackers: dict[str, Tracker] = {}
        ids = _read_ids(folder) if continued else {}
        for name in dict.fromkeys(names):
            try:
                found = TRACKERS[name](TrackedRun(folder, config, ids.get(name), step))
            except Exception as error:
                if not continued:
                    self.close()
                    raise ConfigError(
                        f"--logging.trackers {name}: {name} cannot begin a run: {_line(error)}; "
                        "mend that, or leave it out"
                    ) from error
                self._leave_out(name, error)
                continue
            self._trackers[name] = found
            ids[name] = found.id
        if names:
            write_text(folder / _FILE, json.dumps(ids, indent=1) + "\n")

    def log(self, row: dict[str, Any]) -> None:
        """Give a row to each; one that fails is left out from here on."""
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.log(row)
            except Exception as error:
                del self._trackers[name]
                self._leave_out(name, error)

    def close(self) -> None:
        """End the run of each."""
        while self._trackers:
            name, tracker = self._trackers.popitem()
            try:
                tracker.close()
            except Exception as error:
                self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        self._say(
            f"warning: tracker {name} failed ({_line(error)}) and is left out from here on; "
            "metrics.jsonl has everything"
        )


def _read_ids(folder: Path) -> dict[str, str]:
    try:
        ids = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in ids.items()} if isinstance(ids, dict) else {}


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
