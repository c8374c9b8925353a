"""The rows of the paper's table 5, each against loops over Python numbers."""

import math

import pytest
import torch

from electra.objectives.all_tokens_mlm import AllTokensMLM
from electra.objectives.copying import copy_loss
from electra.objectives.electra_15_percent import Electra15Percent
from electra.objectives.objective import PretrainingObjective
from electra.objectives.proposals import ProposingObjective
from electra.objectives.replace_mlm import ReplaceMLM
from electra.objectives.replaced_token_detection import ReplacedTokenDetection
from electra.training.loop import Batch
from tests.objectives.build import make, noise, padded_batch

FAMILIES = ("classic", "modern")


def corrupted_of(objective: ProposingObjective) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """The prepared batch, the corrupted text and what was replaced, as `forward` will see them."""
    drawn = noise()
    prepared, _ = objective.prepare(padded_batch(), drawn)
    corrupted, is_replaced = objective.corrupt(
        prepared, objective.generator_logits(prepared), drawn
    )
    return prepared, corrupted, is_replaced


def losses_of(objective: PretrainingObjective) -> tuple[dict[str, float], dict[str, float]]:
    drawn = noise()
    prepared, counts = objective.prepare(padded_batch(), drawn)
    output = objective.forward(prepared, drawn)
    return (
        {name: float(loss) for name, loss in output.losses.items()},
        {name: float(count) for name, count in counts.items()},
    )


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_electra_15_percent_counts_the_chosen_alone(family: str) -> None:
    objective = make(family, objective={"name": "electra_15_percent", "mask_prob": 0.3})
    assert isinstance(objective, Electra15Percent)
    prepared, corrupted, is_replaced = corrupted_of(objective)
    scores = objective.model.replaced_logits(objective.model.encoder_hidden(corrupted, prepared))
    expected, chosen = 0.0, 0
    for row in range(3):
        for slot in range(prepared["masked_positions"].shape[1]):
            if prepared["masked_weights"][row, slot]:
                place = int(prepared["masked_positions"][row, slot])
                sign = 1 if is_replaced[row, place] else -1
                expected += math.log1p(math.exp(-sign * float(scores[row, place])))
                chosen += 1
    losses, counts = losses_of(objective)
    assert counts == {"discriminator_loss": chosen, "generator_loss": chosen}
    assert losses["discriminator_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_electra_15_percent_is_blind_elsewhere(family: str) -> None:
    """No gradient comes from the score of a token that was not chosen."""
    objective = make(family, objective={"name": "electra_15_percent"})
    assert isinstance(objective, Electra15Percent)
    drawn = noise()
    prepared, _ = objective.prepare(padded_batch(), drawn)
    judged = objective.judge(prepared, drawn)
    judged.scores.retain_grad()
    objective.discriminator_loss(judged, prepared).backward()
    assert judged.scores.grad is not None
    reached = judged.scores.grad != 0
    chosen = torch.zeros_like(reached)
    for row, (places, weights) in enumerate(
        zip(prepared["masked_positions"], prepared["masked_weights"], strict=True)
    ):
        chosen[row, places[weights > 0]] = True
    assert torch.equal(reached, chosen)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_replace_mlm_reads_samples_and_never_a_mask(family: str) -> None:
    objective = make(family, objective={"name": "replace_mlm", "mask_prob": 0.3})
    assert isinstance(objective, ReplaceMLM)
    prepared, corrupted, _ = corrupted_of(objective)
    read: list[torch.Tensor] = []
    hidden_of = objective.model.encoder_hidden

    def spy(input_ids: torch.Tensor, context: Batch) -> torch.Tensor:
        read.append(input_ids)
        return hidden_of(input_ids, context)

    objective.model.encoder_hidden = spy  # type: ignore[method-assign]
    losses, _ = losses_of(objective)
    assert len(read) == 1
    assert torch.equal(read[0], corrupted)
    assert not (read[0] == 4).any()
    logits = objective.model.encoder_token_logits(hidden_of(corrupted, prepared))
    expected = 0.0
    for row in range(3):
        for slot in range(prepared["masked_positions"].shape[1]):
            if prepared["masked_weights"][row, slot]:
                place = int(prepared["masked_positions"][row, slot])
                original = int(padded_batch()["input_ids"][row, place])
                expected -= float(logits[row, place].log_softmax(-1)[original])
    assert losses["encoder_mlm_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("copy_mechanism", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_all_tokens_mlm_against_a_loop(family: str, copy_mechanism: bool) -> None:
    objective = make(
        family,
        objective={
            "name": "all_tokens_mlm",
            "mask_prob": 0.3,
            **({} if copy_mechanism else {"copy_mechanism": False}),
        },
    )
    assert isinstance(objective, AllTokensMLM)
    model = objective.model
    prepared, corrupted, is_replaced = corrupted_of(objective)
    assert is_replaced.any()
    hidden = model.encoder_hidden(corrupted, prepared)
    probabilities = model.encoder_token_logits(hidden).softmax(-1)
    gate = 1 - model.replaced_logits(hidden).sigmoid() if copy_mechanism else None
    originals, mask = prepared["input_ids"], prepared["attention_mask"]
    expected, count = 0.0, 0
    for row in range(3):
        for place in range(14):
            if mask[row, place]:
                original = int(originals[row, place])
                p = float(probabilities[row, place, original])
                if gate is not None:
                    d = float(gate[row, place])
                    copied = 1.0 if int(corrupted[row, place]) == original else 0.0
                    p = d * copied + (1 - d) * p
                expected -= math.log(p)
                count += 1
    losses, counts = losses_of(objective)
    assert counts["all_tokens_loss"] == count
    assert losses["all_tokens_loss"] == pytest.approx(expected, rel=1e-4)


def test_the_copy_mixture_is_a_distribution() -> None:
    """Over all original tokens the mixture's probabilities sum to one."""
    logits, score = torch.randn(7, generator=torch.Generator().manual_seed(0)), torch.tensor(0.3)
    input_id = 2
    total = sum(
        float(
            (
                -copy_loss(-logits.log_softmax(0)[token], score, torch.tensor(token == input_id))
            ).exp()
        )
        for token in range(7)
    )
    assert total == pytest.approx(1.0, abs=1e-6)


def test_the_copy_gate_learns_to_copy() -> None:
    """Where the input is the original, the gradient opens the gate; where not, it closes it."""
    token_losses = torch.tensor([5.0, 5.0])
    scores = torch.zeros(2, requires_grad=True)
    copy_loss(token_losses, scores, torch.tensor([True, False])).sum().backward()
    assert scores.grad is not None
    assert scores.grad[0] > 0  # a lower score, so more copying, lowers the loss
    assert scores.grad[1] < 0


@pytest.mark.parametrize("name", ["electra_15_percent", "replace_mlm", "all_tokens_mlm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_encoders_loss_does_not_reach_the_generator(family: str, name: str) -> None:
    objective = make(family, objective={"name": name}, model={"weight_sharing": "none"})
    drawn = noise()
    prepared, _ = objective.prepare(padded_batch(), drawn)
    losses = objective.forward(prepared, drawn).losses
    losses.pop("generator_loss")
    sum(losses.values(), start=torch.zeros(())).backward()
    for part, parameter in objective.model.named_parameters():
        assert not part.startswith("generator.") or parameter.grad is None, part


@pytest.mark.parametrize("family", FAMILIES)
def test_the_corrective_head_with_its_copy_gate(family: str) -> None:
    """Against a loop; the gate is the discriminator's verdict, and gets no gradient from it."""
    objective = make(
        family,
        objective={"encoder_mlm_weight": 1.0, "encoder_mlm_copy": True, "mask_prob": 0.3},
    )
    assert isinstance(objective, ReplacedTokenDetection)
    prepared, corrupted, _ = corrupted_of(objective)
    model = objective.model
    with torch.no_grad():
        hidden = model.encoder_hidden(corrupted, prepared)
        probabilities = model.encoder_token_logits(hidden).softmax(-1)
        trusted = 1 - model.replaced_logits(hidden).sigmoid()
    expected = 0.0
    for row in range(3):
        for slot in range(prepared["masked_positions"].shape[1]):
            if prepared["masked_weights"][row, slot]:
                place = int(prepared["masked_positions"][row, slot])
                original = int(prepared["input_ids"][row, place])
                copied = 1.0 if int(corrupted[row, place]) == original else 0.0
                gate = float(trusted[row, place])
                p = gate * copied + (1 - gate) * float(probabilities[row, place, original])
                expected -= math.log(p)
    drawn = noise()
    prepared, _ = objective.prepare(padded_batch(), drawn)
    losses = objective.forward(prepared, drawn).losses
    assert losses["encoder_mlm_loss"].item() == pytest.approx(expected, rel=1e-4)
    losses["encoder_mlm_loss"].backward()
    own = {"classifier", "discriminator_predictions"}
    for name, parameter in model.discriminator.named_parameters():
        assert name.split(".")[0] not in own or parameter.grad is None, name
