"""Released masked LMs of other families: BERT, RoBERTa, DeBERTa and what is built like them.

They are continued from (`--model.discriminator`, objective `masked_lm`), never built afresh, and
keep their own networks of transformers. B sequences, L tokens, N rows of any kind, H hidden size, E
embedding size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from electra.config import ModelConfig
from electra.corpus.tokenizer import SpecialIds

MODEL_TYPES = (
    *("bert", "roberta", "xlm-roberta", "camembert", "deberta", "deberta-v2"),
    *("distilbert", "mpnet"),
)
"""`model_type` of what is known to have one of the heads of `masked_lm_transform`."""
uses_token_types = False
"""Packed rows have none; a folder's own tokenizer says what it reads."""


def recipe_fields(config: ModelConfig, special: SpecialIds) -> dict[str, Any]:
    """What a configuration has from the recipe; special ids stay the network's own."""
    return {
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob,
    }


def build_masked_lm(config: Any, model: ModelConfig) -> Any:
    """The network with its head, to be filled with released weights."""
    auto: Any = AutoModelForMaskedLM
    return auto.from_config(config)


def hidden_states(encoder: Any, input_ids: Tensor, context: Mapping[str, Tensor]) -> Tensor:
    """The encoder's output, (B, L) -> (B, L, H).

    `context` holds `attention_mask` and `token_type_ids`, (B, L), where they are not all 1 and 0;
    token types are for networks that know two.
    """
    more: dict[str, Any] = {}
    if getattr(encoder.config, "type_vocab_size", 0) > 1 and "token_type_ids" in context:
        more["token_type_ids"] = context["token_type_ids"]
    mask = context.get("attention_mask")
    output: Tensor = encoder(input_ids, attention_mask=mask, **more).last_hidden_state
    return output


def masked_lm_transform(masked_lm: Any, hidden: Tensor) -> Tensor:
    """What meets the output table, (N, H) -> (N, E)."""
    transformed: Tensor
    if hasattr(masked_lm, "cls"):  # BERT, DeBERTa
        transformed = masked_lm.cls.predictions.transform(hidden)
    elif hasattr(masked_lm, "lm_head"):  # RoBERTa, MPNet
        head = masked_lm.lm_head
        transformed = head.layer_norm(F.gelu(head.dense(hidden)))
    else:  # DistilBERT
        transformed = masked_lm.activation(masked_lm.vocab_transform(hidden))
        transformed = masked_lm.vocab_layer_norm(transformed)
    return transformed
