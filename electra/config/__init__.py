"""The sections of a recipe: every field with its default, its help and what it may be.

The flag of a field is `--section.field-name`. Merging defaults, file and flags is done by
`electra.recipe`. This module imports nothing heavy: `electra --help` reads it.
"""

from __future__ import annotations

from electra.config.cleaning import CleaningSettings
from electra.config.cluster import ClusterSettings
from electra.config.corpus import DataConfig, PrepareSettings
from electra.config.finetuning import (
    FINETUNE_DEFAULTS,
    TASK_DEFAULTS,
    FinetuneConfig,
    FinetuneTrainingConfig,
    HeadConfig,
    LabelledDataConfig,
    finetune_defaults,
)
from electra.config.model import ModelConfig
from electra.config.objective import ObjectiveConfig
from electra.config.pretraining import PretrainConfig
from electra.config.training import (
    BUDGETS,
    LoggingConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
)

__all__ = [
    "BUDGETS",
    "FINETUNE_DEFAULTS",
    "TASK_DEFAULTS",
    "CleaningSettings",
    "ClusterSettings",
    "DataConfig",
    "FinetuneConfig",
    "FinetuneTrainingConfig",
    "HeadConfig",
    "LabelledDataConfig",
    "LoggingConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PrepareSettings",
    "PretrainConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "finetune_defaults",
]
