"""What losses pull with, against the gradient of their sum."""

from pathlib import Path

import pytest
import torch

from benchmarks.gradient_shares import CPU, gradients
from electra.config import PretrainConfig
from electra.corpus.folder import Corpus
from electra.plan import objective_and_source
from electra.pretrain import pretrain
from electra.recipe import read_recipe, resolve
from electra.training.checkpoint import CheckpointStore
from electra.training.noise import Noise
from tests.shapes import tiny_config


def test_the_pulls_add_up_to_the_step(corpus: Path, tmp_path: Path) -> None:
    objective = {"warm_start": 0.5, "encoder_mlm_weight": 1.0, "repetition_weight": 0.2}
    run = tmp_path / "run"
    config = tiny_config("modern", objective=objective, model={"hidden_dropout_prob": 0.0})
    pretrain(data=corpus, output=run, config=config)
    found = gradients(run, Corpus(corpus), 8)
    assert found.keys() == {"discriminator_loss", "encoder_mlm_loss", "repetition_loss"}

    config = resolve(PretrainConfig, [("run", read_recipe(str(run / "config.toml")))])
    trained, source = objective_and_source(config, Corpus(corpus), CPU)
    store = CheckpointStore(run / "checkpoints")
    step = store.steps()[-1]
    store.load_weights(step, trained)
    trained.train()
    trained.begin_step(1.0)
    start = step * config.training.global_batch_size
    noise = Noise(config.training.seed, start)
    batch, counts = trained.prepare(source.batch(start, 8), noise)
    losses = trained.forward(batch, noise).losses
    whole = sum(trained.loss_weights[n] * losses[n] / counts[n] for n in found)
    assert isinstance(whole, torch.Tensor)
    whole.backward()
    expected = [
        p.grad.flatten()
        for name, p in trained.model.encoder.named_parameters()
        if p.dim() == 2 and "layer" in name and p.grad is not None
    ]
    total = sum(found.values(), start=torch.zeros(()))
    assert total.norm() > 0
    assert total == pytest.approx(torch.cat(expected), rel=1e-3, abs=1e-6)
