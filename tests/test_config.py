"""Recipes: merging, unknown keys, types, budgets, round trip."""

import tomllib
from typing import Any

import pytest

from electra.config import FinetuneConfig, PretrainConfig
from electra.errors import ConfigError
from electra.recipe import nest, option_rows, read_recipe, recipe_names, resolve, to_toml
from tests.shapes import tiny_config


def config(**sections: dict[str, object]) -> PretrainConfig:
    return resolve(
        PretrainConfig, [("recipe", {"training": {"max_steps": 5}}), ("flags", sections)]
    )


def test_later_layers_win_and_strings_are_parsed() -> None:
    made = config(
        optimizer={"learning_rate": "3e-4", "bias_correction": "false"},
        model={"generator_layers": "none"},
        schedule={"warmup_steps": "10"},
    )
    assert made.optimizer.learning_rate == 3e-4
    assert made.optimizer.bias_correction is False
    assert made.model.generator_layers is None
    assert made.schedule.warmup_steps == 10


def test_a_budget_on_the_command_line_replaces_the_recipes() -> None:
    made = config(training={"minutes": "2"})
    assert made.training.minutes == 2
    assert made.training.max_steps is None


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optimizer": {"lerning_rate": 1}}, 'did you mean "learning_rate"?'),
        ({"optimiser": {"learning_rate": 1}}, 'did you mean "optimizer"?'),
        ({"optimizer": {"learning_rate": "fast"}}, "it must be a number"),
        ({"training": {"max_steps": 2.5}}, "it must be a whole number"),
        ({"training": {"max_steps": "inf"}}, "it must be a whole number"),
        ({"training": {"max_steps": 1, "minutes": 1}}, "exactly one budget"),
        ({"training": {"max_steps": -1}}, "--training.max-steps is -1; allowed: above 0"),
        ({"training": {"micro_batch_size": 7}}, "a divisor of the global batch size 128"),
        ({"objective": {"name": "masked_ml"}}, 'did you mean "masked_lm"?'),
        ({"objective": {"mask_prob": 0.0}}, "--objective.mask-prob is 0.0"),
        ({"model": {"num_attention_heads": 3}}, "a divisor of hidden_size 256"),
        ({"model": {"num_attention_heads": 0}}, "--model.num-attention-heads is 0; allowed: above"),
        ({"model": {"num_hidden_layers": -1}}, "--model.num-hidden-layers is -1"),
        ({"model": {"generator_layers": 13}}, "at most model.num_hidden_layers 12"),
        ({"model": {"generator_size": 0.5}}, "give --model.generator-layers"),
        ({"model": {"hidden_size": 60}}, "rotary positions need an even size"),
        ({"optimizer": {"adam_beta2": 1.0}}, "--optimizer.adam-beta2 is 1.0; allowed: [0, 1)"),
        ({"optimizer": {"weight_decay": -0.1}}, "0 or more"),
        ({"schedule": {"warmup_steps": -5}}, "--schedule.warmup-steps is -5"),
        ({"model": {"embedding_size": 64}}, "the modern family has no projection"),
        ({"data": {"max_length": 1024}}, "at most model.max_position_embeddings 512"),
        ({"schedule": {"warmup_steps": 1, "warmup_ratio": 0.1}}, "give one"),
        ({"model": 3}, '"model" is a section'),
        ({"optimizer": {"bias_correction": "maybe"}}, "it must be true or false"),
    ],
)
def test_mistakes_are_named(sections: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**sections)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_budget_is_refused() -> None:
    with pytest.raises(ConfigError, match="no budget"):
        resolve(PretrainConfig, [("recipe", {})])


def test_unknown_recipe_offers_the_nearest() -> None:
    with pytest.raises(ConfigError, match='did you mean "classic-small"'):
        read_recipe("clasic-small")
    with pytest.raises(ConfigError, match=r"nothing\.toml does not exist"):
        read_recipe("nothing.toml")


@pytest.mark.parametrize("name", recipe_names())
def test_round_trip_through_toml(name: str) -> None:
    made = resolve(PretrainConfig, [(name, read_recipe(name))])
    again = resolve(PretrainConfig, [("again", tomllib.loads(to_toml(made)))])
    assert again == made


