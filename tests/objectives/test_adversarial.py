"""The policy gradient against enumeration, and which loss moves which network."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from electra.config import PretrainConfig
from electra.errors import ConfigError
from electra.objectives.adversarial import Adversarial
from electra.pretrain import pretrain
from electra.training.loop import Batch
from tests.objectives.build import SPECIAL, VOCAB, make, noise, padded_batch
from tests.shapes import tiny_config

PLACE = 3


def adversarial(family: str = "modern", **objective: object) -> Adversarial:
    """Networks that share nothing; the discriminator has opinions."""
    found = make(
        family,
        model={"weight_sharing": "none"},
        objective={"name": "adversarial", **objective},
    )
    assert isinstance(found, Adversarial)
    with torch.no_grad():
        for parameter in found.model.discriminator.parameters():
            if parameter.ndim == 2:
                parameter.mul_(1.8)
        for parameter in found.model.generator.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4.0)
    return found


def one_place(rows: int) -> Batch:
    """The same sentence in every row with one hidden token, so that credit is never shared."""
    ids = torch.tensor([2, 7, 9, 23, 11, 40, 3]).repeat(rows, 1)
    masked = ids.clone()
    masked[:, PLACE] = SPECIAL.mask
    return {
        "input_ids": ids,
        "masked_input_ids": masked,
        "masked_positions": torch.full((rows, 1), PLACE),
        "masked_weights": torch.ones(rows, 1),
        "original_ids": ids[:, PLACE : PLACE + 1],
    }


def generator_parameters(objective: Adversarial) -> list[Tensor]:
    return list(objective.model.generator.parameters())


def flat(gradients: tuple[Tensor | None, ...]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients if g is not None])


def expected_reward(objective: Adversarial) -> Tensor:
    """Sum over the vocabulary of p_G(token) times the discriminator's loss there: no sampling."""
    batch = one_place(1)
    logits = objective.model.generator_logits(
        batch["masked_input_ids"], batch, batch["masked_positions"]
    )[0, 0]
    texts = batch["input_ids"].repeat(VOCAB, 1)
    texts[:, PLACE] = torch.arange(VOCAB)
    with torch.no_grad():
        scores = objective.model.replaced_logits(objective.model.encoder_hidden(texts, {}))
    original = int(batch["original_ids"])
    rewards = torch.stack(
        [
            -torch.log(torch.sigmoid(-s if token == original else s))
            for token, s in enumerate(scores[:, PLACE])
        ]
    )
    return ((logits / objective.config.temperature).softmax(-1) * rewards).sum()


