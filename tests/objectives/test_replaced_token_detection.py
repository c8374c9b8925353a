"""The objective against a slow reference written by hand, and its stages."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from electra.corpus.tokenizer import SpecialIds
from electra.model.pretraining_model import PretrainingModel
from electra.objectives.masking import max_masked
from electra.objectives.objective import build_objective
from electra.objectives.replaced_token_detection import ReplacedTokenDetection
from electra.training.noise import Noise
from tests.shapes import tiny_config

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
VOCAB = 50


def make_objective(family: str, **objective: object) -> ReplacedTokenDetection:
    config = tiny_config(family, objective=objective)
    torch.manual_seed(0)
    needs_head = config.objective.warm_start > 0 or config.objective.encoder_mlm_weight > 0
    model = PretrainingModel(
        config.model, vocab_size=VOCAB, special=SPECIAL, with_masked_lm=needs_head
    )
    return ReplacedTokenDetection(model, config.objective).eval()


def padded_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, VOCAB, (3, 14), generator=generator)
    mask = torch.ones_like(ids)
    for row, length in enumerate((14, 9, 5)):
        ids[row, 0], ids[row, length - 1] = 2, 3
        ids[row, length:], mask[row, length:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def slow_reference(
    objective: ReplacedTokenDetection, batch: dict[str, Tensor]
) -> tuple[dict[str, float], dict[str, int], list[list[int]]]:
    """Masking, sampling and both losses with loops over Python numbers.

    Only the networks and the stream of random numbers are shared: uniform (B, L) for the choice,
    uniform (B, P) for [MASK] or kept, uniform (B, P) for the samples.
    """
    config, model = objective.config, objective.model
    ids, mask = batch["input_ids"], batch["attention_mask"]
    rows, length = ids.shape
    slots = max_masked(length, config.mask_prob)
    draws = Noise(0)
    noise = draws.uniform((rows, length)).tolist()
    chosen: list[list[int]] = []
    for row in range(rows):
        tokens = [int(t) for t in ids[row]]
        maskable = [p for p in range(length) if mask[row, p] and tokens[p] not in (0, 2, 3, 4)]
        count = max(1, min(slots, round(int(mask[row].sum()) * config.mask_prob)))
        chosen.append(sorted(maskable, key=lambda p, row=row: noise[row][p])[:count])
    shown = draws.uniform((rows, slots)).tolist()
    masked = ids.clone()
    for row, positions in enumerate(chosen):
        for slot, position in enumerate(positions):
            if shown[row][slot] < config.mask_token_prob:
                masked[row, position] = SPECIAL.mask
    grid = torch.zeros(rows, slots, dtype=torch.int64)
    for row, positions in enumerate(chosen):
        grid[row, : len(positions)] = torch.tensor(positions)
    logits = model.generator_logits(masked, batch, grid).tolist()
    uniform = draws.uniform((rows, slots)).tolist()
    corrupted = ids.clone()
    generator_loss, num_masked = 0.0, 0
    for row, positions in enumerate(chosen):
        for slot, position in enumerate(positions):
            scores = logits[row][slot]
            top = max(scores)
            normaliser = top + math.log(sum(math.exp(s - top) for s in scores))
            generator_loss += normaliser - scores[int(ids[row, position])]
            num_masked += 1
            cumulated, sampled = 0.0, 0
            for token, score in enumerate(scores):
                cumulated += math.exp(score - normaliser)
                if cumulated > uniform[row][slot]:
                    sampled = token
                    break
            corrupted[row, position] = sampled
    verdicts = model.replaced_logits(model.encoder_hidden(corrupted, batch)).tolist()
    discriminator_loss, num_tokens = 0.0, 0
    for row in range(rows):
        for position in range(length):
            if mask[row, position]:
                replaced = int(corrupted[row, position]) != int(ids[row, position])
                logit = verdicts[row][position] * (1 if replaced else -1)
                discriminator_loss += math.log1p(math.exp(-logit))
                num_tokens += 1
    losses = {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}
    counts = {"generator_loss": num_masked, "discriminator_loss": num_tokens}
    return losses, counts, corrupted.tolist()


@torch.no_grad()
def test_parity_with_the_slow_reference() -> None:
    batch = padded_batch()
    for family in ("classic", "modern"):
        for mask_token_prob in (0.85, 1.0):
            objective = make_objective(family, mask_prob=0.3, mask_token_prob=mask_token_prob)
            losses, counts, corrupted = slow_reference(objective, batch)
            drawn = Noise(0)
            prepared, found = objective.prepare(batch, drawn)
            assert {name: int(count) for name, count in found.items()} == counts
            output = objective.forward(prepared, drawn)
            for name, value in losses.items():
                assert math.isclose(float(output.losses[name]), value, rel_tol=1e-5), name
            drawn = Noise(0)
            prepared, _ = objective.prepare(batch, drawn)
            logits = objective.model.generator_logits(
                prepared["masked_input_ids"], batch, prepared["masked_positions"]
            )
            assert objective.corrupt(prepared, logits, drawn)[0].tolist() == corrupted


def gradient_norms(objective: ReplacedTokenDetection, loss_name: str) -> dict[str, float]:
    objective.zero_grad()
    drawn = Noise(0)
    prepared, _ = objective.prepare(padded_batch(), drawn)
    objective.forward(prepared, drawn).losses[loss_name].backward()
    return {
        name: float(p.grad.norm()) if p.grad is not None else 0.0
        for name, p in objective.model.named_parameters()
    }


def test_the_discriminators_loss_does_not_reach_the_generator() -> None:
    for family in ("classic", "modern"):
        norms = gradient_norms(make_objective(family), "discriminator_loss")
        for name, norm in norms.items():
            inside = name.startswith("generator") and "embeddings." not in name
            assert norm == 0.0 or not inside, name
        assert any(norm > 0 for name, norm in norms.items() if "embeddings" in name)


def test_padding_does_not_matter() -> None:
    for family in ("classic", "modern"):
        objective = make_objective(family)
        batch = padded_batch()
        with torch.no_grad():
            wide = objective.model.encoder_hidden(batch["input_ids"], batch)
            short = objective.model.encoder_hidden(batch["input_ids"][2:, :5], {})
        assert torch.allclose(wide[2:, :5], short, atol=1e-5)


def test_stages_of_a_warm_start() -> None:
    for family in ("modern", "classic"):
        config = tiny_config(
            family,
            model={"generator_size": 1.0, "embedding_size": None},
            objective={"warm_start": 0.5},
        )
        torch.manual_seed(0)
        model = PretrainingModel(
            config.model, vocab_size=VOCAB, special=SPECIAL, with_masked_lm=True
        )
        objective = ReplacedTokenDetection(model, config.objective)
        objective.begin_step(0.49)
        assert set(objective.loss_weights) == {"encoder_mlm_loss", "repetition_loss"}
        _, counts = objective.prepare(padded_batch(), Noise(0))
        assert set(counts) == {"encoder_mlm_loss"}
        first = next(model.encoder.parameters())
        with torch.no_grad():
            for parameter in model.masked_lm.parameters():
                parameter.add_(0.1)
        objective.begin_step(0.5)
        assert not objective.warm
        source = model.masked_lm.state_dict()
        for name, tensor in model.generator.state_dict().items():
            assert torch.equal(tensor, source[name]), name
        assert next(model.encoder.parameters()) is first
        assert "discriminator_loss" in objective.loss_weights
        # the copies are apart from here on, the tables are not
        name = next(n for n, _ in model.generator.named_parameters() if "layer" in n)
        with torch.no_grad():
            dict(model.generator.named_parameters())[name].zero_()
        assert not torch.equal(
            model.generator.state_dict()[name], model.masked_lm.state_dict()[name]
        )


@pytest.mark.parametrize("kernel", ["sdpa", "plain_attention"])
@pytest.mark.parametrize("stages", [{"warm_start": 0.5}, {"name": "masked_lm"}])
def test_a_causal_start_predicts_the_next_token_from_those_before(
    kernel: str, stages: dict[str, Any]
) -> None:
    config = tiny_config("modern", objective={"causal_start": 0.25, **stages})
    torch.manual_seed(0)
    objective = build_objective(config, VOCAB, SPECIAL).eval()
    objective.model.use_attention(kernel)
    batch = padded_batch()
    objective.begin_step(0.0)
    assert set(objective.loss_weights) == {"causal_lm_loss", "repetition_loss"}
    assert objective.loss_weights["repetition_loss"] == 0
    prepared, counts = objective.prepare(batch, Noise(0))
    with torch.no_grad():
        loss = objective(prepared, Noise(0)).losses["causal_lm_loss"]
        # prefix by prefix: what stands behind a token is not there to be seen
        expected, targets = 0.0, 0
        for row in range(len(batch["input_ids"])):
            length = int(batch["attention_mask"][row].sum())
            for end in range(1, length):
                prefix = batch["input_ids"][row : row + 1, :end]
                seen = {"causal": torch.ones(())}
                hidden = objective.model.encoder_hidden(prefix, seen)[:, -1]
                logits = objective.model.encoder_token_logits(hidden)[0]
                expected -= float(logits.log_softmax(-1)[batch["input_ids"][row, end]])
                targets += 1
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert counts["causal_lm_loss"].item() == targets
    objective.begin_step(0.25)
    assert set(objective.loss_weights) == {"encoder_mlm_loss", "repetition_loss"}
    objective.begin_step(0.5)
    assert ("discriminator_loss" in objective.loss_weights) == ("name" not in stages)
