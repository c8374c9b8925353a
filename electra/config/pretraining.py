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
        self._check_two_stage()
        if self.objective.name == "adversarial" and self.model.weight_sharing == "all":
            raise ConfigError(
                "--model.weight-sharing all does not apply to adversarial: generator and "
                "discriminator work against each other; allowed: embeddings, gdes, none"
            )
        takes = OBJECTIVES[self.objective.name]
        if self.optimizer.generator_learning_rate is not None and (
            not {"generator_weight", "reinforce_weight"} & {*takes}
            or self.objective.generator != "masked_lm"
        ):
            raise ConfigError(
                f"--optimizer.generator-learning-rate does not apply to {self.objective.name} with "
                f"generator {self.objective.generator}: no generator is trained"
            )

    def _check_two_stage(self) -> None:
        if self.objective.name != "two_stage":
            return
        model = self.model
        if model.weight_sharing != "none":
            raise ConfigError(
                "--objective.name two_stage freezes the generator, and shared tables would move "
                f"it: it needs --model.weight-sharing none, not {model.weight_sharing}"
            )
        layers = model.num_hidden_layers
        smaller = model.generator_size != 1 or model.generator_layers not in (None, layers)
        if self.objective.start_from_generator and smaller:
            raise ConfigError(
                "--objective.start-from-generator copies the generator into the discriminator: it "
                f"needs --model.generator-size 1 and --model.generator-layers {layers}; or give "
                "--objective.start-from-generator false"
            )
