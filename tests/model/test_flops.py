"""FLOPs: the published counts, the rules in closed form, and what PyTorch counts."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import ElectraConfig, ElectraForPreTraining

from electra.cli import run
from electra.config import PretrainConfig
from electra.config.objective import OBJECTIVES
from electra.corpus.tokenizer import SpecialIds
from electra.flops import flops
from electra.model import flops as counting
from electra.model import modern
from electra.model.flops import (
    PUBLISHED,
    TrainFlops,
    computed_flops,
    encoder_network,
    generator_network,
    inference_flops,
    masked_share,
    published_flops,
    train_flops,
)
from electra.model.pretraining_model import FAMILIES, PretrainingModel
from electra.objectives.masking import max_masked
from electra.recipe import read_recipe, recipe_names, resolve
from tests.objectives.build import VOCAB, make, noise
from tests.shapes import tiny_config

V = 1000
SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
MODEL: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 640,
    "max_position_embeddings": 256,
    "generator_layers": 2,
}
FAMILY: dict[str, dict[str, Any]] = {
    "classic": {**MODEL, "family": "classic", "embedding_size": 128, "generator_size": 0.5},
    "modern": {**MODEL, "family": "modern"},
}


def config_of(family: str = "classic", **sections: dict[str, Any]) -> PretrainConfig:
    base = {
        "model": FAMILY[family],
        "training": {"max_steps": 10, "global_batch_size": 8},
        "data": {"max_length": 64},
    }
    return resolve(PretrainConfig, [("test", base), ("change", sections)])


def count(family: str = "classic", **sections: dict[str, Any]) -> TrainFlops:
    return train_flops(config_of(family, **sections), V)


NEEDED: dict[str, dict[str, Any]] = {
    "two_stage": {"start_from_generator": False},  # the generator is smaller here
    "fast_electra": {"generator_folder": "g"},
}


def objective(name: str, family: str = "classic", **fields: Any) -> TrainFlops:
    model = {"weight_sharing": "none"} if name == "two_stage" else {}
    return count(family, objective={"name": name, **NEEDED.get(name, {}), **fields}, model=model)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    digits = 3 if PUBLISHED[name].inference else 4  # behind the point
    assert f"{published_flops(name):.{digits}e}" == f"{PUBLISHED[name].flops:.{digits}e}"


def test_published_counts_take_20_of_128_positions_and_recipes_their_own_slots() -> None:
    config = resolve(PretrainConfig, [("small", read_recipe("classic-small"))])
    assert masked_share(config) == 19 / 128
    ours, theirs = train_flops(config, 30_522), published_flops("electra_small")
    one_slot = 2 * 128 * 1e6 * (2 * 128 * 30_522 + 2 * 64 * 128 + 14 * 128 + 7 * 30_522)
    assert ours.total == pytest.approx(theirs - one_slot, rel=1e-12)


@pytest.mark.parametrize(("name", "share"), [("classic-small", 0.40), ("tiny", 0.68)])
def test_embeddings_are_much_of_a_small_count(name: str, share: float) -> None:
    """docs/fidelity.md names these shares."""
    counted = train_flops(resolve(PretrainConfig, [(name, read_recipe(name))]), 30_522)
    parts = counted.parts["encoder_embeddings"] + counted.parts["generator_embeddings"]
    assert parts / counted.per_step == pytest.approx(share, abs=0.005)


# the rules of flops_computation.py, collected by powers


def layer(family: str, h: int, i: int, heads: int, length: int) -> int:
    attention = 8 * h * h + 4 * h * length + 10 * length * heads
    if family == "classic":
        return attention + 4 * h * i + 20 * h + 9 * i + 5
    return attention + 6 * h * i + 22 * h + 13 * i


def embedding(family: str, e: int, h: int, length: int, v: int) -> int:
    if family == "classic":
        return 2 * e * v + 2 * e * length + 15 * e + (2 * e * h + h if e != h else 0)
    return 2 * h * v + 9 * h


def output(family: str, e: int, h: int, v: int) -> int:
    return 2 * e * h + (14 if family == "classic" else 13) * e + 2 * e * v + 7 * v


def head(family: str, h: int) -> int:
    return 2 * h * h + (11 if family == "classic" else 15) * h


def by_hand(config: PretrainConfig, v: int) -> float:
    """A step of replaced token detection, without warm start."""
    m, family, length = config.model, config.model.family, config.data.max_length
    h, e = m.hidden_size, m.embedding_size or m.hidden_size
    narrow = m.generator_size != 1
    g = round(h * m.generator_size)
    inner, heads = (4 * g, max(1, g // 64)) if narrow else (m.intermediate_size, 0)
    slots = int((config.objective.mask_prob + 0.005) * length)
    sequence = length * (
        m.num_hidden_layers * layer(family, h, m.intermediate_size, m.num_attention_heads, length)
        + embedding(family, e, h, length, v)
        + head(family, h)
        + (m.generator_layers or m.num_hidden_layers)
        * layer(family, g, inner, heads or m.num_attention_heads, length)
        + embedding(family, e, g, length, v)
    )
    return 2 * config.training.global_batch_size * (sequence + slots * output(family, e, g, v))


CHANGES: list[dict[str, dict[str, Any]]] = [
    {},
    {"model": {"hidden_size": 512}},
    {"model": {"num_hidden_layers": 5}},
    {"model": {"num_attention_heads": 8}},
    {"model": {"intermediate_size": 641}},
    {"model": {"generator_layers": 3}},
    {"data": {"max_length": 65}},
    {"objective": {"mask_prob": 0.25}},
    {"training": {"global_batch_size": 9}},
]
CLASSIC_CHANGES: list[dict[str, dict[str, Any]]] = [
    {"model": {"generator_size": 0.25}},
    {"model": {"generator_size": 1.0}},
    {"model": {"embedding_size": 256}},
]


@pytest.mark.parametrize(
    ("family", "change"),
    [(family, change) for family in FAMILY for change in CHANGES]
    + [("classic", change) for change in CLASSIC_CHANGES],
)
@pytest.mark.parametrize("vocab_size", [V, V + 1])
def test_every_dimension_counts_as_by_hand(
    family: str, change: dict[str, dict[str, Any]], vocab_size: int
) -> None:
    plain, changed = config_of(family), config_of(family, **change)
    expected = by_hand(changed, vocab_size)
    assert train_flops(changed, vocab_size).per_step == pytest.approx(expected, rel=1e-12)
    difference = train_flops(changed, vocab_size).per_step - train_flops(plain, V).per_step
    assert difference == pytest.approx(expected - by_hand(plain, V), rel=1e-9)
    assert (difference != 0) == bool(change or vocab_size != V)


@pytest.mark.parametrize("family", FAMILY)
def test_weight_sharing_changes_nothing(family: str) -> None:
    for sharing in ("gdes", "none"):
        assert count(family, model={"weight_sharing": sharing}) == count(family)


@pytest.mark.parametrize("family", FAMILY)
def test_matrix_products_are_those_that_pytorch_counts(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks that transformers builds, run; what is no matrix product is set to zero."""
    for name in ("DROPOUT", "NORM", "ACTIVATION", "SOFTMAX", "ROTARY"):
        monkeypatch.setattr(counting, name, 0)
    config, length, slots = config_of(family), 64, 9
    encoder, generator = encoder_network(config.model), generator_network(config.model)
    with torch.device("meta"):
        model = PretrainingModel(
            config.model, vocab_size=V, special=SPECIAL, with_generator=True, with_masked_lm=True
        )
        ids = torch.zeros(1, length, dtype=torch.int64)
        positions = torch.zeros(1, slots, dtype=torch.int64)
    model.use_attention("eager")

    def embeddings(network: counting.Network) -> float:  # no product here but the projection
        h, e = network.hidden_size, network.embedding_size
        return length * 2 * h * e if e != h else 0.0

    with FlopCounterMode(display=False) as counter:
        hidden = model.encoder_hidden(ids, {})
    body = counting.layers_flops(encoder, length) + embeddings(encoder)
    assert body == pytest.approx(counter.get_total_flops(), rel=0.01)
    with FlopCounterMode(display=False) as counter:
        model.replaced_logits(hidden)
    ours = length * counting.replaced_head_flops(encoder)
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)
    with FlopCounterMode(display=False) as counter:
        model.encoder_token_logits(hidden[:, :slots])
    ours = slots * counting.masked_lm_head_flops(encoder, V)
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)
    with FlopCounterMode(display=False) as counter:
        model.generator_logits(ids, {}, positions)
    ours = counting.layers_flops(generator, length) + embeddings(generator)
    ours += slots * counting.masked_lm_head_flops(generator, V)
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)


