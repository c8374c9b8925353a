"""Pieces of a pretraining run in which batch and length stay, and what they must fit."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from electra.config.corpus import DataConfig
from electra.config.objective import ObjectiveConfig
from electra.config.option import require
from electra.config.ramps import batch_size_at, value_at
from electra.config.training import ScheduleConfig, TrainingConfig
from electra.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Stage:
    """A piece of the run in which neither batch nor length changes."""

    share: float
    """Of the steps of the run."""
    sequences: int
    """A step, over all devices."""
    length: int
    """Tokens in a sequence."""


def check_ramps(
    schedule: ScheduleConfig, training: TrainingConfig, data: DataConfig, objective: ObjectiveConfig
) -> None:
    """Refuse ramps that do not fit batch, length and objective.

    Raises:
        ConfigError: naming what does not fit.
    """
    unit, size = training.micro_batch_size or 1, training.global_batch_size
    unit = unit if isinstance(unit, int) else 1  # a smaller last micro-batch is no harm
    for _, share in schedule.batch_ramp:
        # as it was written: 0.3 times 10 is 3
        sequences = Fraction(str(share)) * size
        if share > 1 or sequences < 1 or sequences.denominator != 1 or int(sequences) % unit:
            raise ConfigError(
                f"--schedule.batch-ramp: {share:g} of --training.global-batch-size {size} is "
                f"{float(sequences):g} sequences; allowed: multiples of {unit}"
                + (" (--training.micro-batch-size)" if unit > 1 else "")
                + f", at most {size}"
            )
    for _, length in schedule.length_ramp:
        require(
            8 <= length <= data.max_length,
            "schedule.length-ramp",
            f"{length} tokens",
            f"8 to --data.max-length {data.max_length}",
        )
    if schedule.length_ramp and objective.name == "self_augmented":
        raise ConfigError(
            "--schedule.length-ramp does not apply to --objective.name self_augmented, which keeps "
            "positions in the rows of one length; leave it out or choose another objective"
        )
    if objective.replacements is not None and (schedule.batch_ramp or schedule.length_ramp):
        raise ConfigError(
            "--objective.replacements keeps rows of one length and batches of one size: leave out "
            "--schedule.batch-ramp and --schedule.length-ramp, or the replacements"
        )


def stages(schedule: ScheduleConfig, training: TrainingConfig, data: DataConfig) -> list[Stage]:
    """The pieces of a run in which nothing changes, with their shares of its steps.

    For a budget of tokens a step's share of progress is its tokens, so short steps are more; a
    budget of minutes is taken as one of steps.
    """
    starts = sorted({0.0, *(u for u, _ in (*schedule.batch_ramp, *schedule.length_ramp))})
    found = []
    for start, end in zip(starts, [*starts[1:], 1.0], strict=True):
        sequences = batch_size_at(schedule.batch_ramp, start, training.global_batch_size)
        length = round(value_at(schedule.length_ramp, start, data.max_length))
        tokens = sequences * length if training.max_tokens is not None else 1
        found.append(Stage((end - start) / tokens, sequences, length))
    total = sum(stage.share for stage in found)
    return [dataclasses.replace(stage, share=stage.share / total) for stage in found]
