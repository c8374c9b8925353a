"""A share of masked tokens that moves over the budget, in slots that stay where asked for."""

from typing import Any

import pytest
import torch

from electra.config import ObjectiveConfig
from electra.errors import ConfigError
from electra.model.flops import computed_flops, masked_share
from electra.objectives.masking import mask_slots, max_masked
from tests.objectives.build import SPECIAL, VOCAB, make, noise, padded_batch
from tests.shapes import tiny_config


def text(rows: int = 4, length: int = 100) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    return {"input_ids": ids}


def used_slots(objective: Any, progress: float) -> tuple[set[int], int]:
    """How many positions of each row are masked, and P."""
    objective.begin_step(progress)
    batch, counts = objective.prepare(text(), noise())
    weights = batch["masked_weights"]
    hidden = batch["masked_input_ids"] == SPECIAL.mask
    assert torch.equal(hidden.sum(1), weights.sum(1).long())
    for name in set(counts) - {"discriminator_loss"}:
        assert counts[name] == weights.sum()
    return set(weights.sum(1).int().tolist()), weights.shape[1]


@pytest.mark.parametrize("name", ["replaced_token_detection", "masked_lm", "two_stage"])
@pytest.mark.parametrize("ends", [(0.3, 0.15), (0.15, 0.3)])
@pytest.mark.parametrize("idle_slots", [True, False])
def test_the_share_goes_in_a_straight_line(
    name: str, ends: tuple[float, float], idle_slots: bool
) -> None:
    section = {"name": name, "mask_prob": ends[0], "mask_prob_end": ends[1], "mask_token_prob": 1.0}
    if name == "masked_lm":
        sections: dict[str, Any] = {"objective": section}
    else:
        section["discriminator_weight"] = 10.0
        sharing = "none" if name == "two_stage" else "embeddings"
        sections = {"objective": section, "model": {"weight_sharing": sharing}}
        if name == "two_stage":
            section["start_from_generator"] = False
    objective = make("modern", **sections).train()
    objective.idle_slots = idle_slots
    slots = 30 if idle_slots else 0
    rising = [15, 20, 25, 30]
    wanted = rising if ends[0] < ends[1] else rising[::-1]
    for progress, number in zip((0.0, 1 / 3, 2 / 3, 1.0), wanted, strict=True):
        assert used_slots(objective, progress) == ({number}, slots or number)
    # evaluations compare: they have the share of the end at any time
    assert used_slots(objective.eval(), 0.0) == ({wanted[-1]}, slots or wanted[-1])


@pytest.mark.parametrize("masking", ["whole_word", "span"])
def test_words_keep_to_the_slots(masking: str) -> None:
    section = {"mask_prob": 0.3, "mask_prob_end": 0.1, "masking": masking}
    objective = make("modern", objective=section).train()
    batch = text() | {"starts_word": noise(1).uniform((4, 100)) < 0.7}
    for progress, most in ((0.0, 30), (1.0, 10)):
        objective.begin_step(progress)
        prepared, _ = objective.prepare(batch, noise())
        assert prepared["masked_positions"].shape == (4, prepared["masked_weights"].sum(1).max())
        assert 0.7 * most <= prepared["masked_weights"].sum(1).max() <= most


@pytest.mark.parametrize("masking", ["token", "whole_word", "span"])
def test_idle_slots_change_nothing(masking: str) -> None:
    """The same tokens are chosen and drawn, and the losses and their gradients are the same."""
    section = {
        "mask_prob": 0.3,
        "mask_prob_end": 0.1,
        "masking": masking,
        "encoder_mlm_weight": 1.0,
        "repetition_weight": 1.0,
    }
    objective = make("modern", objective=section).train()
    batch = padded_batch() | {
        "starts_word": noise(1).uniform(padded_batch()["input_ids"].shape) < 0.7
    }
    objective.begin_step(0.9)
    found = []
    for idle_slots in (True, False):
        objective.idle_slots = idle_slots
        objective.zero_grad()
        drawn = noise()
        prepared, counts = objective.prepare(batch, drawn)
        losses = objective.forward(prepared, drawn).losses
        sum(losses.values(), start=torch.zeros(())).backward()
        gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
        found.append({**losses, **gradients})
        found[-1] |= {f"number of {name}": count for name, count in counts.items()}
    with_idle, without = found
    assert with_idle.keys() == without.keys()
    for name, tensor in without.items():
        torch.testing.assert_close(tensor, with_idle[name], rtol=1e-4, atol=1e-5, msg=name)
    slots = {keeps: prepared_slots(objective, batch, keeps) for keeps in (True, False)}
    assert slots[True] > slots[False] > 0


def prepared_slots(objective: Any, batch: dict[str, torch.Tensor], idle_slots: bool) -> int:
    objective.idle_slots = idle_slots
    prepared, _ = objective.prepare(batch, noise())
    return int(prepared["masked_positions"].shape[1])


def test_without_a_schedule_nothing_moves() -> None:
    objective = make("modern").train()
    before, _ = objective.prepare(text(), noise())
    objective.begin_step(0.9)
    after, _ = objective.prepare(text(), noise())
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    assert before["masked_positions"].shape[1] == max_masked(100, 0.15) == 15


def test_slots_and_what_they_cost() -> None:
    falls = ObjectiveConfig(mask_prob=0.3, mask_prob_end=0.15)
    rises = ObjectiveConfig(mask_prob=0.15, mask_prob_end=0.3)
    assert mask_slots(128, falls) == mask_slots(128, rises) == max_masked(128, 0.3) == 39
    config = tiny_config("modern", objective={"mask_prob": 0.1, "mask_prob_end": 0.4})
    assert masked_share(config) == 6 / 16
    assert [masked_share(config, at=p) for p in (0.0, 0.5, 1.0)] == [1 / 16, 4 / 16, 6 / 16]
    assert computed_flops(config, 100, 0.0, False) < computed_flops(config, 100, 0.0, True)


def test_where_it_does_not_apply() -> None:
    for name in ("electric", "self_augmented"):
        with pytest.raises(ConfigError) as refused:
            ObjectiveConfig(name=name, mask_prob_end=0.3)  # type: ignore[arg-type]
        assert f"--objective.mask-prob-end 0.3 does not apply to {name}; it takes: " in str(
            refused.value
        )
        assert str(refused.value).endswith(
            "(those that take it: replaced_token_detection, masked_lm, electra_15_percent, "
            "replace_mlm, all_tokens_mlm, two_stage, adversarial, fast_electra, "
            "sentence_contrast)"
        )
    with pytest.raises(ConfigError, match=r"mask-prob-end is 0.95; allowed: \[0, 0.9\]"):
        ObjectiveConfig(mask_prob_end=0.95)
    with pytest.raises(ConfigError, match=r"mask-prob-end is 0.0; allowed: above 0"):
        ObjectiveConfig(mask_prob_end=0.0)
