"""Every recipe builds, at full size, without allocating; the classic ones as published."""

import pytest
import torch

from electra.config import PretrainConfig
from electra.corpus.tokenizer import SpecialIds
from electra.objectives.objective import build_objective
from electra.objectives.replaced_token_detection import ReplacedTokenDetection
from electra.recipe import read_recipe, recipe_names, resolve
from electra.training.optimizer import build_optimizer

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


def build(name: str, vocab_size: int = 30_522) -> tuple[PretrainConfig, ReplacedTokenDetection]:
    config = resolve(PretrainConfig, [(name, read_recipe(name))])
    with torch.device("meta"):
        objective = build_objective(config, vocab_size, SPECIAL)
    assert isinstance(objective, ReplacedTokenDetection)
    return config, objective


@pytest.mark.parametrize("name", recipe_names())
def test_dry_run_on_the_meta_device(name: str) -> None:
    config, objective = build(name)
    objective.to("meta")
    optimizer = build_optimizer(objective, config.optimizer)
    grouped = sum(len(group["params"]) for group in optimizer.param_groups)
    assert grouped == len(list(objective.parameters()))
    ids = torch.zeros(2, config.data.max_length, dtype=torch.int64, device="meta")
    hidden = objective.model.encoder_hidden(ids, {})
    assert hidden.shape == (2, config.data.max_length, config.model.hidden_size)
    assert objective.model.replaced_logits(hidden).shape == ids.shape
    positions = torch.zeros(2, 3, dtype=torch.int64, device="meta")
    assert objective.model.generator_logits(ids, {}, positions).shape == (2, 3, 30_522)


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        # paper, table 6; counted from the configurations with 30,522 word pieces
        ("classic-small", 13_549_057, 4_620_026),
        ("classic-base", 109_483_009, 33_740_602),
        ("classic-large", 335_142_913, 51_295_290),
        ("classic-small-pp", 13_549_057, 13_546_682),
    ],
)
def test_published_parameter_counts(name: str, discriminator: int, generator: int) -> None:
    _, objective = build(name)
    counts = objective.model.num_parameters()
    assert counts["discriminator"] == discriminator
    assert counts["generator"] == generator


def test_modern_small_is_about_14_million() -> None:
    _, objective = build("small", vocab_size=16_384)
    assert 13e6 < objective.model.num_parameters()["encoder"] < 15e6