STEPS: dict[str, dict[str, Any]] = {
    "replaced_token_detection": {
        "causal_start": 0.25,
        "warm_start": 0.5,
        "encoder_mlm_weight": 1.0,
    },
    "masked_lm": {"causal_start": 0.25},
    "adversarial": {},
    "replace_mlm": {},
    "all_tokens_mlm": {},
    "two_stage": {"generator_share": 0.5, "start_from_generator": False},
    "electric": {},
}


@pytest.mark.parametrize("progress", [0.0, 0.4, 0.75])
@pytest.mark.parametrize("name", STEPS)
def test_what_a_step_computes_is_what_pytorch_counts(
    name: str, progress: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for operation in ("DROPOUT", "NORM", "ACTIVATION", "SOFTMAX", "ROTARY"):
        monkeypatch.setattr(counting, operation, 0)
    shape: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 128}
    shape |= {"num_attention_heads": 4, "generator_size": 1.0, "generator_layers": 2}
    sections = {
        "model": {**shape, "weight_sharing": "none" if name == "two_stage" else "embeddings"},
        "objective": {"name": name, **STEPS[name]},
        "data": {"max_length": 32},
    }
    objective = make("modern", counts=torch.ones(VOCAB), **sections)
    objective.model.use_attention("eager")  # the other kernels are not counted on a CPU
    objective.train()
    objective.begin_step(progress)
    batch = {"input_ids": torch.arange(128).view(4, 32) % (VOCAB - 5) + 5}
    batch |= {"attention_mask": torch.ones(4, 32, dtype=torch.int64)}
    with FlopCounterMode(display=False) as counter:
        batch, _ = objective.prepare(batch, noise())
        weights = objective.loss_weights
        losses = objective(batch, noise()).losses
        sum(weights[loss] * losses[loss] for loss in losses).backward()
    expected = counter.get_total_flops() / (4 * 32)
    assert computed_flops(
        tiny_config("modern", **sections), VOCAB, progress, True
    ) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", recipe_names())
