"""Self-augmentation: the encoder proposes its own replacements (SAS, Xu et al., AAAI 2022).

    loss =                        mean over chosen positions of -log p(original token | corrupted)
         + discriminator_weight * mean over real tokens of BCE(is_replaced, D(corrupted))

There is no generator. One encoder reads the corrupted text once, under two heads: a masked-LM head
predicts the original tokens at the chosen positions, the discriminator's head judges every token.
In the same pass the masked-LM head is asked at newly chosen positions, one token is drawn for each,
and these are kept until the example comes again: they are what it is corrupted with then. At an
example's first visit tokens are drawn by their frequency in the corpus instead.

As published (arXiv 2106.07176; alibaba/self-augmentation-strategy): one pass for losses and
samples, the cold start of one epoch, weights 1 and 50, temperature 1. The published scores let the
50 grow to 200 from epoch to epoch, and the published code flattens the frequencies for the first
1,000 steps; both are left out. The published code draws the next samples where it has just taken
the masked-LM loss, though its recipes ask for new positions: here they are new. It also leaves
samples equal to the original out of the masked-LM loss after the first visit. Here they count: a
head that is never right to repeat what it reads would never propose the original token, which it
has before its eyes at a new position.

`sampled_original_share` says how often it does. Near 1 nothing is replaced any more and the
discriminator has nothing to learn from.

Memory: P positions and tokens for each example of the corpus, in the checkpoint too, about half a
byte for each token of the corpus. It pays after the first epoch; a run that sees its corpus once is
trained against frequencies alone. One process: what another process drew would have to be sent.

Cost: the encoder reads every token; the vocabulary is met at the chosen positions, and at the next
ones without gradient.

B sequences, L tokens, P chosen positions, V vocabulary, N examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.errors import ConfigError
from electra.model.pretraining_model import PretrainingModel, gather
from electra.objectives.masked_lm import masked_lm_loss, masked_lm_means
from electra.objectives.masking import max_masked, with_masks
from electra.objectives.objective import (
    Networks,
    PretrainingObjective,
    ProbeOutput,
    RunFacts,
    SeenText,
    count_real,
    real_tokens,
)
from electra.objectives.proposals import fixed_frequencies
from electra.objectives.sampling import corrupt, sample_fixed, sample_tokens
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise

LARGEST_STORE = 4 * 2**30
"""Bytes; beyond, every checkpoint would take as long as hundreds of steps."""


class Replacements(nn.Module):
    """What each example of the corpus is corrupted with at its next visit."""

    positions: Tensor
    token_ids: Tensor

    def __init__(self, num_examples: int, slots: int, *, max_length: int, vocab_size: int) -> None:
        super().__init__()
        for name, size in (("positions", max_length), ("token_ids", vocab_size)):
            empty = torch.zeros(num_examples, slots, dtype=smallest_dtype(size))
            self.register_buffer(name, empty)

    def read(self, example_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and tokens, (B,) -> two of (B, P) int64; position 0 in unused slots."""
        return _wide(self.positions[example_ids]), _wide(self.token_ids[example_ids])

    def write(self, example_ids: Tensor, positions: Tensor, token_ids: Tensor) -> None:
        """Keep (B, P) of each for the next visit of the examples (B,)."""
        # an example may be there twice: both rows write the later one's, in whatever order
        row = torch.arange(len(example_ids), device=example_ids.device)
        last = ((example_ids == example_ids.unsqueeze(1)) * row).amax(1)
        self.positions[example_ids] = positions[last].to(self.positions.dtype)
        self.token_ids[example_ids] = token_ids[last].to(self.token_ids.dtype)


def smallest_dtype(size: int) -> torch.dtype:
    """The smallest integers that tell `size` values apart; int16 is read as if unsigned."""
    return torch.uint8 if size <= 2**8 else torch.int16 if size <= 2**16 else torch.int32


def _wide(values: Tensor) -> Tensor:
    # torch cannot write to rows of uint16, so that int16 holds them
    return values.long() & 0xFFFF if values.dtype == torch.int16 else values.long()


@dataclass
class Heard:
    """What both heads said of a corrupted batch."""

    hidden: Tensor
    """(B, L, H)."""
    token_logits: Tensor
    """(B, P, V) at the chosen positions."""
    scores: Tensor
    """(B, L) float32, the logit of being replaced."""


