"""SimCSE's loss, its views, and what a run of it leaves."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from electra.errors import ConfigError
from electra.model.pooling import mean_pooled
from electra.objectives.contrastive import contrastive_loss, crop, delete_some, mask_some
from electra.objectives.sentence_contrast import SentenceContrast
from electra.pretrain import pretrain
from electra.training.loop import Batch
from tests.objectives.build import SPECIAL, make, noise, padded_batch
from tests.shapes import FAMILIES, tiny_config
from tests.test_pretrain import rows_of

LENGTHS = (14, 9, 5)
DROPOUT = {"hidden_dropout_prob": 0.2}


def contrast(
    family: str = "modern", *, model: dict[str, Any] | None = None, **fields: Any
) -> SentenceContrast:
    made = make(family, model=model or {}, objective={"name": "sentence_contrast", **fields})
    assert isinstance(made, SentenceContrast)
    return made


def cosine(one: Tensor, other: Tensor) -> float:
    products = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    norms = [math.sqrt(sum(float(a) ** 2 for a in x)) for x in (one, other)]
    return products / norms[0] / norms[1]


def simcse(one: Tensor, other: Tensor, tau: float) -> float:
    """Formula 4 of the paper, summed over the texts."""
    total = 0.0
    for i, h in enumerate(one):
        terms = [math.exp(cosine(h, again) / tau) for again in other]
        total -= math.log(terms[i] / sum(terms))
    return total


@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_the_loss_against_a_loop(tau: float) -> None:
    one, other = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(3))
    found = contrastive_loss(one, other, tau=tau, within_views=False)
    assert float(found) == pytest.approx(simcse(one, other, tau), rel=1e-5)


def test_the_mean_leaves_padding_out() -> None:
    hidden = torch.randn(3, 14, 4, generator=torch.Generator().manual_seed(0))
    mask = padded_batch()["attention_mask"]
    expected = torch.stack([row[:n].mean(0) for row, n in zip(hidden, LENGTHS, strict=True)])
    assert torch.allclose(mean_pooled(hidden, mask), expected, atol=1e-6)
    assert torch.allclose(mean_pooled(hidden, None), hidden.mean(1))


def is_subsequence(part: list[int], whole: list[int]) -> bool:
    waiting = iter(whole)
    return all(token in waiting for token in part)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_deletion_leaves_an_order_without_gaps(share: float) -> None:
    batch, seen = padded_batch(), set()
    for seed in range(20):
        view = delete_some(batch, SPECIAL, noise(seed), share)
        assert view["input_ids"].shape == (3, 14)
        for row, length in enumerate(LENGTHS):
            kept = length - max(1, round(share * length))
            found = view["input_ids"][row].tolist()
            assert view["attention_mask"][row].tolist() == [1] * kept + [0] * (14 - kept)
            assert found[kept:] == [SPECIAL.pad] * (14 - kept)
            assert (found[0], found[kept - 1]) == (SPECIAL.cls, SPECIAL.sep)
            assert is_subsequence(found[:kept], batch["input_ids"][row].tolist())
        seen.add(tuple(view["input_ids"][0].tolist()))
    assert len(seen) > 5


def test_masks_stay_where_the_tokens_were() -> None:
    batch = padded_batch()
    view = mask_some(batch, SPECIAL, noise(), 0.3)
    changed = view["input_ids"] != batch["input_ids"]
    assert changed.sum(1).tolist() == [max(1, round(0.3 * length)) for length in LENGTHS]
    assert (view["input_ids"][changed] == SPECIAL.mask).all()
    assert torch.equal(view["attention_mask"], batch["attention_mask"])


def test_words_are_deleted_whole() -> None:
    batch = padded_batch()
    starts = torch.zeros(3, 14, dtype=torch.bool)
    starts[:, 1::2] = True  # words of two tokens
    view = delete_some(batch | {"starts_word": starts}, SPECIAL, noise(), 0.3, "whole_word")
    original = batch["input_ids"][0, 1:13].view(6, 2).tolist()
    found = view["input_ids"][0, 1:9].view(4, 2).tolist()
    assert view["attention_mask"][0].sum() == 14 - 4
    assert all(pair in original for pair in found)


@pytest.mark.parametrize("kept_share", [0.9, 0.5])
def test_a_crop_of_any_share(kept_share: float) -> None:
    view = crop(padded_batch(), SPECIAL, noise(), kept_share)
    assert view["input_ids"].shape == (3, math.ceil(kept_share * 14))
    kept = [math.ceil(kept_share * length) for length in LENGTHS]
    assert view["attention_mask"].sum(1).tolist() == kept


def both_views(objective: SentenceContrast, batch: Batch) -> tuple[Batch, Batch]:
    drawn = noise()
    return objective.view(batch, drawn), objective.view(batch, drawn)


@pytest.mark.parametrize("views", ["deletion", "masking", "crop"])
def test_two_views_of_a_text_differ(views: str) -> None:
    batch = padded_batch() | {"token_type_ids": torch.zeros(3, 14, dtype=torch.long)}
    one, other = both_views(contrast(views=views, view_share=0.3), batch)
    assert set(one) == set(other) == {"input_ids", "attention_mask", "token_type_ids"}
    assert not torch.equal(one["input_ids"], other["input_ids"])


def test_views_by_dropout_are_the_text_itself() -> None:
    batch = padded_batch()
    objective = contrast(model=DROPOUT).train()
    one, other = both_views(objective, batch)
    assert torch.equal(one["input_ids"], batch["input_ids"])
    assert torch.equal(other["input_ids"], batch["input_ids"])
    first, second = objective.vectors(batch, noise())
    assert not torch.allclose(first, second)
    undropped = contrast().train()  # and where there is no dropout at all
    for cropping in (objective.eval(), undropped):  # where nothing is dropped, views are crops
        cropped = [view["input_ids"] for view in both_views(cropping, batch)]
        assert not torch.equal(*cropped)
        assert cropped[0].shape == (3, math.ceil(0.3 * 14)), "three tenths are kept"


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_those_of_the_views(family: str) -> None:
    """Each row by itself, unpadded, through the encoder; then the loop."""
    objective = contrast(family, encoder_mlm_weight=0.5, contrastive_temperature=0.2)
    drawn = noise()
    batch, counts = objective.prepare(padded_batch(), drawn)
    output = objective.forward(batch, drawn)
    again = noise()
    objective.prepare(padded_batch(), again)
    vectors = []
    for view in (objective.view(batch, again), objective.view(batch, again)):
        rows = []
        for ids, mask in zip(view["input_ids"], view["attention_mask"], strict=True):
            hidden = objective.model.encoder(ids[: int(mask.sum())].unsqueeze(0))
            rows.append(hidden.last_hidden_state[0].mean(0))
        vectors.append(torch.stack(rows))
    expected = simcse(vectors[0], vectors[1], 0.2)
    assert float(output.losses["contrastive_loss"]) == pytest.approx(expected, rel=1e-3)
    assert float(counts["contrastive_loss"]) == 3
    assert counts["encoder_mlm_loss"] == batch["masked_weights"].sum() > 0
    masked = {"attention_mask": batch["attention_mask"]}
    hidden = objective.model.encoder_hidden(batch["masked_input_ids"], masked)
    logits = objective.model.encoder_token_logits(hidden).log_softmax(-1)
    expected = 0.0
    for row, column, used in zip(
        torch.arange(3).repeat_interleave(batch["masked_positions"].shape[1]),
        batch["masked_positions"].flatten(),
        batch["masked_weights"].flatten(),
        strict=True,
    ):
        expected -= float(used * logits[row, column, batch["input_ids"][row, column]])
    assert float(output.losses["encoder_mlm_loss"]) == pytest.approx(expected, rel=1e-4)
    assert objective.loss_weights == {"contrastive_loss": 1.0, "encoder_mlm_loss": 0.5}


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_all_of_the_encoder_and_no_head(family: str) -> None:
    objective = contrast(family)
    drawn = noise()
    batch, counts = objective.prepare(padded_batch(), drawn)
    assert set(counts) == {"contrastive_loss"}
    loss = objective.forward(batch, drawn).losses["contrastive_loss"]
    loss.backward()  # type: ignore[no-untyped-call]
    body = {id(p) for p in objective.model.encoder.parameters()}
    for name, parameter in objective.named_parameters():
        if id(parameter) in body:
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
        else:
            assert parameter.grad is None, name
    assert not objective.keeps_masked_lm


def test_the_probe_repeats_itself() -> None:
    objective = contrast()
    found = objective.probe(padded_batch(), noise()).means
    assert set(found) == {"contrastive_loss", "contrastive_accuracy", "anisotropy"}
    again = objective.probe(padded_batch(), noise()).means
    for name, (total, _) in found.items():
        assert torch.equal(torch.as_tensor(total), torch.as_tensor(again[name][0]))


def test_the_probe_of_one_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = contrast()
    monkeypatch.setattr(objective, "vectors", lambda batch, noise: (torch.ones(3, 4),) * 2)
    means = objective.probe(padded_batch(), noise()).means
    found = {name: float(total) / float(count) for name, (total, count) in means.items()}
    assert found["anisotropy"] == pytest.approx(1.0)
    assert found["contrastive_loss"] == pytest.approx(math.log(3), rel=1e-5)


def test_a_trained_encoder_is_polished(corpus: Path, tmp_path: Path) -> None:
    """A masked LM, then a bare encoder of it: texts come apart, and the encoder alone is saved."""
    first = tiny_config("modern", objective={"name": "masked_lm"}, training={"max_steps": 20})
    pretrain(data=corpus, output=tmp_path / "first", config=first)
    config = tiny_config(
        "modern",
        model={"discriminator": str(tmp_path / "first" / "encoder")},
        objective={"name": "sentence_contrast"},
        training={"max_steps": 30, "eval_steps": 15},
        optimizer={"learning_rate": 1e-3},
    )
    run = tmp_path / "polished"
    report = pretrain(data=corpus, output=run, config=config)
    evaluations = [row for row in rows_of(run) if "eval_contrastive_loss" in row]
    assert len(evaluations) == 2
    assert evaluations[1]["eval_contrastive_loss"] < evaluations[0]["eval_contrastive_loss"]
    assert 0 < report["metrics"]["contrastive_accuracy"] <= 1
    assert (run / "encoder" / "model.safetensors").is_file()
    assert not (run / "masked_lm").exists()
    assert contrast(encoder_mlm_weight=0.1).keeps_masked_lm


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"objective": {"views": "dropout"}},
            "--objective.views dropout needs some: give --model.hidden-dropout-prob 0.1, or "
            "--objective.views crop",
        ),
        (
            {"training": {"micro_batch_size": 1}},
            "--objective.name sentence_contrast compares the texts of a forward pass: it needs "
            "--training.micro-batch-size 2 or more",
        ),
        (
            {"data": {"document_attention": True}},
            "--data.document-attention does not go with --objective.name sentence_contrast",
        ),
        ({"objective": {"view_share": 0.0}}, "--objective.view-share is 0.0; allowed: above 0"),
        ({"objective": {"view_share": 0.95}}, "--objective.view-share is 0.95; allowed: "),
        (
            {"objective": {"contrastive_temperature": -1.0}},
            "--objective.contrastive-temperature is -1.0; allowed: above 0",
        ),
        (
            {"objective": {"contrastive_weight": 1.0}},
            "--objective.contrastive-weight 1.0 does not apply to sentence_contrast",
        ),
        ({"model": {"weight_sharing": "none"}}, "no generator is trained beside the encoder"),
    ],
)
def test_what_is_refused(sections: dict[str, Any], message: str) -> None:
    objective = {"name": "sentence_contrast", **sections.get("objective", {})}
    with pytest.raises(ConfigError) as caught:
        tiny_config("modern", **{**sections, "objective": objective})
    assert message in str(caught.value)
