"""The classic recipe against values of the reference implementation.

    python -m benchmarks.golden --golden tests/golden [--json FILE]

Reads a folder of the form that `tests/golden/README.md` describes, of any size: first forward pass
and optimizer steps go through the real objective, optimizer, schedule, clipping and loop of
`electra pretrain`. Masks come from the file; samples are the argmax, the limit of temperature zero.
Prints the largest deviation of each quantity; exits with 1 where one is beyond its tolerance, and
with 2 where the folder cannot be read or lacks something.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.record import finish
from electra.config import PretrainConfig
from electra.corpus.tokenizer import SpecialIds
from electra.errors import DataError, UserError
from electra.model.pretraining_model import PretrainingModel
from electra.model.reference_names import reference_name
from electra.objectives.masking import apply_masks
from electra.objectives.replaced_token_detection import ReplacedTokenDetection
from electra.recipe import resolve
from electra.training.loop import Batch, fit
from electra.training.noise import Noise
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState

_WANTED = "tests/golden/README.md says what is wanted"
_BATCH = (
    *("input_ids", "attention_mask"),
    *("masked_positions", "masked_weights", "replaced_by_mask_token"),
)
SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


class Named(dict[str, Any]):
    """A table that knows where it is from."""

    def __init__(self, table: Mapping[str, Any], file: Path) -> None:
        super().__init__(table)
        self.file = file

    def __missing__(self, key: str) -> Any:
        raise DataError(f'{self.file} lacks "{key}"; {_WANTED}')


@dataclass(frozen=True)
class Golden:
    """A folder of values."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """`steps.json`: configuration and steps."""
        file = self.folder / "steps.json"
        try:
            found = json.loads(
                file.read_text("utf-8"), object_hook=lambda table: Named(table, file)
            )
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read: {error}; {_WANTED}") from None
        if not isinstance(found, Named):
            raise DataError(f"{file} is not a JSON object; {_WANTED}")
        return found

    def load(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of an .npz."""
        path = self.folder / f"{name}.npz"
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                return Named({key: file[key] for key in file}, path)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read: {error}; {_WANTED}") from None

    def config(self) -> PretrainConfig:
        """The recipe that the values were made with."""
        golden = self.record["config"]
        same = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
        same += ["embedding_size", "max_position_embeddings"]
        tables: dict[str, Any] = {
            "model": {
                "family": "classic",
                "generator_size": golden["generator_hidden_size"] / golden["hidden_size"],
                **{name: golden[name] for name in same},
            },
            "objective": {
                "generator_weight": golden["generator_weight"],
                "discriminator_weight": golden["discriminator_weight"],
                "temperature": 1e-9,
            },
            "optimizer": {
                "learning_rate": golden["learning_rate"],
                "weight_decay": golden["weight_decay"],
                "adam_epsilon": golden["adam_epsilon"],
                "max_grad_norm": golden["clip_norm"],
                "bias_correction": False,
            },
            "schedule": {
                "overlap": True,
                "warmup_steps": golden["warmup_steps"],
                "first_update": golden["first_update_uses_schedule_index"],
            },
            "training": {
                "max_steps": golden["total_steps"],
                "global_batch_size": golden["batch_size"],
                "device": "cpu",
                "dtype": "float32",
            },
            "data": {"max_length": golden["sequence_length"]},
            "logging": {"log_steps": 1},
        }
        return resolve(PretrainConfig, [("golden", tables)])

    def batch(self) -> Batch:
        """`batch.npz` as tensors."""
        found = self.load("batch")
        batch = {name: torch.from_numpy(found[name]) for name in dict.fromkeys([*found, *_BATCH])}
        return {n: t.long() if t.dtype == torch.int32 else t for n, t in batch.items()}

    def objective(self) -> GivenMasks:
        """The objective with the initial weights."""
        config = self.config()
        vocab_size = self.record["config"]["vocab_size"]
        model = PretrainingModel(config.model, vocab_size=vocab_size, special=SPECIAL)
        weights = self.load("initial_weights")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(_in_our_order(name, weights))
        used = {reference_name(name)[0] for name, _ in model.named_parameters()}
        unused = sorted(weights.keys() - used)
        if unused:
            raise DataError(
                f"{self.folder}/initial_weights.npz has variables without a place: {unused}"
            )
        return GivenMasks(model, config.objective)


class GivenMasks(ReplacedTokenDetection):
    """The objective with masked positions from outside."""

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """The batch with its own masks in place of random ones."""
        masked = apply_masks(
            batch["input_ids"],
            batch["masked_positions"],
            batch["masked_weights"] > 0,
            batch["replaced_by_mask_token"] > 0,
            self.model.special,
        )
        batch = {**batch, **vars(masked)}
        return batch, self.counts(batch)


@dataclass(frozen=True)
class Deviation:
    """The largest of one quantity."""

    quantity: str
    largest: float
    tolerance: float
    kind: str
    """`absolute`, `relative` or `differing` (a number of entries)."""

    @property
    def within(self) -> bool:
        """Whether it is small enough; not where it is no number."""
        return self.largest <= self.tolerance


