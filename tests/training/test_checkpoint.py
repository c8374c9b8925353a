"""Checkpoints: whole or not there, checked, and never a pickle."""

from pathlib import Path

import pytest
import torch
from torch import nn

from electra.config import OptimizerConfig
from electra.errors import CheckpointError
from electra.training.checkpoint import CheckpointStore, module_tensors, torn
from electra.training.optimizer import build_optimizer
from electra.training.schedule import TrainState


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.out = nn.Linear(4, 6)
        self.out.weight = self.table.weight
        self.register_buffer("flag", torch.tensor(True))


def trained(seed: int, bias_correction: bool = True) -> tuple[Tied, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = Tied()
    optimizer = build_optimizer(module, OptimizerConfig(bias_correction=bias_correction))
    for p in module.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    return module, optimizer


def save(
    store: CheckpointStore, module: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> Path:
    state = TrainState(step=step, examples_seen=step * 8, tokens_seen=step * 99, seconds=1.25)
    return store.save(module=module, optimizer=optimizer, state=state, environment={"threads": 1})


@pytest.mark.parametrize("bias_correction", [True, False])
def test_everything_comes_back(tmp_path: Path, bias_correction: bool) -> None:
    store = CheckpointStore(tmp_path)
    module, optimizer = trained(0, bias_correction)
    module.flag.fill_(False)
    torch.manual_seed(7)
    save(store, module, optimizer, 3)
    expected = torch.rand(2)
    other, other_optimizer = trained(1, bias_correction)
    loaded = store.load_latest(module=other, optimizer=other_optimizer)
    assert loaded is not None
    assert torch.equal(torch.rand(2), expected)
    assert loaded.state == TrainState(step=3, examples_seen=24, tokens_seen=297, seconds=1.25)
    assert loaded.environment == {"threads": 1}
    for name, tensor in module_tensors(module).items():
        assert torch.equal(module_tensors(other)[name], tensor)
    assert other.out.weight is other.table.weight
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        assert set(optimizer.state[a]) == set(other_optimizer.state[b])
        for slot, value in optimizer.state[a].items():
            assert torch.equal(other_optimizer.state[b][slot], value)


def test_no_pickle_on_disk(tmp_path: Path) -> None:
    path = save(CheckpointStore(tmp_path), *trained(0), 1)
    names = {p.name for p in path.iterdir()}
    assert names == {
        "model.safetensors",
        "optimizer.safetensors",
        "random.safetensors",
        "state.json",
        "checksums.json",
    }


def test_only_the_last_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (5, 10, 100, 1000):
        save(store, *trained(0), step)
    assert store.steps() == [100, 1000]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "no checksums"])
def test_a_torn_one_is_named_and_passed_over(tmp_path: Path, damage: str) -> None:
    store = CheckpointStore(tmp_path)
    save(store, *trained(0), 1)
    newest = save(store, *trained(1), 2)
    file = newest / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[-5] ^= 1
        file.write_bytes(bytes(data))
    elif damage == "cut":
        file.write_bytes(bytes(data[:-8]))
    elif damage == "remove":
        file.unlink()
    else:
        (newest / "checksums.json").unlink()
    assert torn(store.path(1)) is None
    loaded = store.load_latest(module=(made := trained(5))[0], optimizer=made[1])
    assert loaded is not None
    assert loaded.state.step == 1
    assert len(loaded.skipped) == 1
    assert str(newest) in loaded.skipped[0]


def test_nothing_whole_is_an_error(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    module, optimizer = trained(0)
    assert store.load_latest(module=module, optimizer=optimizer) is None
    (save(store, module, optimizer, 1) / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"no whole checkpoint in .*state\.json is missing"):
        store.load_latest(module=module, optimizer=optimizer)


def test_another_model_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save(store, *trained(0), 1)
    other = nn.Linear(3, 3)
    optimizer = build_optimizer(other, OptimizerConfig())
    with pytest.raises(CheckpointError, match="holds another model than this recipe builds"):
        store.load_latest(module=other, optimizer=optimizer)