def test_epochs_are_a_budget_too() -> None:
    layers = [("a", {"training": {"epochs": 3}}), ("b", {"training": {"max_steps": 4}})]
    made = resolve(FinetuneConfig, layers)
    assert made.training.epochs is None
    assert made.training.max_steps == 4


def test_flags_become_tables() -> None:
    nested = nest({"training.max-steps": "1", "data.max-length": "16"})
    assert nested == {"training": {"max_steps": "1"}, "data": {"max_length": "16"}}


@pytest.mark.parametrize("cls", [PretrainConfig, FinetuneConfig])
def test_every_field_has_help(cls: type) -> None:
    rows = option_rows(cls)
    assert len(rows) > 20
    assert all(text and flag.startswith("--") for flag, _, _, text in rows)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"name": "masked_llm"}, 'did you mean "masked_lm"?'),
        (
            {"name": "masked_lm", "discriminator_weight": 10},
            "--objective.discriminator-weight 10.0 does not apply to masked_lm; it takes: "
            "mask-prob, mask-prob-end, mask-token-prob, masking, duplicate-positions, "
            "causal-start, head-share, repetition-weight (those that take it: "
            "replaced_token_detection, electra_15_percent, ",
        ),
        ({"copy_mechanism": False}, "does not apply to replaced_token_detection; it takes:"),
    ],
)
def test_options_that_do_not_apply_are_refused(objective: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_config("modern", objective=objective)
    assert message in str(caught.value)


def test_another_objective_drops_what_the_recipe_said_for_the_first() -> None:
    tiny = read_recipe("tiny")
    assert tiny["objective"]["warm_start"] == 0.7
    config = resolve(
        PretrainConfig, [("tiny", tiny), ("flag", {"objective": {"name": "masked_lm"}})]
    )
    assert config.objective.warm_start == 0.0
    assert config.objective.mask_token_prob == 1.0


def test_a_rate_for_a_generator_that_is_not_trained() -> None:
    for objective in ({"name": "masked_lm"}, {"generator": "uniform"}):
        with pytest.raises(ConfigError, match="no generator is trained"):
            tiny_config("modern", objective=objective, optimizer={"generator_learning_rate": 1e-3})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"objective": {"discriminator_weight": -5}},
            "discriminator-weight is -5.0; allowed: 0",
        ),
        ({"objective": {"encoder_mlm_copy": True}}, "only with --objective.encoder-mlm-weight"),
        (
            {"objective": {"repetition_weight": 1.0}, "data": {"document_attention": True}},
            "does not go with --objective.repetition-weight, which asks for what stands elsewhere",
        ),
        (
            {"objective": {"name": "replace_mlm", "repetition_weight": 1.0}},
            "those that take it: replaced_token_detection, masked_lm",
        ),
        (
            {"objective": {"causal_start": 0.5, "warm_start": 0.3}},
            "--objective.causal-start is 0.5; allowed: 0 to --objective.warm-start 0.3",
        ),
        (
            {"objective": {"name": "masked_lm"}, "model": {"weight_sharing": "gdes"}},
            "--model.weight-sharing gdes does not apply to masked_lm",
        ),
        (
            {
                "model": {"weight_sharing": "all", "generator_size": 1.0, "generator_layers": None},
                "optimizer": {"generator_learning_rate": 1e-3},
            },
            "generator and discriminator are one network",
        ),
        (
            {"objective": {"contrastive_weight": 1}, "training": {"micro_batch_size": 1}},
            "--training.micro-batch-size 2 or more",
        ),
        (
            {
                "objective": {"name": "two_stage"},
                "model": {
                    "weight_sharing": "none",
                    "generator_size": 1.0,
                    "generator_layers": None,
                    "discriminator": "somewhere",
                },
            },
            "would overwrite --model.discriminator somewhere",
        ),
        (
            {"objective": {"name": "fast_electra", "generator": "uniform", "temperature": 2}},
            "--objective.generator uniform does not apply to fast_electra",
        ),
    ],
)
def test_what_does_not_go_together(sections: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_config("classic", **sections)
    assert message in str(caught.value)


def test_a_fixed_generator_warm_starts_at_any_generator_size() -> None:
    objective = {"generator": "uniform", "warm_start": 0.5}
    assert tiny_config("classic", objective=objective).objective.warm_start == 0.5
