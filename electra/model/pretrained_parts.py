"""Pretraining that begins with released weights: a discriminator, and the generator to it.

    tokenizer, parts, config = open_inputs(corpus, config)    # the shape is the networks' now
    objective = build_objective(config, ..., parts=parts)    # calls `fill`
    parts.notes                                   # what was found, overruled, or is fresh

A discriminator is any folder with an encoder of a known family; heads that it lacks stay fresh.
What is shared is decided by `model.weight_sharing` as in any run; where a pair differs in what is
shared, the discriminator's is used. The optimizer's state is not released and begins afresh.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from electra.config import ModelConfig, PretrainConfig
from electra.corpus.folder import Corpus
from electra.corpus.tokenizer import (
    SpecialIds,
    load_tokenizer,
    num_ids,
    tokenizer_hash,
    vocabulary_hash,
)
from electra.errors import ConfigError, DataError
from electra.model.pretraining_model import ENERGY, UNTRAINED, PretrainingModel
from electra.model.released import Part, State, open_part, recorded_part
from electra.model.sharing import disentangled

RECORD = "started_from.json"
"""In a run folder: what it began with, so that resuming needs no released folder."""
_PADDED = 128
"""A table has less than this many rows more than the vocabulary has ids."""


def _shape_of(model: ModelConfig) -> dict[str, Any]:
    return dataclasses.asdict(model) | {"embedding_size": model.embedding_size or model.hidden_size}


@dataclass(frozen=True)
class PretrainedParts:
    """What a run begins with."""

    discriminator: Part
    generator: Part | None
    notes: list[str] = field(default_factory=list)
    """Lines for whoever watches."""

    @property
    def parts(self) -> list[Part]:
        """Those there are."""
        return [self.discriminator, *([self.generator] if self.generator else [])]

    def reshape(self, config: PretrainConfig) -> PretrainConfig:
        """The recipe with the networks' shape; if it had one of its own, what changes is noted.

        A warm start would overwrite a generator that is given: it is left out.

        Raises:
            ConfigError: the networks do not fit each other or the length of the examples.
        """
        self._check_pair(config.model)
        self._check_other(config)
        for part in self.parts:
            if part.room is not None and config.data.max_length > part.room:
                raise ConfigError(
                    f"--data.max-length is {config.data.max_length}; {part.said} reads at most "
                    f"{part.room} tokens"
                )
        shape = self._shape(config.model)
        asked, unasked = _shape_of(config.model), _shape_of(ModelConfig())
        changed = [
            f"{name} {value} (not {asked[name]})"
            for name, value in shape.items()
            if value not in (None, asked[name])
        ]
        if changed and any(asked[name] != unasked[name] for name in shape):
            self.notes.append(f"the shape is that of the released weights: {', '.join(changed)}")
        objective = config.objective
        if self.generator is not None and objective.warm_start:
            self.notes.append(
                f"no warm start (not {objective.warm_start} of the budget): it would overwrite the "
                f"generator {self.generator.name}"
            )
            objective = dataclasses.replace(objective, warm_start=0.0)
        if shape["family"] != "modern":
            shape["initialization"] = "published"  # the only one it has
        model = dataclasses.replace(config.model, **shape)
        return dataclasses.replace(config, model=model, objective=objective)

    def check_vocabulary(self, tokenizer: Tokenizer) -> None:
        """Refuse networks of another vocabulary than the corpus's.

        Raises:
            ConfigError: with the hashes of both, and the way out.
        """
        for part in self.parts:
            if part.folder is not None:
                note = _check_vocabulary(part, part.folder, tokenizer)
                self.notes.extend([note] if note else [])

    def network_configs(self, model: ModelConfig, special: SpecialIds) -> dict[str, Any]:
        """`encoder_config` and `generator_config` of a `PretrainingModel`."""
        names = {"discriminator": "encoder_config", "generator": "generator_config"}
        return {names[part.role]: part.network_config(model, special) for part in self.parts}

    @torch.no_grad()
    def fill(self, model: PretrainingModel) -> None:
        """Copy the released weights into networks on the CPU; note what is fresh and what differs.

        Of a run that is continued nothing is copied: its checkpoint has all.

        Raises:
            ConfigError: weights cannot be read, some are missing, or the objective has no place
                for a generator.
        """
        if self.generator is not None and model.generator is None:
            raise ConfigError(
                f"{self.generator.said} does not apply: the objective trains no generator that is "
                "a masked LM of its own; leave it out, or take another --objective.name"
            )
        if self.discriminator.folder is None:
            return
        names = " and ".join(part.name for part in self.parts)
        self.notes.append(
            f"begins with the weights of {names}; the optimizer begins afresh, as its state is not "
            "released with them"
        )
        body: State = {}
        rtd_head = masked_lm_head = None
        if model.discriminator is not None:
            body, rtd_head = self.discriminator.read(masked_lm=False)
        if model.masked_lm is not None:
            body, masked_lm_head = self.discriminator.read(
                masked_lm=True, own_table=model.own_table
            )
        is_energy = any(hasattr(self.discriminator.config, name) for name in ENERGY)
        is_untrained = any(hasattr(self.discriminator.config, name) for name in UNTRAINED)
        if is_untrained or is_energy != (model.two_tower is not None):
            rtd_head = None  # an energy is no probability of being replaced, nor the other way
        generator_body, generator_head = self._read_generator()
        for name, table in disentangled(model.encoder):
            whole = body[f"embeddings.{name}.weight"]
            table.base.copy_(generator_body.get(f"embeddings.{name}.weight", whole))
            table.delta.copy_(whole - table.base)
        _copy(model.encoder, body)
        if model.discriminator is not None:
            self._fill_head("for replaced tokens", model.discriminator, rtd_head)
        if model.masked_lm is not None:
            self._fill_head("for masked language modelling", model.masked_lm, masked_lm_head)
        if self.generator is not None:
            shared = {"embeddings": "embeddings.", "all": ""}.get(model.sharing)
            if shared is not None:
                self._note_difference(body, generator_body, shared)
                own = generator_body.items()
                generator_body = {k: v for k, v in own if not k.startswith(shared)}
            _copy(model.generator.base_model, generator_body)
            _copy(model.generator, generator_head)
        elif model.two_tower is not None:
            self.notes.append("the two towers that make the noise are fresh")
        elif model.generator is not None:
            fresh = "generator's head" if model.sharing == "all" else "generator"
            self.notes.append(
                f"no --model.generator: the {fresh} is fresh, and what it proposes is easy to tell "
                "until it has learnt"
            )

    def identities(self) -> dict[str, dict[str, str]]:
        """Name and hash of each part, by flag, for the inputs of the run."""
        return {f"model.{p.role}": {"name": p.name, "sha256": p.sha256} for p in self.parts}

    def record(self) -> str:
        """The text of `started_from.json`."""
        table = {part.role: part.record() for part in self.parts}
        return json.dumps(table, indent=1, ensure_ascii=False) + "\n"

    def _shape(self, recipe: ModelConfig) -> dict[str, Any]:
        """Fields of `ModelConfig`."""
        config = self.discriminator.config
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads")
        shape: dict[str, Any] = {name: getattr(config, name) for name in names}
        inside = getattr(config, "intermediate_size", None)
        shape["intermediate_size"] = inside or config.hidden_dim  # DistilBERT's
        shape["family"] = self.discriminator.kind.family
        shape["embedding_size"] = getattr(config, "embedding_size", None)  # modern has none
        shape["max_position_embeddings"] = self.discriminator.room or recipe.max_position_embeddings
        if self.generator is not None:
            width = self.generator.config.hidden_size
            layers = self.generator.config.num_hidden_layers
            if round(config.hidden_size * recipe.generator_size) != width:
                shape["generator_size"] = width / config.hidden_size
            if layers != (recipe.generator_layers or config.num_hidden_layers):
                shape["generator_layers"] = layers
        return shape

    def _read_generator(self) -> tuple[State, State]:
        if self.generator is None:
            return {}, {}
        body, head = self.generator.read(masked_lm=True)
        if head is None:
            raise ConfigError(
                f"{self.generator.said} has no masked-LM head; a generator is a folder of "
                f"{self.generator.kind.masked_lm.__name__} (are the two exchanged?)"
            )
        return body, head

    def _fill_head(self, what: str, network: Any, head: State | None) -> None:
        if head is None:
            self.notes.append(f"{self.discriminator.name} has no head {what}: it is fresh")
        else:
            _copy(network, head)

    def _note_difference(self, ours: State, theirs: State, shared: str) -> None:
        assert self.generator is not None
        apart = {
            name: float((ours[name] - tensor).abs().max())
            for name, tensor in theirs.items()
            if name.startswith(shared)
        }
        name = max(apart, key=apart.__getitem__)
        if apart[name] > 0:
            self.notes.append(
                f"the {'embeddings' if shared else 'weights'} of {self.discriminator.name} and "
                f"{self.generator.name} differ by up to {apart[name]:.3g} ({name}): the "
                "discriminator's are used for both; --model.weight-sharing none keeps both"
            )

    def _check_other(self, config: PretrainConfig) -> None:
        """Refuse what networks of other families cannot do."""
        d = self.discriminator
        if d.kind.family != "other":
            return
        if config.objective.name != "masked_lm":
            raise ConfigError(
                f"{d.said} is a {d.config.model_type}, which goes on by masked LM alone "
                f"(--objective.name masked_lm), not by {config.objective.name}: that continues "
                "from ELECTRA or ModernBERT folders"
            )
        if config.data.document_attention:
            raise ConfigError(
                f"--data.document-attention is for ELECTRA and ModernBERT; {d.said} is a "
                f"{d.config.model_type}: leave it out"
            )

    def _check_pair(self, model: ModelConfig) -> None:
        d, g = self.discriminator, self.generator
        if g is None:
            return
        if d.kind is not g.kind:
            raise ConfigError(
                f"{g.said} is a {g.config.model_type}, {d.said} is a {d.config.model_type}; both "
                "must be of one family"
            )
        same = ["vocab_size", *([] if model.weight_sharing == "none" else d.kind.tables)]
        if model.weight_sharing == "all":
            same += ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
        for name in same:
            theirs, ours = getattr(g.config, name), getattr(d.config, name)
            if theirs != ours:
                mend = "" if name == "vocab_size" else ", or --model.weight-sharing none"
                raise ConfigError(
                    f"{g.said} has {name} {theirs}, {d.said} has {ours}: the generator must have "
                    f"the discriminator's{mend}"
                )
        for name in ("hidden_size", "num_hidden_layers"):
            theirs, ours = getattr(g.config, name), getattr(d.config, name)
            if theirs > ours:
                raise ConfigError(
                    f"{g.said} has {name} {theirs}, {d.said} has {ours}: a generator is not larger "
                    "than its discriminator (are the two exchanged?)"
                )


def open_parts(config: PretrainConfig, *, begun: Path | None = None) -> PretrainedParts | None:
    """The networks that `model.discriminator` and `model.generator` name; None where none is.

    Args:
        config: the recipe.
        begun: the folder of a run that is continued: its record stands in for released folders,
            which need not be there any more.

    Raises:
        ConfigError: no such folder or Hub id, no weights, another architecture.
    """
    record: dict[str, Any] = {}
    if begun is not None and (begun / RECORD).is_file():
        record = json.loads((begun / RECORD).read_text(encoding="utf-8"))
    found: list[Part] = []
    for role in ("discriminator", "generator"):
        given = getattr(config.model, role)
        if given is not None:
            known = record.get(role)
            part = recorded_part(role, given, known) if known else open_part(role, given)
            found.append(part)
    return PretrainedParts(found[0], found[1] if len(found) > 1 else None) if found else None


def open_inputs(
    corpus: Corpus, config: PretrainConfig, *, begun: Path | None = None
) -> tuple[Tokenizer, PretrainedParts | None, PretrainConfig]:
    """The corpus's tokenizer, the parts that fit it, and the recipe with their shape.

    Raises:
        UserError: the tokenizer is not the corpus's own, or as `open_parts` does.
    """
    tokenizer = load_tokenizer(corpus.folder)
    if tokenizer_hash(tokenizer) != corpus.manifest["tokenizer_sha256"]:
        raise DataError(
            f"{corpus.folder}/tokenizer.json is not the one the corpus was prepared with; "
            "prepare the corpus again"
        )
    parts = open_parts(config, begun=begun)
    if parts is not None:
        config = parts.reshape(config)
        parts.check_vocabulary(tokenizer)
    return tokenizer, parts, config


def _check_vocabulary(part: Part, folder: Path, tokenizer: Tokenizer) -> str:
    """A note where the vocabulary cannot be compared; else nothing."""
    rows, ids = part.config.vocab_size, num_ids(tokenizer)
    theirs = ours = mend = note = ""
    if (folder / "tokenizer.json").is_file():
        source = folder if Path(part.name).expanduser().is_dir() else part.name
        mend = f"prepare the corpus with electra prepare --tokenizer {source}"
        theirs, ours = vocabulary_hash(load_tokenizer(folder)), vocabulary_hash(tokenizer)
    elif (folder / "vocab.txt").is_file():
        mend = "prepare the corpus with --tokenizer and a folder that has it as tokenizer.json"
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        ours = _listed(sorted(vocabulary, key=vocabulary.__getitem__))
        text = (folder / "vocab.txt").read_text(encoding="utf-8")
        theirs = _listed([line.strip() for line in text.removesuffix("\n").split("\n")])
    else:
        mend = "prepare the corpus with its tokenizer"
        note = (
            f"{part.said} holds no tokenizer: that its {rows:,} rows of embeddings are the {ids:,} "
            "word pieces of the corpus is taken on trust"
        )
    if theirs != ours:
        raise ConfigError(
            f"{part.said} has another vocabulary (sha256 {theirs[:16]}) than the corpus "
            f"({ours[:16]}): {mend}"
        )
    if rows < ids or (note and rows - ids >= _PADDED):
        raise ConfigError(
            f"{part.said} has {rows:,} rows of embeddings, the corpus {ids:,} word pieces: {mend}"
        )
    return note


def _listed(pieces: list[str]) -> str:
    return hashlib.sha256("\n".join(pieces).encode("utf-8")).hexdigest()


def _copy(network: Any, state: State) -> None:
    """In place, so that what is one tensor stays one; disentangled tables were done before."""
    own = network.state_dict()
    for name, tensor in state.items():
        if name in own:
            assert own[name].shape == tensor.shape, f"{name} differs in shape"
            own[name].copy_(tensor)
        else:
            assert name.replace(".weight", ".base") in own, f"{name} has no place"