def test_shapes_are_those_that_are_built(name: str) -> None:
    model = resolve(PretrainConfig, [(name, read_recipe(name))]).model
    built = FAMILIES[model.family].encoder_config(model, vocab_size=V, special=SPECIAL)
    smaller = FAMILIES[model.family].generator_config(model, built)
    for ours, theirs in ((encoder_network(model), built), (generator_network(model), smaller)):
        for field in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            assert getattr(ours, field) == getattr(theirs, field)
        assert ours.intermediate_size == theirs.intermediate_size
        width = theirs.embedding_size if model.family == "classic" else theirs.hidden_size
        assert ours.embedding_size == width


def test_sliding_layers_see_their_window() -> None:
    changes = {
        "model": {"max_position_embeddings": 1024},
        "training": {"max_steps": 1},
        "data": {"max_length": 1024},
    }
    config = resolve(PretrainConfig, [("small", read_recipe("small")), ("long", changes)])
    built = modern.encoder_config(config.model, vocab_size=V, special=SPECIAL)
    kinds = built.layer_types
    assert kinds is not None
    assert modern.FULL_ATTENTION_UP_TO == counting.FULL_ATTENTION_UP_TO
    assert 2 * built.sliding_window + 1 == counting.WINDOW
    full, sliding = kinds.count("full_attention"), kinds.count("sliding_attention")
    assert (full, sliding) == (4, 8)
    expected = 1024 * (
        full * layer("modern", 256, 704, 4, 1024) + sliding * layer("modern", 256, 704, 4, 129)
    )
    assert counting.layers_flops(encoder_network(config.model), 1024) == expected


@pytest.mark.parametrize("length", [8, 64, 100, 128, 512])
@pytest.mark.parametrize("mask_prob", [0.01, 0.15, 0.25, 0.5])
def test_masked_share_is_that_of_the_slots(length: int, mask_prob: float) -> None:
    config = config_of(
        model={"max_position_embeddings": 512},
        data={"max_length": length},
        objective={"mask_prob": mask_prob},
    )
    assert masked_share(config) == max_masked(length, mask_prob) / length


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("family", FAMILY)
def test_every_objective_has_a_count(name: str, family: str) -> None:
    counted = objective(name, family)
    assert counted.parts["encoder_layers"] > 0
    assert counted.total == pytest.approx(10 * counted.per_step)
    assert counted.per_token == pytest.approx(counted.per_step / (8 * 64))
    assert min(counted.parts.values()) >= 0


GENERATOR = ("generator_embeddings", "generator_layers", "generator_output")


