"""Generator, discriminator and encoder of a pretraining run, for either family.

All heads stand on networks of transformers. The encoder is the discriminator's body; a masked-LM
head may stand on the same body (masked LM as such, or as a warm start). The generator is a masked
LM of its own that shares the discriminator's embeddings, or more, or less (`model/sharing.py`).

B sequences, L tokens, N rows of any kind, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import logging as transformers_logging

from electra.config import ModelConfig
from electra.corpus.tokenizer import SpecialIds
from electra.model import classic, modern, other
from electra.model.plain_attention import use_attention
from electra.model.sharing import TABLES, disentangle, disentangled, summed_tables
from electra.model.two_tower import TwoTower

FAMILIES: dict[str, ModuleType] = {"classic": classic, "modern": modern, "other": other}
ENERGY = {"electra_logit": "energy"}
"""Field of a saved discriminator's `config.json` whose logit is no log-odds of being replaced but
the energy of Electric: -log p(token | the others), p unnormalised."""
UNTRAINED = {"replaced_token_head": "untrained"}
"""Field of the `config.json` of a discriminator that was converted without its head."""


class PretrainingModel(nn.Module):
    """The networks one objective needs; those it does not need are None."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        vocab_size: int,
        special: SpecialIds,
        with_discriminator: bool = True,
        with_generator: bool = True,
        with_masked_lm: bool = False,
        with_two_tower: bool = False,
        encoder_config: Any = None,
        generator_config: Any = None,
    ) -> None:
        """Build with fresh weights from torch's global generator.

        Args:
            config: the shape.
            vocab_size: V, as the tokenizer has it.
            special: ids of the special tokens.
            with_discriminator: a head on the encoder that tells replaced tokens.
            with_generator: a masked LM beside the encoder.
            with_masked_lm: a masked-LM head on the encoder itself.
            with_two_tower: a cloze model of two towers, each of the generator's size.
            encoder_config: of transformers; none: what `config` says.
            generator_config: likewise.
        """
        super().__init__()
        assert with_discriminator or with_masked_lm, "an encoder without a head learns nothing"
        self.family = FAMILIES[config.family]
        self.special = special
        encoder_config = encoder_config or self.family.encoder_config(
            config, vocab_size=vocab_size, special=special
        )
        self.discriminator: Any = None
        self.generator: Any = None
        self.masked_lm: Any = None
        self.two_tower: Any = None
        self.sharing = config.weight_sharing
        self.own_table = False
        """Whether the masked-LM head on the encoder has an output table of its own."""
        if with_discriminator:
            self.discriminator = self.family.build_discriminator(encoder_config, config)
        smaller = generator_config
        if smaller is None and (with_generator or with_two_tower):
            smaller = self.family.generator_config(config, encoder_config)
        if with_generator:
            self.generator = self.family.build_masked_lm(smaller, config)
        if with_masked_lm:
            self.masked_lm = self.family.build_masked_lm(encoder_config, config)
            setattr(self.masked_lm, self.masked_lm.base_model_prefix, self.encoder)
            tied = getattr(encoder_config, "tie_word_embeddings", True)
            self.own_table = not tied and not with_generator  # it hands its head over otherwise
        if with_two_tower:
            self.two_tower = TwoTower.build(config, smaller)
        if (with_generator or with_two_tower) and self.sharing == "gdes":
            proposing = self.generator.base_model if with_generator else self.two_tower
            disentangle(self.encoder, proposing.embeddings, TABLES[config.family])
        self.tie()

    @property
    def encoder(self) -> Any:
        """The network that is kept."""
        owner = self.discriminator if self.discriminator is not None else self.masked_lm
        return owner.base_model

    def tie(self) -> None:
        """Make one tensor of what is shared. Module moves and in-place loads keep it so."""
        if self.generator is not None:
            if self.sharing == "all":
                setattr(self.generator, self.generator.base_model_prefix, self.encoder)
            elif self.sharing == "embeddings":
                self.generator.base_model.embeddings = self.encoder.embeddings
            own = self.generator.get_input_embeddings().weight
            self.generator.get_output_embeddings().weight = own
        if self.two_tower is not None and self.sharing == "embeddings":
            self.two_tower.share_embeddings(self.encoder.embeddings)
        if self.masked_lm is not None and not self.own_table:
            # a disentangled table is no tensor: its base stands in, the sum is used (`_logits`)
            table = self.encoder.get_input_embeddings()
            self.masked_lm.get_output_embeddings().weight = getattr(table, "base", table.weight)

    def generator_names(self) -> list[str]:
        """Names of the parameters that only the generator's loss moves."""
        generator = self.generator if self.generator is not None else self.two_tower
        if generator is None:
            return []
        bases = {id(table.base) for _, table in disentangled(self.encoder)}
        shared = {id(p) for p in self.encoder.parameters()} - bases
        own = {id(p) for p in generator.parameters()} - shared
        return [name for name, p in self.named_parameters() if id(p) in own]

    def use_attention(self, name: str) -> None:
        """Choose transformers' attention kernel: `sdpa`, `eager`, or a registered one."""
        for network in (self.discriminator, self.generator, self.masked_lm):
            if network is not None:
                use_attention(network, name)
        if self.two_tower is not None:
            self.two_tower.use_attention(name)

    def encoder_hidden(self, input_ids: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        """The encoder's output, (B, L) -> (B, L, H).

        `context` holds `attention_mask`, `token_type_ids` and `document_starts` where the batch
        has them.
        """
        return self._hidden(self.encoder, input_ids, context)

    def encoder_token_logits(self, hidden: Tensor, *, learns_table: bool = True) -> Tensor:
        """Vocabulary logits of the head on the encoder, (N, H) -> (N, V).

        Without `learns_table` no gradient reaches the output table where it is the embeddings'.
        """
        return self._logits(self.masked_lm, hidden, learns_table=learns_table)

    def replaced_logits(self, hidden: Tensor) -> Tensor:
        """Logit of being replaced, (B, L, H) -> (B, L)."""
        logits: Tensor = self.family.replaced_logits(self.discriminator, hidden)
        return logits

    def generator_logits(
        self, masked_input_ids: Tensor, context: Mapping[str, Tensor], positions: Tensor
    ) -> Tensor:
        """Vocabulary logits at the masked positions alone, (B, L) and (B, P) -> (B, P, V)."""
        hidden = self.generator_hidden(masked_input_ids, context, positions)
        return self.generator_token_logits(hidden)

    def generator_hidden(
        self, masked_input_ids: Tensor, context: Mapping[str, Tensor], positions: Tensor
    ) -> Tensor:
        """The generator's output at the masked positions, (B, L) and (B, P) -> (B, P, H_G)."""
        hidden = self._hidden(self.generator.base_model, masked_input_ids, context)
        return gather(hidden, positions)

    def generator_token_logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits of the generator's head, (N, H_G) -> (N, V)."""
        return self._logits(self.generator, hidden)

    def _logits(self, masked_lm: Any, hidden: Tensor, *, learns_table: bool = True) -> Tensor:
        output = masked_lm.get_output_embeddings()
        table: Tensor = output.weight  # (V, E)
        if not self.own_table:  # a disentangled one is summed
            table = masked_lm.get_input_embeddings().weight
            table = table if learns_table else table.detach()
        return F.linear(self.family.masked_lm_transform(masked_lm, hidden), table, output.bias)

    def _hidden(self, encoder: Any, input_ids: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        output: Tensor = self.family.hidden_states(encoder, input_ids, context)
        return output

    @torch.no_grad()
    def start_generator_from_encoder(self) -> None:
        """Copy the encoder's first layers, final norm and masked-LM head into the generator.

        Needs a generator of the encoder's width and a masked-LM head on the encoder.
        """
        for _, table in disentangled(self.encoder):
            table.merge()
        with summed_tables(self.encoder):
            source, target = self.masked_lm.state_dict(), self.generator.state_dict()
            for name, tensor in target.items():
                assert source[name].shape == tensor.shape, f"{name} differs in shape"
                tensor.copy_(source[name])

    def save_parts(
        self,
        folder: Path,
        *,
        with_masked_lm: bool = True,
        discriminator_fields: Mapping[str, Any] | None = None,
    ) -> dict[str, Path]:
        """Write `encoder/`, `generator/`, `discriminator/`, `masked_lm/`, as far as they exist.

        `with_masked_lm` false leaves out a head on the encoder that fell behind (a warm start's);
        `discriminator_fields` go into the discriminator's `config.json`. Each is what the Auto
        class of its kind opens. Returns their folders.
        """
        logging: Any = transformers_logging
        logging.disable_progress_bar()
        parts = {"encoder": folder / "encoder"}
        config = self.encoder.config
        labels = config.id2label, config.label2id
        with summed_tables(self.encoder):
            self.tie()
            config.num_labels = 2  # transformers' default; the discriminator's own is one
            self.encoder.save_pretrained(parts["encoder"])
            config.id2label, config.label2id = labels
            if self.discriminator is not None:
                parts["discriminator"] = folder / "discriminator"
                self.discriminator.config.update(dict(discriminator_fields or {}))
                self.family.save_discriminator(self.discriminator, parts["discriminator"])
            if self.masked_lm is not None and with_masked_lm:
                parts["masked_lm"] = folder / "masked_lm"
                self.masked_lm.save_pretrained(parts["masked_lm"])
        self.tie()
        if self.generator is not None:
            parts["generator"] = folder / "generator"
            self.generator.save_pretrained(parts["generator"])
        return parts

    def num_parameters(self) -> dict[str, int]:
        """Parameters of each part, shared ones counted in every part that has them."""
        parts = {
            "encoder": self.encoder,
            "discriminator": self.discriminator,
            "generator": self.generator,
            "masked_lm": self.masked_lm,
            "two_tower": self.two_tower,
        }
        return {
            name: sum(p.numel() for p in part.parameters())
            for name, part in parts.items()
            if part is not None
        }


def gather(hidden: Tensor, positions: Tensor) -> Tensor:
    """Rows at the positions, (B, L, H) and (B, P) -> (B, P, H)."""
    return hidden.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
