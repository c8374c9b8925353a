"""What checkpoints cost a run: seconds of a save by part, over the time between two.

    python -m benchmarks.checkpoint_cost --json benchmarks/results/checkpoint_cost.json

For each recipe: its networks at a vocabulary of its family's size, the optimizer after one step,
saved by the run's own `CheckpointStore` into `--work`, on whatever disk that is; medians. Hashing
and syncing go on in a thread beside the writing, so that parts add up to more than the whole.
Shares are of the time between two saves as they come by default, ten a run: of a run of
`--minutes`, and of the recipe's own budget at `--tokens-per-second`, for a machine so fast: bytes
and disk are taken to be the same there.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.record import finish
from electra.config import PretrainConfig
from electra.corpus.tokenizer import SpecialIds
from electra.model.flops import train_flops
from electra.objectives.objective import build_objective
from electra.recipe import read_recipe, resolve
from electra.training import checkpoint
from electra.training.checkpoint import CheckpointStore
from electra.training.loop import TIMES_A_RUN
from electra.training.optimizer import build_optimizer
from electra.training.schedule import TrainState

RECIPES = {"tiny": 8_192, "small": 16_384, "classic-small": 30_522, "base": 30_522}
"""Vocabulary of each."""
PARTS = {"_optimizer_tensors": "collect", "save_file": "write", "_sha256": "hash", "_sync": "sync"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--saves", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two saves")
    parser.add_argument("--minutes", type=float, default=15.0, help="of the run")
    parser.add_argument("--tokens-per-second", type=float, default=2e6, help="of a fast machine")
    parser.add_argument("--work", type=Path, help="on the disk to measure; none: the system's")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    saves = 2 if given.quick else given.saves
    between = 60 * given.minutes / TIMES_A_RUN
    rows = [
        _row(name, saves, between, given.tokens_per_second, given.work) for name in given.recipes
    ]
    summary = {
        "seconds_between": between,
        **{f"saving_share_{row['recipe'].replace('-', '_')}": row["share"] for row in rows},
    }
    finish(rows, summary, json_file=given.json)


def _row(
    name: str, saves: int, between: float, tokens_per_second: float, work: Path | None
) -> dict[str, Any]:
    config = resolve(PretrainConfig, [(name, read_recipe(name))])
    special = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
    module = build_objective(config, RECIPES[name], special)
    optimizer = build_optimizer(module, config.optimizer)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    taken: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=work) as folder:
        store = CheckpointStore(Path(folder))
        for number in range(saves + 1):
            taken.append(_timed_save(store, module, optimizer, number))
        last = store.path(saves)
        size = sum(file.stat().st_size for file in last.iterdir())
    middle = {part: statistics.median(t[part] for t in taken[1:]) for part in taken[0]}
    counted = train_flops(config, RECIPES[name])
    fast: float | None = None
    if counted.steps is not None:
        fast = counted.steps * counted.tokens_per_step / tokens_per_second / TIMES_A_RUN
    return {
        "recipe": name,
        "megabytes": size / 1e6,
        "seconds": middle["whole"],
        "slowest": max(t["whole"] for t in taken[1:]),
        **{part: middle[part] for part in PARTS.values()},
        "share": middle["whole"] / between,
        "share_fast": None if fast is None else middle["whole"] / fast,
    }


def _timed_save(
    store: CheckpointStore, module: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> dict[str, float]:
    """Seconds of one save, "whole" and by part."""
    seconds = dict.fromkeys(PARTS.values(), 0.0)
    with _timed_parts(seconds):
        begun = time.perf_counter()
        state = TrainState(step=step)
        store.save(module=module, optimizer=optimizer, state=state, environment={})
        return {"whole": time.perf_counter() - begun, **seconds}


@contextmanager
def _timed_parts(seconds: dict[str, float]) -> Iterator[None]:
    """Within, what the functions of `PARTS` take is added up."""

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += time.perf_counter() - begun

        return call

    with ExitStack() as stack:
        for name, part in PARTS.items():
            function = timed(getattr(checkpoint, name), part)
            stack.enter_context(mock.patch.object(checkpoint, name, function))
        yield


if __name__ == "__main__":
    main()
