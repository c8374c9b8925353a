"""Steps that are not applied, found out a step late as on a GPU: nothing else is otherwise."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from electra.config import OptimizerConfig
from electra.errors import DivergedError
from electra.training import loop
from electra.training.checkpoint import CheckpointStore
from electra.training.distributed import World
from electra.training.meters import Meter
from electra.training.optimizer import build_optimizer, can_step_where, step_where
from electra.training.verdicts import reads_late
from tests.training.test_skipped_steps import run

CLASSIC = OptimizerConfig(learning_rate=0.01, bias_correction=False, weight_decay=0.1)
MODERN = OptimizerConfig(learning_rate=0.01, weight_decay=0.1)


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "reads_late", lambda *_: True)


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("bad", [set(), {3}, {1, 3, 4}, {6}, {1, 2}])
def test_late_is_as_at_once(bad: set[int], gradient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, optimizer, state, rows = run(bad, gradient=gradient, micro=2)
    monkeypatch.setattr(loop, "reads_late", lambda *_: True)
    other, other_optimizer, other_state, other_rows = run(bad, gradient=gradient, micro=2)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    for p, q in zip(whole.parameters(), other.parameters(), strict=True):
        for slot, value in optimizer.state[p].items():
            assert torch.equal(other_optimizer.state[q][slot], value), slot
    for field in ("step", "tokens_seen", "skipped_steps", "skipped_in_a_row"):
        assert getattr(state, field) == getattr(other_state, field)
    # the lines are the same, but a warning may come behind the row of its own step
    assert sorted(map(str, told(rows))) == sorted(map(str, told(other_rows)))


@pytest.mark.usefixtures("late")
def test_the_end_and_a_resume_are_the_same(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"gradient of step 4 is not finite .* 2 in a row"):
        run({1, 3, 4, 5}, limit=1)
    with pytest.raises(DivergedError, match="none of the 3 steps could be applied"):
        run({1, 2, 3}, steps=3)
    whole = run({1, 3, 4}, steps=8)[0]
    store = CheckpointStore(tmp_path)
    with pytest.raises(MemoryError):
        run({1, 3, 4}, steps=8, store=store, stop_at=4)
    resumed, _, state, _ = run({1, 3, 4}, steps=8, store=store)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert (state.step, state.skipped_steps, state.skipped_in_a_row) == (8, 3, 0)


def trained(config: OptimizerConfig, flags: list[bool | None]) -> tuple[nn.Module, Any]:
    """Steps on a fixed loss; of `None` by the plain `step`."""
    torch.manual_seed(0)
    module = nn.Linear(5, 3)
    optimizer = build_optimizer(module, config)
    for number, flag in enumerate(flags):
        torch.manual_seed(number)
        loss = (module(torch.randn(7, 5)) ** 2).sum()
        loss.backward()
        if flag is None:
            optimizer.step()
        else:
            step_where(optimizer, torch.tensor(flag))
        optimizer.zero_grad()
    return module, optimizer


@pytest.mark.parametrize("config", [CLASSIC, MODERN])
def test_a_step_by_a_flag_is_the_step_or_none(config: OptimizerConfig) -> None:
    expected, _ = trained(config, [None] * 4)
    found, _ = trained(config, [True] * 4)
    for p, q in zip(expected.parameters(), found.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-7)
    before, its_optimizer = trained(config, [True, True])
    after, optimizer = trained(config, [True, True, False])
    for p, q in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(p, q)
        for slot, value in its_optimizer.state[p].items():
            assert torch.equal(optimizer.state[q][slot], value), slot
    assert optimizer.found_inf is None


def test_what_reads_late() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    layers = nn.ModuleList([nn.Linear(4, 4)])
    module = nn.ModuleDict({"encoder": nn.ModuleDict({"layers": layers})})
    for config in (CLASSIC, MODERN):
        optimizer = build_optimizer(module, config)
        assert can_step_where(optimizer)
        assert reads_late(gpu, optimizer, None)
        assert not reads_late(cpu, optimizer, None)
    muon = build_optimizer(module, OptimizerConfig(name="muon"))
    assert not reads_late(gpu, muon, None)


@pytest.mark.parametrize("applied", [True, False])
def test_a_meter_forgets_by_flag_or_tensor(applied: bool) -> None:
    found = []
    flags: tuple[bool | Tensor, ...] = (applied, torch.tensor(applied))
    for flag in flags:
        meter = Meter()
        meter.begin_step()
        meter.add("a", torch.tensor(2.0), 4)
        meter.end_step(True)
        meter.begin_step()
        meter.add("a", torch.tensor(float("nan")) if not applied else torch.tensor(1.0), 2)
        meter.add("b", torch.tensor(5.0), torch.tensor(1))
        meter.end_step(flag)
        found.append(meter.read(World()))
    assert found[0] == found[1]
    assert found[0] == ({"a": 0.5, "b": 5.0} if applied else {"a": 0.5})
