"""What every pretraining objective is: networks, losses, a probe. One file each beside this one.

`build_objective` makes the one a recipe names; the module of an objective has its name.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from electra.config import ObjectiveConfig, PretrainConfig
from electra.corpus.tokenizer import SpecialIds
from electra.model.pretrained_parts import PretrainedParts
from electra.model.pretraining_model import PretrainingModel
from electra.objectives.repetition import RepetitionHead
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


@dataclass(frozen=True)
class Networks:
    """What an objective trains beside the encoder's body."""

    discriminator: bool = False
    """A head on the encoder that tells replaced tokens."""
    generator: bool = False
    """A masked LM that proposes replacements."""
    masked_lm: bool = False
    """A masked-LM head on the encoder."""
    two_tower: bool = False
    """A cloze model of two towers (`model/two_tower.py`) in place of the generator."""


@dataclass(frozen=True)
class RunFacts:
    """What an objective may ask of the run it is trained in."""

    config: PretrainConfig
    tokenizer: Tokenizer
    """The corpus's."""
    corpus_fingerprint: str
    tell: Callable[[str], None]
    """Says a line to whoever watches."""
    num_examples: int = 0
    """Rows of the training split."""
    world_size: int = 1
    """Processes that train together."""


@dataclass
class SeenText:
    """What the discriminator read of a batch, and what it said."""

    input_ids: Tensor
    """(B, L) the corrupted text."""
    scores: Tensor
    """(B, L) the logit of being replaced."""


@dataclass
class ProbeOutput:
    """Of one batch of held-out text."""

    means: dict[str, tuple[Tensor, Tensor | float]]
    """Name -> sum and the count it is to be divided by."""
    replaced_scores: Tensor | None = None
    """(N,) logit of being replaced of every real token."""
    is_replaced: Tensor | None = None
    """(N,) bool, the truth."""
    seen: SeenText | None = None
    """The same in rows, to be shown; where there is a discriminator that is trained by now."""


class PretrainingObjective(nn.Module, ABC):
    """The interface of `training.loop.Objective`, and what pretraining needs besides."""

    wants_ids = False
    """Whether batches are to have `positions` and `example_ids` (`corpus.batches.as_batch`)."""
    idle_slots = False
    """Whether slots for masks that no row uses are kept: where passes are compiled for a shape."""
    repetition_head: RepetitionHead | None
    """Where `repetition_weight` asks for it."""

    def __init__(
        self,
        model: PretrainingModel,
        config: ObjectiveConfig,
        *,
        token_counts: Tensor | None = None,
    ) -> None:
        """Take the networks.

        Args:
            model: as `networks` asked for.
            config: the recipe's section.
            token_counts: (V,) how often each token is in the corpus; only where
                `objective.generator` is `unigram`, and for `self_augmented`.
        """
        super().__init__()
        self.model, self.config = model, config
        self.repetition_head = None
        if config.repetition_weight:
            self.repetition_head = RepetitionHead(model.encoder.config.hidden_size)
        self._mask_prob: float | Tensor = config.mask_prob
        self._flags: dict[str, tuple[int, bool]] = {}

    @classmethod
    @abstractmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """The networks it trains."""

    @property
    @abstractmethod
    def loss_weights(self) -> Mapping[str, float]:
        """Weight of each loss that `forward` returns now."""

    @property
    def keeps_masked_lm(self) -> bool:
        """Whether the masked-LM head on the encoder is worth keeping after the run."""
        return self.networks(self.config).masked_lm

    @property
    def discriminator_fields(self) -> Mapping[str, str]:
        """What to add to the saved discriminator's `config.json`."""
        return {}

    @property
    def inputs(self) -> Mapping[str, dict[str, str]]:
        """What decides the outcome beside data and recipe: flag -> `name` and `sha256`."""
        return {}

    @property
    def generator_config(self) -> Any:
        """The configuration of the network that proposes, if one does whose size can be chosen."""
        return None if self.model.generator is None else self.model.generator.config

    def begin_run(self, run: RunFacts) -> None:
        """Called once before training begins or goes on; nothing happens here.

        A checkpoint is restored after it: buffers may be made here.
        """

    def save_extra(self, folder: Path) -> None:
        """Write what no Auto class opens into `folder`, which is there; nothing here."""

    def begin_step(self, progress: float) -> None:
        """Called before each step with the used share of the budget.

        Here the share of the tokens that is chosen moves on, in a straight line over the budget.
        """
        first, last = self.config.mask_prob, self.config.mask_prob_end
        if last is not None:  # a tensor, so that compiled code serves all steps
            self._mask_prob = torch.tensor(first + (last - first) * progress)

    @property
    def mask_prob(self) -> float | Tensor:
        """Share of the tokens to choose now; in evaluation the last, so that they compare."""
        last = self.config.mask_prob_end
        return self._mask_prob if self.training or last is None else last

    def flag(self, name: str) -> bool:
        """A buffer of one bool, read when it was written: to read it waits for the device."""
        buffer = self.get_buffer(name)
        version, value = self._flags.get(name, (None, False))
        if version != buffer._version:
            value = bool(buffer)
            self._flags[name] = (buffer._version, value)
        return value

    def ask(self, batch: Batch, read_ids: Tensor) -> tuple[Batch, dict[str, Tensor]]:
        """Say of which tokens it is to be told whether they are repeated, and how many they are.

        `read_ids` (B, L) is what the encoder will read, or that before tokens are replaced.
        """
        if self.repetition_head is None:
            return batch, {}
        asked = maskable(read_ids, self.model.special).float()
        return {**batch, "asked": asked}, {"repetition_loss": asked.sum()}

    def repetition_losses(
        self, hidden: Tensor, read_ids: Tensor, batch: Batch, *, before: bool = False
    ) -> dict[str, Tensor]:
        """The loss of telling, summed, given the encoder's reading, (B, L, H) and (B, L)."""
        if (head := self.repetition_head) is None:
            return {}
        return {"repetition_loss": head.loss(hidden, read_ids, batch["asked"], before)}

    def repetition_means(
        self, hidden: Tensor, read_ids: Tensor, batch: Batch
    ) -> dict[str, tuple[Tensor, Tensor | float]]:
        """Its loss and accuracy on held-out text, with the same arguments."""
        if self.repetition_head is None:
            return {}
        asked = batch["asked"]
        loss = self.repetition_head.loss(hidden, read_ids, asked)
        right = self.repetition_head.num_correct(hidden, read_ids, asked)
        return {"repetition_loss": (loss, asked.sum()), "repetition_accuracy": (right, asked.sum())}

    @abstractmethod
    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Targets for a batch, and how many there are for each loss."""

    @abstractmethod
    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """Losses of a prepared batch, each summed over its targets."""

    @abstractmethod
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Losses and scores on held-out text, without gradient."""


