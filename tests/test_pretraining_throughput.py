"""What the benchmark takes for the limit of the machine."""

from typing import Any

import torch

from benchmarks.pretraining_throughput import _products_of


def test_the_products_of_a_step_are_those_it_computes() -> None:
    weight = torch.randn(5, 7, requires_grad=True)
    calls: list[int] = []

    def step() -> None:
        calls.append(1)
        hidden = torch.randn(2, 3, 5)
        scores = hidden @ hidden.transpose(1, 2)  # (2, 3, 5) by (2, 5, 3)
        ((scores @ hidden) @ weight).sum().backward()

    facts: dict[str, Any] = {}
    alone = _products_of(step, facts)
    attention = 2 * (2 * 3 * 5 * 3) * 2
    linear = 2 * (6 * 5 * 7)
    weight_gradient = 2 * (5 * 6 * 7)
    assert facts["flops"] == attention + linear + weight_gradient
    before = len(calls)
    alone()
    assert len(calls) == before
