"""Fast-ELECTRA (Dong et al., ICLR 2024): a generator that is trained already, and stays as it is.

    loss = discriminator_weight * mean over real tokens of BCE(is_replaced, D(corrupted text))

A masked LM from `objective.generator_folder` proposes, as in replaced token detection; only the
discriminator learns. A trained generator is too hard an opponent at first, so its samples begin hot
and cool down, in place of the curriculum that joint training gives: at progress u, the used share
of the budget, they come from softmax(logits / T(u)) with

    T(u) = temperature * (final_temperature / temperature) ** u

The paper decays exponentially, too; its constants are not those of this form. Held-out text is
corrupted at `final_temperature`, so that evaluations compare. Nothing is shared: the discriminator
has embeddings of its own. Training the generator is a cost that is paid elsewhere.

With `objective.replacements` what is drawn is kept (`replacement_store.py`), and a later run with
the same data, budget and settings reads it instead: sweeps over the discriminator then cost the
discriminator alone. Every epoch has draws of its own.

Cost: the encoder, and a generator's forward pass with the vocabulary at the masked positions; the
encoder alone where the replacements are there.

B sequences, L tokens, P masked positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from electra.config import ObjectiveConfig
from electra.errors import ConfigError
from electra.model.frozen_generator import FrozenGenerator
from electra.model.pretraining_model import PretrainingModel
from electra.objectives.masking import mask_slots, with_masks
from electra.objectives.objective import (
    Networks,
    PretrainingObjective,
    ProbeOutput,
    RunFacts,
    SeenText,
    count_real,
    real_tokens,
)
from electra.objectives.replacement_store import ReplacementStore, Split
from electra.objectives.sampling import corrupt, sample_tokens
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise


class FastElectra(PretrainingObjective):
    """Replaced token detection against a generator that does not learn."""

    def __init__(
        self,
        model: PretrainingModel,
        config: ObjectiveConfig,
        *,
        token_counts: Tensor | None = None,
    ) -> None:
        super().__init__(model, config, token_counts=token_counts)
        if config.generator_folder is None:
            raise ConfigError(
                "--objective.name fast_electra needs --objective.generator-folder, a trained "
                "masked LM: generator/ or masked_lm/ of a run on this corpus, say"
            )
        generator = FrozenGenerator.open(
            config.generator_folder, flag="--objective.generator-folder"
        )
        # in a tuple it is no submodule: neither checkpoints nor the optimizer know of it
        self._generator = (generator,)
        self.temperature: float | Tensor = config.temperature
        self.wants_ids = config.replacements is not None
        self.store: ReplacementStore | None = None

    @property
    def generator(self) -> FrozenGenerator:
        """What proposes."""
        return self._generator[0]

    def _apply(self, fn: Any, recurse: bool = True) -> FastElectra:
        """What `.to(device)` calls: the generator moves along."""
        self.generator._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    @classmethod
    def networks(cls, config: ObjectiveConfig) -> Networks:
        """The discriminator; the generator comes from elsewhere."""
        return Networks(discriminator=True)

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """One loss."""
        return {"discriminator_loss": self.config.discriminator_weight}

    @property
    def inputs(self) -> Mapping[str, dict[str, str]]:
        """The generator, by its weights."""
        assert self.config.generator_folder is not None
        found = {"name": self.config.generator_folder, "sha256": self.generator.sha256}
        return {"objective.generator-folder": found}

    @property
    def generator_config(self) -> Any:
        """Of the frozen network."""
        return self.generator.network.config

    def begin_run(self, run: RunFacts) -> None:
        """Check that the generator fits the corpus; open the folder of replacements.

        Raises:
            ConfigError: another vocabulary, too short a generator, a budget in minutes with a
                folder of replacements, or a folder that was drawn otherwise.
        """
        length = run.config.data.max_length
        note = self.generator.check_fits(run.tokenizer, max_length=length)
        if note:
            run.tell(note)
        if self.config.replacements is None:
            return
        training, schedule = run.config.training, run.config.schedule
        if training.minutes is not None or schedule.replay is not None:
            raise ConfigError(
                "--objective.replacements needs a budget of --training.max-steps or "
                "--training.max-tokens: with --training.minutes the temperature depends on the "
                "machine, and no other run would draw the same"
            )
        self.store = ReplacementStore(
            Path(self.config.replacements).expanduser(),
            {
                "generator_sha256": self.generator.sha256,
                "corpus_fingerprint": run.corpus_fingerprint,
                "examples": run.config.data.examples,
                "max_length": length,
                "seed": training.seed,
                "mask_prob": self.config.mask_prob,
                "mask_prob_end": self.config.mask_prob_end,
                "mask_token_prob": self.config.mask_token_prob,
                "masking": self.config.masking,
                "duplicate_positions": self.config.duplicate_positions,
                "temperature": self.config.temperature,
                "final_temperature": self.config.final_temperature,
                "global_batch_size": training.global_batch_size,
                "max_steps": training.max_steps,
                "max_tokens": training.max_tokens,
            },
            slots=mask_slots(length, self.config),
            vocab_size=self.model.encoder.config.vocab_size,
        )

    def begin_step(self, progress: float) -> None:
        """Cool down."""
        super().begin_step(progress)
        hot, cold = self.config.temperature, self.config.final_temperature
        # a tensor, so that compiled code serves all steps
        self.temperature = torch.tensor(hot * (cold / hot) ** progress)

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        """Corrupt by what is kept, or choose and hide tokens; every real token is a target."""
        return self._prepare(batch, noise, "train"), {"discriminator_loss": count_real(batch)}

    def _prepare(self, batch: Batch, noise: Noise, split: Split) -> Batch:
        if self.store is not None and "positions" in batch:
            first = int(batch["positions"][0])
            kept = self.store.read(split, first, len(batch["positions"]))
            if kept is not None:
                ids = batch["input_ids"]
                positions, tokens = (torch.from_numpy(k).to(ids.device) for k in kept)  # (B, P)
                return {**batch, "corrupted_input_ids": ids.scatter(1, positions, tokens)}
        return with_masks(batch, self.model.special, self.config, noise, self.mask_prob)

    def propose(self, batch: Batch, noise: Noise, temperature: float | Tensor) -> Tensor:
        """The text with samples of the generator in it, (B, L)."""
        logits = self.generator.logits(batch["masked_input_ids"], batch, batch["masked_positions"])
        logits = logits[..., : self.model.encoder.config.vocab_size]  # a table may be padded
        sampled_ids = sample_tokens(logits, temperature=temperature, noise=noise)
        return corrupt(
            batch["input_ids"], batch["masked_positions"], batch["masked_weights"], sampled_ids
        )[0]

    def _corrupted(
        self, batch: Batch, noise: Noise, temperature: float | Tensor, split: Split
    ) -> Tensor:
        """The corrupted text, (B, L): kept, or drawn and then kept."""
        if "corrupted_input_ids" in batch:
            return batch["corrupted_input_ids"]
        corrupted = self.propose(batch, noise, temperature)
        if self.store is not None and "positions" in batch:
            positions = batch["masked_positions"]  # (B, P)
            drawn = positions.cpu().numpy(), corrupted.gather(1, positions).cpu().numpy()
            process = dist.get_rank() if dist.is_initialized() else 0
            self.store.append(split, process, int(batch["positions"][0]), drawn)
        return corrupted

    def _scores(self, batch: Batch, corrupted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss summed over real tokens, the logits and the truth, (B, L) each."""
        hidden = self.model.encoder_hidden(corrupted, batch)
        scores = self.model.replaced_logits(hidden).float()
        is_replaced = corrupted != batch["input_ids"]
        losses = F.binary_cross_entropy_with_logits(scores, is_replaced.float(), reduction="none")
        return (losses * real_tokens(batch)).sum(), scores, is_replaced

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        """The loss summed over real tokens."""
        corrupted = self._corrupted(batch, noise, self.temperature, "train")
        loss, _, is_replaced = self._scores(batch, corrupted)
        output = StepOutput({"discriminator_loss": loss})
        output.metrics["replaced_share"] = (is_replaced.sum(), count_real(batch))
        return output

    @torch.no_grad()
    def probe(self, batch: Batch, noise: Noise) -> ProbeOutput:
        """Loss and scores on held-out text, at the final temperature."""
        batch = self._prepare(batch, noise, "validation")
        temperature = self.config.final_temperature
        corrupted = self._corrupted(batch, noise, temperature, "validation")
        loss, scores, is_replaced = self._scores(batch, corrupted)
        real = real_tokens(batch)
        means: dict[str, tuple[Tensor, Tensor | float]] = {"discriminator_loss": (loss, real.sum())}
        return ProbeOutput(means, scores[real], is_replaced[real], SeenText(corrupted, scores))


OBJECTIVE = FastElectra
