"""Encoders from a folder or the Hub, and model folders that the Auto classes open.

Weights are read from safetensors alone and code from a model's folder is never run.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from electra.corpus.tokenizer import save_vocabulary
from electra.errors import ConfigError, ElectraError, no_network
from electra.model.hub import hub_is_reachable as hub_is_reachable
from electra.model.hub import longest_input as longest_input
from electra.model.hub import quiet_transformers as quiet_transformers
from electra.tasks.lora import has_lora, merged_state_dict
from electra.tasks.task import Task, save_task

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json"),
    *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)


def find_encoder(given: str) -> str:
    """What to hand to `from_pretrained`: a folder, its `encoder/` for a run folder, or a Hub id.

    Raises:
        ConfigError: a path that is not there, or a folder without an encoder.
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        for candidate in (folder, folder / "encoder"):
            if (candidate / "config.json").is_file():
                return str(candidate)
        raise ConfigError(no_network(f"--model {given}", folder, ["encoder/"]))
    if folder.exists():
        raise ConfigError(f"--model {given} is a file; a folder or a Hub id is wanted")
    if given.startswith((".", "/", "~")) or given.count("/") > 1 or not given:
        raise ConfigError(f"--model {given} does not exist (a folder or a Hub id is wanted)")
    return given


def load_config(encoder: str) -> PreTrainedConfig:
    """The configuration of an encoder.

    Raises:
        ConfigError: it is neither a folder nor to be had from the Hub.
    """
    from transformers import AutoConfig

    with _one_line(encoder), quiet_transformers():
        config: PreTrainedConfig = AutoConfig.from_pretrained(encoder, **_where(encoder))
    return config


def load_tokenizer(encoder: str) -> PreTrainedTokenizerBase:
    """The encoder's tokenizer, for which `[SEP]` in a text is text, as it is for `prepare`.

    Raises:
        ConfigError: there is none, it is not a fast one, or it cannot pad.
    """
    from transformers import AutoTokenizer

    folder = Path(encoder)
    # transformers makes one of five tokens where there is none
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ConfigError(
            f"--model {encoder} holds no tokenizer ({', '.join(_TOKENIZER_FILES[:2])}, ...): copy "
            "the files of the one it was trained with there (electra convert does with --vocab)"
        )
    with _one_line(encoder), quiet_transformers():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            encoder, **_where(encoder)
        )
    if not tokenizer.is_fast:
        raise ConfigError(f"--model {encoder}: its tokenizer has no tokenizer.json")
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"--model {encoder}: its tokenizer has no padding token")
    tokenizer.split_special_tokens = True
    return tokenizer


def load_with_head(
    auto_class: Any, encoder: str, config: PreTrainedConfig, *, fresh_head: bool = True
) -> PreTrainedModel:
    """The encoder's weights under a head of `auto_class`, in float32.

    Args:
        auto_class: `AutoModelForSequenceClassification` or its like; `AutoModel`: there is none.
        encoder: a folder or a Hub id.
        config: with labels and whatever else the head reads.
        fresh_head: whether the head may be initialised anew; else all weights must be there.

    Raises:
        ConfigError: weights are missing that a fresh head does not explain.
    """
    with _one_line(encoder), quiet_transformers():
        model, info = auto_class.from_pretrained(
            encoder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=fresh_head,
            output_loading_info=True,
            **_where(encoder),
        )
    bare = model.base_model is model
    prefix = "" if bare else model.base_model_prefix + "."
    missing = {
        name for name in info["missing_keys"] if "pooler" not in name.split(".") or not fresh_head
    }
    missing |= {name for name, *_ in info["mismatched_keys"]}
    if fresh_head:
        missing = {name for name in missing if name.startswith(prefix)}
    if missing:
        raise ConfigError(
            f"--model {encoder} lacks {len(missing)} tensors of a {model.config.model_type} model, "
            f"{min(missing)} for one"
        )
    loaded: PreTrainedModel = model
    return loaded


def add_special_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]
) -> None:
    """Make each a token of its own; those that are new are drawn like the embeddings there are.

    White space before such a token is part of it, so that with spaces around it and without the
    words beside it are split alike.
    """
    from transformers import AddedToken

    known = tokenizer.get_vocab()
    new = [token for token in tokens if token not in known]
    if not new:
        return
    tokenizer.add_tokens(
        # special ones would be split like the text they stand in
        [AddedToken(t, lstrip=True, normalized=False, special=False) for t in new]
    )
    if len(tokenizer) > model.config.vocab_size:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(new)
    embeddings: Any = model.get_input_embeddings()
    with torch.no_grad():
        old = embeddings.weight[: len(known)]
        drawn = torch.randn(len(new), old.shape[1], device=old.device)
        embeddings.weight[ids] = old.mean(0) + old.std(0) * drawn


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of padding, of a tokenizer from `load_tokenizer`."""
    found = tokenizer.pad_token_id
    assert isinstance(found, int), "load_tokenizer refuses a tokenizer without padding"
    return found


def reads_token_types(model: PreTrainedModel) -> bool:
    """Whether `token_type_ids` tell a first from a second sentence for this model."""
    accepted = "token_type_ids" in inspect.signature(model.forward).parameters
    return accepted and getattr(model.config, "type_vocab_size", 0) > 1


def save_model_folder(
    folder: Path, task: Task[Any], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Weights (adapters merged), configuration, tokenizer (also `vocab.txt`) and `task.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(
            folder, state_dict=merged_state_dict(model) if has_lora(model) else None
        )
    backend: Any = tokenizer.backend_tokenizer
    # the last call's truncation and padding would be saved as the tokenizer's own
    backend.no_truncation()
    backend.no_padding()
    tokenizer.save_pretrained(folder)
    save_vocabulary(backend, folder)
    save_task(task, folder)


def _where(encoder: str) -> dict[str, Any]:
    local = Path(encoder).is_dir() or not hub_is_reachable()
    return {"local_files_only": local, "trust_remote_code": False}


@contextlib.contextmanager
def _one_line(encoder: str) -> Iterator[None]:
    """Whatever loading raises, as one line for the person who gave the name."""
    try:
        yield
    except ElectraError:
        raise
    except Exception as error:  # safetensors, tokenizers and transformers raise what they like
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not Path(encoder).is_dir():
            raise ConfigError(
                f"--model {encoder} is no folder here and could not be had from the Hub: {first}"
            ) from None
        raise ConfigError(f"--model {encoder} cannot be opened: {first}") from None
