"""Remake `curves.json`, the losses of 20 steps for both families.

    python -m tests.golden.remake

Only after a change that is meant to move them; say in the commit what moved and why.
"""

import json
from pathlib import Path

import torch

from electra.config import PretrainConfig
from electra.corpus.tokenizer import SpecialIds
from electra.objectives.objective import build_objective
from electra.training.loop import Batch, fit
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState
from tests.shapes import tiny_config

FILE = Path(__file__).with_name("curves.json")
VOCAB = 80
NAMES = ("generator_loss", "discriminator_loss", "grad_norm")


class Counting:
    """Rows that count up from a random start: something a small network learns at once."""

    def batch(self, position: int, size: int) -> Batch:
        rows = []
        for i in range(position, position + size):
            start = int(torch.randint(5, VOCAB, (1,), generator=torch.Generator().manual_seed(i)))
            row = 5 + (start + torch.arange(16)) % (VOCAB - 5)
            row[0], row[-1] = 2, 3
            rows.append(row)
        return {"input_ids": torch.stack(rows)}


class Rows:
    """A logger that keeps rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def show(self, progress: float, text: str) -> None:
        pass


def config_of(name: str) -> PretrainConfig:
    """`classic` with the reference's optimizer and schedule; `modern` with ours."""
    training = {"max_steps": 20, "global_batch_size": 16}
    if name == "classic":
        return tiny_config(
            "classic",
            objective={"discriminator_weight": 50.0},
            optimizer={"bias_correction": False},
            schedule={"overlap": True, "warmup_steps": 5, "first_update": 1},
            training=training,
        )
    return tiny_config("modern", objective={"mask_token_prob": 1.0}, training=training)


def curve(name: str) -> dict[str, list[float]]:
    """Losses and gradient norms of 20 steps: dropout 0, noise by position alone."""
    config = config_of(name)
    torch.manual_seed(0)
    objective = build_objective(config, VOCAB, SpecialIds(0, 1, 2, 3, 4))
    logger = Rows()
    fit(
        objective,
        optimizer=build_optimizer(objective, config.optimizer),
        source=Counting(),
        state=TrainState(),
        budget=Budget.of(config.training),
        config=config.training,
        optimizer_config=config.optimizer,
        schedule=config.schedule,
        logging=config.logging,
        device=torch.device("cpu"),
        dtype=torch.float32,
        logger=logger,
    )
    return {n: [row[n] for row in logger.rows] for n in NAMES}


if __name__ == "__main__":
    torch.set_num_threads(1)
    FILE.write_text(json.dumps({name: curve(name) for name in ("classic", "modern")}, indent=1))
    print(f"wrote {FILE}")
