"""Objectives on tiny networks, and a padded batch."""

import torch
from torch import Tensor

from electra.config import PretrainConfig
from electra.corpus.tokenizer import SpecialIds
from electra.objectives.objective import PretrainingObjective, build_objective
from electra.training.loop import Batch
from electra.training.noise import Noise
from tests.shapes import tiny_config

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
VOCAB = 50
CPU = torch.device("cpu")


def make(family: str, *, counts: Tensor | None = None, **sections: object) -> PretrainingObjective:
    """The objective of a tiny recipe; sections override it."""
    config: PretrainConfig = tiny_config(family, **sections)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return build_objective(config, VOCAB, SPECIAL, token_counts=counts).eval()


def padded_batch() -> Batch:
    """Three rows of 14, 9 and 5 tokens."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, VOCAB, (3, 14), generator=generator)
    mask = torch.ones_like(ids)
    for row, length in enumerate((14, 9, 5)):
        ids[row, 0], ids[row, length - 1] = 2, 3
        ids[row, length:], mask[row, length:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def noise(seed: int = 0) -> Noise:
    """As the loop makes it."""
    return Noise(seed)
