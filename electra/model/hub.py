"""What opening folders and ids of the Hugging Face Hub has in common, wherever it is done."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_HUB_SECONDS = 10.0
_POSITIONS_AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "mpnet"}
"""Their first position has the number pad_token_id + 1."""


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and no reports of fresh heads; what matters in them is checked here."""
    from transformers.utils import logging as module

    logging: Any = module  # its switches are not typed
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def hub_is_reachable() -> bool:
    """One request: the Hub's clients try for half a minute before they give up."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_HUB_SECONDS):
            return True
    except urllib.error.HTTPError:  # an answer, if not a welcome
        return True
    except (OSError, ValueError):
        return False


def longest_input(config: PreTrainedConfig) -> int | None:
    """Tokens the encoder can read; None where its configuration does not say."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in _POSITIONS_AFTER_PADDING:
        positions -= (config.pad_token_id or 0) + 1
    return positions
