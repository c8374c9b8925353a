"""The classic family against values of google-research/electra (README.md beside this file).

The real objective, optimizer, schedule, clipping and loop; masks come from the file, and samples
are the argmax, which is the limit of temperature zero.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from electra.config import PretrainConfig
from electra.corpus.tokenizer import SpecialIds
from electra.model.pretraining_model import PretrainingModel
from electra.model.reference_names import reference_name
from electra.objectives.masking import apply_masks
from electra.objectives.replaced_token_detection import ReplacedTokenDetection
from electra.recipe import resolve
from electra.training.loop import Batch, fit
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState
from tests.golden.remake import Rows

HERE = Path(__file__).parent
STEPS = json.loads((HERE / "steps.json").read_text(encoding="utf-8"))
SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
GOLDEN = STEPS["config"]


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(HERE / f"{name}.npz") as file:
        return {key: file[key] for key in file}


def make_config() -> PretrainConfig:
    tables: dict[str, Any] = {
        "model": {
            "family": "classic",
            "hidden_size": GOLDEN["hidden_size"],
            "num_hidden_layers": GOLDEN["num_hidden_layers"],
            "num_attention_heads": GOLDEN["num_attention_heads"],
            "intermediate_size": GOLDEN["intermediate_size"],
            "embedding_size": GOLDEN["embedding_size"],
            "max_position_embeddings": GOLDEN["max_position_embeddings"],
            "generator_size": GOLDEN["generator_hidden_size"] / GOLDEN["hidden_size"],
        },
        "objective": {"discriminator_weight": 50.0, "temperature": 1e-9},
        "optimizer": {"learning_rate": GOLDEN["learning_rate"], "bias_correction": False},
        "schedule": {"overlap": True, "warmup_steps": GOLDEN["warmup_steps"], "first_update": 1},
        "training": {"max_steps": GOLDEN["total_steps"], "global_batch_size": GOLDEN["batch_size"]},
        "data": {"max_length": GOLDEN["sequence_length"]},
        "logging": {"log_steps": 1},
    }
    return resolve(PretrainConfig, [("golden", tables)])


class GivenMasks(ReplacedTokenDetection):
    """The objective with the masked positions of the file."""

    def prepare(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, dict[str, Tensor]]:
        masked = apply_masks(
            batch["input_ids"],
            batch["masked_positions"],
            batch["masked_weights"] > 0,
            batch["replaced_by_mask_token"] > 0,
            self.model.special,
        )
        counts = {
            "generator_loss": batch["masked_weights"].sum(),
            "discriminator_loss": batch["attention_mask"].sum(),
        }
        return {**batch, **vars(masked)}, counts


def make_objective() -> GivenMasks:
    config = make_config()
    model = PretrainingModel(config.model, vocab_size=GOLDEN["vocab_size"], special=SPECIAL)
    weights = load("initial_weights")
    used = set()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            theirs, transposed = reference_name(name)
            value = torch.from_numpy(weights[theirs])
            parameter.copy_(value.T if transposed else value)
            used.add(theirs)
    assert used == set(weights), "every variable of the reference has its place"
    return GivenMasks(model, config.objective)


def make_batch() -> Batch:
    batch = {name: torch.from_numpy(array) for name, array in load("batch").items()}
    return {n: t.long() if t.dtype == torch.int32 else t for n, t in batch.items()}


class Same:
    """The same batch at every step."""

    def batch(self, position: int, size: int) -> Batch:
        return make_batch()


@torch.no_grad()
def test_forward() -> None:
    objective, batch, expected = make_objective().eval(), make_batch(), load("forward")
    generator = torch.Generator().manual_seed(0)
    prepared, counts = objective.prepare(batch, generator)
    assert np.array_equal(prepared["masked_input_ids"], expected["masked_input_ids"])
    model = objective.model
    logits = model.generator_logits(
        prepared["masked_input_ids"], batch, prepared["masked_positions"]
    )
    used = batch["masked_weights"] > 0
    golden_logits = torch.from_numpy(expected["gen_logits"])
    assert (logits - golden_logits)[used].abs().max() < 1e-5
    corrupted, is_replaced = objective.corrupt(prepared, logits, generator)
    assert np.array_equal(corrupted, expected["corrupted_input_ids"])
    real = batch["attention_mask"].bool()
    assert np.array_equal(is_replaced[real], expected["is_replaced"][real.numpy()])
    hidden = model.encoder_hidden(corrupted, batch)
    assert (hidden - torch.from_numpy(expected["disc_hidden"]))[real].abs().max() < 1e-5
    probabilities = model.replaced_logits(hidden).sigmoid()
    assert (probabilities - torch.from_numpy(expected["disc_probs"]))[real].abs().max() < 1e-5
    output = objective.forward(prepared, generator)
    means = {name: float(output.losses[name] / counts[name]) for name in counts}
    assert means["generator_loss"] == pytest.approx(float(expected["mlm_loss"]), rel=1e-6)
    assert means["discriminator_loss"] == pytest.approx(float(expected["disc_loss"]), rel=1e-6)


def test_six_steps() -> None:
    config, objective, logger = make_config(), make_objective(), Rows()

    class Six(Budget):
        """Ends after six of the ten planned steps."""

        def progress(self, state: TrainState) -> float:
            return 1.0 if state.step == 6 else super().progress(state)

    fit(
        objective,
        optimizer=build_optimizer(objective, config.optimizer),
        source=Same(),
        state=TrainState(),
        budget=Six(max_steps=GOLDEN["total_steps"]),
        config=config.training,
        optimizer_config=config.optimizer,
        schedule=config.schedule,
        logging=config.logging,
        device=torch.device("cpu"),
        dtype=torch.float32,
        logger=logger,
    )
    assert len(logger.rows) == 6
    names = {"loss": "total_loss", "lr": "lr", "grad_norm": "grad_norm"}
    names |= {n: n for n in ("generator_loss", "discriminator_loss")}
    for row, golden in zip(logger.rows, STEPS["steps"], strict=True):
        for ours, theirs in names.items():
            assert row[ours] == pytest.approx(golden[theirs], rel=1e-5), (golden["step"], ours)
    final = load("weights_after_6_steps")
    for name, parameter in objective.model.named_parameters():
        theirs, transposed = reference_name(name)
        value = torch.from_numpy(final[theirs])
        difference = parameter.detach() - (value.T if transposed else value)
        assert difference.abs().max() < 1e-5, name
