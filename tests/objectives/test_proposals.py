"""Fixed generators draw what they say; the original token can be ruled out."""

import pytest
import torch

from electra.errors import ConfigError
from electra.objectives.replaced_token_detection import ReplacedTokenDetection
from electra.objectives.sampling import sample_fixed
from electra.training.noise import Noise
from tests.objectives.build import VOCAB, make, noise, padded_batch
from tests.shapes import tiny_config


def draws(objective: ReplacedTokenDetection, times: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sampled tokens at the chosen places, and the originals there."""
    sampled, originals = [], []
    for seed in range(times):
        generator = noise(seed)
        batch, _ = objective.prepare(padded_batch(), generator)
        corrupted, _ = objective.corrupt(batch, objective.generator_logits(batch), generator)
        used = batch["masked_weights"] > 0
        sampled.append(corrupted.gather(1, batch["masked_positions"])[used])
        originals.append(batch["original_ids"][used])
    return torch.cat(sampled), torch.cat(originals)


def test_uniform_and_unigram() -> None:
    counts = torch.arange(VOCAB) + 1
    for name in ("uniform", "unigram"):
        objective = make("modern", counts=counts, objective={"generator": name, "mask_prob": 0.5})
        assert isinstance(objective, ReplacedTokenDetection)
        assert objective.model.generator is None
        assert "generator_loss" not in objective.counts(
            objective.prepare(padded_batch(), noise())[0]
        )
        sampled, _ = draws(objective, 800)
        found = torch.bincount(sampled, minlength=VOCAB).double()
        expected = torch.ones(VOCAB) if name == "uniform" else counts.double()
        expected[[0, 2, 3, 4]] = 0
        expected *= len(sampled) / expected.sum()
        assert found[[0, 2, 3, 4]].sum() == 0
        usual = expected > 0
        chi_squared = ((found - expected)[usual] ** 2 / expected[usual]).sum()
        assert chi_squared < 85  # 45 degrees of freedom: above once in 5,000


@pytest.mark.parametrize("generator", ["masked_lm", "uniform"])
def test_the_original_can_be_ruled_out(generator: str) -> None:
    objective = make(
        "modern", objective={"generator": generator, "mask_prob": 0.5, "disallow_correct": True}
    )
    assert isinstance(objective, ReplacedTokenDetection)
    sampled, originals = draws(objective, 200)
    assert not (sampled == originals).any()
    allowed = make("modern", objective={"generator": generator, "mask_prob": 0.5})
    assert isinstance(allowed, ReplacedTokenDetection)
    sampled, originals = draws(allowed, 200)
    assert (sampled == originals).any()


def test_ruling_out_keeps_the_other_odds() -> None:
    frequencies = torch.tensor([0.1, 0.5, 0.2, 0.2])
    never = torch.full((60_000,), 1)
    sampled = sample_fixed(frequencies, never=never, shape=never.shape, noise=Noise(0))
    shares = torch.bincount(sampled, minlength=4) / len(sampled)
    assert torch.allclose(shares, torch.tensor([0.2, 0.0, 0.4, 0.4]), atol=0.01)


def test_a_fixed_generator_has_no_temperature() -> None:
    with pytest.raises(ConfigError, match=r"--objective.temperature is 2.0; allowed: 1 with"):
        tiny_config("modern", objective={"generator": "uniform", "temperature": 2.0})