def build_objective(
    config: PretrainConfig,
    vocab_size: int,
    special: SpecialIds,
    *,
    token_counts: Tensor | None = None,
    parts: PretrainedParts | None = None,
) -> PretrainingObjective:
    """The objective a recipe names, on fresh networks from torch's global generator.

    With `parts`, which the recipe was reshaped by, the networks have their shape and weights.
    """
    assert (parts is None) == (config.model.discriminator is None), "open_parts comes before"
    module = importlib.import_module(f"electra.objectives.{config.objective.name}")
    kind: type[PretrainingObjective] = module.OBJECTIVE
    needed = kind.networks(config.objective)
    model = PretrainingModel(
        config.model,
        vocab_size=vocab_size,
        special=special,
        with_discriminator=needed.discriminator,
        with_generator=needed.generator,
        with_masked_lm=needed.masked_lm,
        with_two_tower=needed.two_tower,
        **(parts.network_configs(config.model, special) if parts else {}),
    )
    if parts:
        parts.fill(model)
    return kind(model, config.objective, token_counts=token_counts)


def count_real(batch: Batch) -> Tensor:
    """Tokens of the batch that are not padding."""
    mask = batch.get("attention_mask")
    if mask is not None:
        return mask.sum()
    ids = batch["input_ids"]
    return torch.full((), ids.numel(), device=ids.device)


def real_tokens(batch: Batch) -> Tensor:
    """(B, L) bool, false for padding."""
    mask = batch.get("attention_mask")
    return torch.ones_like(batch["input_ids"]).bool() if mask is None else mask.bool()


def maskable(input_ids: Tensor, special: SpecialIds) -> Tensor:
    """(B, L) bool: never [PAD], [CLS], [SEP], [MASK]; [UNK] may be chosen, as in the reference."""
    allowed = torch.ones_like(input_ids, dtype=torch.bool)
    for token_id in special.never_masked:  # a list of them would be copied to the device each time
        allowed &= input_ids != token_id
    return allowed
