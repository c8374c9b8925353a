"""The loop: one division of losses, micro-batches and ranks alike, signals, bad numbers."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from electra.config import LoggingConfig, OptimizerConfig, ScheduleConfig, TrainingConfig
from electra.errors import ElectraError, Interrupted
from electra.training.distributed import join_world, leave_world
from electra.training.loop import Batch, StepOutput, fit
from electra.training.noise import Noise
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState
from tests.two_processes import in_two_processes


class TwoLosses(nn.Module):
    """Two losses with different, uneven numbers of targets, as in ELECTRA."""

    loss_weights: Mapping[str, float] = {"first": 1.0, "second": 3.0}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, 4)
        self.head = nn.Linear(4, 1)

    def begin_step(self, progress: float) -> None:
        assert 0 <= progress < 1

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        chosen = batch["input_ids"] % 3 == 0
        batch = {**batch, "chosen": chosen}
        return batch, {"first": chosen.sum(), "second": batch["attention_mask"].sum()}

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        scores = self.head(self.table(batch["input_ids"])).squeeze(-1)
        first = ((scores - 1) ** 2 * batch["chosen"]).sum()
        second = ((scores + 1) ** 2 * batch["attention_mask"]).sum()
        return StepOutput({"first": first, "second": second})


class Source:
    """Rows of uneven length, each a function of its position."""

    def batch(self, position: int, size: int) -> Batch:
        rows = []
        for i in range(position, position + size):
            generator = torch.Generator().manual_seed(i)
            row = torch.randint(1, 20, (6,), generator=generator)
            row[int(torch.randint(2, 7, (1,), generator=generator)) :] = 0
            rows.append(row)
        ids = torch.stack(rows)
        return {"input_ids": ids, "attention_mask": (ids != 0).long()}


class Rows:
    """A logger that keeps rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def show(self, progress: float, text: str) -> None:
        pass


def train(
    micro: int | None = None,
    steps: int = 5,
    objective: nn.Module | None = None,
    max_skipped_steps: int = 5,
    **extra: Any,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    made = objective or TwoLosses()
    logger = Rows()
    optimizer_config = OptimizerConfig(learning_rate=0.05, max_grad_norm=1.0)
    fit(
        made,  # type: ignore[arg-type]
        optimizer=build_optimizer(made, optimizer_config),
        source=Source(),
        state=TrainState(),
        budget=Budget(max_steps=steps),
        config=TrainingConfig(
            max_steps=steps,
            global_batch_size=8,
            micro_batch_size=micro,
            max_skipped_steps=max_skipped_steps,
        ),
        optimizer_config=optimizer_config,
        schedule=ScheduleConfig(),
        logging=LoggingConfig(log_steps=1),
        device=torch.device("cpu"),
        dtype=torch.float32,
        logger=logger,
        **extra,
    )
    return made, logger.rows


def test_micro_batches_do_not_change_the_update() -> None:
    whole, rows = train()
    for micro in (4, 2, 1):
        parts, part_rows = train(micro)
        for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        for one, other in zip(rows, part_rows, strict=True):
            for name in ("loss", "first", "second", "grad_norm", "tokens_seen"):
                assert one[name] == pytest.approx(other[name], rel=1e-5)


def test_losses_are_means_over_their_own_targets() -> None:
    _, rows = train(steps=1)
    batch = Source().batch(0, 8)
    objective = TwoLosses()
    prepared, counts = objective.prepare(batch, Noise(0))
    with torch.no_grad():
        output = objective(prepared, Noise(0))
    means = {name: float(output.losses[name] / counts[name]) for name in counts}
    assert rows[0]["first"] == pytest.approx(means["first"], rel=1e-5)
    assert rows[0]["second"] == pytest.approx(means["second"], rel=1e-5)
    assert rows[0]["loss"] == pytest.approx(means["first"] + 3 * means["second"], rel=1e-5)


def _rank(rank: int, folder: Path) -> None:
    world = join_world()
    module, rows = train(micro=2, world=world)
    if rank == 0:
        torch.save({"weights": module.state_dict(), "rows": rows}, f"{folder}/ranks.pt")
    world.wait()
    leave_world(world)


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    in_two_processes(_rank, tmp_path)
    saved = torch.load(tmp_path / "ranks.pt", weights_only=True)
    whole, rows = train()
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(saved["weights"][name], tensor, atol=1e-6), name
    for one, other in zip(rows, saved["rows"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["tokens_seen"] == other["tokens_seen"]


class Interrupting(TwoLosses):
    """Sends this process a signal in the middle of the third step."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.calls = number, 0

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        self.calls += 1
        if self.calls == 3:
            os.kill(os.getpid(), self.number)
        return super().forward(batch, noise)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_at_a_whole_step(number: int, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="stopped at step 3") as caught:
        train(objective=Interrupting(number))
    assert caught.value.exit_code == code
    assert signal.getsignal(number) is before


class Broken(TwoLosses):
    """A loss that is no number."""

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        output = super().forward(batch, noise)
        return StepOutput({name: loss * float("nan") for name, loss in output.losses.items()})


def test_a_loss_that_is_no_number_stops_before_the_update() -> None:
    objective = Broken()
    with pytest.raises(ElectraError, match="gradient of step 1 is not finite"):
        train(objective=objective, max_skipped_steps=0)
    assert all(torch.isfinite(p).all() for p in objective.parameters())


def test_evaluations_come_ten_times_and_at_the_end() -> None:
    calls: list[int] = []

    def evaluate() -> dict[str, float]:
        calls.append(1)
        return {"x": 1.0}

    _, rows = train(steps=40, evaluate=evaluate)
    assert len(calls) == 10
    assert [row["step"] for row in rows if "eval_x" in row] == list(range(4, 41, 4))
