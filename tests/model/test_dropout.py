"""Dropout from random bits is dropout: shares, scale, gradient, repeatable, and off where it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from electra.model.dropout import BitDropout, bit_dropout, use_bit_dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_as_many_are_dropped_and_the_rest_scaled(p: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 1001, requires_grad=True)  # no multiple of four
    y = BitDropout(p)(x)
    (y * torch.arange(1, 1002)).sum().backward()
    dropped = y == 0
    count = x.numel()
    assert abs(float(dropped.sum()) - p * count) < 5 * math.sqrt(p * (1 - p) * count)
    assert torch.allclose(y[~dropped], x[~dropped] / (1 - p), rtol=1e-4)
    assert x.grad is not None
    expected = torch.where(dropped, 0.0, torch.arange(1, 1002) / (1 - p))
    assert torch.allclose(x.grad, expected, rtol=1e-4)


def test_elements_are_dropped_apart() -> None:
    """Neighbours share a word of the generator: their fates must not go together."""
    torch.manual_seed(1)
    kept = (bit_dropout(torch.ones(200_000), 0.3, True) > 0).float()
    for distance in (1, 2, 3, 4, 8):
        pair = torch.stack([kept[distance:], kept[:-distance]])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / math.sqrt(200_000)


def test_it_repeats_by_torchs_random_state() -> None:
    x, state = torch.ones(64, 64), torch.get_rng_state()
    first, second = bit_dropout(x, 0.1, True), bit_dropout(x, 0.1, True)
    torch.set_rng_state(state)
    assert torch.equal(first, bit_dropout(x, 0.1, True))
    assert not torch.equal(first, second)


def test_layers_computed_again_drop_the_same() -> None:
    weight = torch.randn(32, 32, requires_grad=True)

    def layer(x: torch.Tensor) -> torch.Tensor:
        return bit_dropout(F.gelu(x @ weight), 0.2, True) @ weight

    gradients = []
    for again in (False, True):
        torch.manual_seed(3)
        weight.grad = None
        x = torch.ones(8, 32)
        y = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
        y.square().sum().backward()
        gradients.append(weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_or_nothing(p: float) -> None:
    assert torch.equal(bit_dropout(torch.ones(5), p, True), torch.full((5,), 1 - p))
    assert torch.equal(bit_dropout(torch.ones(5), 0.5, False), torch.ones(5))


def test_half_precision_stays_so() -> None:
    y = bit_dropout(torch.ones(64, dtype=torch.bfloat16), 0.5, True)
    assert y.dtype == torch.bfloat16
    assert set(y.tolist()) == {0.0, 2.0}


def test_modules_are_exchanged_and_stay_what_they_were() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.25), nn.Sequential(nn.Dropout(0.5)))
    names = list(net.state_dict())
    use_bit_dropout(net)
    assert [type(m) for m in (net[1], net[2][0])] == [BitDropout, BitDropout]
    assert (net[1].p, net[2][0].p) == (0.25, 0.5)
    assert list(net.state_dict()) == names
