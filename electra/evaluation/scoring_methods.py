"""The ways to score tokens: which folders each reads, how it opens one, what it shows a pass.

B rows of a batch, L tokens of the longest, N scored tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForTokenClassification,
)

from electra.errors import ConfigError
from electra.model.pretraining_model import ENERGY, FAMILIES, UNTRAINED
from electra.tasks.model_folder import load_with_head

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

TokenScores = Callable[[Mapping[str, Tensor], Tensor, Tensor, Tensor], Tensor]
"""(batch of (B, L), rows (N,) in order, columns (N,), token ids (N,)) -> scores (N,)."""
_MOST_LOGITS = 1 << 27
"""Of a pass, B x L x V, where all positions meet the vocabulary: half a GiB."""


@dataclass(frozen=True)
class Method:
    """A way to score tokens."""

    meaning: str
    """What the total is."""
    parts: tuple[str, ...]
    """Folders of a run that it reads, the preferred one first."""
    hides: bool
    """Whether a token is masked while it is scored: a pass a token; else one pass a text."""
    fits: Callable[[str, PreTrainedConfig], bool]
    """Whether a folder (or Hub id) with this configuration is one of its kind."""
    load: Callable[[str, PreTrainedConfig, torch.device], TokenScores]
    """Open the weights; ConfigError where they are of another kind."""


def _architecture(config: PreTrainedConfig) -> str:
    return (config.architectures or ["a network that does not say its class"])[0]


def _is_masked_lm(folder: str, config: PreTrainedConfig) -> bool:
    return _architecture(config).endswith("ForMaskedLM")


def _is_electric(folder: str, config: PreTrainedConfig) -> bool:
    energies = all(getattr(config, name, None) == value for name, value in ENERGY.items())
    return energies and _has_discriminator(config)


def _is_discriminator(folder: str, config: PreTrainedConfig) -> bool:
    return (
        _has_discriminator(config)
        and not _is_electric(folder, config)
        and not _is_untrained(config)
    )


def _is_untrained(config: PreTrainedConfig) -> bool:
    return all(getattr(config, name, None) == value for name, value in UNTRAINED.items())


def _refuse_untrained(folder: str, config: PreTrainedConfig) -> None:
    if _is_untrained(config):
        raise ConfigError(
            f"--model {folder}: its head for replaced tokens is untrained, as the checkpoint it "
            "was converted from had none; give --method pseudo-log-likelihood and a folder with a "
            "generator/ or masked_lm/"
        )


def _has_discriminator(config: PreTrainedConfig) -> bool:
    if config.model_type == "electra":
        return _architecture(config) == "ElectraForPreTraining"
    labels = set((config.label2id or {}).keys())
    return _architecture(config).endswith("ForTokenClassification") and labels == {
        "original",
        "replaced",
    }


def load_masked_lm(folder: str, config: PreTrainedConfig, device: torch.device) -> TokenScores:
    """Score by log P(token | the others), of tokens that are masked in the batch.

    The two families of the package put the masked positions alone through the vocabulary head.
    """
    model: Any = load_with_head(AutoModelForMaskedLM, folder, config, fresh_head=False)
    model.to(device).eval()
    name = {"electra": "classic", "modernbert": "modern"}.get(config.model_type)

    def scores(batch: Mapping[str, Tensor], rows: Tensor, columns: Tensor, ids: Tensor) -> Tensor:
        if name is None:
            logits = _at(model, batch, rows, columns)  # (N, V)
        else:
            family = FAMILIES[name]
            hidden = family.hidden_states(model.base_model, batch["input_ids"], batch)
            transformed = family.masked_lm_transform(model, hidden[rows, columns])  # (N, H)
            logits = model.get_output_embeddings()(transformed)  # (N, V)
        chosen: Tensor = logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
        return chosen

    return scores


def _at(model: Any, batch: Mapping[str, Tensor], rows: Tensor, columns: Tensor) -> Tensor:
    """Logits (N, V) of a network whose every position meets the vocabulary: a few rows a pass."""
    count, length = batch["input_ids"].shape
    some = max(1, _MOST_LOGITS // (length * model.config.vocab_size))
    found = []
    for start in range(0, count, some):
        here = (rows >= start) & (rows < start + some)
        part = {key: value[start : start + some] for key, value in batch.items()}
        found.append(model(**part).logits[rows[here] - start, columns[here]])
    return torch.cat(found)


def load_discriminator(folder: str, config: PreTrainedConfig, device: torch.device) -> TokenScores:
    """Score by log P(original), of tokens that stand in the batch as they are.

    Raises:
        ConfigError: the folder holds something else.
    """
    if _is_electric(folder, config):
        raise ConfigError(
            f"--method discriminator: --model {folder} is of an electric run, its logits are "
            "energies; give --method electric"
        )
    _refuse_untrained(folder, config)
    if not _is_discriminator(folder, config):
        raise ConfigError(
            f"--method discriminator needs ElectraForPreTraining, or a token classifier with the "
            f"labels original and replaced; --model {folder} holds {_architecture(config)}"
        )
    logits = _replaced_logits(folder, config, device)

    def scores(batch: Mapping[str, Tensor], rows: Tensor, columns: Tensor, ids: Tensor) -> Tensor:
        return torch.nn.functional.logsigmoid(-logits(batch)[rows, columns])  # (N,)

    return scores


def load_electric(folder: str, config: PreTrainedConfig, device: torch.device) -> TokenScores:
    """Score by minus the energy, log P(token | the others) but for its normalisation.

    Raises:
        ConfigError: the folder is not of an electric run.
    """
    if not _is_electric(folder, config):
        raise ConfigError(
            "--method electric needs the discriminator/ of a run with --objective.name electric; "
            f"--model {folder} holds another {_architecture(config)}"
        )
    energies = _replaced_logits(folder, config, device)

    def scores(batch: Mapping[str, Tensor], rows: Tensor, columns: Tensor, ids: Tensor) -> Tensor:
        return -energies(batch)[rows, columns]  # (N,)

    return scores


def _replaced_logits(
    folder: str, config: PreTrainedConfig, device: torch.device
) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """The trained logit of a discriminator, batch of (B, L) -> (B, L)."""
    classic = config.model_type == "electra"
    auto: Any = AutoModelForPreTraining if classic else AutoModelForTokenClassification
    model: Any = load_with_head(auto, folder, config, fresh_head=False)
    model.to(device).eval()
    labels = config.label2id or {}

    def logits(batch: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = model(**batch).logits  # (B, L) or (B, L, 2)
        if classic:
            return found
        return found[..., int(labels["replaced"])] - found[..., int(labels["original"])]

    return logits


METHODS: dict[str, Method] = {
    "discriminator": Method(
        meaning="sum of log P(original)",
        parts=("discriminator",),
        hides=False,
        fits=_is_discriminator,
        load=load_discriminator,
    ),
    # Clark et al. 2020, Electric, section 2.2
    "electric": Method(
        meaning="sum of -E, log P(token | the others) not normalised",
        parts=("discriminator",),
        hides=False,
        fits=_is_electric,
        load=load_electric,
    ),
    # Salazar et al. 2020, section 2
    "pseudo-log-likelihood": Method(
        meaning="sum of log P(token | the others)",
        parts=("masked_lm", "generator"),
        hides=True,
        fits=_is_masked_lm,
        load=load_masked_lm,
    ),
}
"""Every method; the order is that of `auto`."""


def method_of(folder: str, config: PreTrainedConfig) -> str:
    """The first method that fits; ConfigError where none does."""
    for name, method in METHODS.items():
        if method.fits(folder, config):
            return name
    _refuse_untrained(folder, config)
    raise ConfigError(
        f"--model {folder} holds {_architecture(config)}, which scores no tokens; allowed: a "
        "discriminator/, generator/ or masked_lm/ of a run, or a masked LM of the Hub"
    )