def estimates(objective: Adversarial, chunks: int, rows: int) -> Tensor:
    """(chunks, parameters): the mean policy gradient of `rows` samples each."""
    found, batch = [], one_place(rows)
    for seed in range(chunks):
        loss = objective.forward(batch, noise(seed)).losses["reinforce_loss"] / rows
        gradients = torch.autograd.grad(loss, generator_parameters(objective), allow_unused=True)
        found.append(-flat(gradients))
    return torch.stack(found)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_the_policy_gradient_is_the_gradient_of_the_expected_reward(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = adversarial(temperature=temperature)
    exact = flat(
        torch.autograd.grad(
            expected_reward(objective), generator_parameters(objective), allow_unused=True
        )
    )
    # let the baseline find the mean reward, from a place that is not by chance the right one
    with torch.no_grad():
        objective.baseline.normal_(0, 0.1)
    optimizer = torch.optim.Adam([objective.baseline], lr=0.003)

    def baseline_loss(rows: int, seed: int) -> Tensor:
        losses: Tensor = objective.forward(one_place(rows), noise(seed)).losses["baseline_loss"]
        return losses / rows

    before = baseline_loss(4096, 100).item()
    for seed in range(100):
        loss = baseline_loss(256, seed)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert baseline_loss(4096, 100).item() < before
    chunks, rows = 60, 400
    spread = {}
    for name in ("learned", "none"):
        if name == "none":  # b = -log sigmoid(40) = 0
            monkeypatch.setattr(
                objective, "baseline_logits", lambda hidden: torch.full(hidden.shape[:2], 40.0)
            )
        found = estimates(objective, chunks, rows)
        mean, error = found.mean(0), found.std(0) / chunks**0.5
        assert float((mean - exact).norm() / exact.norm()) < 0.15, name
        # 20,000 coordinates: beyond 5.5 standard errors almost never, were they normal
        assert float(((mean - exact).abs() / (error + 1e-7)).max()) < 6.5, name
        spread[name] = float(found.var(0).sum())
    assert spread["learned"] < 0.7 * spread["none"]


def test_rewards_and_baseline_as_in_the_paper() -> None:
    for family in ("classic", "modern"):
        objective = adversarial(family, mask_prob=0.5)
        with torch.no_grad():
            objective.baseline.normal_(0, 0.3)
        drawn = noise()
        batch, counts = objective.prepare(padded_batch(), drawn)
        assert counts["reinforce_loss"] == counts["baseline_loss"] == batch["masked_weights"].sum()
        played = objective.judge(batch, drawn)
        drawn = noise()
        batch, _ = objective.prepare(padded_batch(), drawn)
        losses = objective.forward(batch, drawn).losses
        assert played.generator_logits is not None
        policy = fit = 0.0
        for row in range(3):
            for slot in range(batch["masked_positions"].shape[1]):
                if not batch["masked_weights"][row, slot]:
                    continue
                place = int(batch["masked_positions"][row, slot])
                sampled = int(played.corrupted_input_ids[row, place])
                is_original = sampled == int(batch["input_ids"][row, place])
                d = torch.sigmoid(-played.scores[row, place].double())  # P(original)
                reward = -torch.log(d if is_original else 1 - d).item()
                hidden = played.generator_hidden[row, slot]
                s = torch.sigmoid((hidden @ objective.baseline).double())
                b = -torch.log(s).item()
                logs = F.log_softmax(played.generator_logits[row, slot], -1)
                policy -= logs[sampled].item() * (reward - b)
                target = torch.tensor(-reward).exp()
                fit -= (target * torch.log(s) + (1 - target) * torch.log(1 - s)).item()
        assert losses["reinforce_loss"].item() == pytest.approx(policy, rel=1e-4)
        assert losses["baseline_loss"].item() == pytest.approx(fit, rel=1e-4)


@pytest.mark.parametrize("family", ["modern", "classic"])
def test_each_loss_moves_its_own_parameters(family: str) -> None:
    objective = adversarial(family, mask_prob=0.5)
    batch, _ = objective.prepare(padded_batch(), noise())
    moves = {
        "discriminator_loss": "model.discriminator.",
        "reinforce_loss": "model.generator.",
        "baseline_loss": "baseline",
    }
    assert set(objective.loss_weights) == set(moves)
    for name, prefix in moves.items():
        objective.zero_grad()
        objective.forward(batch, noise()).losses[name].backward()
        moved = {n for n, p in objective.named_parameters() if p.grad is not None and p.grad.any()}
        assert moved
        assert all(n.startswith(prefix) for n in moved), (name, moved)


def test_following_it_raises_the_discriminators_loss() -> None:
    objective = adversarial()
    before = expected_reward(objective).item()
    optimizer = torch.optim.Adam(generator_parameters(objective), lr=2e-3)
    for seed in range(40):
        loss = objective.forward(one_place(64), noise(seed)).losses["reinforce_loss"] / 64
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert expected_reward(objective).item() > before + 0.1


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"generator-weight 0\.5 does not apply to adversarial"):
        tiny_config("modern", objective={"name": "adversarial", "generator_weight": 0.5})
    with pytest.raises(ConfigError, match="work against each other; allowed: embeddings"):
        tiny_config(
            "modern",
            objective={"name": "adversarial"},
            model={"weight_sharing": "all", "generator_layers": 2},
        )
    apart = tiny_config(
        "modern",
        objective={"name": "adversarial"},
        optimizer={"generator_learning_rate": 1e-3},
    )
    assert isinstance(apart, PretrainConfig)


@pytest.mark.parametrize("family", ["modern", "classic"])
def test_a_run(corpus: Path, tmp_path: Path, family: str) -> None:
    config = tiny_config(family, objective={"name": "adversarial", "reinforce_weight": 2.0})
    report = pretrain(data=corpus, output=tmp_path / "run", config=config)
    metrics = report["metrics"]
    assert metrics["generator_entropy"] > 0
    assert metrics["reward"] > 0
    assert 0 < metrics["discriminator_auc"] < 1
    assert (tmp_path / "run" / "generator" / "model.safetensors").is_file()
