"""Everything that defines a pretraining run, apart from the corpus."""

from __future__ import annotations

import dataclasses

from electra.config.corpus import DataConfig
from electra.config.model import ModelConfig
from electra.config.objective import OBJECTIVES, ObjectiveConfig
from electra.config.option import require
from electra.config.ramps import batch_size_at
from electra.config.stages import check_ramps
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
        self._check_sharing()
        if self.training.sharding == "full" and self.optimizer.name == "muon":
            raise ConfigError(
                "--training.sharding full cuts the matrices that --optimizer.name muon makes "
                "orthogonal: use adamw, or --training.sharding none"
            )
        if (
            self.objective.warm_start
            and self.objective.generator == "masked_lm"
            and self.model.generator_size != 1
        ):
            raise ConfigError(
                "--objective.warm-start hands the encoder's layers to the generator: it needs "
                f"--model.generator-size 1, not {self.model.generator_size}"
            )
        model = self.model
        if self.objective.causal_start and (
            model.family != "modern" or model.max_position_embeddings > 512
        ):
            raise ConfigError(
                "--objective.causal-start needs --model.family modern with "
                "--model.max-position-embeddings 512 or less, not "
                f"{model.family} with {model.max_position_embeddings}"
            )
        self._check_two_stage()
        self._check_documents()
        check_ramps(self.schedule, self.training, self.data, self.objective)
        self._check_average()
        rows = self.training.micro_batch_size
        rows = rows if isinstance(rows, int) else min(self.batch_sizes)
        sentences = self.objective.name == "sentence_contrast"
        if (self.objective.contrastive_weight or sentences) and rows < 2:
            what = "name sentence_contrast" if sentences else "contrastive-weight"
            raise ConfigError(
                f"--objective.{what} compares the texts of a forward pass: it needs "
                "--training.micro-batch-size 2 or more"
            )
        dropped = self.model.hidden_dropout_prob or self.model.attention_probs_dropout_prob
        if self.objective.views == "dropout" and not dropped:
            raise ConfigError(
                "--objective.views dropout needs some: give --model.hidden-dropout-prob 0.1, or "
                "--objective.views crop"
            )
        if self.objective.replacements is not None and self.training.micro_batch_size == "auto":
            raise ConfigError(
                "--training.micro-batch-size auto tries batches, which --objective.replacements "
                "would keep; give a number"
            )

    @property
    def batch_sizes(self) -> list[int]:
        """Sequences a step over all devices, of every piece of the batch ramp."""
        ramp, size = self.schedule.batch_ramp, self.training.global_batch_size
        return [batch_size_at(ramp, start, size) for start, _ in ramp] or [size]

    @property
    def trains_generator(self) -> bool:
        """Whether a network beside the encoder is trained to propose."""
        takes = {"generator_weight", "reinforce_weight"} & {*OBJECTIVES[self.objective.name]}
        return bool(takes) and self.objective.generator == "masked_lm"

    def _check_documents(self) -> None:
        whole = {
            "--objective.name electric, whose towers read whole rows": (
                self.objective.name == "electric"
            ),
            "--objective.contrastive-weight, which compares rows by their [CLS]": (
                self.objective.contrastive_weight > 0
            ),
            "--objective.causal-start, which sees all that stands before a token": (
                self.objective.causal_start > 0
            ),
            "--objective.repetition-weight, which asks for what stands elsewhere in a row": (
                self.objective.repetition_weight > 0
            ),
            "--objective.name sentence_contrast, which compares whole rows": (
                self.objective.name == "sentence_contrast"
            ),
        }
        for what, given in whole.items():
            if self.data.document_attention and given:
                raise ConfigError(
                    f"--data.document-attention does not go with {what}; leave one out"
                )

    def _check_average(self) -> None:
        objective, last = self.objective, self.training.average_last
        handovers = {"warm_start": objective.warm_start}
        if objective.name == "two_stage":
            handovers["generator_share"] = objective.generator_share
        for name, share in handovers.items():
            if last and share > 1 - last:
                raise ConfigError(
                    f"--training.average-last {last:g} begins at {1 - last:g}, before "
                    f"--objective.{name.replace('_', '-')} {share:g} has ended, which copies "
                    f"weights; allowed: at most {1 - share:g}"
                )

    def _check_sharing(self) -> None:
        sharing, name = self.model.weight_sharing, self.objective.name
        what = f"{name} with generator {self.objective.generator}"
        if sharing != "embeddings" and not self.trains_generator:
            raise ConfigError(
                f"--model.weight-sharing {sharing} does not apply to {what}: no generator is "
                "trained beside the encoder; leave it out"
            )
        alone = {
            "electric": "its noise comes from two towers",
            "adversarial": "generator and discriminator work against each other",
        }
        if sharing == "all" and name in alone:
            raise ConfigError(
                f"--model.weight-sharing all does not apply to {name}: {alone[name]}; "
                "allowed: embeddings, gdes, none"
            )
        if self.optimizer.generator_learning_rate is None:
            return
        if not self.trains_generator:
            raise ConfigError(
                f"--optimizer.generator-learning-rate does not apply to {what}: no generator is "
                "trained"
            )
        if sharing == "all":
            raise ConfigError(
                "--optimizer.generator-learning-rate does not apply to --model.weight-sharing all: "
                "generator and discriminator are one network"
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
        if self.objective.start_from_generator and model.discriminator is not None:
            raise ConfigError(
                f"--objective.start-from-generator would overwrite --model.discriminator "
                f"{model.discriminator}: give --objective.start-from-generator false"
            )
        layers = model.num_hidden_layers
        smaller = model.generator_size != 1 or model.generator_layers not in (None, layers)
        if self.objective.start_from_generator and smaller:
            raise ConfigError(
                "--objective.start-from-generator copies the generator into the discriminator: it "
                f"needs --model.generator-size 1 and --model.generator-layers {layers}; or give "
                "--objective.start-from-generator false"
            )
