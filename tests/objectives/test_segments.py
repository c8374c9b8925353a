"""Rows joined of two, against what they were joined of; and that objectives learn to tell them."""

import math

import pytest
import torch

from electra.objectives.masked_lm import MaskedLM
from electra.objectives.segments import SegmentHead, join_segments
from electra.training.loop import Batch
from tests.objectives.build import SPECIAL, make, noise, padded_batch


def with_partners(rows: int = 64, length: int = 16) -> Batch:
    """Rows of tokens 5 to 19 whose partners have 20 to 34."""
    generator = torch.Generator().manual_seed(3)
    own = torch.randint(5, 20, (rows, length), generator=generator)
    other = torch.randint(20, 35, (rows, length), generator=generator)
    for ids in (own, other):
        ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    there = torch.ones(rows, dtype=torch.bool)
    return {"input_ids": own, "partner_input_ids": other, "has_partner": there}


def padded_with_partners() -> Batch:
    """Rows of 14, 9 and 5 tokens with partners of 5, 14 and 9, often enough to meet all cases."""
    batch = {name: tensor.repeat(40, 1) for name, tensor in padded_batch().items()}
    partners = {f"partner_{name}": tensor.roll(1, 0) for name, tensor in batch.items()}
    return {**batch, **partners, "has_partner": torch.ones(120, dtype=torch.bool)}


def test_a_joined_row_is_a_first_part_and_the_rest_of_its_partner() -> None:
    batch = with_partners()
    joined = join_segments(batch, SPECIAL, noise())
    assert 16 < int(joined["is_joined"].sum()) < 48
    places = set()
    for row in range(64):
        found = joined["input_ids"][row].tolist()
        at = found.index(SPECIAL.sep)
        places.add(at)
        assert 4 <= at < 12
        rest = batch["partner_input_ids" if joined["is_joined"][row] else "input_ids"]
        own = batch["input_ids"][row].tolist()
        assert found == [*own[:at], SPECIAL.sep, *rest[row, at + 1 :].tolist()]
    assert len(places) == 8
    assert joined["segment_weights"].sum() == 64 * 16
    assert "attention_mask" not in joined


def test_of_padded_rows_lengths_are_joined_too() -> None:
    batch = padded_with_partners()
    joined = join_segments(batch, SPECIAL, noise())
    met = set()
    for row in range(120):
        mask, ids = joined["attention_mask"][row], joined["input_ids"][row]
        is_joined, length = bool(joined["is_joined"][row]), int(mask.sum())
        met.add((int(batch["attention_mask"][row].sum()), is_joined))
        assert mask.tolist() == [1] * length + [0] * (14 - length)  # nothing is torn
        assert (ids[length:] == SPECIAL.pad).all()
        assert ids[length - 1] == SPECIAL.sep
        whose = "partner_attention_mask" if is_joined else "attention_mask"
        assert length == int(batch[whose][row].sum())
    assert met >= {(9, True), (9, False), (5, True), (5, False), (14, False)}
    assert torch.equal(joined["segment_weights"], joined["attention_mask"].float())


def test_marks_of_words_go_with_the_tokens() -> None:
    batch = with_partners()
    batch["starts_word"] = torch.zeros(64, 16, dtype=torch.bool)
    batch["partner_starts_word"] = torch.ones(64, 16, dtype=torch.bool)
    joined = join_segments(batch, SPECIAL, noise())
    ids = joined["input_ids"]
    expected = (ids >= 20) | (torch.arange(16) == (ids == SPECIAL.sep).int().argmax(1)[:, None])
    expected[:, -1] = joined["is_joined"]
    assert torch.equal(joined["starts_word"], expected)


def test_a_row_is_joined_alike_in_any_micro_batch() -> None:
    batch = with_partners()
    whole = join_segments(batch, SPECIAL, noise())
    part = join_segments({k: v[20:30] for k, v in batch.items()}, SPECIAL, type(noise())(0, 20))
    for name in ("input_ids", "is_joined"):
        assert torch.equal(part[name], whole[name][20:30])


def test_a_row_that_is_its_own_partner_is_not_called_joined() -> None:
    batch = with_partners()
    batch["has_partner"][:] = False
    joined = join_segments(batch, SPECIAL, noise())
    assert not joined["is_joined"].any()
    assert (joined["input_ids"] < 20).all()


@torch.no_grad()
def test_the_loss_against_a_loop() -> None:
    torch.manual_seed(0)
    head, hidden = SegmentHead(8), torch.randn(3, 5, 8)
    weights = torch.tensor([[1.0] * 5, [1.0] * 3 + [0] * 2, [1.0] * 4 + [0]])
    batch = {"is_joined": torch.tensor([True, False, True]), "segment_weights": weights}
    expected, right = 0.0, 0
    for row in range(3):
        for place in range(5):
            if weights[row, place]:
                score = float(head(hidden[row, place]))
                sign = -1 if batch["is_joined"][row] else 1
                expected += math.log1p(math.exp(sign * score))
                right += sign * score < 0
    assert float(head.loss(hidden, batch)) == pytest.approx(expected, rel=1e-5)
    assert int(head.correct(hidden, batch)) == right


@pytest.mark.parametrize(
    "section",
    [
        {"name": "masked_lm"},
        {"name": "replaced_token_detection"},
        {"name": "replaced_token_detection", "warm_start": 0.5},
    ],
)
def test_objectives_add_it(section: dict[str, object]) -> None:
    objective = make("modern", objective={**section, "segment_weight": 0.5}).train()
    assert objective.wants_partners
    assert objective.loss_weights["segment_loss"] == 0.5
    drawn, batch = noise(), with_partners()
    prepared, counts = objective.prepare(batch, drawn)
    assert float(counts["segment_loss"]) == 64 * 16
    assert prepared["is_joined"].any()
    losses = objective.forward(prepared, drawn).losses
    losses["segment_loss"].backward()
    for part in (objective.segment_head, objective.model.encoder):
        assert part is not None
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    means = objective.eval().probe(batch, noise()).means
    assert 0 < float(means["segment_accuracy"][0]) < 64 * 16 == float(means["segment_accuracy"][1])


def test_held_out_masked_lm_losses_are_those_of_rows_that_are_not_joined() -> None:
    batch = with_partners()
    plain = make("modern", objective={"name": "masked_lm"})
    asked = make("modern", objective={"name": "masked_lm", "segment_weight": 1.0})
    asked.model.load_state_dict(plain.model.state_dict())
    one, other = (each.probe(batch, noise()).means for each in (plain, asked))
    assert torch.equal(one["encoder_mlm_loss"][0], other["encoder_mlm_loss"][0])
    assert not plain.wants_partners


def test_a_small_network_learns_to_tell_them() -> None:
    objective = make("modern", objective={"name": "masked_lm", "segment_weight": 1.0}).train()
    assert isinstance(objective, MaskedLM)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(60):
        drawn = noise(step)
        prepared, counts = objective.prepare(with_partners(), drawn)
        loss = objective.forward(prepared, drawn).losses["segment_loss"] / counts["segment_loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right, count = objective.eval().probe(with_partners(), noise(99)).means["segment_accuracy"]
    assert float(right) / float(count) > 0.9
