"""What each loss of a pretraining run pulls at the encoder's layers with.

    python -m benchmarks.gradient_shares RUN ... --data CORPUS [--rows 512] [--json FILE]

Of the newest checkpoint of a run, in its stage of that moment: the norm of each weighted loss's
gradient on the matrices of the encoder's layers, over so many rows of training text, and the cosine
with the gradient of masked LM's kind (`encoder_mlm_loss`). An optimizer that scales a step to
a fixed size, as Muon does, moves by shares: what has the largest gradient decides.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import finish
from electra.config import PretrainConfig
from electra.corpus.folder import Corpus
from electra.plan import objective_and_source
from electra.recipe import read_recipe, resolve
from electra.training.checkpoint import CheckpointStore
from electra.training.device import keep_memory
from electra.training.noise import Noise

CPU = torch.device("cpu")
LEXICAL = "encoder_mlm_loss"


def gradients(run: Path, corpus: Corpus, rows: int) -> dict[str, Tensor]:
    """Loss -> its weighted gradient on all matrices of the encoder's layers, flat."""
    config = resolve(PretrainConfig, [(str(run), read_recipe(str(run / "config.toml")))])
    objective, source = objective_and_source(config, corpus, CPU)
    store = CheckpointStore(run / "checkpoints")
    step = store.steps()[-1]
    store.load_weights(step, objective)
    objective.train()
    objective.begin_step(1.0)
    layers = [
        parameter
        for name, parameter in objective.model.encoder.named_parameters()
        if parameter.dim() == 2 and "layer" in name
    ]
    found: dict[str, Tensor] = {}
    size = min(64, rows)
    first = step * config.training.global_batch_size
    for start in range(first, first + rows, size):
        noise = Noise(config.training.seed, start)
        prepared, counts = objective.prepare(source.batch(start, size), noise)
        losses = objective.forward(prepared, noise).losses
        for name, loss in losses.items():
            scaled = loss * objective.loss_weights[name] / counts[name]
            pulled = torch.autograd.grad(scaled, layers, retain_graph=True, allow_unused=True)
            if any(part is not None for part in pulled):  # not the generator's
                flat = torch.cat(
                    [
                        torch.zeros_like(p).flatten() if g is None else g.flatten()
                        for g, p in zip(pulled, layers, strict=True)
                    ]
                )
                found[name] = found.get(name, torch.zeros_like(flat)) + flat * size / rows
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the corpus they were trained on")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    keep_memory()
    corpus = Corpus(given.data)
    rows: list[dict[str, Any]] = []
    for run in given.runs:
        found = gradients(run, corpus, given.rows)
        whole = sum(g.norm() for g in found.values())
        for name, gradient in found.items():
            row = {"run": run.name, "loss": name, "norm": float(gradient.norm())}
            row["share of the norms"] = float(gradient.norm() / whole)
            lexical = found.get(LEXICAL)
            row["cosine"] = (
                None
                if lexical is None
                else float(torch.cosine_similarity(gradient, lexical, dim=0))
            )
            rows.append(row)
    finish(rows, {"rows of text": given.rows}, json_file=given.json)


if __name__ == "__main__":
    main()
