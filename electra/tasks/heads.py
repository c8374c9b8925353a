"""What tasks on whole texts share: the encoder under a fresh head, logits as probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from electra.config import HeadConfig
from electra.errors import ConfigError
from electra.tasks.model_folder import find_encoder, load_config, load_with_head, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def with_text_head(
    auto_class: Any,
    encoder: str,
    head: HeadConfig,
    *,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    from_scratch: bool = False,
) -> PreTrainedModel:
    """The encoder with a fresh head, in float32.

    Args:
        auto_class: `AutoModelForSequenceClassification` or `AutoModelForMultipleChoice`.
        encoder: what was given as --model.
        head: dropout and pooling.
        labels: names of the outputs, for the configuration; none: it has no such.
        problem_type: for the configuration.
        from_scratch: fresh weights of the encoder's shape.

    Raises:
        ConfigError: the encoder cannot be opened, or has no such head or pooling.
    """
    found = find_encoder(encoder)
    config = load_config(found)
    if type(config) not in auto_class._model_mapping:
        raise ConfigError(
            f"--model {encoder}: transformers has no {auto_class.__name__} for {config.model_type}"
        )
    if hasattr(config, "classifier_pooling"):
        config.classifier_pooling = "mean" if head.pooling == "auto" else head.pooling
    elif head.pooling == "mean":
        raise ConfigError(
            f"--model.pooling is mean; {config.model_type} reads a sentence from its first "
            "token alone (allowed: auto, cls)"
        )
    if head.dropout is not None:
        config.classifier_dropout = head.dropout
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: i for i, name in enumerate(labels)}
    if problem_type is not None:
        config.problem_type = problem_type  # type: ignore[assignment]
    if from_scratch:
        with quiet_transformers():
            model: PreTrainedModel = auto_class.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
    else:
        model = load_with_head(auto_class, found, config)
    if head.dropout is not None:  # not all heads read it from the configuration
        body = model.base_model_prefix + "."
        for name, module in model.named_modules():
            if isinstance(module, nn.Dropout) and not name.startswith(body):
                module.p = head.dropout
    return model


def probabilities(logits: NDArray[np.float32]) -> list[float]:
    """Softmax of one row of logits."""
    exponents = np.exp(logits.astype(np.float64) - logits.max())
    shares: list[float] = (exponents / exponents.sum()).tolist()
    return shares
