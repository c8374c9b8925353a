"""The one loop: pretraining and every fine-tuning task go through `fit`.

What is trained is an objective, the only seam: it turns a batch into one with targets (`prepare`)
and that into losses (`forward`). Losses come back as sums; the loop divides each once, by the
number of its targets over all micro-batches and ranks, so that neither weighs some rows more than
others; masks and samples belong to examples, so neither changes them. Batches are a pure function
of the position in the stream, so that resuming replays nothing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from electra.config import LoggingConfig, OptimizerConfig, ScheduleConfig, TrainingConfig
from electra.config.ramps import batch_size_at, value_at
from electra.errors import ElectraError, Interrupted
from electra.training.averaging import TailAverage
from electra.training.checkpoint import CheckpointStore
from electra.training.device import autocast, moved, seed_rank
from electra.training.distributed import World
from electra.training.health import none_applied, offer_best
from electra.training.meters import Meter
from electra.training.noise import Noise
from electra.training.optimizer import clip_gradients, set_learning_rate, step_where
from electra.training.parallel import Passes
from electra.training.schedule import Budget, TrainState, lr_factor
from electra.training.signals import noted_signals
from electra.training.verdicts import Step, Verdict, Verdicts, reads_late

if TYPE_CHECKING:
    from electra.training.loggers import Logger

Batch = dict[str, Tensor]


@dataclass
class StepOutput:
    """What one forward pass gives."""

    losses: dict[str, Tensor]
    """Each loss summed over its targets, unweighted."""
    metrics: dict[str, tuple[Tensor, Tensor | float]] = field(default_factory=dict)
    """Sums and the counts they are to be divided by, for the log alone."""


class Objective(Protocol):
    """What is trained. Implementations are `nn.Module`s."""

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """The total loss is the sum of these times the mean of each loss."""

    def begin_step(self, progress: float) -> None:
        """Called before each step with the used share of the budget (stages, ramps)."""

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Targets for a batch, and how many there are for each loss; random only by `noise`."""

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Losses of a prepared batch; random by `noise` and torch's own (dropout)."""


class BatchSource(Protocol):
    """An endless stream of examples, each a pure function of its position."""

    def batch(self, position: int, size: int) -> Batch:
        """Examples `position` to `position + size` of the stream, first dimension `size`."""


Evaluate = Callable[[], dict[str, float]]
TIMES_A_RUN = 10
"""Evaluations and checkpoints over a run where no number of steps is given."""


