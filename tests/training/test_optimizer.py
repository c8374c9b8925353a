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


def test_moments_of_before_the_count_go_on() -> None:
    """Checkpoints hold no `step` where Adam without bias correction was written before."""
    weights = [nn.Parameter(torch.tensor([[2.0, -1.0]])) for _ in range(2)]
    optimizers = [AdamWithoutBiasCorrection([{"params": [w]}], lr=0.1, fused=True) for w in weights]
    for number in range(3):
        if number == 2:
            del optimizers[0].state[weights[0]]["step"]
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = torch.tensor([[0.3, 0.1 * number]])
            optimizer.step()
    assert torch.equal(*weights)


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


def scales(form: str, decay: float, num_layers: int) -> list[float]:
    """Of embeddings, each layer, and a head."""
    names = ["m.embeddings.weight", *(f"m.layer.{i}.weight" for i in range(num_layers)), "head.w"]
    groups = parameter_groups(
        [(name, nn.Parameter(torch.zeros(1, 1))) for name in names],
        weight_decay=0.0,
        layerwise_lr_decay=decay,
        layerwise_lr_form=form,
        num_layers=num_layers,
    )
    found = {name: group["lr_scale"] for group in groups for name in group["names"]}
    return [found[name] for name in names]


def test_layer_wise_decay_as_published_and_as_described() -> None:
    # 0.8 and 12 layers in the reference code: the top layer has 0.8 squared
    published = [0.0440, 0.0550, 0.0687, 0.0859, 0.1074, 0.1342, 0.1678, 0.2097, 0.2621, 0.3277]
    published += [0.4096, 0.5120, 0.6400, 1.0]
    assert scales("published", 0.8, 12) == pytest.approx(published, abs=5e-5)
    large = scales("published", 0.9, 24)
    assert large[0] == pytest.approx(0.0646, abs=5e-5)
    assert large[-2:] == pytest.approx([0.81, 1.0])
    described = scales("described", 0.8, 12)
    assert described[-2:] == pytest.approx([0.8, 1.0])
    assert described[0] == pytest.approx(0.8**13)


def gradient_norm(parameters: list[nn.Parameter]) -> float:
    return math.sqrt(sum(float((p.grad**2).sum()) for p in parameters if p.grad is not None))


def test_clipping_scales_to_the_norm() -> None:
    net = nn.Linear(3, 2)
    optimizer = build_optimizer(net, OptimizerConfig())
    for p in net.parameters():
        p.grad = torch.full_like(p, 2.0)
    norm = clip_gradients(optimizer, 1.0)
    assert norm.item() == pytest.approx(2 * math.sqrt(8))
    assert gradient_norm(list(net.parameters())) == pytest.approx(1.0)
    assert clip_gradients(optimizer, 5.0).item() == pytest.approx(1.0)
    assert net.bias.grad[0].item() == pytest.approx(1 / math.sqrt(8))


def test_parts_that_are_optimized_apart() -> None:
    """A huge gradient of one part leaves the other's updates as they were; each has its rate."""
    moved = {}
    for huge in (1.0, 1e6):
        torch.manual_seed(0)
        net = Net()
        apart = {name: 0.5 for name, _ in net.named_parameters() if name.startswith("body")}
        optimizer = build_optimizer(net, OptimizerConfig(weight_decay=0.0), apart=apart)
        set_learning_rate(optimizer, 0.1)
        rates = {n: g["lr"] for g in optimizer.param_groups for n in g["names"]}
        assert rates["body.layers.0.weight"] == pytest.approx(0.05)
        assert rates["head.weight"] == pytest.approx(0.1)
        for name, p in net.named_parameters():
            p.grad = torch.full_like(p, huge if name.startswith("body") else 1e-3)
        norm = clip_gradients(optimizer, 1.0)
        assert norm > huge
        body = [p for n, p in net.named_parameters() if n.startswith("body")]
        assert gradient_norm(body) == pytest.approx(1.0, rel=1e-4)
        moved[huge] = net.head.weight.grad.clone()
    assert torch.equal(moved[1.0], moved[1e6])
