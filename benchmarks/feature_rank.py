"""Into how many directions an encoder spreads held-out text.

    python -m benchmarks.feature_rank RUN ... --data CORPUS [--json FILE]

For every run folder: the effective rank of the token states (the exponential of the entropy of the
covariance's eigenvalues; Roy and Vetterli 2007), and the mean cosine of two random tokens'. A
state that only says how odd a token is needs one direction.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel

from benchmarks.record import finish
from electra.corpus.batches import as_batch
from electra.corpus.examples import Examples
from electra.corpus.folder import Corpus
from electra.corpus.tokenizer import SpecialIds, load_tokenizer


def effective_rank(states: Tensor) -> float:
    """Exp of the entropy of the eigenvalues' shares, from 1 to H; states (N, H)."""
    centred = states.double() - states.double().mean(0)
    shares = torch.linalg.svdvals(centred) ** 2
    shares = shares / shares.sum()
    return float(torch.exp(-(shares * shares.clamp(min=1e-300).log()).sum()))


def mean_cosine(states: Tensor) -> float:
    """Of random pairs; states (N, H)."""
    order = torch.randperm(len(states), generator=torch.Generator().manual_seed(0))
    half = len(order) // 2
    one, other = states[order[:half]], states[order[half : 2 * half]]
    return float(torch.cosine_similarity(one, other, dim=-1).mean())


@torch.no_grad()
def token_states(encoder: str, corpus: Corpus, *, rows: int = 256, max_length: int = 64) -> Tensor:
    """States of the tokens of held-out text, (N, H)."""
    special = SpecialIds.of(load_tokenizer(corpus.folder))
    split = corpus.split("validation")
    examples = Examples(split, special, max_length=max_length, kind="packed")
    ids = np.linspace(0, len(examples) - 1, min(rows, len(examples))).astype(np.uint64)
    model: Any = AutoModel.from_pretrained(encoder).eval()
    states = model(as_batch(examples, ids)["input_ids"]).last_hidden_state
    return torch.as_tensor(states[:, 1:-1].flatten(0, 1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Effective rank of encoders' token states.")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a corpus folder")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    corpus = Corpus(given.data)
    rows = []
    for run in given.runs:
        states = token_states(str(run / "encoder"), corpus)
        rows.append(
            {
                "run": run.name,
                "effective_rank": effective_rank(states),
                "of": states.shape[1],
                "mean_cosine": mean_cosine(states),
            }
        )
    summary = {"tokens": len(states)}
    finish(rows, summary, json_file=given.json)


if __name__ == "__main__":
    main()
