"""The classic family: ELECTRA's network as published, `Electra*` of transformers.

B sequences, L tokens, N rows of any kind, H hidden size, E embedding size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from electra.config import ModelConfig
from electra.config.model import generator_width
from electra.corpus.tokenizer import SpecialIds
from electra.model.document_attention import restarted_positions, within_documents

uses_token_types = True


def encoder_config(config: ModelConfig, *, vocab_size: int, special: SpecialIds) -> ElectraConfig:
    """The discriminator's configuration."""
    return ElectraConfig(
        vocab_size=vocab_size,
        embedding_size=config.embedding_size or config.hidden_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_position_embeddings,
        **recipe_fields(config, special),
    )


def recipe_fields(config: ModelConfig, special: SpecialIds) -> dict[str, Any]:
    """What a configuration has from the recipe and the corpus whatever the network's shape."""
    return {
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
        "pad_token_id": special.pad,
        "bos_token_id": special.cls,
        "eos_token_id": special.sep,
    }


def generator_config(config: ModelConfig, encoder: ElectraConfig) -> ElectraConfig:
    """The generator's: width times `generator_size`, heads of 64, 4 times as wide inside.

    The embedding size stays the discriminator's, because the tables are shared.
    """
    hidden, heads = generator_width(encoder.hidden_size, config.generator_size)
    changes = {
        "hidden_size": hidden,
        "num_attention_heads": heads or encoder.num_attention_heads,
        "intermediate_size": 4 * hidden if heads else encoder.intermediate_size,
        "num_hidden_layers": config.generator_layers or encoder.num_hidden_layers,
    }
    return ElectraConfig(**(encoder.to_dict() | changes))


def build_discriminator(config: ElectraConfig, model: ModelConfig) -> ElectraForPreTraining:
    """The encoder with its head for replaced token detection."""
    discriminator = ElectraForPreTraining(config)
    _initialize(discriminator, model)
    return discriminator


def build_masked_lm(config: ElectraConfig, model: ModelConfig) -> ElectraForMaskedLM:
    """An encoder with a head for masked language modelling."""
    masked_lm = ElectraForMaskedLM(config)
    _initialize(masked_lm, model)
    return masked_lm


@torch.no_grad()
def _initialize(network: nn.Module, model: ModelConfig) -> None:
    """Fresh weights by `model.initialization`; transformers has made the published ones already.

    The reference draws from a normal of 0.02 cut at two deviations, and leaves the projection of
    the embeddings and the last layer of the discriminator's head to TensorFlow's default, Glorot's
    uniform (google-research/electra, model/modeling.py and run_pretraining.py).
    """
    if model.initialization == "published":
        return
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            if name.endswith(("embeddings_project", "dense_prediction")):
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)


def hidden_states(encoder: Any, input_ids: Tensor, context: Mapping[str, Tensor]) -> Tensor:
    """The encoder's output, (B, L) -> (B, L, H).

    `context` holds `attention_mask` and `token_type_ids`, (B, L), where they are not all 1 and 0,
    and `document_starts` (B, D) where attention stays inside documents; positions, which are
    absolute, then begin anew in each.
    """
    mask: Tensor | None = context.get("attention_mask")
    more: dict[str, Any] = {}
    if "document_starts" in context:
        starts, length = context["document_starts"], input_ids.shape[1]
        more, mask = within_documents(encoder, starts, length)
        more["position_ids"] = restarted_positions(starts, length)
    output: Tensor = encoder(
        input_ids, attention_mask=mask, token_type_ids=context.get("token_type_ids"), **more
    ).last_hidden_state
    return output


def masked_lm_transform(masked_lm: Any, hidden: Tensor) -> Tensor:
    """What meets the output table, (N, H) -> (N, E)."""
    transformed: Tensor = masked_lm.generator_predictions(hidden)
    return transformed


def replaced_logits(discriminator: Any, hidden: Tensor) -> Tensor:
    """Logit of being replaced, (B, L, H) -> (B, L)."""
    logits: Tensor = discriminator.discriminator_predictions(hidden)
    return logits


def save_discriminator(discriminator: Any, folder: Path) -> None:
    """Write the folder that `AutoModelForPreTraining` opens."""
    discriminator.save_pretrained(folder)


def read_rtd_head(opened: Any, head: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The head of a released discriminator, as it is."""
    return head
