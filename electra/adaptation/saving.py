"""The folders an adaptation writes: networks with new words to begin with, and the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModel

from electra.adaptation.new_words import NewWord, grow_network, grow_tokenizer
from electra.adaptation.starting_point import StartingPoint
from electra.corpus.tokenizer import load_tokenizer, save_tokenizer
from electra.model.hub import longest_input, quiet_transformers
from electra.model.released import WEIGHTS


def save_with_words(start: StartingPoint, words: Sequence[NewWord], folder: Path) -> None:
    """Write a folder like a run's whose networks know the words: `encoder/`, and those with heads.

    `open_starting_point` opens it as what it was made from.
    """
    grown = grow_tokenizer(load_tokenizer(start.tokenizer), words)
    vocabulary = grown.get_vocab(with_added_tokens=True)
    pieces = {vocabulary[word.token]: word.pieces for word in words}
    networks: dict[str, tuple[Any, Path]] = {"encoder": (AutoModel, start.encoder_folder)}
    for part in start.parts:
        assert part.folder is not None, "only parts from a record have none"
        if start.generator is None:
            masked_lm = part.read(masked_lm=True, own_table=True)[1] is not None
            if masked_lm:
                networks["masked_lm"] = (part.kind.masked_lm, part.folder)
        elif part is start.network:
            networks["discriminator"] = (part.kind.discriminator, part.folder)
        else:
            networks["generator"] = (part.kind.masked_lm, part.folder)
    for name, (auto, source) in networks.items():
        network, missing = _opened(auto, source)
        _save(grow_network(network, pieces), folder / name, grown, without=missing)


def save_encoder(start: StartingPoint, trained: Path, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the encoder as `AutoModel` has it: trained weights, and of the rest what there was.

    Args:
        start: what training began with.
        trained: the run's `encoder/`.
        tokenizer: the corpus's.
        folder: to make.
    """
    encoder, missing = _opened(AutoModel, start.encoder_folder)
    weights = load_file(trained / WEIGHTS)
    encoder.load_state_dict(encoder.state_dict() | weights)
    _save(encoder, folder, tokenizer, without=missing - weights.keys())


def _opened(auto: Any, folder: Path) -> tuple[Any, set[str]]:
    """A network in float32, and the names of its tensors that the folder lacks."""
    with quiet_transformers():
        network, info = auto.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    return network, set(info["missing_keys"])


def _save(network: Any, folder: Path, tokenizer: Tokenizer, *, without: set[str]) -> None:
    state = {n: tensor for n, tensor in network.state_dict().items() if n not in without}
    with quiet_transformers():
        network.save_pretrained(folder, state_dict=state)
    config = network.config
    save_tokenizer(
        tokenizer,
        folder,
        max_length=longest_input(config) or 512,
        token_types=getattr(config, "type_vocab_size", 0) > 1,
    )
