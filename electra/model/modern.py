"""The modern family: ModernBERT's network (Warner et al. 2024), `ModernBert*` of transformers.

Pre-norm, rotary positions, GeGLU, no biases. B sequences, L tokens, N rows of any kind, H hidden
size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertForTokenClassification

from electra.config import ModelConfig
from electra.corpus.tokenizer import SpecialIds
from electra.model.document_attention import as_mask, within_documents

FULL_ATTENTION_UP_TO = 512
"""Sliding windows of 128 pay at lengths beyond (ModernBERT, section 2.1.2)."""
ROPE_THETA = 10_000.0
RTD_LABELS = {0: "original", 1: "replaced"}
"""Of a discriminator's folder."""
uses_token_types = False


def encoder_config(
    config: ModelConfig, *, vocab_size: int, special: SpecialIds
) -> ModernBertConfig:
    """The discriminator's configuration; every special id is set, the defaults are another's."""
    short = config.max_position_embeddings <= FULL_ATTENTION_UP_TO
    rope = {"rope_type": "default", "rope_theta": ROPE_THETA}
    return ModernBertConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_position_embeddings,
        layer_types=["full_attention"] * config.num_hidden_layers if short else None,
        rope_parameters={
            "full_attention": dict(rope) if short else {**rope, "rope_theta": 160_000.0},
            "sliding_attention": dict(rope),
        },
        classifier_pooling="mean",
        **recipe_fields(config, special),
    )


def recipe_fields(config: ModelConfig, special: SpecialIds) -> dict[str, Any]:
    """What a configuration has from the recipe and the corpus whatever the network's shape."""
    return {
        "embedding_dropout": config.hidden_dropout_prob,
        "mlp_dropout": config.hidden_dropout_prob,
        "attention_dropout": config.attention_probs_dropout_prob,
        "pad_token_id": special.pad,
        "bos_token_id": special.cls,
        "eos_token_id": special.sep,
        "cls_token_id": special.cls,
        "sep_token_id": special.sep,
    }


def _table(config: Any) -> dict[str, Any]:
    table: dict[str, Any] = config.to_dict()
    return table


def generator_config(config: ModelConfig, encoder: ModernBertConfig) -> ModernBertConfig:
    """The generator's: the same width and fewer layers.

    Narrow layers waste the machine (the tables are shared without a projection, too).
    """
    layers = config.generator_layers or encoder.num_hidden_layers
    table = _table(encoder)
    table["layer_types"] = table["layer_types"][:layers]
    table["num_hidden_layers"] = layers
    return ModernBertConfig(**table)


def build_discriminator(
    config: ModernBertConfig, model: ModelConfig
) -> ModernBertForTokenClassification:
    """The encoder with a head of one output row: the logit of being replaced."""
    one_label = ModernBertConfig(
        **(_table(config) | {"id2label": {0: "replaced"}, "label2id": None})
    )
    discriminator = ModernBertForTokenClassification(one_label)
    _initialize(discriminator, model)
    if model.initialization == "scaled":
        torch.nn.init.zeros_(discriminator.classifier.weight)
    return discriminator


def build_masked_lm(config: ModernBertConfig, model: ModelConfig) -> ModernBertForMaskedLM:
    """An encoder with a head for masked language modelling."""
    masked_lm = ModernBertForMaskedLM(config)
    _initialize(masked_lm, model)
    return masked_lm


@torch.no_grad()
def _initialize(network: Any, model: ModelConfig) -> None:
    """Fresh weights by `model.initialization`; transformers has made the published ones already.

    With 0.02 throughout, attention scores of a narrow network start near zero and it stays a
    unigram model for minutes (docs/lab_log.md); with zero output projections every residual branch
    starts silent (as in modded-nanogpt), so inputs can be as large as they should be.
    """
    if model.initialization == "published":
        return
    std = network.config.hidden_size**-0.5
    for layer in network.model.layers:
        layer.attn.Wqkv.weight.normal_(0, std)
        layer.mlp.Wi.weight.normal_(0, std)
        layer.attn.Wo.weight.zero_()
        layer.mlp.Wo.weight.zero_()
    network.head.dense.weight.normal_(0, std)


def hidden_states(encoder: Any, input_ids: Tensor, context: Mapping[str, Tensor]) -> Tensor:
    """The encoder's output, (B, L) -> (B, L, H).

    `context` holds `attention_mask` (B, L) where it is not all 1; this family has no token types.
    Where all layers see everything the mask is handed over ready-made: the model would build one
    for sliding windows too at every call. With `causal` there a token sees what stands before it
    and itself alone. With `document_starts` (B, D) attention stays inside
    documents; positions go on through the row, since rotary ones count by their differences alone.
    """
    length = input_ids.shape[1]
    more: dict[str, Any] = {}
    mask: Any = context.get("attention_mask")
    if "document_starts" in context:
        more, mask = within_documents(encoder, context["document_starts"], length)
        mask = {"full_attention": mask, "sliding_attention": _near(mask, encoder)}
    elif set(encoder.config.layer_types) == {"full_attention"}:
        if mask is not None:
            mask = mask[:, None, None, :].bool().expand(-1, 1, length, -1)  # (B, 1, L, L)
        if "causal" in context:
            before = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
            mask = before.expand(len(input_ids), 1, -1, -1) if mask is None else mask & before
        if mask is not None:
            mask = as_mask(mask, encoder.config._attn_implementation)
        mask = {"full_attention": mask}
    output: Tensor = encoder(input_ids, attention_mask=mask, **more).last_hidden_state
    return output


def _near(mask: Tensor | None, encoder: Any) -> Tensor | None:
    """A mask (B, 1, L, L) within the sliding window."""
    if mask is None:
        return None
    place = torch.arange(mask.shape[-1], device=mask.device)
    near = (place.unsqueeze(1) - place).abs() <= encoder.config.sliding_window
    far = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    return mask.masked_fill(~near, far)


def masked_lm_transform(masked_lm: Any, hidden: Tensor) -> Tensor:
    """What meets the output table, (N, H) -> (N, H)."""
    transformed: Tensor = masked_lm.head(hidden)
    return transformed


def replaced_logits(discriminator: Any, hidden: Tensor) -> Tensor:
    """Logit of being replaced, (B, L, H) -> (B, L)."""
    logits: Tensor = discriminator.classifier(discriminator.head(hidden)).squeeze(-1)
    return logits


def save_discriminator(discriminator: Any, folder: Path) -> None:
    """Write the folder that `AutoModelForTokenClassification` opens, labels original and replaced.

    The row of `original` is zero, so that the softmax over both equals the sigmoid of the trained
    logit.
    """
    table = _table(discriminator.config) | {
        "id2label": RTD_LABELS,
        "label2id": {label: i for i, label in RTD_LABELS.items()},
    }
    two_labels = ModernBertForTokenClassification(ModernBertConfig(**table))
    state = discriminator.state_dict()
    for name in ("classifier.weight", "classifier.bias"):
        row = state[name]  # (1, H) or (1,)
        state[name] = torch.cat([torch.zeros_like(row), row])
    two_labels.load_state_dict(state)
    two_labels.to(next(discriminator.parameters()).dtype).save_pretrained(folder)


def read_rtd_head(opened: Any, head: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The head that `save_discriminator` wrote, one row again; None: the labels are others.

    The row is `replaced` less `original`: the logit whose sigmoid is the softmax over both.
    """
    if opened.config.id2label != RTD_LABELS:
        return None
    rows = {name: head[name] for name in ("classifier.weight", "classifier.bias")}  # (2, ...)
    return head | {name: row[1:] - row[:1] for name, row in rows.items()}
