"""Where replacements come from: a trained masked LM, or a fixed distribution over the vocabulary.

The network's proposals follow ELECTRA, section 2; the uniform and unigram ones are its baselines
(section 3.2; google-research/electra, `uniform_generator`). Special tokens are left out of those
two: a [PAD] in the middle of a sentence is told from the rest without reading.

B sequences, L tokens, P masked positions, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from electra.config import ObjectiveConfig
from electra.model.pretraining_model import PretrainingModel
from electra.objectives.objective import PretrainingObjective
from electra.objectives.sampling import corrupt, sample_fixed, sample_tokens
from electra.training.loop import Batch
from electra.training.noise import Noise

NEVER = -1000.0
"""Added to the logit of the original token where it must not be sampled (reference code)."""


class ProposingObjective(PretrainingObjective):
    """An objective whose encoder reads corrupted text."""

    frequencies: Tensor

    def __init__(
        self,
        model: PretrainingModel,
        config: ObjectiveConfig,
        *,
        token_counts: Tensor | None = None,
    ) -> None:
        super().__init__(model, config, token_counts=token_counts)
        if not self.trains_generator:
            found = fixed_frequencies(model, config.generator, token_counts)
            self.register_buffer("frequencies", found, persistent=False)

    @property
    def trains_generator(self) -> bool:
        """Whether replacements come from a network."""
        return self.config.generator == "masked_lm"

    def generator_logits(self, batch: Batch) -> Tensor | None:
        """The generator's logits at the masked positions, (B, P, V); None where it is fixed."""
        if not self.trains_generator:
            return None
        return self.model.generator_logits(
            batch["masked_input_ids"], batch, batch["masked_positions"]
        )

    def corrupt(
        self, batch: Batch, generator_logits: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Sample a token for each masked position: corrupted_input_ids and is_replaced, (B, L)."""
        original_ids = batch["original_ids"]  # (B, P)
        if generator_logits is None:
            sampled_ids = sample_fixed(
                self.frequencies,
                never=original_ids if self.config.disallow_correct else None,
                shape=original_ids.shape,
                noise=noise,
            )
        else:
            if self.config.disallow_correct:
                gold = torch.full_like(original_ids, NEVER, dtype=generator_logits.dtype)
                generator_logits = generator_logits.detach().scatter_add(
                    -1, original_ids.unsqueeze(-1), gold.unsqueeze(-1)
                )
            sampled_ids = sample_tokens(
                generator_logits, temperature=self.config.temperature, noise=noise
            )  # (B, P)
        return corrupt(
            batch["input_ids"], batch["masked_positions"], batch["masked_weights"], sampled_ids
        )


def fixed_frequencies(model: PretrainingModel, name: str, token_counts: Tensor | None) -> Tensor:
    """(V,) probabilities of the `uniform` or `unigram` generator; special tokens get none."""
    vocab_size = model.encoder.config.vocab_size
    if name == "uniform":
        counts = torch.ones(vocab_size)
    else:
        assert token_counts is not None, "the unigram generator is made from the corpus"
        counts = token_counts.float()
    counts[list(model.special.never_masked)] = 0.0
    return counts / counts.sum()