def fit(
    objective: Objective,
    *,
    optimizer: torch.optim.Optimizer,
    source: BatchSource,
    state: TrainState,
    budget: Budget,
    config: TrainingConfig,
    optimizer_config: OptimizerConfig,
    schedule: ScheduleConfig,
    logging: LoggingConfig,
    device: torch.device,
    dtype: torch.dtype,
    logger: Logger,
    evaluate: Evaluate | None = None,
    checkpoints: CheckpointStore | None = None,
    world: World | None = None,
    stop: Callable[[], bool] | None = None,
    shorter: Mapping[int, BatchSource] | None = None,
    average: TailAverage | None = None,
    check: Callable[[], None] | None = None,
    utilisation: Callable[[float, float], float] | None = None,
) -> dict[str, float]:
    """Train until the budget is used, or `stop` says so after an evaluation.

    A step whose loss or gradient is not finite is not applied: its examples are consumed, it counts
    as a step, and weights and optimizer stay as they were. `check` is called before each
    checkpoint; what it raises ends the run without one.

    `shorter` are the streams of the other lengths of `schedule.length_ramp`, each with a position
    of its own; `average`, a submodule of the objective, is what the last evaluation is of.
    `utilisation` says what share of the machine progress and tokens a second are.

    Returns:
        the last evaluation.

    Raises:
        Interrupted: SIGINT or SIGTERM came; a checkpoint of the last whole step is on disk.
        DivergedError: more steps in a row than `max_skipped_steps`, or all there were, were not
            applied.
        ElectraError: a checkpoint cannot be written; the one before it is as it was.
    """
    world = world or World()
    assert isinstance(objective, nn.Module), "objectives are modules"
    passes = Passes(objective, world)
    window = _Window(state, logger, world, utilisation)
    verdicts = Verdicts(state, logger, config.max_skipped_steps)
    late = not passes.divided and reads_late(device, optimizer, average)
    last_eval: dict[str, float] = {}
    # what a resumed run starts from was evaluated and saved when it was reached
    eval_mark = save_mark = _mark(budget.progress(state))
    evaluated_step = saved_step = state.step
    objective.train()
    logger.show(budget.progress(state), "")
    with noted_signals() as caught:
        while True:
            progress = budget.progress(state)
            done = progress >= 1 or (stop is not None and stop())
            stopped = world.agree(caught.number is not None)
            mark = _mark(progress)

            if evaluate is not None and state.step != evaluated_step:
                if done or _due(config.eval_steps, state.step, mark > eval_mark):
                    verdicts.settle()
                    objective.eval()
                    with average.applied() if average is not None and done else nullcontext():
                        last_eval = evaluate()
                    objective.train()
                    row = {f"eval_{name}": value for name, value in last_eval.items()}
                    logger.log({"step": state.step, "tokens_seen": state.tokens_seen, **row})
                    evaluated_step, eval_mark = state.step, mark
                    done = done or (stop is not None and stop())
            if checkpoints is not None and state.step != saved_step:
                if done or stopped or _due(config.save_steps, state.step, mark > save_mark):
                    verdicts.settle()
                    window.log(optimizer, budget)
                    if evaluated_step == state.step:
                        offer_best(state, objective.loss_weights, last_eval)
                    environment = bit_environment(config, dtype, world)
                    _save(checkpoints, objective, optimizer, state, environment, world, check)
                    saved_step, save_mark = state.step, mark
            if stopped:
                number = caught.number or int(signal.SIGTERM)
                raise Interrupted(number, f"stopped at step {state.step}")
            if done:
                verdicts.settle()
                if state.skipped_steps == state.step > 0:
                    raise none_applied(state)
                return last_eval

            # ---- one step -------------------------------------------------------------------
            started = time.perf_counter()
            seed_rank(config.seed, world, state.step)
            objective.begin_step(progress)
            set_learning_rate(
                optimizer,
                optimizer_config.learning_rate
                * lr_factor(
                    schedule,
                    step=state.step,
                    progress=progress,
                    total_steps=budget.total_steps(state),
                ),
            )
            size = batch_size_at(schedule.batch_ramp, progress, config.global_batch_size)
            length: int | None = int(value_at(schedule.length_ramp, progress, 0))
            stream = (shorter or {}).get(length or 0)
            if stream is None:
                stream, length = source, None
            window.meter.begin_step()
            tokens, loss = _accumulate(
                objective,
                passes,
                stream,
                state,
                config,
                device,
                dtype,
                window.meter,
                world,
                size=size,
                position=state.position(length),
            )
            norm = clip_gradients(optimizer, optimizer_config.max_grad_norm)
            verdicts.settle()  # of the step before, now that this one is queued
            # the gradient is the same everywhere, the loss is that of this process's share
            finite = world.everywhere(torch.isfinite(norm + loss))
            applied = Verdict(finite)
            if late:
                step_where(optimizer, finite)
            elif applied.read():
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None and applied.read():
                average.update(progress)
            state.step += 1
            first = state.examples_seen
            state.count_examples(size, length)
            state.tokens_seen += tokens
            state.seconds = world.same_number(state.seconds + time.perf_counter() - started)
            # ---------------------------------------------------------------------------------

            window.add(norm, finite if late else applied.read(), progress)
            verdicts.expect(Step(applied, first, norm, loss))
            if not late:
                verdicts.settle()
            if state.step % logging.log_steps == 0 or budget.progress(state) >= 1:
                verdicts.settle()
                window.log(optimizer, budget)


class _Window:
    """The steps since the last line of metrics."""

    def __init__(
        self,
        state: TrainState,
        logger: Logger,
        world: World,
        utilisation: Callable[[float, float], float] | None,
    ) -> None:
        self.meter, self._utilisation = Meter(), utilisation
        self._state, self._logger, self._world = state, logger, world
        self._progress: list[float] = []
        self._since = (state.tokens_seen, state.seconds)

    def add(self, norm: Tensor, applied: bool | Tensor, progress: float) -> None:
        """Count a step; its progress is kept, so that a budget of minutes can be replayed.

        The numbers of one that was not applied are left out of the means.
        """
        self.meter.add("grad_norm", norm, 1)
        self.meter.end_step(applied)
        self._progress.append(progress)

    def log(self, optimizer: torch.optim.Optimizer, budget: Budget) -> None:
        """Write a line and start again; before every checkpoint too, or resuming would lose it."""
        if not self._progress:
            return
        state, row = self._state, self.meter.read(self._world)
        elapsed = max(state.seconds - self._since[1], 1e-9)
        speed = (state.tokens_seen - self._since[0]) / elapsed
        used = None if self._utilisation is None else self._utilisation(self._progress[-1], speed)
        self._logger.log(
            {
                "step": state.step,
                "tokens_seen": state.tokens_seen,
                "seconds": round(state.seconds, 3),
                "lr": optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["lr_scale"],
                **row,
                "tokens_per_second": round(speed, 1),
                **({} if used is None else {"utilisation": round(used, 4)}),
                **({"progress": self._progress} if budget.minutes is not None else {}),
            }
        )
        self._since, self._progress = (state.tokens_seen, state.seconds), []
        told = [n for n in row if n.endswith("loss") or n == "grad_norm"]
        shown = "  ".join(f"{n.replace('_', ' ')} {row[n]:.3f}" for n in told)
        share = "" if used is None else f"{used:.1%} of peak  "
        self._logger.show(budget.progress(state), f"{speed:,.0f} tok/s  {share}{shown}")


