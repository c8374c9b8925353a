"""Everything that defines a pretraining run, apart from the corpus."""

from __future__ import annotations

import dataclasses

from electra.config.corpus import DataConfig
from electra.config.model import ModelConfig
from electra.config.objective import OBJECTIVES, ObjectiveConfig
from electra.config.option import require
from electra.config.training import (
    BUDGETS,
    LoggingConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainingConfig,
)
from electra.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Everything that defines a pretraining run, apart from the corpus."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        if not any(getattr(self.training, name) is not None for name in BUDGETS):
            raise ConfigError(
                "no budget: give one of --training.max-steps, --training.max-tokens, "
                "--training.minutes"
            )
        require(
            self.data.max_length <= self.model.max_position_embeddings
            or self.model.discriminator is not None,  # its own count then
            "data.max-length",
            self.data.max_length,
            f"at most model.max_position_embeddings {self.model.max_position_embeddings}",
        )
        if self.objective.warm_start and self.model.generator_size != 1:
            raise ConfigError(
                "--objective.warm-start hands the encoder's layers to the generator: it needs "
                f"--model.generator-size 1, not {self.model.generator_size}"
            )
        if self.objective.name == "electric" and self.model.weight_sharing == "all":
            raise ConfigError(
                "--model.weight-sharing all does not apply to electric: its noise comes from two "
                "towers; allowed: embeddings, gdes, none"
            )
        if self.optimizer.generator_learning_rate is not None and (
            "generator_weight" not in OBJECTIVES[self.objective.name]
            or self.objective.generator != "masked_lm"
        ):
            raise ConfigError(
                f"--optimizer.generator-learning-rate does not apply to {self.objective.name} with "
                f"generator {self.objective.generator}: no generator is trained"
            )