def test_masked_lm_is_the_encoder_and_its_output() -> None:
    rtd, mlm = objective("replaced_token_detection").parts, objective("masked_lm").parts
    assert not any(mlm[part] for part in (*GENERATOR, "discriminator_head"))
    assert mlm["encoder_layers"] == rtd["encoder_layers"]
    assert mlm["encoder_output"] == 2 * 8 * 9 * output("classic", 128, 256, V)
    assert rtd["encoder_output"] == 0


def test_warm_start_goes_from_one_to_the_other() -> None:
    def rtd(**fields: Any) -> TrainFlops:
        changes = {"generator_size": 1.0}
        return count(model=changes, objective={"name": "replaced_token_detection", **fields})

    mlm = count(objective={"name": "masked_lm"})
    assert rtd(warm_start=1.0).parts == mlm.parts
    quarter = 0.75 * rtd().per_step + 0.25 * mlm.per_step
    assert rtd(warm_start=0.25).per_step == pytest.approx(quarter)
    corrected = rtd(warm_start=0.25, encoder_mlm_weight=1.0).parts
    assert corrected["encoder_output"] == pytest.approx(mlm.parts["encoder_output"])


def test_a_causal_start_meets_the_vocabulary_at_every_token() -> None:
    def parts(causal: float) -> Mapping[str, float]:
        return count("modern", objective={"name": "masked_lm", "causal_start": causal}).parts

    everywhere = parts(1.0)["encoder_output"]
    assert everywhere == pytest.approx(parts(0.0)["encoder_output"] * 64 / 9)
    halves = (everywhere + parts(0.0)["encoder_output"]) / 2
    assert parts(0.5)["encoder_output"] == pytest.approx(halves)


def test_contrast_reads_nine_tenths_again() -> None:
    plain = objective("replaced_token_detection").per_step
    cropped = 58  # of 64, rounded up
    again = cropped * (
        4 * layer("classic", 256, 640, 4, cropped) + embedding("classic", 128, 256, cropped, V)
    )
    contrast = objective("replaced_token_detection", contrastive_weight=1.0).per_step
    assert contrast - plain == pytest.approx(2 * 8 * again)


@pytest.mark.parametrize("generator", ["uniform", "unigram"])
@pytest.mark.parametrize(
    "name", ["replaced_token_detection", "electra_15_percent", "replace_mlm", "all_tokens_mlm"]
)
def test_fixed_generators_cost_nothing(name: str, generator: str) -> None:
    network, fixed = objective(name).parts, objective(name, generator=generator).parts
    for part, value in fixed.items():
        assert value == (0 if part in GENERATOR else network[part])
        assert network[part] > 0 or part not in GENERATOR


def test_variants_of_replaced_token_detection() -> None:
    rtd, mlm = objective("replaced_token_detection"), objective("masked_lm")
    mlm_output, rtd_head = mlm.parts["encoder_output"], rtd.parts["discriminator_head"]
    assert objective("electra_15_percent") == rtd
    assert objective("adversarial") == rtd
    replace = objective("replace_mlm").per_step
    assert replace == pytest.approx(rtd.per_step - rtd_head + mlm_output)
    everywhere = objective("all_tokens_mlm", copy_mechanism=False).per_step
    assert everywhere == pytest.approx(replace + mlm_output * (64 / 9 - 1))
    assert objective("all_tokens_mlm").per_step == pytest.approx(everywhere + rtd_head)
    augmented = objective("self_augmented").per_step
    assert augmented == pytest.approx(mlm.per_step + mlm_output / 2 + rtd_head)


def test_stages_fixed_networks_and_towers() -> None:
    rtd = objective("replaced_token_detection")
    generator = sum(rtd.parts[part] for part in GENERATOR)
    rest = rtd.per_step - generator
    assert objective("two_stage", generator_share=1.0).per_step == pytest.approx(generator)
    stages = 0.25 * generator + 0.75 * (generator / 2 + rest)  # half: forward alone
    assert objective("two_stage", generator_share=0.25).per_step == pytest.approx(stages)
    fast = objective("fast_electra").per_step
    assert fast == pytest.approx(rest + generator / 2)
    kept = objective("fast_electra", replacements="kept").per_step
    assert kept == pytest.approx(rest)
    electric = objective("electric").per_step
    towers = 2 * (rtd.parts["generator_embeddings"] + rtd.parts["generator_layers"])
    everywhere = rtd.parts["generator_output"] * 64 / 9
    wider = 2 * 8 * 64 * 2 * 128 * 128  # the head reads both towers
    assert electric == pytest.approx(rest + towers + everywhere + wider)


