"""The tail average against a sum by hand; where it begins, where it does not reach."""

import pytest
import torch
from torch import nn

from electra.config import FinetuneConfig
from electra.errors import ConfigError
from electra.recipe import resolve
from electra.training.averaging import TailAverage
from electra.training.checkpoint import module_tensors
from tests.shapes import tiny_config


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2, bias=False)
        self.twin = nn.Linear(2, 2, bias=False)
        self.twin.weight = self.inner.weight
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("seen", torch.zeros(1))


def trained(share: float, steps: int) -> tuple[Tied, TailAverage]:
    """The weight is the number of the step after it."""
    module = Tied()
    average = module.average = TailAverage(module, share)
    for step in range(steps):
        with torch.no_grad():
            module.inner.weight.fill_(step + 1)
            module.frozen.fill_(step + 1)
            module.seen.fill_(step + 1)
        average.update(step / steps)
    return module, average


@pytest.mark.parametrize(
    ("share", "number", "mean"), [(0.2, 2, 9.5), (0.3, 3, 9.0), (0.75, 7, 7.0), (0.05, 0, 10.0)]
)
def test_the_mean_of_the_last_share_of_the_steps(share: float, number: int, mean: float) -> None:
    module, average = trained(share, 10)
    assert int(average.count) == number
    average.apply_to_weights()
    assert module.inner.weight.flatten().tolist() == pytest.approx([mean] * 4)
    assert module.twin.weight is module.inner.weight
    assert module.frozen.item() == module.seen.item() == 10  # as they were


def test_weights_come_back_to_the_bit() -> None:
    module, average = trained(0.5, 10)
    with torch.no_grad():
        module.inner.weight.copy_(torch.randn(2, 2))
    before = module.inner.weight.detach().clone()
    with average.applied():
        assert module.inner.weight.unique().tolist() == [8.0]
    assert torch.equal(module.inner.weight, before)


def test_a_larger_budget_begins_the_tail_anew() -> None:
    module, average = trained(0.5, 10)
    average.update(0.4)
    assert int(average.count) == 0
    with torch.no_grad():
        module.inner.weight.fill_(3)
    average.update(0.6)
    average.apply_to_weights()
    assert module.inner.weight.unique().tolist() == [3.0]


def test_it_is_in_the_checkpoint_and_no_parameter() -> None:
    module, _ = trained(0.5, 10)
    kept = module_tensors(module)
    assert kept["average.count"] == 5
    assert kept["average.inner/weight"].unique().tolist() == [8.0]
    assert [name for name, _ in module.named_parameters()] == ["frozen", "inner.weight"]


def test_where_it_does_not_apply() -> None:
    with pytest.raises(ConfigError, match=r"average-last is 0.2; allowed: 0 in fine-tuning"):
        resolve(FinetuneConfig, [("test", {"training": {"average_last": 0.2}})])
    with pytest.raises(ConfigError, match=r"average-last is 1.0; allowed: \[0, 1\)"):
        tiny_config("modern", training={"average_last": 1.0})
    with pytest.raises(ConfigError, match=r"before --objective.warm-start 0.6 has ended"):
        tiny_config("modern", objective={"warm_start": 0.6}, training={"average_last": 0.5})
    two = {"name": "two_stage", "start_from_generator": False, "generator_share": 0.9}
    with pytest.raises(ConfigError, match=r"--objective.generator-share 0.9 has ended"):
        tiny_config(
            "modern",
            objective=two,
            model={"weight_sharing": "none"},
            training={"average_last": 0.2},
        )
