"""Tiny recipes for both families."""

from typing import Any

from electra.config import PretrainConfig
from electra.recipe import resolve

MODEL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "modern": {"family": "modern", "generator_layers": 1, **MODEL},
    "classic": {"family": "classic", "embedding_size": 16, "generator_size": 0.5, **MODEL},
}


def tiny_config(family: str, **sections: dict[str, Any]) -> PretrainConfig:
    """A config of a few thousand parameters; sections override."""
    base = {
        "model": FAMILIES[family],
        "objective": {"discriminator_weight": 10.0},
        "optimizer": {"learning_rate": 3e-3},
        "training": {"max_steps": 8, "global_batch_size": 8, "device": "cpu", "dtype": "float32"},
        "data": {"max_length": 16},
        "logging": {"log_steps": 1},
    }
    return resolve(PretrainConfig, [("test", base), ("override", sections)])
