"""AdamW without bias correction against the formula, groups, clipping."""

import math

import pytest
import torch
from torch import nn

from electra.config import OptimizerConfig
from electra.training.optimizer import (
    AdamWithoutBiasCorrection,
    build_optimizer,
    clip_gradients,
    parameter_groups,
    set_learning_rate,
)


def test_first_update_without_bias_correction() -> None:
    # google-research/electra: m = 0.1 g, v = 0.001 g^2, update = lr m / (sqrt(v) + eps)
    weight = nn.Parameter(torch.tensor([[2.0]]))
    optimizer = AdamWithoutBiasCorrection(
        [{"params": [weight], "weight_decay": 0.0}], lr=0.1, eps=1e-6
    )
    weight.grad = torch.tensor([[0.3]])
    optimizer.step()
    expected = 2.0 - 0.1 * 0.1 * 0.3 / (math.sqrt(0.001) * 0.3 + 1e-6)
    assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_many_updates_against_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, generator=generator)
    weight = nn.Parameter(start.clone())
    group = {"params": [weight], "names": ["w"], "weight_decay": 0.01, "lr_scale": 1.0}
    optimizer = AdamWithoutBiasCorrection([group], lr=0.02, betas=(0.9, 0.99), eps=1e-6)
    p, m, v = start.double(), torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    for step in range(20):
        gradient = torch.randn(4, 3, generator=generator)
        set_learning_rate(optimizer, 0.02 * (1 - step / 20))
        weight.grad = gradient
        optimizer.step()
        m = 0.9 * m + 0.1 * gradient
        v = 0.99 * v + 0.01 * gradient**2
        p = p - 0.02 * (1 - step / 20) * (m / (v.sqrt() + 1e-6) + 0.01 * p)
    assert torch.allclose(weight.double(), p, atol=1e-5)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Module()
        self.body.embeddings = nn.Embedding(5, 4)
        self.body.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


def test_groups() -> None:
    net = Net()
    groups = parameter_groups(
        net.named_parameters(), weight_decay=0.1, layerwise_lr_decay=0.5, num_layers=3
    )
    found = {
        name: (group["weight_decay"], group["lr_scale"])
        for group in groups
        for name in group["names"]
    }
    assert len(found) == len(list(net.parameters()))
    assert found["body.embeddings.weight"] == (0.1, 0.0625)
    assert found["body.layers.0.weight"] == (0.1, 0.125)
    assert found["body.layers.2.weight"] == (0.1, 0.5)
    assert found["body.layers.2.bias"] == (0.0, 0.5)
    assert found["norm.weight"] == (0.0, 1.0)
    assert found["head.weight"] == (0.1, 1.0)


def test_both_optimizers_move_every_parameter() -> None:
    for correction in (True, False):
        net = Net()
        config = OptimizerConfig(bias_correction=correction, learning_rate=0.1)
        optimizer = build_optimizer(net, config)
        before = [p.detach().clone() for p in net.parameters()]
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        for old, new in zip(before, net.parameters(), strict=True):
            assert not torch.equal(old, new)


def test_clipping_scales_to_the_norm() -> None:
    parameters = [torch.zeros(3, requires_grad=True), torch.zeros(4, requires_grad=True)]
    for p in parameters:
        p.grad = torch.full_like(p, 2.0)
    norm = clip_gradients(list(parameters), 1.0)
    assert norm.item() == pytest.approx(2 * math.sqrt(7))
    total = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters if p.grad is not None))
    assert total == pytest.approx(1.0)
    assert clip_gradients(list(parameters), 5.0).item() == pytest.approx(1.0)
    assert parameters[0].grad is not None
    assert parameters[0].grad[0].item() == pytest.approx(1 / math.sqrt(7))
