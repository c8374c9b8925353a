"""The shape of the networks."""

from __future__ import annotations

import dataclasses
from typing import Literal

from electra.config.option import option, positive, require
from electra.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of the discriminator, and what the generator differs in."""

    discriminator: str | None = option(
        None,
        "folder or Hub id to begin with: the encoder's weights and shape, and its head if it has "
        "one",
    )
    generator: str | None = option(
        None, "folder or Hub id of the generator to begin with; none: a fresh one"
    )
    family: Literal["modern", "classic", "other"] = option(
        "modern",
        "modern: ModernBERT's network; classic: ELECTRA's, as published; other: what a released "
        "masked LM of another family gets (BERT, RoBERTa, ...), never fresh",
    )
    hidden_size: int = option(256, "width of the encoder (H)")
    num_hidden_layers: int = option(12, "layers of the encoder")
    num_attention_heads: int = option(4, "attention heads")
    intermediate_size: int = option(1024, "width inside the feed-forward layers")
    embedding_size: int | None = option(
        None, "width of the embedding table (E), classic only; none: hidden_size"
    )
    max_position_embeddings: int = option(512, "longest sequence the encoder can read")
    hidden_dropout_prob: float = option(0.0, "dropout after embeddings and sublayers")
    attention_probs_dropout_prob: float = option(0.0, "dropout of attention weights")
    generator_size: float = option(1.0, "width of the generator as a share of hidden_size")
    generator_layers: int | None = option(None, "layers of the generator; none: as many")
    weight_sharing: Literal["embeddings", "gdes", "all", "none"] = option(
        "embeddings",
        "what generator and discriminator share: embeddings; gdes: the generator's tables plus a "
        "difference of the discriminator's own; all: one network; none",
    )
    initialization: Literal["published", "reference", "scaled"] = option(
        "published",
        "published: normal(0, 0.02), as transformers has it; reference (classic only): the same, "
        "cut at two deviations, and Glorot's for two layers, as the reference code; scaled (modern "
        "only): input projections normal(0, 1/sqrt(H)), output projections zero, so that a new "
        "network is its embeddings",
    )

    def __post_init__(self) -> None:
        if self.generator is not None and self.discriminator is None:
            raise ConfigError(
                f"--model.generator {self.generator} goes with a discriminator: give "
                "--model.discriminator, too"
            )
        if self.family == "other" and self.discriminator is None:
            raise ConfigError(
                "--model.family other is that of released networks: give --model.discriminator; "
                "allowed for fresh ones: modern, classic"
            )
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            positive(self, "model", name)
        for name in ("intermediate_size", "embedding_size", "generator_layers"):
            positive(self, "model", name)
        require(
            (self.generator_layers or 0) <= self.num_hidden_layers,
            "model.generator-layers",
            self.generator_layers,
            f"at most model.num_hidden_layers {self.num_hidden_layers}",
        )
        require(
            self.hidden_size % self.num_attention_heads == 0,
            "model.num-attention-heads",
            self.num_attention_heads,
            f"a divisor of hidden_size {self.hidden_size}",
        )
        require(0 < self.generator_size <= 1, "model.generator-size", self.generator_size, "(0, 1]")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            require(0 <= value < 1, "model." + name.replace("_", "-"), value, "[0, 1)")
        for family, other in (("classic", "scaled"), ("modern", "reference")):
            if self.family == family and self.initialization == other:
                raise ConfigError(
                    f"--model.initialization {other} is not for the {family} family; allowed: "
                    f"published, {'reference' if family == 'classic' else 'scaled'}"
                )
        if self.family == "modern" and self.generator_size != 1:
            raise ConfigError(
                f"--model.generator-size is {self.generator_size}; a modern generator is as wide "
                "as the encoder and has fewer layers: give --model.generator-layers"
            )
        smaller = self.generator_size != 1 or self.generator_layers not in (
            None,
            self.num_hidden_layers,
        )
        if self.weight_sharing == "all" and smaller:
            raise ConfigError(
                "--model.weight-sharing all makes one network of both: it needs "
                "--model.generator-size 1 and no --model.generator-layers"
            )
        head_size = self.hidden_size // self.num_attention_heads
        if self.family == "modern" and head_size % 2:
            raise ConfigError(
                f"--model.num-attention-heads {self.num_attention_heads} leaves heads of "
                f"{head_size}; rotary positions need an even size"
            )
        if self.family == "modern" and self.embedding_size not in (None, self.hidden_size):
            raise ConfigError(
                f"--model.embedding-size is {self.embedding_size}; the modern family has no "
                "projection between embeddings and layers: leave it out, or use family classic"
            )


HEAD_SIZE = 64
"""Width of a classic generator's heads (google-research/electra, get_generator_config)."""


def generator_width(hidden_size: int, generator_size: float) -> tuple[int, int | None]:
    """Width of a classic generator, and its attention heads; none: it is as wide as the encoder.

    Raises:
        ConfigError: nothing is left of it, or the heads do not divide it.
    """
    hidden = round(hidden_size * generator_size)
    heads = max(1, hidden // HEAD_SIZE) if hidden != hidden_size else None
    if not hidden or (heads and hidden % heads):
        near = max(1, round(hidden / HEAD_SIZE)) * HEAD_SIZE
        raise ConfigError(
            f"--model.generator-size {generator_size} makes the generator {hidden} wide, "
            f"which {heads or 1} heads cannot share; with {near / hidden_size:.6g} it is "
            f"{near} wide"
        )
    return hidden, heads
