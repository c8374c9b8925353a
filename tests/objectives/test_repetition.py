"""What is repeated, against a loop; and that objectives learn to tell it."""

import math
from collections import Counter
from typing import Any

import pytest
import torch

from electra.objectives.repetition import RepetitionHead, is_repeated
from electra.training.loop import Batch
from tests.objectives.build import SPECIAL, VOCAB, make, noise, padded_batch


def rows(seed: int, count: int = 64, length: int = 16) -> Batch:
    """Random rows in which half of the tokens, about, stand twice."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCAB, (count, length), generator=generator)
    again = torch.randint(1, length - 1, (count, length), generator=generator)
    ids = torch.where(torch.rand(ids.shape, generator=generator) < 0.3, ids.gather(1, again), ids)
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    return {"input_ids": ids}


def test_repeated_is_what_a_row_has_twice() -> None:
    ids = rows(0)["input_ids"]
    found, before = is_repeated(ids), is_repeated(ids, before=True)
    for row, each, again in zip(ids.tolist(), found.tolist(), before.tolist(), strict=True):
        counts = Counter(row)
        assert each == [counts[token] > 1 for token in row]
        assert again == [token in row[:place] for place, token in enumerate(row)]
    assert 0.2 < found.float().mean() < 0.8


@torch.no_grad()
def test_a_causal_start_asks_for_tokens_before() -> None:
    section = {"name": "masked_lm", "repetition_weight": 0.5, "causal_start": 0.1}
    objective = make("modern", objective=section)
    objective.begin_step(0.0)
    assert objective.loss_weights == {"causal_lm_loss": 1.0, "repetition_loss": 0.5}
    batch = rows(1)
    prepared, counts = objective.prepare(batch, noise())
    found = objective.forward(prepared, noise()).losses["repetition_loss"]
    assert int(counts["repetition_loss"]) == int((batch["input_ids"] > SPECIAL.mask).sum())
    # the causal reading, taken from the pass itself, and places before
    head = objective.repetition_head
    assert head is not None
    hidden = objective.model.encoder_hidden(
        batch["input_ids"], {**prepared, "causal": torch.ones(())}
    )
    logits = head(hidden)
    truth = is_repeated(batch["input_ids"], before=True).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, truth, weight=prepared["asked"], reduction="sum"
    )
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@torch.no_grad()
def test_the_loss_against_a_loop() -> None:
    torch.manual_seed(0)
    head, hidden = RepetitionHead(8), torch.randn(2, 5, 8)
    ids = torch.tensor([[7, 8, 7, 9, 9], [7, 8, 9, 10, 8]])
    asked = torch.tensor([[1.0, 1, 1, 0, 1], [1, 1, 0, 1, 1]])
    expected, right = 0.0, 0
    for row in range(2):
        for place in range(5):
            if asked[row, place]:
                repeated = ids[row].tolist().count(int(ids[row, place])) > 1
                signed = float(head(hidden[row, place])) * (1 if repeated else -1)
                expected += math.log1p(math.exp(-signed))
                right += signed > 0
    assert float(head.loss(hidden, ids, asked)) == pytest.approx(expected, rel=1e-5)
    assert int(head.num_correct(hidden, ids, asked)) == right


@pytest.mark.parametrize(
    "section",
    [
        {"name": "masked_lm"},
        {"name": "replaced_token_detection"},
        {"name": "replaced_token_detection", "warm_start": 0.5},
    ],
)
def test_objectives_add_it(section: dict[str, object]) -> None:
    objective = make("modern", objective={**section, "repetition_weight": 0.5}).train()
    assert objective.loss_weights["repetition_loss"] == 0.5
    drawn = noise()
    prepared, counts = objective.prepare(padded_batch(), drawn)
    losses = objective.forward(prepared, drawn).losses
    reads_masks = "discriminator_loss" not in losses
    read = prepared["masked_input_ids" if reads_masks else "input_ids"]
    assert float(counts["repetition_loss"]) == int((read > SPECIAL.mask).sum())
    losses["repetition_loss"].backward()
    for part in (objective.repetition_head, objective.model.encoder):
        assert part is not None
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    means = objective.eval().probe(padded_batch(), noise()).means
    right, count = means["repetition_accuracy"]
    assert 0 <= float(right) <= float(count) == float(counts["repetition_loss"])


def test_without_a_weight_there_is_no_head() -> None:
    objective = make("modern", objective={"name": "masked_lm"})
    drawn = noise()
    prepared, counts = objective.prepare(padded_batch(), drawn)
    assert objective.repetition_head is None
    assert set(objective.forward(prepared, drawn).losses) == set(counts) == {"encoder_mlm_loss"}
    assert not any("repetition" in name for name, _ in objective.named_parameters())


def test_the_discriminator_is_asked_about_what_it_reads() -> None:
    """Neither the original nor the masked text."""
    objective = make("modern", objective={"repetition_weight": 1.0, "mask_prob": 0.5}).train()
    read: list[torch.Tensor] = []
    assert objective.repetition_head is not None
    loss_of = objective.repetition_head.loss

    def spy(hidden: torch.Tensor, read_ids: torch.Tensor, *more: Any) -> torch.Tensor:
        read.append(read_ids)
        return loss_of(hidden, read_ids, *more)

    objective.repetition_head.loss = spy  # type: ignore[method-assign]
    drawn = noise()
    prepared, _ = objective.prepare(rows(1), drawn)
    objective.forward(prepared, drawn)
    assert (read[0] != prepared["input_ids"]).any()
    assert (read[0] != prepared["masked_input_ids"]).any()


@pytest.mark.parametrize("causal_start", [0.0, 0.8])
def test_while_a_fresh_head_learns_alone_no_gradient_reaches_the_encoder(
    causal_start: float,
) -> None:
    section = {"name": "masked_lm", "repetition_weight": 1.0, "head_share": 0.5}
    section["causal_start"] = causal_start
    objective = make("modern", objective=section).train()
    for progress, reached in ((0.0, False), (0.5, True)):
        objective.begin_step(progress)
        objective.zero_grad()
        drawn = noise()
        prepared, _ = objective.prepare(padded_batch(), drawn)
        sum(objective.forward(prepared, drawn).losses.values(), torch.zeros(())).backward()
        gradients = [p.grad for p in objective.model.encoder.parameters() if p.grad is not None]
        assert any(bool(each.any()) for each in gradients) == reached


def test_a_small_network_learns_to_look_elsewhere() -> None:
    objective = make("modern", objective={"name": "masked_lm", "repetition_weight": 1.0}).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(300):
        drawn = noise(step)
        prepared, counts = objective.prepare(rows(step), drawn)
        losses = objective.forward(prepared, drawn).losses
        optimizer.zero_grad()
        (losses["repetition_loss"] / counts["repetition_loss"]).backward()
        optimizer.step()
    right, count = objective.eval().probe(rows(999), noise(999)).means["repetition_accuracy"]
    assert float(right) / float(count) > 0.9
