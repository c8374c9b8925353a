"""The sections of a recipe: every field with its default, its help and what it may be.

The flag of a field is `--section.field-name`. Merging defaults, file and flags is done by
`electra.recipe`. This module imports nothing heavy: `electra --help` reads it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from electra.errors import ConfigError


def option(default: Any, help: str) -> Any:
    """A dataclass field with its help text."""
    return dataclasses.field(default=default, metadata={"help": help})


def _positive(section: Any, prefix: str, name: str) -> None:
    value = getattr(section, name)
    flag = f"{prefix}.{name.replace('_', '-')}"
    _require(value is None or value > 0, flag, value, "above 0")


def _require(condition: bool, flag: str, given: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"--{flag} is {given}; allowed: {allowed}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """How text becomes tokens; kept in the manifest of the corpus.

    Parameters
    ----------
    tokenizer
        Take this one (a folder or a Hub id) instead of training a WordPiece tokenizer.
    vocab_size
        Word pieces of the trained tokenizer.
    language
        en, zh, ja, ko, tr, ar, de or other: sets casing, accents and alphabet.
    lowercase
        Lower the case before tokenizing; default by language.
    strip_accents
        Remove accents before tokenizing; default by language.
    text_column
        Where the text stands in .jsonl, .csv, .tsv, .parquet: a name or a 0-based number.
    encoding_errors
        strict stops at the first byte that is not UTF-8, replace goes on and counts.
    validation_share
        Share of the documents held out for evaluation.
    min_chars
        Shorter documents are left out.
    deduplicate
        Leave out exact repeats of a document.
    licence
        Terms of the text; model cards name them.
    """

    tokenizer: str | None = None
    vocab_size: int = 16_384
    language: str = "en"
    lowercase: bool | None = None
    strip_accents: bool | None = None
    text_column: str | None = None
    encoding_errors: str = "strict"
    validation_share: float = 0.01
    min_chars: int = 20
    deduplicate: bool = True
    licence: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of the discriminator, and what the generator differs in."""

    family: Literal["modern", "classic"] = option(
        "modern", "modern: ModernBERT's network; classic: ELECTRA's, as published"
    )
    hidden_size: int = option(256, "width of the encoder (H)")
    num_hidden_layers: int = option(12, "layers of the encoder")
    num_attention_heads: int = option(4, "attention heads")
    intermediate_size: int = option(1024, "width inside the feed-forward layers")
    embedding_size: int | None = option(
        None, "width of the embedding table (E), classic only; none: hidden_size"
    )
    max_position_embeddings: int = option(512, "longest sequence the encoder can read")
    hidden_dropout_prob: float = option(0.0, "dropout after embeddings and sublayers")
    attention_probs_dropout_prob: float = option(0.0, "dropout of attention weights")
    generator_size: float = option(1.0, "width of the generator as a share of hidden_size")
    generator_layers: int | None = option(None, "layers of the generator; none: as many")
    initialization: Literal["published", "scaled"] = option(
        "published",
        "published: normal(0, 0.02) and its like; scaled (modern only): input projections "
        "normal(0, 1/sqrt(H)), output projections zero, so that a new network is its embeddings",
    )

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            _positive(self, "model", name)
        for name in ("intermediate_size", "embedding_size", "generator_layers"):
            _positive(self, "model", name)
        _require(
            (self.generator_layers or 0) <= self.num_hidden_layers,
            "model.generator-layers",
            self.generator_layers,
            f"at most model.num_hidden_layers {self.num_hidden_layers}",
        )
        _require(
            self.hidden_size % self.num_attention_heads == 0,
            "model.num-attention-heads",
            self.num_attention_heads,
            f"a divisor of hidden_size {self.hidden_size}",
        )
        _require(
            0 < self.generator_size <= 1, "model.generator-size", self.generator_size, "(0, 1]"
        )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            _require(0 <= value < 1, "model." + name.replace("_", "-"), value, "[0, 1)")
        if self.family == "classic" and self.initialization == "scaled":
            raise ConfigError("--model.initialization scaled is for the modern family alone")
        if self.family == "modern" and self.generator_size != 1:
            raise ConfigError(
                f"--model.generator-size is {self.generator_size}; a modern generator is as wide "
                "as the encoder and has fewer layers: give --model.generator-layers"
            )
        head_size = self.hidden_size // self.num_attention_heads
        if self.family == "modern" and head_size % 2:
            raise ConfigError(
                f"--model.num-attention-heads {self.num_attention_heads} leaves heads of "
                f"{head_size}; rotary positions need an even size"
            )
        if self.family == "modern" and self.embedding_size not in (None, self.hidden_size):
            raise ConfigError(
                f"--model.embedding-size is {self.embedding_size}; the modern family has no "
                "projection between embeddings and layers: leave it out, or use family classic"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is learned."""

    name: Literal["replaced_token_detection", "masked_lm"] = option(
        "replaced_token_detection", "the objective"
    )
    mask_prob: float = option(0.15, "share of the tokens that is chosen (paper, section 3.1)")
    mask_token_prob: float = option(
        0.85, "share of the chosen tokens shown as [MASK]; the rest stays as it is"
    )
    generator_weight: float = option(1.0, "weight of the generator's loss")
    discriminator_weight: float = option(50.0, "weight of the discriminator's loss (lambda)")
    temperature: float = option(1.0, "of the generator's samples")
    warm_start: float = option(
        0.0, "share of the budget in which the discriminator is trained as a masked LM first"
    )
    encoder_mlm_weight: float = option(
        0.0,
        "after the warm start, weight of predicting the original tokens from the "
        "discriminator's reading of the corrupted text (corrective head)",
    )

    def __post_init__(self) -> None:
        for name, top in (("mask_prob", 0.9), ("mask_token_prob", 1.0), ("warm_start", 1.0)):
            value = getattr(self, name)
            _require(0 <= value <= top, "objective." + name.replace("_", "-"), value, f"[0, {top}]")
        _require(self.mask_prob > 0, "objective.mask-prob", self.mask_prob, "above 0")
        _require(self.temperature > 0, "objective.temperature", self.temperature, "above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019)."""

    learning_rate: float = option(5e-4, "peak learning rate")
    weight_decay: float = option(0.01, "decoupled; never on biases and norms")
    adam_beta1: float = option(0.9, "decay of the first moment")
    adam_beta2: float = option(0.999, "decay of the second moment")
    adam_epsilon: float = option(1e-6, "added to the root of the second moment")
    bias_correction: bool = option(True, "false: Adam as in the reference code of ELECTRA and BERT")
    max_grad_norm: float = option(1.0, "clip the global gradient norm; 0: off")
    layerwise_lr_decay: float = option(1.0, "learning rate of a layer over that of the next one up")

    def __post_init__(self) -> None:
        _positive(self, "optimizer", "learning_rate")
        for name in ("weight_decay", "adam_epsilon", "max_grad_norm"):
            value = getattr(self, name)
            _require(value >= 0, "optimizer." + name.replace("_", "-"), value, "0 or more")
        for name in ("adam_beta1", "adam_beta2"):
            value = getattr(self, name)
            _require(0 <= value < 1, "optimizer." + name.replace("_", "-"), value, "[0, 1)")
        _require(
            0 < self.layerwise_lr_decay <= 1,
            "optimizer.layerwise-lr-decay",
            self.layerwise_lr_decay,
            "(0, 1]",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate over progress, the used share of the budget."""

    decay: Literal["linear", "cosine", "constant"] = option("linear", "how the rate falls to zero")
    decay_start: float = option(0.0, "share of the budget at which the fall begins")
    warmup_steps: int | None = option(None, "linear rise over this many steps")
    warmup_ratio: float | None = option(None, "linear rise over this share of the budget")
    overlap: bool = option(
        False, "true: decay runs from the first step and multiplies warmup (reference code)"
    )
    first_update: int = option(
        0, "index of the first update in the schedule (overlap only); the reference may use 1"
    )
    replay: str | None = option(
        None, "metrics.jsonl of a run with a budget of minutes whose progress is to be repeated"
    )

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ConfigError(
                "--schedule.warmup-steps and --schedule.warmup-ratio are both given; give one"
            )
        steps = self.warmup_steps or 0
        _require(steps >= 0, "schedule.warmup-steps", steps, "0 or more")
        ratio = self.warmup_ratio or 0.0
        _require(0 <= ratio < 1, "schedule.warmup-ratio", ratio, "[0, 1)")
        _require(0 <= self.decay_start < 1, "schedule.decay-start", self.decay_start, "[0, 1)")


BUDGETS = ("max_steps", "max_tokens", "minutes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Budget, batch, precision, and when to evaluate and save."""

    max_steps: int | None = option(None, "budget: optimizer steps")
    max_tokens: int | None = option(None, "budget: tokens read, padding not counted")
    minutes: float | None = option(None, "budget: minutes of training, evaluation not counted")
    global_batch_size: int = option(128, "sequences a step, over all devices")
    micro_batch_size: int | None = option(
        None, "sequences a forward pass on one device; none: the whole batch at once"
    )
    seed: int = option(0, "of weights, data order, masks and samples")
    eval_steps: int | None = option(None, "steps between evaluations; none: ten over the run")
    save_steps: int | None = option(None, "steps between checkpoints; none: ten over the run")
    save_total_limit: int = option(2, "checkpoints kept")
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "of matrix products in training; auto: bfloat16 where the machine has units for it"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "where to train")

    def __post_init__(self) -> None:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(
                "exactly one budget is allowed, got "
                + " and ".join(f"--training.{name.replace('_', '-')}" for name in given)
            )
        names = (*BUDGETS, "global_batch_size", "eval_steps", "save_steps", "save_total_limit")
        for name in names:
            value = getattr(self, name)
            if value is not None:
                _require(value > 0, "training." + name.replace("_", "-"), value, "above 0")
        micro = self.micro_batch_size
        if micro is not None:
            _require(
                micro > 0 and self.global_batch_size % micro == 0,
                "training.micro-batch-size",
                micro,
                f"a divisor of the global batch size {self.global_batch_size}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How the corpus becomes sequences."""

    max_length: int = option(128, "tokens in a sequence, [CLS] and [SEP] counted (L)")
    cross_documents: bool = option(
        True,
        "true: sequences run over document borders, marked by [SEP], and nothing is padded; "
        "false: a sequence holds text of one document",
    )

    def __post_init__(self) -> None:
        _require(self.max_length >= 8, "data.max-length", self.max_length, "8 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is written while training."""

    log_steps: int = option(20, "steps between lines of metrics.jsonl")

    def __post_init__(self) -> None:
        _require(self.log_steps > 0, "logging.log-steps", self.log_steps, "above 0")


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
        _require(
            self.data.max_length <= self.model.max_position_embeddings,
            "data.max-length",
            self.data.max_length,
            f"at most model.max_position_embeddings {self.model.max_position_embeddings}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What a task puts on the encoder."""

    dropout: float | None = option(None, "dropout before the head; none: the encoder's own")
    pooling: Literal["auto", "cls", "mean"] = option(
        "auto", "what a sentence is read from, modern family only; auto: mean"
    )

    def __post_init__(self) -> None:
        _require(0 <= (self.dropout or 0.0) < 1, "model.dropout", self.dropout, "[0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneTrainingConfig(TrainingConfig):
    """As in pretraining, with epochs as one more budget."""

    global_batch_size: int = option(32, "examples a step, over all devices")
    epochs: float | None = option(
        None, "budget: passes over the training file; none: 3 to 20 by its size"
    )
    train_encoder: bool = option(True, "false: only the head learns")
    label_smoothing: float = option(0.0, "share of the target spread over all labels")

    def __post_init__(self) -> None:
        super().__post_init__()
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, "training.label-smoothing", smoothing, "[0, 1)")
        if self.epochs is not None:
            _require(self.epochs > 0, "training.epochs", self.epochs, "above 0")
            if any(getattr(self, name) is not None for name in BUDGETS):
                raise ConfigError(
                    "exactly one budget is allowed, got --training.epochs and another"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledDataConfig:
    """Where the text and the labels stand in the files."""

    text_column: str | None = option(
        None, "name or 0-based number; none: text, sentence, sentence1, ..., or the first column"
    )
    text_pair_column: str | None = option(
        None, "second sentence; none: sentence2 and its like beside sentence1, else no second one"
    )
    label_column: str | None = option(
        None, "none: label, labels, category, ..., or the last column"
    )
    header: Literal["auto", "true", "false"] = option("auto", "whether CSV and TSV have one")
    max_length: int = option(128, "tokens of an example; longer ones are cut")

    def __post_init__(self) -> None:
        _require(self.max_length >= 4, "data.max-length", self.max_length, "4 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Everything that defines a fine-tuning run, apart from the data."""

    model: HeadConfig = dataclasses.field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    training: FinetuneTrainingConfig = dataclasses.field(default_factory=FinetuneTrainingConfig)
    data: LabelledDataConfig = dataclasses.field(default_factory=LabelledDataConfig)
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)


FINETUNE_DEFAULTS: dict[str, dict[str, Any]] = {
    "optimizer": {"learning_rate": 1e-4, "layerwise_lr_decay": 0.9},
    "schedule": {"warmup_ratio": 0.1},
}
"""The layer below the user's flags in fine-tuning; the budget comes from the size of the data.

The learning rate is the reference code's for small and base encoders; the paper's 3e-4 for small
ones (table 7) is for encoders trained for days. Its layer-wise decay of 0.8 is for 12 layers.
"""