@torch.no_grad()
def forward_deviations(golden: Golden) -> list[Deviation]:
    """The first forward pass against `forward.npz`."""
    objective, batch, expected = golden.objective().eval(), golden.batch(), golden.load("forward")
    noise = Noise(0)
    prepared, counts = objective.prepare(batch, noise)
    judged = objective.judge(prepared, noise)
    real, used = batch["attention_mask"].bool(), batch["masked_weights"] > 0
    assert judged.generator_logits is not None
    close = {
        "gen_logits": (judged.generator_logits, used),
        "disc_hidden": (judged.hidden, real),
        "disc_probs": (judged.scores.sigmoid(), real),
    }
    same = {
        "masked_input_ids": (prepared["masked_input_ids"], torch.ones_like(real)),
        "corrupted_input_ids": (judged.corrupted_input_ids, torch.ones_like(real)),
        "is_replaced": (judged.is_replaced, real),
    }
    found = [
        Deviation(
            name, float((ours[where] != _tensor(expected[name])[where]).sum()), 0, "differing"
        )
        for name, (ours, where) in same.items()
    ]
    found += [
        Deviation(name, _largest(ours[where], _tensor(expected[name])[where]), 1e-5, "absolute")
        for name, (ours, where) in close.items()
    ]
    losses = objective.forward(prepared, noise).losses
    means = {name: float(loss / counts[name]) for name, loss in losses.items()}
    weights = objective.loss_weights
    means["loss"] = sum(weights[name] * value for name, value in means.items())
    theirs = {"generator_loss": "mlm_loss", "discriminator_loss": "disc_loss", "loss": "total_loss"}
    for ours, name in theirs.items():
        found.append(Deviation(name, _relative(means[ours], expected[name]), 1e-6, "relative"))
    return found


def step_deviations(golden: Golden) -> list[Deviation]:
    """The optimizer steps against `steps.json`, and the weights after them."""
    config, objective, rows = golden.config(), golden.objective(), Rows()
    steps = golden.record["steps"]
    batch = golden.batch()

    class Same:
        """The same batch at every step."""

        def batch(self, position: int, size: int) -> Batch:
            """Always the one."""
            return dict(batch)

    class Some(Budget):
        """Ends after the recorded ones of the planned steps."""

        def progress(self, state: TrainState) -> float:
            """1 when the recorded steps are done."""
            return 1.0 if state.step == len(steps) else super().progress(state)

    fit(
        objective,
        optimizer=build_optimizer(objective, config.optimizer),
        source=Same(),
        state=TrainState(),
        budget=Some(max_steps=config.training.max_steps),
        config=config.training,
        optimizer_config=config.optimizer,
        schedule=config.schedule,
        logging=config.logging,
        device=torch.device("cpu"),
        dtype=torch.float32,
        logger=rows,
    )
    names = {"lr": "lr", "generator_loss": "generator_loss", "grad_norm": "grad_norm"}
    names |= {"discriminator_loss": "discriminator_loss", "loss": "total_loss"}
    found = []
    for ours, theirs in names.items():
        pairs = zip(rows.rows, steps, strict=True)
        largest = np.max([_relative(row[ours], step[theirs]) for row, step in pairs])  # or NaN
        quantity = f"{theirs} of {len(steps)} steps"
        found.append(Deviation(quantity, float(largest), 1e-5, "relative"))
    final = golden.load(f"weights_after_{len(steps)}_steps")
    largest = np.max(
        [
            _largest(parameter.detach(), _in_our_order(name, final))
            for name, parameter in objective.model.named_parameters()
        ]
    )
    found.append(Deviation(f"weights after {len(steps)} steps", float(largest), 1e-5, "absolute"))
    return found


class Rows:
    """A logger that keeps rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log(self, row: dict[str, Any]) -> None:
        """Keep it."""
        self.rows.append(row)

    def show(self, progress: float, text: str) -> None:
        """Nothing."""


def _in_our_order(name: str, weights: dict[str, NDArray[Any]]) -> Tensor:
    theirs, transposed = reference_name(name)
    value = torch.from_numpy(weights[theirs])
    return value.T if transposed else value


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def _largest(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


def _relative(ours: float, theirs: Any) -> float:
    return abs(ours - float(theirs)) / max(abs(float(theirs)), 1e-30)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description="Deviations from the reference's values.")
    parser.add_argument(
        "--golden",
        type=Path,
        default=Path("tests/golden"),
        help="the folder of values, as tests/golden/README.md describes it (%(default)s)",
    )
    parser.add_argument("--json", type=Path, help="write the deviations to this file as well")
    given = parser.parse_args()
    golden = Golden(given.golden)
    try:
        if not (given.golden / "steps.json").is_file():
            raise DataError(f"{given.golden} holds no steps.json; {_WANTED}")
        deviations = forward_deviations(golden) + step_deviations(golden)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    beyond = [d.quantity for d in deviations if not d.within]
    rows = [{**vars(d), "within": d.within} for d in deviations]
    finish(rows, {"quantities": len(rows), "beyond_tolerance": len(beyond)}, json_file=given.json)
    if beyond:
        sys.exit(f"beyond tolerance: {', '.join(beyond)}")


if __name__ == "__main__":
    main()
