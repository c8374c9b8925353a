"""The cropped view and the contrastive loss of COCO-LM."""

import math

import pytest
import torch

from electra.objectives.contrastive import contrastive_loss, crop
from tests.objectives.build import SPECIAL, make, noise, padded_batch


def test_the_crop_is_a_run_of_nine_tenths() -> None:
    batch = padded_batch()
    starts = set()
    for seed in range(40):
        cropped = crop(batch, SPECIAL, noise(seed))
        assert cropped["input_ids"].shape == (3, 13)
        for row, length in enumerate((14, 9, 5)):
            kept = math.ceil(0.9 * length)
            found = cropped["input_ids"][row].tolist()
            assert found[0] == SPECIAL.cls
            assert int(cropped["attention_mask"][row].sum()) == kept
            assert found[kept:] == [SPECIAL.pad] * (13 - kept)
            original = batch["input_ids"][row, :length].tolist()
            runs = [original[i : i + kept - 1] for i in range(1, length - kept + 2)]
            assert found[1:kept] in runs
            if row == 0:
                starts.add(runs.index(found[1:kept]))
    assert len(starts) > 1


def test_the_crop_keeps_token_types() -> None:
    batch = padded_batch()
    batch["token_type_ids"] = (batch["input_ids"] % 2) * batch["attention_mask"]
    cropped = crop(batch, SPECIAL, noise())
    kept = cropped["attention_mask"].bool()
    expected = (cropped["input_ids"] % 2)[kept]
    assert torch.equal(cropped["token_type_ids"][kept], expected)
    assert not cropped["token_type_ids"][~kept].any()


def test_the_loss_against_a_loop() -> None:
    one, other = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    views = [*one, *other]
    expected = 0.0
    for i, view in enumerate(views):
        scores = {
            j: math.exp(float(torch.cosine_similarity(view, views[j], dim=0)))
            for j in range(6)
            if j != i
        }
        expected -= math.log(scores[(i + 3) % 6] / sum(scores.values())) / 2
    assert float(contrastive_loss(one, other)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_lowest_where_views_of_a_text_agree() -> None:
    texts = torch.eye(4)
    shuffled = texts[[1, 2, 3, 0]]
    assert contrastive_loss(texts, texts) < contrastive_loss(texts, shuffled)


def test_it_is_a_loss_of_replaced_token_detection() -> None:
    objective = make("classic", objective={"contrastive_weight": 0.5})
    drawn = noise()
    batch, counts = objective.prepare(padded_batch(), drawn)
    output = objective.forward(batch, drawn)
    assert objective.loss_weights["contrastive_loss"] == 0.5
    assert float(counts["contrastive_loss"]) == 3
    output.losses["contrastive_loss"].backward()
    assert any(p.grad is not None and p.grad.any() for p in objective.model.encoder.parameters())