def test_budgets() -> None:
    tokens = count(training={"max_tokens": 8 * 64 * 3})
    assert tokens.steps == 3
    assert tokens.total == pytest.approx(3 * tokens.per_step)
    minutes = count(training={"minutes": 5})
    assert minutes.steps is None
    assert minutes.total is None
    assert minutes.per_step == tokens.per_step


def test_flops_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["flops", "--recipe", "classic-small", "--vocab-size", "16384"]
    assert run([*arguments, "--json", "--data.max-length", "64"]) == 0
    shown = json.loads(capsys.readouterr().out)
    changes = {"data": {"max_length": 64}}
    config = resolve(PretrainConfig, [("r", read_recipe("classic-small")), ("f", changes)])
    assert shown == flops(config=config, vocab_size=16_384)
    assert shown["total"] == pytest.approx(sum(shown["parts_per_step"].values()) * 1e6)
    assert shown["inference"] == [
        {"length": n, "flops": inference_flops(config.model, 16_384, n)} for n in (64, 128)
    ]
    assert run(arguments) == 0
    table = capsys.readouterr().out
    counted = train_flops(resolve(PretrainConfig, [("r", read_recipe("classic-small"))]), 16_384)
    for word in ("encoder layers", "generator output", "1,000,000 steps", "one input of 128"):
        assert word in table
    assert f"{counted.total:.4e}" in table
    assert f"{counted.per_step:.4e}" in table
    assert "depends on" not in table


def test_minutes_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["flops", "--training.minutes", "7"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the budget is 7 minutes" in shown
    assert "depends on the machine" in shown
    assert run(["flops", "--training.minutes", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] is None


def test_published_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["flops", "--published"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("1.2937e+18") == 2
    assert "1.4e18" in shown
    assert run(["flops", "--published", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(PUBLISHED)
    assert all(math.isclose(row["published"], row["computed"], rel_tol=2e-4) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("flops --vocab-size 0", "--vocab-size is 0; allowed: above 0"),
        ("flops --vocab-size many", "many"),
        (
            "flops --recipe classic-small --model.generator-size 0.001",
            "--model.generator-size 0.001 makes the generator 0 wide",
        ),
        (
            "flops --recipe classic-small --model.generator-size 0.6055",
            "makes the generator 155 wide, which 2 heads",
        ),
        ("flops --model.discriminator ./gone", "--model.discriminator ./gone does not exist"),
        ("flops --recipe tinny", 'did you mean "tiny"?'),
        ("flops --model.hidden-sise 3", 'did you mean "hidden_size"?'),
        ("flops --published --recipe small", "--published shows runs that are fixed"),
        ("flops --published --model.hidden-size 64", "--published shows runs that are fixed"),
        ("flops --publish", "--publish"),
    ],
)
def test_mistakes_are_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments.split()) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.startswith("electra: ")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("vocab_size", [None, 50])
def test_released_weights_have_a_shape_of_their_own(
    tmp_path: Path, vocab_size: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 80,
        "embedding_size": 24,
        "max_position_embeddings": 128,
    }
    network = ElectraForPreTraining(ElectraConfig(vocab_size=60, **shape))
    network.save_pretrained(tmp_path)
    given = ["flops", "--recipe", "tiny", "--model.discriminator", str(tmp_path)]
    given += [] if vocab_size is None else ["--vocab-size", str(vocab_size)]
    assert run([*given, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    recipe = read_recipe("tiny")
    recipe["model"] |= {"family": "classic", "initialization": "published", **shape}
    if "generator_layers" in recipe["model"]:
        recipe["model"]["generator_layers"] = min(recipe["model"]["generator_layers"], 3)
    config = resolve(PretrainConfig, [("r", recipe)])
    assert shown == flops(config=config, vocab_size=vocab_size or 60)
    assert run(given) == 0
    assert "the shape is that of the released weights" in capsys.readouterr().out


def test_a_generator_that_is_not_there_is_of_no_size() -> None:
    tables = {"model": {"generator_size": 0.001}, "objective": {"name": "masked_lm"}}
    config = resolve(PretrainConfig, [("r", read_recipe("classic-small")), ("here", tables)])
    assert flops(config=config)["per_step"] > 0


def test_counting_is_light() -> None:
    code = (
        "import sys; from electra.cli import run; assert run(['flops']) == 0; "
        "heavy = {'torch', 'transformers', 'numpy', 'tokenizers'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
