"""electra: raw text to a language encoder, and the encoder to working applications.

Each verb of the command line is a function in the module of its name:

    from electra.prepare import prepare
    from electra.pretrain import pretrain
    from electra.finetune import finetune
    from electra.evaluate import evaluate
    from electra.predict import predict
    from electra.score import score
    from electra.adapt import adapt

The names below are imported when they are first used, so that `import electra` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from electra.config import FinetuneConfig, PrepareSettings, PretrainConfig
    from electra.errors import ElectraError
    from electra.recipe import read_recipe, resolve
    from electra.tasks.predictor import Predictor

_HOMES = {
    "ElectraError": "electra.errors",
    "FinetuneConfig": "electra.config",
    "Predictor": "electra.tasks.predictor",
    "PrepareSettings": "electra.config",
    "PretrainConfig": "electra.config",
    "read_recipe": "electra.recipe",
    "resolve": "electra.recipe",
}
__all__ = [
    "ElectraError",
    "FinetuneConfig",
    "Predictor",
    "PrepareSettings",
    "PretrainConfig",
    "read_recipe",
    "resolve",
]


def __getattr__(name: str) -> Any:
    """A public name, from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module electra has no attribute {name}")
    return getattr(importlib.import_module(_HOMES[name]), name)
