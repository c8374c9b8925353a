"""Muon against the formula, what it takes, and how it goes with the rest of training."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from electra.config import FinetuneConfig, OptimizerConfig
from electra.corpus.tokenizer import SpecialIds
from electra.errors import ConfigError
from electra.objectives.objective import build_objective
from electra.recipe import resolve
from electra.training.checkpoint import CheckpointStore
from electra.training.muon import Muon, MuonWithAdam, linear_maps
from electra.training.optimizer import build_optimizer, clip_gradients, set_learning_rate
from electra.training.schedule import TrainState
from tests.shapes import tiny_config

MUON: dict[str, Any] = {"name": "muon", "learning_rate": 0.02, "weight_decay": 0.1}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Wqkv = nn.Linear(6, 18, bias=False)
        self.Wo = nn.Linear(6, 6)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Module()
        self.body.embeddings = nn.Embedding(5, 6)
        self.body.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head = nn.Linear(6, 2)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The quintic iteration of the post, in bfloat16 as there."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    x = x / x.norm()
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.float()


def give_gradients(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def test_updates_follow_the_formula_for_each_map_of_a_tensor() -> None:
    net = Net()
    config = OptimizerConfig(**MUON, muon_learning_rate=0.05, muon_momentum=0.9)
    optimizer = build_optimizer(net, config)
    weight = net.body.layers[1].Wqkv.weight
    p, momentum = weight.detach().clone(), torch.zeros(18, 6)
    for step in range(3):
        rate = 1 - step / 10
        set_learning_rate(optimizer, 0.02 * rate)
        give_gradients(net, step)
        gradient = weight.grad.clone()
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        looked_ahead = 0.9 * momentum + 0.1 * gradient
        updates = [orthogonal(part) for part in looked_ahead.split(6)]
        p = p * (1 - 0.05 * rate * 0.1)
        p -= 0.05 * rate * 0.2 * math.sqrt(6) * torch.cat(updates)
    assert torch.allclose(weight, p, atol=2e-3)
    together = orthogonal(looked_ahead)
    assert not torch.allclose(together * math.sqrt(3), torch.cat(updates), atol=0.1)


@pytest.mark.parametrize("shape", [(6, 6), (4, 10), (10, 4)])
def test_a_batch_of_matrices_is_updated_as_torchs_muon_does_one_by_one(
    shape: tuple[int, int],
) -> None:
    generator = torch.Generator().manual_seed(0)
    begin = torch.randn(3, *shape, generator=generator)
    ours, theirs = ([nn.Parameter(p.clone()) for p in begin] for _ in range(2))
    settings = {"lr": 0.1, "weight_decay": 0.2, "momentum": 0.9}
    optimizers = (
        Muon([{"params": ours}], **settings),
        torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(4):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(shape, generator=generator)
            two.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (torch.stack(tuple(theirs)) - begin).abs().mean()
    for one, two in zip(ours, theirs, strict=True):
        assert (one - two).abs().max() < 0.03 * moved  # bfloat16


def test_an_update_is_as_large_as_adamws() -> None:
    net = Net()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = build_optimizer(net, OptimizerConfig(name="muon", weight_decay=0.0))
    set_learning_rate(optimizer, 1.0)
    give_gradients(net, 0)
    optimizer.step()
    for name, p in net.named_parameters():
        moved = (p - before[name]).detach().square().mean().sqrt().item()
        if linear_maps(name, p):
            assert moved == pytest.approx(0.2, rel=0.2), name
        else:
            assert moved == pytest.approx(1.0, rel=0.01), name  # Adam's first update is lr


@pytest.mark.parametrize("sharing", ["embeddings", "gdes"])
@pytest.mark.parametrize("family", ["modern", "classic"])
def test_only_matrices_inside_layers(family: str, sharing: str) -> None:
    config = tiny_config(family, model={"weight_sharing": sharing})
    objective = build_objective(config, 64, SpecialIds(0, 1, 2, 3, 4))
    config = OptimizerConfig(**MUON)
    optimizer = build_optimizer(objective, config)
    taken = {n: g["maps"] for g in optimizer.param_groups for n in g["names"] if g["maps"]}
    rest = {n for g in optimizer.param_groups for n in g["names"] if not g["maps"]}
    every = dict(objective.named_parameters())
    assert taken.keys() | rest == every.keys()
    assert not taken.keys() & rest
    assert all(every[n].ndim == 2 and (".layers." in n or ".layer." in n) for n in taken)
    assert all(every[n].ndim == 1 or ".layer" not in n for n in rest)
    assert any("embeddings" in n for n in rest)
    hidden = 3 * 4 if family == "modern" else 4 * 6
    assert len(taken) == hidden
    if family == "modern":
        assert {n.split(".")[-2]: m for n, m in taken.items()} == {
            "Wqkv": 3,
            "Wo": 1,
            "Wi": 2,
        }


def test_layer_wise_rates_and_a_decoupled_generator() -> None:
    net = Net()
    apart = {"body.layers.0.Wo.weight": 0.5, "body.layers.0.Wo.bias": 0.5}
    config = OptimizerConfig(**MUON, muon_learning_rate=0.04, layerwise_lr_decay=0.5)
    optimizer = build_optimizer(net, config, num_layers=2, apart=apart)
    set_learning_rate(optimizer, 0.02)
    rates = {n: g["lr"] for g in optimizer.param_groups for n in g["names"]}
    assert rates["body.layers.0.Wqkv.weight"] == pytest.approx(0.04 * 0.25)
    assert rates["body.layers.0.Wo.weight"] == pytest.approx(0.04 * 0.25 * 0.5)
    assert rates["body.layers.0.Wo.bias"] == pytest.approx(0.02 * 0.25 * 0.5)
    assert rates["body.embeddings.weight"] == pytest.approx(0.02 * 0.125)
    assert rates["head.weight"] == pytest.approx(0.02)
    give_gradients(net, 0)
    layer = net.body.layers[0].Wo
    layer.weight.grad *= 1e6
    others = net.head.weight.grad.clone()
    clip_gradients(optimizer, 1e3)
    assert torch.equal(net.head.weight.grad, others)
    norm = math.hypot(float(layer.weight.grad.norm()), float(layer.bias.grad.norm()))
    assert norm == pytest.approx(1e3, rel=1e-4)


def go_on(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        set_learning_rate(optimizer, 0.02 * (1 - step / 10))
        give_gradients(net, step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("way", ["checkpoint", "state_dict"])
def test_going_on_from_what_was_kept_is_exact(correction: bool, way: str, tmp_path: Path) -> None:
    config = OptimizerConfig(**MUON, bias_correction=correction)
    whole, begun, resumed = Net(), Net(), Net()
    go_on(whole, build_optimizer(whole, config), range(6))
    optimizer = build_optimizer(begun, config)
    assert isinstance(optimizer, MuonWithAdam)
    go_on(begun, optimizer, range(3))
    other = build_optimizer(resumed, config)
    if way == "checkpoint":
        store = CheckpointStore(tmp_path)
        store.save(module=begun, optimizer=optimizer, state=TrainState(step=3), environment={})
        assert store.load_latest(module=resumed, optimizer=other) is not None
    else:
        resumed.load_state_dict(begun.state_dict())
        other.load_state_dict(optimizer.state_dict())
    assert len(other.state) == len(list(resumed.parameters()))
    go_on(resumed, other, range(3, 6))
    for one, two in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)


def test_what_does_not_apply_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"muon-learning-rate is 0.1, which is for --optimizer"):
        OptimizerConfig(muon_learning_rate=0.1)
    with pytest.raises(ConfigError, match=r"--optimizer.muon-momentum is 1.0; allowed: "):
        OptimizerConfig(name="muon", muon_momentum=1.0)
    muon = {"optimizer": {"name": "muon"}}
    for section in ({"training": {"train_encoder": False}}, {"model": {"adapter": "lora"}}):
        with pytest.raises(ConfigError, match=r"neither --model.adapter nor"):
            resolve(FinetuneConfig, [("test", muon | section)])
    assert resolve(FinetuneConfig, [("test", muon)]).optimizer.name == "muon"
