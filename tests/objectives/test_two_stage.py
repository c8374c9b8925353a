"""The generator alone, the hand-over, the discriminator alone against a frozen generator."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from electra.config import PretrainConfig
from electra.errors import ConfigError
from electra.objectives.two_stage import TwoStage
from electra.pretrain import pretrain
from electra.training.loggers import read_metrics
from electra.training.optimizer import build_optimizer
from tests.objectives.build import make, noise, padded_batch
from tests.shapes import tiny_config
from tests.test_pretrain import StopAt, assert_same_bits, rows_of

EQUAL = {
    "modern": {"weight_sharing": "none", "generator_layers": 2},
    "classic": {"weight_sharing": "none", "generator_size": 1.0},
}


def two_stage(family: str, **objective: Any) -> TwoStage:
    found = make(family, model=EQUAL[family], objective={"name": "two_stage", **objective})
    assert isinstance(found, TwoStage)
    return found


def copies(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(before: dict[str, Tensor], module: torch.nn.Module) -> set[str]:
    return {n for n, tensor in module.state_dict().items() if not torch.equal(before[n], tensor)}


def steps(objective: TwoStage, optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Three steps as the loop makes them."""
    for seed in range(3):
        objective.begin_step(progress)
        batch, counts = objective.prepare(padded_batch(), noise(seed))
        output = objective.forward(batch, noise(seed))
        weights = objective.loss_weights
        total = sum(weights[n] * output.losses[n] / counts[n] for n in output.losses)
        assert isinstance(total, Tensor)
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("family", ["modern", "classic"])
@pytest.mark.parametrize("bias_correction", [True, False])
def test_each_stage_moves_its_own_network_alone(family: str, bias_correction: bool) -> None:
    objective = two_stage(family).train()
    config = tiny_config(family, optimizer={"bias_correction": bias_correction}).optimizer
    optimizer = build_optimizer(objective, config)
    model = objective.model
    generator, discriminator = copies(model.generator), copies(model.discriminator)
    steps(objective, optimizer, 0.49)
    assert not moved(discriminator, model.discriminator)
    assert moved(generator, model.generator) >= {
        name for name, parameter in model.generator.named_parameters() if parameter.ndim == 2
    }
    generator = copies(model.generator)
    steps(objective, optimizer, 0.5)
    assert not moved(generator, model.generator)
    assert moved(discriminator, model.discriminator)


@pytest.mark.parametrize("family", ["modern", "classic"])
def test_the_discriminator_starts_as_the_generator(family: str) -> None:
    objective = two_stage(family, generator_share=0.3)
    model = objective.model
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.add_(0.1)
    head = {n: t for n, t in copies(model.discriminator).items() if "head" in n or "predic" in n}
    objective.begin_step(0.29)
    assert moved(copies(model.generator.base_model), model.encoder)
    assert objective.loss_weights == {"generator_loss": 1.0}
    objective.begin_step(0.3)
    assert not moved(copies(model.generator.base_model), model.encoder)
    assert head.keys() & model.discriminator.state_dict().keys()
    for name, tensor in head.items():
        assert torch.equal(tensor, model.discriminator.state_dict()[name]), name
    assert objective.loss_weights == {"discriminator_loss": 10.0}
    with torch.no_grad():
        next(model.generator.parameters()).add_(0.1)
    objective.begin_step(0.4)  # once
    assert moved(copies(model.generator.base_model), model.encoder)


def test_or_with_fresh_weights() -> None:
    objective = make(
        "modern",
        model={"weight_sharing": "none"},  # a generator of one layer
        objective={"name": "two_stage", "start_from_generator": False},
    )
    before = copies(objective.model.discriminator)
    objective.begin_step(0.5)
    assert not moved(before, objective.model.discriminator)
    assert set(objective.loss_weights) == {"discriminator_loss"}


def test_losses_are_those_of_joint_training() -> None:
    objective = two_stage("modern")
    joint = make("modern", model=EQUAL["modern"])
    joint.load_state_dict(objective.state_dict(), strict=False)
    for progress in (0.0, 0.5):
        objective.begin_step(progress)
        joint.model.load_state_dict(objective.model.state_dict())
        outputs, counts = [], []
        for each in (objective, joint):
            drawn = noise()
            batch, found = each.prepare(padded_batch(), drawn)
            counts.append(found)
            outputs.append(each.forward(batch, drawn))
        assert set(outputs[0].losses) == set(objective.loss_weights) == set(counts[0])
        for name, loss in outputs[0].losses.items():
            assert torch.equal(loss, outputs[1].losses[name])
            assert torch.equal(counts[0][name], counts[1][name])
            assert loss.requires_grad


def test_what_is_refused() -> None:
    two = {"name": "two_stage"}
    with pytest.raises(ConfigError, match=r"needs --model.weight-sharing none, not embeddings"):
        tiny_config("modern", objective=two)
    for family in ("modern", "classic"):
        with pytest.raises(
            ConfigError, match=r"--model.generator-size 1 and --model.generator-layers 2; or give"
        ):
            tiny_config(family, objective=two, model={"weight_sharing": "none"})
        config = tiny_config(
            family,
            objective={**two, "start_from_generator": False},
            model={"weight_sharing": "none"},
        )
        assert isinstance(config, PretrainConfig)
    with pytest.raises(ConfigError, match=r"--objective\.generator uniform does not apply"):
        tiny_config("modern", objective={**two, "generator": "uniform"}, model=EQUAL["modern"])


@pytest.mark.parametrize("killed_after", [6, 7, 9])  # before, at and after the border
def test_resumed_across_the_border_equals_undisturbed(
    corpus: Path, tmp_path: Path, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        "modern",
        model={**EQUAL["modern"], "hidden_dropout_prob": 0.1},
        objective={"name": "two_stage"},
        training={"max_steps": 12, "save_steps": 3, "eval_steps": 2},
    )
    report = pretrain(data=corpus, output=tmp_path / "whole", config=config)
    assert 0 < report["metrics"]["discriminator_auc"] < 1
    assert "generator_accuracy" in report["metrics"]
    rows = [row for row in read_metrics(tmp_path / "whole" / "metrics.jsonl") if "lr" in row]
    for number, row in enumerate(rows):
        assert ("generator_loss" in row) == (number < 6)
        assert ("discriminator_loss" in row) == (number >= 6)
    from electra.training import loop

    monkeypatch.setattr(loop, "clip_gradients", StopAt(loop.clip_gradients, killed_after + 1))
    with pytest.raises(MemoryError):
        pretrain(data=corpus, output=tmp_path / "run", config=config)
    monkeypatch.undo()
    pretrain(data=corpus, output=tmp_path / "run", config=config, resume="auto")
    assert_same_bits(tmp_path / "whole", tmp_path / "run")
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "run")
