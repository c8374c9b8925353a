"""How long to fine-tune: epochs as the steps that the loop counts in; a step in how many parts."""

from __future__ import annotations

import dataclasses
import math

import torch

from electra.config import BUDGETS, FinetuneConfig, FinetuneTrainingConfig

EPOCHS = ((1_000, 20.0), (10_000, 10.0))
"""(rows below which, epochs); the 10, and the 3 for more, are the paper's (RTE, STS; the rest)."""
CPU_PARTS = (4, 2)
"""Micro-batches of a step, the first number that divides it."""


def with_budget(config: FinetuneConfig, rows: int) -> FinetuneTrainingConfig:
    """The training section, with epochs by the number of rows where no budget was given."""
    training = config.training
    given = any(getattr(training, name) is not None for name in (*BUDGETS, "epochs"))
    if given or config.schedule.replay is not None:
        return training
    epochs = next((epochs for below, epochs in EPOCHS if rows < below), 3.0)
    return dataclasses.replace(training, epochs=epochs)


def in_steps(training: FinetuneTrainingConfig, rows: int) -> FinetuneTrainingConfig:
    """A budget of epochs as `max_steps`, rounded up; another budget as it is."""
    if training.epochs is None:
        return training
    steps = math.ceil(training.epochs * rows / training.global_batch_size)
    return dataclasses.replace(training, epochs=None, max_steps=max(1, steps))


def in_parts(
    training: FinetuneTrainingConfig, device: torch.device, processes: int = 1
) -> FinetuneTrainingConfig:
    """On a CPU, if nothing was given, a step in four parts (or two): less padding, same gradient.

    `LengthBatches` sorts a batch by length, so the rows of a part are of like length.
    """
    share = training.global_batch_size // processes
    parts = next((n for n in CPU_PARTS if share % n == 0), 1)
    if training.micro_batch_size is not None or device.type != "cpu" or parts == 1:
        return training
    return dataclasses.replace(training, micro_batch_size=share // parts)
