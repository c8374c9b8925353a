"""Networks of transformers from a checkpoint of the reference: shapes from tensors, then weights.

A part is a key of `reference_names.BODIES`. Fully shared weights, and the reference's BERT
baseline, have their masked-LM head on the discriminator's body: the part `masked_lm`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining
from transformers.activations import ACT2FN

from electra.config.model import HEAD_SIZE
from electra.corpus.tokenizer import SpecialIds
from electra.errors import ConfigError, DataError
from electra.model.reference_names import BODIES, is_training_state, reference_name
from electra.model.tf_checkpoint import TFCheckpoint

RTD_HEAD, LM_HEAD = "discriminator_predictions/", "generator_predictions/"


@dataclass(frozen=True)
class Stated:
    """What the user says of a part, because tensors do not tell, and the flags that say it."""

    config: Path | None
    config_flag: str
    heads: int | None
    heads_flag: str

    @property
    def anything(self) -> bool:
        """Whether either flag was given."""
        return self.config is not None or self.heads is not None


def parts_in(source: TFCheckpoint) -> list[str]:
    """The parts that a checkpoint holds, the discriminator first.

    Raises:
        DataError: its variables are not those of ELECTRA.
    """
    if not _any(source, "electra/"):
        kind = "a BERT checkpoint" if _any(source, "bert/") else "no checkpoint of ELECTRA"
        raise DataError(
            f"{source.prefix} is {kind}: its variables are {_some(sorted(source.shapes))}, of "
            "another architecture; those of ELECTRA begin with electra/"
        )
    if _any(source, "generator/"):
        return ["discriminator", "generator"]
    return ["discriminator", "masked_lm"] if _any(source, LM_HEAD) else ["discriminator"]


def has_rtd_head(source: TFCheckpoint) -> bool:
    """Whether the head that judges tokens is there; published checkpoints often lack it."""
    return _any(source, RTD_HEAD)


def build(
    source: TFCheckpoint, part: str, stated: Stated, special: SpecialIds | None
) -> tuple[Any, str]:
    """A network of the checkpoint's shape with its weights, and a line on its shape.

    A missing head for replaced tokens is drawn afresh, always the same.

    Args:
        source: the checkpoint.
        part: one of `parts_in`.
        stated: what tensors do not tell.
        special: ids of the special tokens; none: [PAD] is 0.

    Raises:
        DataError: a variable is missing or of another shape.
        ConfigError: what is stated does not fit the tensors.
    """
    values, origin = _config(source, part, stated)
    if special is not None:
        values |= {
            "pad_token_id": special.pad,
            "bos_token_id": special.cls,
            "eos_token_id": special.sep,
        }
    config = ElectraConfig(**values)
    kind = ElectraForPreTraining if part == "discriminator" else ElectraForMaskedLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = kind(config)
    _fill(network, source, part)
    line = (
        f"{part}: {config.num_hidden_layers} layers of {config.hidden_size}, inside "
        f"{config.intermediate_size}, embeddings {config.vocab_size:,} x {config.embedding_size}, "
        f"{config.max_position_embeddings} positions, attention heads: "
        f"{config.num_attention_heads} ({origin})"
    )
    return network.eval(), line


def check_places(source: TFCheckpoint, parts: dict[str, Any]) -> list[str]:
    """Variables left out on purpose: the state of the training.

    Raises:
        DataError: another variable has no place in the parts.
    """
    used = {
        reference_name(f"{part}.{name}", own_embeddings=_own_embeddings(source, part))[0]
        for part, network in parts.items()
        for name, _ in network.named_parameters()
    }
    left_out = sorted(set(source.shapes) - used)
    strange = [name for name in left_out if not is_training_state(name)]
    if strange:
        raise DataError(
            f"{source.prefix} holds variables that have no place in ELECTRA's networks: "
            f"{_some(strange)}; checkpoints of pretraining can be converted, task heads cannot"
        )
    return left_out


def _config(source: TFCheckpoint, part: str, stated: Stated) -> tuple[dict[str, Any], str]:
    """Arguments of ElectraConfig, and where the number of heads is from."""
    body = BODIES[part]
    embeddings = f"{body if _own_embeddings(source, part) else 'electra'}/embeddings"
    vocab_size, embedding_size = _matrix(source, f"{embeddings}/word_embeddings")
    numbers = re.compile(rf"{body}/encoder/layer_(\d+)/")
    layers = [int(m[1]) for m in map(numbers.match, source.shapes) if m]
    hidden = _matrix(source, f"{body}/encoder/layer_0/attention/self/query/kernel")[1]
    intermediate = _matrix(source, f"{body}/encoder/layer_0/intermediate/dense/kernel")[1]
    values: dict[str, Any] = {
        "vocab_size": vocab_size,
        "embedding_size": embedding_size,
        "hidden_size": hidden,
        "num_hidden_layers": max(layers, default=-1) + 1,
        "intermediate_size": intermediate,
        "max_position_embeddings": _matrix(source, f"{embeddings}/position_embeddings")[0],
        "type_vocab_size": _matrix(source, f"{embeddings}/token_type_embeddings")[0],
    }
    heads = max(1, hidden // HEAD_SIZE)
    origin = f"assumed, tensors do not tell; {stated.heads_flag} or {stated.config_flag} does"
    if stated.config is not None:
        file = _read_config(stated.config, stated.config_flag)
        for key, value in values.items():
            if file.get(key, value) != value:
                raise ConfigError(
                    f"{stated.config_flag} {stated.config} has {key} {file[key]}, but that of the "
                    f"{part} in the checkpoint is {value}; is it the file of another network?"
                )
        if "num_attention_heads" in file:
            heads, origin = file.pop("num_attention_heads"), f"of {stated.config}"
        values |= {key: file[key] for key in _FREE if key in file}
    if stated.heads is not None:
        heads, origin = stated.heads, f"of {stated.heads_flag}"
    if heads < 1 or hidden % heads:
        raise ConfigError(
            f"the {part} is {hidden} wide, and its attention heads are {heads} ({origin}), which "
            f"does not divide it; {stated.heads_flag} says how many there are"
        )
    return values | {"num_attention_heads": heads}, origin


def _probability(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1


_FREE = {
    "num_attention_heads": lambda value: type(value) is int,
    "hidden_act": lambda value: isinstance(value, str) and value in ACT2FN,
    "hidden_dropout_prob": _probability,
    "attention_probs_dropout_prob": _probability,
}
"""What is taken from a configuration file, as tensors do not tell it, and what is allowed."""


def _read_config(path: Path, flag: str) -> dict[str, Any]:
    try:
        file = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{flag} {path} cannot be read as JSON: {error}") from None
    if not isinstance(file, dict):
        raise ConfigError(f"{flag} {path} is not a JSON object")
    for key, allowed in _FREE.items():
        if key in file and not allowed(file[key]):
            raise ConfigError(f"{flag} {path}: {key} is {file[key]!r}, which is not allowed")
    return file


@torch.no_grad()
def _fill(network: Any, source: TFCheckpoint, part: str) -> None:
    """Copy the weights; (in, out) to (out, in)."""
    own = _own_embeddings(source, part)
    places = {
        reference_name(f"{part}.{name}", own_embeddings=own): parameter
        for name, parameter in network.named_parameters()
    }
    missing = [theirs for theirs, _ in places if theirs not in source.shapes]
    if not has_rtd_head(source):
        missing = [theirs for theirs in missing if not theirs.startswith(RTD_HEAD)]
    if missing:
        raise DataError(f"{source.prefix} has no whole {part}: it lacks {_some(missing)}")
    for (theirs, transposed), parameter in places.items():
        if theirs not in source.shapes:
            continue
        shape = source.shapes[theirs]
        wanted = tuple(parameter.shape)[:: -1 if transposed else 1]
        if shape != wanted:
            raise DataError(
                f"{source.prefix}: {theirs} has shape {shape}, the {part} wants {wanted}"
            )
        value = torch.from_numpy(source.tensor(theirs).astype(np.float32, copy=False))
        parameter.copy_(value.T if transposed else value)


def _own_embeddings(source: TFCheckpoint, part: str) -> bool:
    return _any(source, f"{BODIES[part]}/embeddings/")


def _matrix(source: TFCheckpoint, name: str) -> tuple[int, int]:
    shape = source.shapes.get(name, ())
    if len(shape) != 2:
        what = f"has {name} with shape {shape}" if name in source.shapes else f"lacks {name}"
        raise DataError(f"{source.prefix} is no whole checkpoint of ELECTRA: it {what}")
    return shape[0], shape[1]


def _any(source: TFCheckpoint, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in source.shapes)


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
