"""Steps whose loss or gradient is no number: not applied, counted, told, and ended at a limit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from electra.config import LoggingConfig, OptimizerConfig, ScheduleConfig, TrainingConfig
from electra.errors import DivergedError
from electra.training.checkpoint import CheckpointStore
from electra.training.distributed import World, join_world, leave_world
from electra.training.loop import Batch, StepOutput, fit
from electra.training.noise import Noise
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState
from tests.training.test_loop import Rows, Source, TwoLosses
from tests.two_processes import in_two_processes

BATCH = 8
OPTIMIZER = OptimizerConfig(learning_rate=0.05, max_grad_norm=1.0)


class PoisonedSource(Source):
    """Some steps hold one example that is not to be learned from."""

    def __init__(self, steps: set[int], stop_at: int = 10**9) -> None:
        self.bad = {BATCH * (step - 1) + 5 for step in steps}
        self.stop_at = stop_at

    def batch(self, position: int, size: int) -> Batch:
        if position >= BATCH * (self.stop_at - 1):
            raise MemoryError("the machine gave up")
        here = [i in self.bad for i in range(position, position + size)]
        return {**super().batch(position, size), "bad": torch.tensor(here)}


class Poisoned(TwoLosses):
    """A bad example makes its loss, or the loss and the gradient, no number."""

    def __init__(self, *, gradient: bool = True) -> None:
        super().__init__()
        self.gradient = gradient

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        output = super().forward(batch, noise)
        if batch["bad"].any():
            first = output.losses["first"]
            no_number = first * float("nan") if self.gradient else first + float("inf")
            output.losses["first"] = no_number
        return output


def run(
    bad: set[int],
    *,
    steps: int = 6,
    limit: int = 5,
    gradient: bool = True,
    state: TrainState | None = None,
    store: CheckpointStore | None = None,
    stop_at: int = 10**9,
    world: World | None = None,
    micro: int | None = None,
) -> tuple[Poisoned, torch.optim.Optimizer, TrainState, list[dict[str, Any]]]:
    objective, logger, state = Poisoned(gradient=gradient), Rows(), state or TrainState()
    optimizer = build_optimizer(objective, OPTIMIZER)
    if store is not None:
        loaded = store.load_latest(module=objective, optimizer=optimizer)
        state = loaded.state if loaded else state
    fit(
        objective,
        optimizer=optimizer,
        source=PoisonedSource(bad, stop_at),
        state=state,
        budget=Budget(max_steps=steps),
        config=TrainingConfig(
            max_steps=steps,
            global_batch_size=BATCH,
            micro_batch_size=micro,
            max_skipped_steps=limit,
            save_steps=1,
        ),
        optimizer_config=OPTIMIZER,
        schedule=ScheduleConfig(),
        logging=LoggingConfig(log_steps=2),
        device=torch.device("cpu"),
        dtype=torch.float32,
        logger=logger,
        checkpoints=store,
        world=world,
    )
    return objective, optimizer, state, logger.rows


def by_hand(skipped: set[int], steps: int) -> TwoLosses:
    """The same steps written out, with the plain optimizer of torch."""
    module = TwoLosses()
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.999),
        eps=1e-6,
    )
    for step in range(1, steps + 1):
        if step in skipped:
            continue
        batch, counts = module.prepare(Source().batch(BATCH * (step - 1), BATCH), Noise(0))
        losses = module(batch, Noise(0)).losses
        loss = losses["first"] / counts["first"] + 3 * losses["second"] / counts["second"]
        optimizer.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum((p.grad**2).sum() for p in module.parameters()))  # type: ignore[arg-type, misc, operator]
        for p in module.parameters():
            p.grad *= min(1.0, 1.0 / float(norm))  # type: ignore[operator]
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - (step - 1) / steps)
        optimizer.step()
    return module


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("micro", [None, 2])
def test_a_bad_step_is_as_if_it_had_not_updated(gradient: bool, micro: int | None) -> None:
    objective, optimizer, state, rows = run({3}, gradient=gradient, micro=micro)
    expected = by_hand({3}, 6)
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(objective.state_dict()[name], tensor, atol=1e-6), name
    assert {int(s["step"]) for s in optimizer.state.values()} == {5}
    assert (state.step, state.examples_seen) == (6, 48)
    assert (state.skipped_steps, state.skipped_in_a_row) == (1, 0)
    told = [row for row in rows if "warning" in row]
    assert len(told) == 1
    assert told[0]["step"] == 3
    assert told[0]["skipped_steps"] == 1
    assert told[0]["skipped_examples"] == [16, 23]
    what = "gradient" if gradient else "loss"
    assert told[0]["warning"].startswith(f"the {what} of step 3 is not finite (norm ")
    assert "examples 16 to 23 of the stream" in told[0]["warning"]
    assert told[0]["warning"].endswith(
        "the step is not applied (1 in a row, 1 of 3 steps of the run)"
    )


def test_rows_leave_out_what_was_not_applied() -> None:
    rows = [row for row in run({3})[3] if "lr" in row]
    alone = [row for row in run(set())[3] if "lr" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[0] == pytest.approx(alone[0] | rows[0])
    assert rows[1]["loss"] != pytest.approx(alone[1]["loss"])
    # both steps of a row: no losses, but a row
    rows = [row for row in run({3, 4})[3] if "lr" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert "loss" not in rows[1]
    assert "loss" in rows[2]


def test_without_bad_steps_nothing_is_told_and_nothing_moves() -> None:
    objective, _, state, rows = run(set())
    assert not [row for row in rows if "warning" in row]
    assert (state.skipped_steps, state.skipped_in_a_row) == (0, 0)
    expected = by_hand(set(), 6)
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(objective.state_dict()[name], tensor, atol=1e-6), name


@pytest.mark.parametrize(
    ("limit", "bad", "at"), [(0, {2, 3}, 2), (1, {1, 3, 4, 5}, 4), (2, {1, 3, 4, 5}, 5)]
)
def test_too_many_in_a_row_end_the_run(limit: int, bad: set[int], at: int) -> None:
    found = (
        rf"gradient of step {at} is not finite .* {limit + 1} in a row, .* "
        rf"--optimizer.learning-rate .* --training.max-skipped-steps {4 * limit + 4}"
    )
    with pytest.raises(DivergedError, match=found):
        run(bad, limit=limit)


def test_a_good_step_begins_the_row_anew() -> None:
    assert run({1, 3, 5}, limit=1)[2].skipped_steps == 3


def test_a_run_without_one_good_step_is_none() -> None:
    with pytest.raises(DivergedError, match="none of the 3 steps could be applied"):
        run({1, 2, 3}, steps=3)


@pytest.mark.parametrize("stop_at", [2, 4])
def test_resumed_after_a_bad_step_equals_undisturbed(tmp_path: Path, stop_at: int) -> None:
    bad = {1, 3, 4}
    whole, whole_optimizer, whole_state, _ = run(bad, steps=8)
    store = CheckpointStore(tmp_path)
    with pytest.raises(MemoryError):
        run(bad, steps=8, store=store, stop_at=stop_at)
    assert store.steps()[-1] == stop_at - 1
    resumed, optimizer, state, _ = run(bad, steps=8, store=store)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        for slot, value in whole_optimizer.state[p].items():
            assert torch.equal(optimizer.state[q][slot], value), slot
    assert (state.step, state.skipped_steps, state.skipped_in_a_row) == (8, 3, 0)
    assert whole_state.skipped_steps == 3


def test_the_row_of_bad_steps_is_counted_on_after_a_resume(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(MemoryError):
        run({3, 4, 5}, limit=2, store=store, stop_at=5)
    with pytest.raises(DivergedError, match=r"step 5 .* 3 in a row, 3 of 5 steps"):
        run({3, 4, 5}, limit=2, store=store)
    assert store.steps()[-1] == 4
    _, _, state, _ = run({3, 4, 5}, limit=3, store=store)  # as the advice says
    assert state.step == 6


def _rank(rank: int, folder: Path) -> None:
    world = join_world()
    objective, _, state, rows = run({3}, gradient=False, world=world)
    kept = {"weights": objective.state_dict(), "skipped": state.skipped_steps}
    kept["told"] = [row["step"] for row in rows if "warning" in row]
    torch.save(kept, f"{folder}/rank-{rank}.pt")
    world.wait()
    leave_world(world)


def test_a_loss_that_is_bad_in_one_process_skips_the_step_in_all(tmp_path: Path) -> None:
    in_two_processes(_rank, tmp_path)
    one, other = (torch.load(tmp_path / f"rank-{r}.pt", weights_only=True) for r in (0, 1))
    assert one["skipped"] == other["skipped"] == 1
    assert one["told"] == other["told"] == [3]
    expected = by_hand({3}, 6)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(one["weights"][name], other["weights"][name]), name
        assert torch.allclose(one["weights"][name], tensor, atol=1e-6), name
