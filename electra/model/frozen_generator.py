"""A trained masked LM that proposes and learns nothing.

B sequences, L tokens in a sequence, P masked positions, V vocabulary.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM
from transformers.utils.hub import cached_file

from electra.corpus.tokenizer import num_ids, vocabulary_hash
from electra.errors import ConfigError, no_network
from electra.model.hub import hub_is_reachable, quiet_transformers
from electra.model.pretraining_model import FAMILIES, gather

_PARTS = ("generator", "masked_lm")
"""Parts of a run folder to look into, where it is given itself."""


class FrozenGenerator(nn.Module):
    """Any masked LM of transformers, without gradient and without dropout; `open` makes one."""

    def __init__(self, network: Any, tokenizer: Tokenizer | None, *, said: str) -> None:
        """Take a network of `AutoModelForMaskedLM`; `said` names it in messages."""
        super().__init__()
        self.network: Any = network.eval().requires_grad_(False)
        self.tokenizer, self.said = tokenizer, said
        self.sha256 = _sha256(network)
        kinds = {"electra": "classic", "modernbert": "modern"}
        self._family: Any = FAMILIES.get(kinds.get(network.config.model_type, ""))

    @classmethod
    def open(cls, given: str, *, flag: str) -> FrozenGenerator:
        """From a folder, a run folder (its generator/ or masked_lm/) or a Hub id.

        Raises:
            ConfigError: there is none, or it lacks weights of a masked LM.
        """
        folder, said = Path(given).expanduser(), f"{flag} {given}"
        local = folder.is_dir()
        if local:
            candidates = [folder, *(folder / part for part in _PARTS)]
            found = [c for c in candidates if (c / "config.json").is_file()]
            if not found:
                raise ConfigError(no_network(said, folder, (f"{part}/" for part in _PARTS)))
            source = str(found[0])
        elif given.startswith((".", "/", "~")) or given.count("/") > 1:
            raise ConfigError(f"{said} does not exist (a folder or a Hub id is wanted)")
        else:
            source = given
        where = {"local_files_only": local or not hub_is_reachable()}
        auto: Any = AutoModelForMaskedLM
        try:
            with quiet_transformers():
                network, info = auto.from_pretrained(
                    source,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    **where,
                )
        except Exception as error:  # safetensors and transformers raise what they like
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            what = "cannot be opened" if local else "is no folder here and could not be had"
            raise ConfigError(f"{said} {what}: {first}") from None
        if info["missing_keys"]:
            raise ConfigError(
                f"{said} is no masked LM: it lacks {len(info['missing_keys'])} tensors of one, "
                f"{min(info['missing_keys'])} for one"
            )
        return cls(network, _tokenizer(source, where), said=said)

    def check_fits(self, tokenizer: Tokenizer, *, max_length: int) -> str | None:
        """Refuse another vocabulary or longer texts; a line to say where that is not known.

        Args:
            tokenizer: the corpus's.
            max_length: L.

        Raises:
            ConfigError: with the hashes of both vocabularies, or the sizes.
        """
        rows, ids, room = self.network.config.vocab_size, num_ids(tokenizer), self._room()
        note = None
        if self.tokenizer is not None:
            theirs, ours = vocabulary_hash(self.tokenizer), vocabulary_hash(tokenizer)
            if theirs != ours:
                raise ConfigError(
                    f"{self.said} has another vocabulary (sha256 {theirs[:16]}) than the corpus "
                    f"({ours[:16]}): give a masked LM trained on a corpus with this tokenizer, or "
                    "prepare the corpus with electra prepare --tokenizer"
                )
            fits = rows >= ids
        else:
            note = (
                f"{self.said} holds no tokenizer: that its {rows:,} ids are the {ids:,} word "
                "pieces of the corpus is taken on trust"
            )
            fits = rows == ids
        if not fits:
            raise ConfigError(
                f"{self.said} has {rows:,} ids, the corpus {ids:,} word pieces: give a masked LM "
                "of the corpus's vocabulary"
            )
        if room is not None and room < max_length:
            raise ConfigError(
                f"{self.said} reads at most {room} tokens: lower --data.max-length {max_length}"
            )
        return note

    @torch.no_grad()
    def logits(
        self, masked_input_ids: Tensor, context: Mapping[str, Tensor], positions: Tensor
    ) -> Tensor:
        """Vocabulary logits at the masked positions, (B, L) and (B, P) -> (B, P, V).

        `context` holds `attention_mask` and `token_type_ids` where the batch has them.
        """
        if self._family is not None:
            body = self.network.base_model
            hidden = gather(self._family.hidden_states(body, masked_input_ids, context), positions)
            transformed = self._family.masked_lm_transform(self.network, hidden)
            found: Tensor = self.network.get_output_embeddings()(transformed)
            return found
        given = {"attention_mask": context.get("attention_mask")}
        if getattr(self.network.config, "type_vocab_size", 0) > 1:
            given["token_type_ids"] = context.get("token_type_ids")
        return gather(self.network(input_ids=masked_input_ids, **given).logits, positions)

    def _room(self) -> int | None:
        """Tokens it can read; None where nothing says so."""
        embeddings = getattr(self.network.base_model, "embeddings", None)
        table = getattr(embeddings, "position_embeddings", None)
        if isinstance(table, nn.Embedding):  # RoBERTa counts positions from behind its padding
            behind = 0 if table.padding_idx is None else table.padding_idx + 1
            return table.num_embeddings - behind
        room: int | None = getattr(self.network.config, "max_position_embeddings", None)
        return room


def _tokenizer(source: str, where: Mapping[str, bool]) -> Tokenizer | None:
    path = None
    with contextlib.suppress(OSError), quiet_transformers():
        path = cached_file(
            source, "tokenizer.json", _raise_exceptions_for_missing_entries=False, **where
        )
    if path is None:
        return None
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # tokenizers raises bare Exception for a malformed file
        raise ConfigError(f"{path} is not a tokenizer: {error}") from None


def _sha256(network: nn.Module) -> str:
    """Of the weights by name, wherever they lie."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
