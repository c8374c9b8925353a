"""Learning-rate factors and budgets: pure functions of how far training has come.

`progress` is the used share of the budget, from 0 to 1, whatever the budget counts.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from electra.config import ScheduleConfig, TrainingConfig
from electra.errors import ConfigError

TRAPEZOID_START = 0.8
"""Share of the budget at which a trapezoid falls: the last fifth cools down, as in Hägele et al.
2024 (arXiv 2405.18392), who also compare the forms of the fall."""


@dataclass(kw_only=True)
class TrainState:
    """Where training stands; saved in every checkpoint."""

    step: int = 0
    """Steps done, those that were not applied counted: schedules and budgets go on."""
    examples_seen: int = 0
    """Over all ranks; the position in the stream where all examples have one length."""
    tokens_seen: int = 0
    """Tokens read, padding not counted, over all ranks."""
    seconds: float = 0.0
    """Monotonic training time; evaluation and saving left out."""
    seen_shorter: dict[str, int] = field(default_factory=dict)
    """Of `examples_seen`, those that the length ramp took from the stream of a shorter length."""
    skipped_steps: int = 0
    """Of the steps, those that were not applied: their loss or gradient was not finite."""
    skipped_in_a_row: int = 0
    """How many the last steps were that were not applied."""
    best_step: int | None = None
    """The saved step with the lowest evaluation loss; none: none was evaluated."""
    best_loss: float | None = None
    """Its weighted sum of held-out losses."""
    best_of: str = ""
    """The losses that were summed: in another stage of training others are, and none compares."""

    def position(self, length: int | None) -> int:
        """Of the next example in the stream of a length; none: that of the full length."""
        if length is not None:
            return self.seen_shorter.get(str(length), 0)
        return self.examples_seen - sum(self.seen_shorter.values())

    def count_examples(self, number: int, length: int | None) -> None:
        """Go on by `number` in the stream of a length."""
        if length is not None:
            self.seen_shorter[str(length)] = self.position(length) + number
        self.examples_seen += number


@dataclass(frozen=True)
class Budget:
    """How long to train: exactly one of steps, tokens, minutes; or a replayed run."""

    max_steps: int | None = None
    max_tokens: int | None = None
    minutes: float | None = None
    replayed: tuple[float, ...] | None = None
    """Progress at each step of an earlier run with a budget of minutes."""

    @classmethod
    def of(cls, training: TrainingConfig, replay: str | None = None) -> Budget:
        """The budget a config asks for.

        Raises:
            ConfigError: the file to replay is missing or holds no progress.
        """
        if replay is not None:
            return cls(replayed=_read_progress(Path(replay)))
        return cls(training.max_steps, training.max_tokens, training.minutes)

    def progress(self, state: TrainState) -> float:
        """The used share of the budget, 0 to 1; training ends when it is 1."""
        if self.replayed is not None:
            return self.replayed[state.step] if state.step < len(self.replayed) else 1.0
        if self.max_steps is not None:
            used = state.step / self.max_steps
        elif self.max_tokens is not None:
            used = state.tokens_seen / self.max_tokens
        else:
            assert self.minutes is not None, "a budget holds one of three"
            used = state.seconds / (60 * self.minutes)
        return min(1.0, used)

    def total_steps(self, state: TrainState) -> float:
        """Steps of the whole run: exact for a budget of steps, else judged by those done."""
        if self.max_steps is not None and self.replayed is None:
            return self.max_steps
        return state.step / max(self.progress(state), 1e-9)


def _read_progress(path: Path) -> tuple[float, ...]:
    if not path.is_file():
        raise ConfigError(f"--schedule.replay {path} does not exist; give a run's metrics.jsonl")
    progress: list[float] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            progress += json.loads(line).get("progress", [])
        except (ValueError, AttributeError, TypeError):
            raise ConfigError(
                f"--schedule.replay {path} line {number} is not a row of metrics"
            ) from None
    if not progress:
        raise ConfigError(
            f"--schedule.replay {path} holds no progress; only runs with --training.minutes need it"
        )
    return tuple(progress)


def lr_factor(config: ScheduleConfig, *, step: int, progress: float, total_steps: float) -> float:
    """Learning rate of the next update over the peak rate.

    Args:
        config: the schedule.
        step: updates done so far, so 0 for the first.
        progress: used share of the budget.
        total_steps: steps of the whole run; 0 where that is not known yet.

    With `overlap` (google-research/electra, model/optimization.py) the factor is
    `(1 - s / total_steps) * min(1, s / warmup_steps)` with s = step + first_update: the peak is
    never reached. Otherwise warmup rises first and decay begins where it, or `decay_start`, ends;
    the first update already uses 1 / warmup_steps. With u the share of the fall that is over, it
    is 1 - u, (1 + cos(pi u)) / 2, or 1 - sqrt(u) (Hägele et al. 2024; ModernBERT).
    """
    if config.overlap:
        s = step + config.first_update
        if config.warmup_ratio and not total_steps:
            return 1e-3  # how long warmup is will be known after the first step
        warmup_steps = config.warmup_steps or (config.warmup_ratio or 0.0) * total_steps
        warm = min(1.0, s / warmup_steps) if warmup_steps else 1.0
        fallen = s / total_steps if total_steps else 0.0
        return max(0.0, 1 - fallen) * warm
    warm = 1.0
    if config.warmup_steps is not None:
        warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    elif config.warmup_ratio:
        # progress is 0 at the first update: half a step's worth keeps its rate above zero
        half = 0.5 / total_steps if total_steps else 1e-3 * config.warmup_ratio
        warm = min(1.0, (progress + half) / config.warmup_ratio)
    begins = config.decay_start
    if config.decay == "trapezoid" and not begins:
        begins = TRAPEZOID_START
    start = max(begins, config.warmup_ratio or 0.0)
    if config.warmup_steps is not None and math.isfinite(total_steps) and total_steps > 0:
        start = max(start, min(0.99, config.warmup_steps / total_steps))
    if config.decay == "constant" or progress <= start:
        return warm
    fallen = (progress - start) / (1 - start)
    if config.decay == "cosine":
        return warm * (0.5 * (1 + math.cos(math.pi * fallen)))
    return warm * (1 - (math.sqrt(fallen) if config.decay_form == "one_minus_sqrt" else fallen))