class SelfAugmented(PretrainingObjective):
    """One encoder, two heads, and a memory of what to replace next time."""

    wants_ids = True
    frequencies: Tensor
    replacements: Replacements

    def __init__(
        self,
        model: PretrainingModel,
        config: ObjectiveConfig,
        *,
        token_counts: Tensor | None = None,
    ) -> None:
        super().__init__(model, config, token_counts=token_counts)
        found = fixed_frequencies(model, "unigram", token_counts)
        self.register_buffer("frequencies", found, persistent=False)

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """Both heads on the encoder."""
        return Networks(discriminator=True, masked_lm=True)

    @property
    def keeps_masked_lm(self) -> bool:
        """Not worth it: the head has never met a [MASK], so it cannot fill one."""
        return False

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of both heads."""
        return {
            "encoder_mlm_loss": 1.0,
            "discriminator_loss": self.config.discriminator_weight,
        }

    def begin_run(self, run: RunFacts) -> None:
        """Make room for the replacements.

        Raises:
            ConfigError: several processes, or more examples than there is room for.
        """
        if run.world_size > 1:
            raise ConfigError(
                f"--objective.name self_augmented runs in one process, not {run.world_size}: "
                "replacements are kept where they were drawn; start without torchrun or choose "
                "another objective"
            )
        length, vocab_size = run.config.data.max_length, self.model.encoder.config.vocab_size
        slots = max_masked(length, self.config.mask_prob)
        width = smallest_dtype(length).itemsize + smallest_dtype(vocab_size).itemsize
        size = run.num_examples * slots * width
        if size > LARGEST_STORE:
            raise ConfigError(
                f"--objective.name self_augmented would keep {size / 2**30:.1f} GiB of "
                f"replacements for {run.num_examples:,} examples; allowed: "
                f"{LARGEST_STORE / 2**30:.0f} GiB: lower --objective.mask-prob, prepare less text, "
                "or choose another objective"
            )
        run.tell(
            f"replacements for {run.num_examples:,} examples take {size / 1e6:,.1f} MB of memory "
            "and of every checkpoint"
        )
        store = Replacements(run.num_examples, slots, max_length=length, vocab_size=vocab_size)
        self.replacements = store.to(self.frequencies.device)

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Corrupt by what was kept, or by frequency at a first visit; choose where to ask next."""
        chosen = with_masks(batch, self.model.special, self.config, noise)
        shape = chosen["masked_positions"].shape
        drawn = sample_fixed(self.frequencies, never=None, shape=shape, noise=noise)
        upcoming = with_masks(batch, self.model.special, self.config, noise)
        positions, token_ids = self.replacements.read(batch["example_ids"])  # (B, P)
        kept = positions > 0  # [CLS] is at 0 and never chosen
        visited = kept.any(1, keepdim=True)
        corrupted = self.corrupt(
            batch,
            torch.where(visited, positions, chosen["masked_positions"]),
            torch.where(visited, kept.float(), chosen["masked_weights"]),
            torch.where(visited, token_ids, drawn),
        )
        corrupted["next_positions"] = upcoming["masked_positions"]
        corrupted["next_weights"] = upcoming["masked_weights"]
        return corrupted, self.counts(corrupted)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Targets of both losses."""
        return {
            "encoder_mlm_loss": batch["masked_weights"].sum(),
            "discriminator_loss": count_real(batch),
        }

    def corrupt(
        self, batch: Batch, positions: Tensor, weights: Tensor, sampled_ids: Tensor
    ) -> Batch:
        """The batch with the samples in it, and what was there; all (B, P)."""
        corrupted, is_replaced = corrupt(batch["input_ids"], positions, weights, sampled_ids)
        return {
            **batch,
            "masked_positions": positions,
            "masked_weights": weights,
            "original_ids": batch["input_ids"].gather(1, positions),
            "corrupted_input_ids": corrupted,
            "is_replaced": is_replaced,
        }

    def hear(self, batch: Batch) -> Heard:
        """Both heads on one reading of the corrupted text."""
        hidden = self.model.encoder_hidden(batch["corrupted_input_ids"], batch)  # (B, L, H)
        logits = self.model.encoder_token_logits(gather(hidden, batch["masked_positions"]))
        return Heard(hidden, logits, self.model.replaced_logits(hidden).float())

    @torch.no_grad()
    def draw(self, hidden: Tensor, positions: Tensor, noise: Noise) -> Tensor:
        """A token of the masked-LM head for each position, (B, L, H) and (B, P) -> (B, P)."""
        logits = self.model.encoder_token_logits(gather(hidden, positions))
        return sample_tokens(logits, temperature=self.config.temperature, noise=noise)

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Losses summed over their targets; the examples' next replacements are kept."""
        heard = self.hear(batch)
        positions, weights = batch["next_positions"], batch["next_weights"]
        drawn = self.draw(heard.hidden, positions, noise)
        self.replacements.write(batch["example_ids"], positions, drawn)
        same = (drawn == batch["input_ids"].gather(1, positions)) * weights
        return StepOutput(
            {
                "encoder_mlm_loss": masked_lm_loss(heard.token_logits, batch),
                "discriminator_loss": self.discriminator_loss(heard, batch),
            },
            {
                "replaced_share": (batch["is_replaced"].sum(), count_real(batch)),
                "sampled_original_share": (same.sum(), weights.sum()),
            },
        )

    def discriminator_loss(self, heard: Heard, batch: Batch) -> Tensor:
        """Binary cross-entropy, summed over the real tokens."""
        losses = F.binary_cross_entropy_with_logits(
            heard.scores, batch["is_replaced"].float(), reduction="none"
        )
        return (losses * real_tokens(batch)).sum()

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Both heads on held-out text, which has no visits: a pass over the text as it is draws."""
        chosen = with_masks(batch, self.model.special, self.config, noise)
        positions, weights = chosen["masked_positions"], chosen["masked_weights"]
        hidden = self.model.encoder_hidden(batch["input_ids"], batch)
        drawn = self.draw(hidden, positions, noise)
        corrupted = self.corrupt(batch, positions, weights, drawn)
        heard, counts = self.hear(corrupted), self.counts(corrupted)
        same = (drawn == corrupted["original_ids"]) * weights
        means = masked_lm_means("encoder_mlm", heard.token_logits, corrupted)
        means["sampled_original_share"] = (same.sum(), weights.sum())
        loss = self.discriminator_loss(heard, corrupted)
        means["discriminator_loss"] = (loss, counts["discriminator_loss"])
        real = real_tokens(batch)
        seen = SeenText(corrupted["corrupted_input_ids"], heard.scores)
        return ProbeOutput(means, heard.scores[real], corrupted["is_replaced"][real], seen)


OBJECTIVE = SelfAugmented
