"""The recipe of an adaptation, under the flags: from the network, and from the text."""

from __future__ import annotations

from typing import Any

import torch

from electra.adaptation.starting_point import StartingPoint
from electra.corpus.folder import Corpus
from electra.errors import ConfigError
from electra.model.released import State

WARMUP_RATIO = 0.06
HEAD_SHARE = 0.1
"""Of the budget, in which a fresh head learns alone."""
LEARNING_RATES = ((512, 1e-4), (768, 4e-5))
"""Width up to which a peak learning rate is taken: a fifth of those that encoders of the width are
trained with from scratch (ELECTRA, table 6: 5e-4 for 256, 2e-4 for 768)."""
LARGE_LEARNING_RATE = 2e-5
MOST_UNKNOWN = 0.5
"""Share of [UNK] above which nothing can be learned of a text."""
LONGEST, SHORTEST = 256, 32
"""Tokens in a sequence by itself, of long and of short documents."""


def adapt_tables(start: StartingPoint, corpus: Corpus, *, fresh_head: bool) -> dict[str, Any]:
    """Sections of a `PretrainConfig`.

    Args:
        start: the networks that are trained.
        corpus: the domain's.
        fresh_head: whether the encoder comes without a masked-LM head.

    Raises:
        ConfigError: weights cannot be read.
    """
    config = start.network.config
    width = config.hidden_size
    rates = (rate for most, rate in LEARNING_RATES if width <= most)
    model: dict[str, Any] = {"discriminator": start.network.name, **_dropout(config)}
    objective: dict[str, Any] = {"name": start.objective}
    if start.generator is not None:
        model |= {"generator": start.generator.name, "weight_sharing": _sharing(start)}
    elif fresh_head:
        objective["head_share"] = HEAD_SHARE
    return {
        "model": model,
        "objective": objective,
        "optimizer": {"learning_rate": next(rates, LARGE_LEARNING_RATE)},
        "schedule": {"decay": "linear", "warmup_ratio": WARMUP_RATIO},
        "training": {"global_batch_size": 32},
        "data": {"max_length": _length(start, corpus)},
    }


def check_known(corpus: Corpus) -> None:
    """Refuse a text that the model's tokenizer does not know.

    Raises:
        ConfigError: more than half of it is [UNK].
    """
    unknown = corpus.manifest["unknown_share"]
    if unknown > MOST_UNKNOWN:
        raise ConfigError(
            f"{unknown:.0%} of the tokens of the text are unknown to the model's tokenizer; "
            f"allowed: up to {MOST_UNKNOWN:.0%}: take a --model made for this language"
        )


def has_fresh_head(start: StartingPoint) -> bool:
    """Whether an encoder has no masked-LM head, or a pair's discriminator none of its own."""
    alone = start.generator is None
    return start.network.read(masked_lm=alone, own_table=alone)[1] is None


def _dropout(config: Any) -> dict[str, float]:
    """The network's own."""
    found = {}
    for field, names in {
        "hidden_dropout_prob": ("hidden_dropout_prob", "embedding_dropout"),
        "attention_probs_dropout_prob": ("attention_probs_dropout_prob", "attention_dropout"),
    }.items():
        given = (getattr(config, name, None) for name in names)
        found[field] = float(next((value for value in given if value is not None), 0.0))
    return found


def _length(start: StartingPoint, corpus: Corpus) -> int:
    """The power of two that holds a document of mean length, within what the network reads."""
    train = corpus.manifest["splits"]["train"]
    mean = train["tokens"] / max(train["documents"], 1)
    length = SHORTEST
    while length < min(mean, LONGEST):
        length *= 2
    return min(length, *(part.room or length for part in start.parts))


def _sharing(start: StartingPoint) -> str:
    """`embeddings` where both networks of a pair have the same table, as released ones do."""
    assert start.generator is not None, "a pair has one"
    ours = _table(start.network.read(masked_lm=False)[0])
    theirs = _table(start.generator.read(masked_lm=True)[0])
    if ours.shape[0] != theirs.shape[0]:
        raise ConfigError(
            f"--generator {start.generator.name} has {theirs.shape[0]:,} rows of embeddings, "
            f"--model {start.network.name} has {ours.shape[0]:,}: they are no pair"
        )
    return "embeddings" if torch.equal(ours, theirs) else "none"


def _table(body: State) -> torch.Tensor:
    names = ("word_embeddings.weight", "tok_embeddings.weight")
    return next(tensor for name, tensor in body.items() if name.endswith(names))