def _accumulate(
    objective: Objective,
    passes: Passes,
    source: BatchSource,
    state: TrainState,
    config: TrainingConfig,
    device: torch.device,
    dtype: torch.dtype,
    meter: Meter,
    world: World,
    *,
    size: int,
    position: int,
) -> tuple[int, Tensor]:
    """Gradients of one step, over all micro-batches and ranks.

    `size` examples over all ranks are read from `position` of the source on; their noise goes by
    how many were seen before, of any length.

    Returns:
        the tokens of all ranks, and this rank's share of the loss.
    """
    share = size // world.size
    micro = min(rows_at_once(config, world), share)
    prepared = []
    counts: dict[str, Tensor] = {}
    tokens = 0
    for first in range(0, share, micro):
        offset = world.rank * share + first
        noise = Noise(config.seed, state.examples_seen + offset)
        batch = source.batch(position + offset, min(micro, share - first))
        mask = batch.get("attention_mask")  # counted before it is on a device that computes
        tokens += batch["input_ids"].numel() if mask is None else int(mask.sum())
        batch, found = objective.prepare(moved(batch, device), noise)
        for name, count in found.items():
            counts[name] = counts.get(name, torch.zeros((), device=device)) + count
        prepared.append((batch, noise))
    names = sorted(counts)
    totals = world.sum(torch.stack([counts[n].float() for n in names]))
    totals = torch.where(totals > 0, totals, torch.ones_like(totals))
    divisors = dict(zip(names, totals, strict=True))
    whole = torch.zeros((), device=device)
    for number, (batch, noise) in enumerate(prepared, start=1):
        with autocast(device, dtype):
            output: StepOutput = passes.run(batch, noise, last=number == len(prepared))
        weights = objective.loss_weights
        loss = sum(
            (weights[n] * output.losses[n] / divisors[n] for n in output.losses),
            start=torch.zeros((), device=device),
        )
        loss.backward()
        whole = whole + loss.detach()
        # the share of each rank and micro-batch adds up to the loss of the step
        meter.add("loss", loss.detach(), 1 / (len(prepared) * world.size))
        for name, summed in output.losses.items():
            meter.add(name, summed.detach() / divisors[name], 1 / (len(prepared) * world.size))
        for name, (metric, over) in output.metrics.items():
            meter.add(name, metric, over)
    return world.total(tokens), whole


def _save(
    checkpoints: CheckpointStore,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    environment: dict[str, Any],
    world: World,
    check: Callable[[], None] | None,
) -> None:
    """A checkpoint by all processes; they leave together where one finds a fault."""
    failure: ElectraError | None = None
    try:
        if check is not None:
            check()
    except ElectraError as error:
        failure = error
    if not world.agree(failure is not None):
        try:
            checkpoints.save(
                module=module, optimizer=optimizer, state=state, environment=environment
            )
        except ElectraError as error:
            failure = error
    if world.agree(failure is not None):
        raise failure or ElectraError(f"another process stopped the run at step {state.step}")


def rows_at_once(config: TrainingConfig, world: World) -> int:
    """Sequences of a forward pass on one device."""
    size, share = config.micro_batch_size, config.global_batch_size // world.size
    assert size != "auto", "memory.within_memory comes before"
    return min(size or share, share)


def bit_environment(config: TrainingConfig, dtype: torch.dtype, world: World) -> dict[str, Any]:
    """What must stay the same for a resumed run to repeat the very bits."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "micro_batch_size": rows_at_once(config, world),
        "world_size": world.size,
        "sharding": config.sharding,
        **({"compiled": True} if config.compile is True else {}),
    }


def _mark(progress: float) -> int:
    return int(progress * TIMES_A_RUN + 1e-9)


def _due(steps: int | None, step: int, passed_mark: bool) -> bool:
    return passed_mark if steps is None else step % steps == 0
