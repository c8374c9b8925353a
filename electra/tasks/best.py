"""The best evaluation of a run so far, on disk whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from electra.training.distributed import World
from electra.training.run_folder import copy_file

_PREFIX = "best-"
_EVALUATION = "evaluation.json"


class BestModel:
    """A folder `best-00000120/` inside the run's, replaced when a later evaluation is better.

    A run that continues from a checkpoint finds the best of what came before it.
    """

    def __init__(self, run: Path, *, metric: str, fresh: bool, world: World) -> None:
        """With `fresh`, leftovers of an earlier run are removed."""
        self._run = run
        self._metric = metric
        self._world = world
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.note: str | None = None
        if fresh:
            self.forget()
        elif found := self._folders():
            try:
                kept = json.loads((found[-1] / _EVALUATION).read_text(encoding="utf-8"))
                self.step, self.metrics, self.note = kept["step"], kept["metrics"], kept["note"]
            except (OSError, ValueError):  # power failed before it was all on the disk
                self.forget()
        world.wait()

    def offer(
        self,
        step: int,
        metrics: dict[str, float],
        note: str | None,
        save: Callable[[Path], None],
    ) -> None:
        """Keep this evaluation if it beats the best; an equal one does not.

        Args:
            step: updates done.
            metrics: of the evaluation; higher is better.
            note: a remark to keep with it.
            save: writes the model to a folder; called on the main process where it is kept.
        """
        if self.metrics and metrics[self._metric] <= self.metrics[self._metric]:
            return
        self.step, self.metrics, self.note = step, metrics, note
        if not self._world.is_main:
            return
        partial = self._run / f".partial-{_PREFIX}{step:08d}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save(partial)
        kept = {"step": step, "metrics": metrics, "note": note}
        (partial / _EVALUATION).write_text(json.dumps(kept, indent=1), encoding="utf-8")
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        final = self._run / f"{_PREFIX}{step:08d}"
        shutil.rmtree(final, ignore_errors=True)  # of a run that was killed after this step
        partial.rename(final)
        for folder in self._folders():
            if folder != final:
                shutil.rmtree(folder)

    def copy_to(self, folder: Path) -> None:
        """Copy the best model's files, each whole or not at all."""
        best = self._folders()[-1]
        for file in sorted(path for path in best.rglob("*") if path.is_file()):
            if file.name != _EVALUATION:
                place = folder / file.relative_to(best).parent
                place.mkdir(exist_ok=True)
                copy_file(file, place)

    def forget(self) -> None:
        """Remove the folder; the main process does."""
        if self._world.is_main:
            for folder in [*self._folders(), *self._run.glob(f".partial-{_PREFIX}*")]:
                shutil.rmtree(folder)

    def _folders(self) -> list[Path]:
        return sorted(self._run.glob(f"{_PREFIX}[0-9]*"))
