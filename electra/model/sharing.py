"""What generator and discriminator share, and how it stays shared.

- `embeddings`: word, position and type tables and their LayerNorm, one tensor each (ELECTRA,
  section 3.2; google-research/electra, run_pretraining.py);
- `gdes`: the discriminator's tables are the generator's, without gradient, plus a difference of
  its own that starts at zero (DeBERTaV3, He et al. 2023, section 3.3: E_D = sg(E_G) + E_delta);
- `all`: generator and discriminator are one network with two heads (ELECTRA, section 3.2);
- `none`: nothing.

V rows of a table, E its width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TABLES = {"classic": ("word_embeddings", "position_embeddings"), "modern": ("tok_embeddings",)}
"""The tables of a family that `gdes` disentangles."""


class DisentangledEmbedding(nn.Module):
    """Rows of `base`, which gets no gradient from here, plus rows of `delta`, which does."""

    def __init__(self, base: nn.Parameter) -> None:
        super().__init__()
        self.base = base
        """(V, E), the generator's."""
        self.delta = nn.Parameter(torch.zeros_like(base))
        """(V, E)."""

    @property
    def weight(self) -> Tensor:
        """The table as the discriminator sees it, (V, E)."""
        return self.base.detach() + self.delta

    def forward(self, ids: Tensor) -> Tensor:
        """Look up, (...) -> (..., E)."""
        return F.embedding(ids, self.base.detach()) + F.embedding(ids, self.delta)

    @torch.no_grad()
    def merge(self) -> None:
        """Move the difference into the base, so that both networks see the discriminator's."""
        self.base.add_(self.delta)
        self.delta.zero_()


def disentangle(encoder: Any, generator_embeddings: Any, tables: tuple[str, ...]) -> None:
    """Give the encoder differences to the generator's tables in place of tables of its own."""
    for name in tables:
        base = getattr(generator_embeddings, name).weight
        setattr(encoder.embeddings, name, DisentangledEmbedding(base))


def disentangled(encoder: Any) -> list[tuple[str, DisentangledEmbedding]]:
    """The encoder's disentangled tables by name; none under other ways of sharing."""
    return [
        (name, module)
        for name, module in encoder.embeddings.named_children()
        if isinstance(module, DisentangledEmbedding)
    ]


@contextmanager
def summed_tables(encoder: Any) -> Iterator[None]:
    """Within, disentangled tables are plain ones that hold the sum: what is exported."""
    found = disentangled(encoder)
    for name, module in found:
        rows, width = module.base.shape
        plain = nn.Embedding(rows, width, _weight=module.weight.detach())
        setattr(encoder.embeddings, name, plain)
    try:
        yield
    finally:
        for name, module in found:
            setattr(encoder.embeddings, name, module)
