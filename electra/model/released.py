"""Released networks of a known family: where their folder is, and what its weights say.

Weights are read from safetensors alone, upcast to float32; code from a folder is never run.

V vocabulary, H hidden size, E embedding size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModelForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForTokenClassification,
)

from electra.config import ModelConfig
from electra.corpus.tokenizer import SpecialIds
from electra.errors import ConfigError, no_network
from electra.model import classic, modern, other
from electra.model.hub import hub_is_reachable, longest_input, quiet_transformers
from electra.model.pretraining_model import ENERGY, UNTRAINED

WEIGHTS = "model.safetensors"
_FOLDERS = {"discriminator": ("discriminator", "masked_lm", "encoder"), "generator": ("generator",)}
"""Parts of a run folder to look into, where it is given itself."""
_OF_THE_FILE = {"id2label", "label2id", "architectures", "dtype", "transformers_version"}
_OF_THE_FILE |= {*ENERGY, *UNTRAINED}
"""Fields of a configuration that say nothing of the shape."""
State = dict[str, Tensor]
"""Tensors by name."""


@dataclass(frozen=True)
class Kind:
    """A family, and its networks in transformers."""

    family: str
    code: Any
    config: Any
    discriminator: Any
    masked_lm: Any
    tables: tuple[str, ...]
    """Fields in which networks that share their embeddings must agree."""


KINDS = {
    "electra": Kind(
        "classic",
        classic,
        ElectraConfig,
        ElectraForPreTraining,
        ElectraForMaskedLM,
        ("embedding_size", "max_position_embeddings", "type_vocab_size"),
    ),
    "modernbert": Kind(
        "modern",
        modern,
        ModernBertConfig,
        ModernBertForTokenClassification,
        ModernBertForMaskedLM,
        ("hidden_size",),
    ),
}


def kind_of(model_type: str) -> Kind:
    """The family of a `model_type`, of `KINDS` or `other.MODEL_TYPES`."""
    if model_type in KINDS:
        return KINDS[model_type]
    return Kind("other", other, CONFIG_MAPPING[model_type], None, AutoModelForMaskedLM, ())


@dataclass(frozen=True)
class Part:
    """A released network."""

    role: str
    """`discriminator` or `generator`."""
    name: str
    """As given."""
    config: Any
    """Of transformers, as released."""
    sha256: str
    """Of the weights."""
    folder: Path | None
    """None: the run is continued from a checkpoint, and the folder may be gone."""

    @property
    def said(self) -> str:
        """The flag and its value."""
        return f"--model.{self.role} {self.name}"

    @property
    def kind(self) -> Kind:
        """The family."""
        return kind_of(self.config.model_type)

    @property
    def room(self) -> int | None:
        """Tokens it can read; None where its configuration does not say."""
        return longest_input(self.config)

    def network_config(self, model: ModelConfig, special: SpecialIds) -> Any:
        """The released shape with the recipe's dropout and the corpus's special ids."""
        table = {k: v for k, v in self.config.to_dict().items() if k not in _OF_THE_FILE}
        fields = self.kind.code.recipe_fields(model, special)
        if self.kind.family == "other":
            fields = {name: value for name, value in fields.items() if name in table}
        return self.kind.config(**(table | fields))

    def record(self) -> dict[str, Any]:
        """For `recorded_part`; of JSON's types."""
        return {"name": self.name, "sha256": self.sha256, "config": self.config.to_dict()}

    def read(self, *, masked_lm: bool, own_table: bool = False) -> tuple[State, State | None]:
        """The body's weights, by their names in it, and those of a head; None: it has none.

        Args:
            masked_lm: whether the head wanted is for masked language modelling (its output table,
                (V, H) or (V, E), left out: it is the embeddings'), or for replaced tokens.
            own_table: whether there is a place for an output table that is not the embeddings'.

        Raises:
            ConfigError: the weights cannot be read, or the body lacks some.
        """
        assert self.folder is not None, "a part from a record has no weights"
        network = self.kind.masked_lm if masked_lm else self.kind.discriminator
        with _one_line(self.said), quiet_transformers():
            opened, info = network.from_pretrained(
                self.folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        missing = set(info["missing_keys"])
        prefix = opened.base_model_prefix + "."
        lacking = [name for name in missing if name.startswith(prefix)]
        if lacking:
            raise ConfigError(
                f"{self.said} lacks {len(lacking)} tensors of its encoder, {min(lacking)} for one"
            )
        body = dict(opened.base_model.state_dict())
        table = opened.get_input_embeddings().weight.data_ptr()
        head = {
            name: tensor
            for name, tensor in opened.state_dict().items()
            if not name.startswith(prefix) and tensor.data_ptr() != table
        }
        if missing & head.keys():
            return body, None
        tied = getattr(self.config, "tie_word_embeddings", True)
        if masked_lm and not tied and not own_table:
            raise ConfigError(
                f"{self.said} has an output table of its own (tie_word_embeddings is false); "
                "pretraining with a generator has one table for input and output"
            )
        return body, head if masked_lm else self.kind.code.read_rtd_head(opened, head)


def open_part(role: str, given: str) -> Part:
    """The network in a folder, in that part of a run folder, or of a Hub id.

    Raises:
        ConfigError: there is none, it has no weights, or its architecture is another.
    """
    folder = _find(role, given)
    table = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = kind_of(table["model_type"])
    with _one_line(f"--model.{role} {given}"), quiet_transformers():
        config = kind.config.from_pretrained(folder)
    return Part(role, given, config, _sha256(folder), folder)


def recorded_part(role: str, given: str, record: Mapping[str, Any]) -> Part:
    """A part as `Part.record` kept it, with the hash of what its name stands for now.

    Where nothing is there any more, or it is a Hub id, it is taken for what it was.
    """
    config = kind_of(record["config"]["model_type"]).config(**record["config"])
    sha256: str = record["sha256"] if given == record["name"] else f"that of {given}"
    with contextlib.suppress(ConfigError):  # a folder that was emptied
        if Path(given).expanduser().is_dir():
            sha256 = _sha256(_find(role, given))
    return Part(role, given, config, sha256, None)


def _find(role: str, given: str) -> Path:
    """The folder with `config.json` and weights; fetched where it is a Hub id."""
    said = f"--model.{role} {given}"
    folder = Path(given).expanduser()
    if folder.is_file():
        raise ConfigError(f"{said} is a file; a folder or a Hub id is wanted")
    if not folder.is_dir():
        if given.startswith((".", "/", "~")) or given.count("/") > 1 or not given:
            raise ConfigError(f"{said} does not exist (a folder or a Hub id is wanted)")
        folder = _fetch(said, given)
    candidates = [folder, *(folder / name for name in _FOLDERS[role])]
    found = next((c for c in candidates if (c / "config.json").is_file()), None)
    if found is None:
        raise ConfigError(no_network(said, folder, (f"{name}/" for name in _FOLDERS[role])))
    _check_architecture(said, found, role)
    if not (found / WEIGHTS).is_file():
        raise ConfigError(
            f"{said} holds no weights: {WEIGHTS} is wanted (a pytorch_model.bin is a pickle, which "
            "is not opened: load it in transformers and save it again)"
        )
    return found


def _check_architecture(said: str, folder: Path, role: str) -> None:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{said}: config.json cannot be read: {error}") from None
    if kind in KINDS or (kind in other.MODEL_TYPES and role == "discriminator"):
        return
    raise ConfigError(
        f"{said} is a {kind}; pretraining continues from ELECTRA or ModernBERT folders"
        + (f", by masked LM also from {', '.join(other.MODEL_TYPES)}" * (role == "discriminator"))
    )


def _fetch(said: str, given: str) -> Path:
    from huggingface_hub import snapshot_download

    local = not hub_is_reachable()
    try:
        path = snapshot_download(
            given,
            allow_patterns=["config.json", "tokenizer.json", "vocab.txt", WEIGHTS],
            local_files_only=local,
        )
    except Exception as error:  # whatever the Hub's client raises
        raise ConfigError(
            f"{said} is no folder here and could not be had from the Hub: {_first_line(error)}"
        ) from None
    return Path(path)


def _sha256(folder: Path) -> str:
    with (folder / WEIGHTS).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _one_line(said: str) -> Iterator[None]:
    """Whatever loading raises, as one line."""
    try:
        yield
    except Exception as error:  # safetensors and transformers raise what they like
        raise ConfigError(f"{said} cannot be opened: {_first_line(error)}") from None
