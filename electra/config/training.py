"""How it is learned: optimizer, schedule, budget, log."""

from __future__ import annotations

import dataclasses
from typing import Literal

from electra.config.option import option, positive, require
from electra.config.ramps import check_ramp
from electra.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019), alone or with Muon (Jordan et al. 2024)."""

    name: Literal["adamw", "muon"] = option(
        "adamw",
        "muon: orthogonal updates for the matrices inside layers, as large as AdamW's (Liu et al. "
        "2025), so that learning rate and weight decay carry over; AdamW for all else",
    )
    learning_rate: float = option(5e-4, "peak learning rate")
    weight_decay: float = option(0.01, "decoupled; never on biases and norms")
    adam_beta1: float = option(0.9, "decay of the first moment")
    adam_beta2: float = option(0.999, "decay of the second moment")
    adam_epsilon: float = option(1e-6, "added to the root of the second moment")
    bias_correction: bool = option(True, "false: Adam as in the reference code of ELECTRA and BERT")
    max_grad_norm: float = option(1.0, "clip the global gradient norm; 0: off")
    layerwise_lr_decay: float = option(1.0, "learning rate of a layer over that of the next one up")
    layerwise_lr_form: Literal["described", "published"] = option(
        "described",
        "described: as the paper says; published: one power more for all but the head, as the "
        "reference code does and its published scores were made with",
    )
    generator_learning_rate: float | None = option(
        None,
        "peak learning rate of the generator's own weights, whose gradients are then clipped apart "
        "(decoupled optimizers); none: one optimizer for both",
    )
    muon_learning_rate: float | None = option(
        None, "muon: peak learning rate of its matrices; none: learning_rate"
    )
    muon_momentum: float = option(0.95, "muon: decay of its momentum, which is Nesterov's")

    def __post_init__(self) -> None:
        positive(self, "optimizer", "learning_rate")
        positive(self, "optimizer", "muon_learning_rate")
        positive(self, "optimizer", "generator_learning_rate")
        for name in ("weight_decay", "adam_epsilon", "max_grad_norm"):
            value = getattr(self, name)
            require(value >= 0, "optimizer." + name.replace("_", "-"), value, "0 or more")
        for name in ("adam_beta1", "adam_beta2", "muon_momentum"):
            value = getattr(self, name)
            require(0 <= value < 1, "optimizer." + name.replace("_", "-"), value, "[0, 1)")
        require(
            0 < self.layerwise_lr_decay <= 1,
            "optimizer.layerwise-lr-decay",
            self.layerwise_lr_decay,
            "(0, 1]",
        )
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            if field.name.startswith("muon_") and self.name != "muon" and given != field.default:
                raise ConfigError(
                    f"--optimizer.{field.name.replace('_', '-')} is {given}, which is for "
                    "--optimizer.name muon alone"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate, batch size and length over progress, the used share of the budget."""

    decay: Literal["linear", "cosine", "constant", "trapezoid"] = option(
        "linear",
        "how the rate falls to zero; trapezoid (warmup-stable-decay): constant, then the fall "
        "of decay_form",
    )
    decay_start: float = option(
        0.0, "share of the budget at which the fall begins; trapezoid: 0.8 where this is 0"
    )
    decay_form: Literal["linear", "one_minus_sqrt"] = option(
        "linear", "trapezoid: 1 - u or 1 - sqrt(u), u the share of the fall that is over"
    )
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
    batch_ramp: tuple[tuple[float, float], ...] = option(
        (),
        "pretraining: pairs [progress, share of the global batch size] from there on, such as "
        "[[0, 0.25], [0.3, 0.5], [0.6, 1]]",
    )
    length_ramp: tuple[tuple[float, int], ...] = option(
        (),
        "pretraining: pairs [progress, tokens in a sequence] from there on, at most "
        "data.max_length, such as [[0, 128], [0.9, 512]]",
    )

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ConfigError(
                "--schedule.warmup-steps and --schedule.warmup-ratio are both given; give one"
            )
        steps = self.warmup_steps or 0
        require(steps >= 0, "schedule.warmup-steps", steps, "0 or more")
        ratio = self.warmup_ratio or 0.0
        require(0 <= ratio < 1, "schedule.warmup-ratio", ratio, "[0, 1)")
        require(0 <= self.decay_start < 1, "schedule.decay-start", self.decay_start, "[0, 1)")
        require(
            self.decay == "trapezoid" or self.decay_form == "linear",
            "schedule.decay-form",
            self.decay_form,
            f"linear with --schedule.decay {self.decay}; it is the form of a trapezoid's fall",
        )
        require(
            not (self.overlap and self.decay == "trapezoid"),
            "schedule.overlap",
            "true",
            "false with --schedule.decay trapezoid: with it the fall begins at the first step",
        )
        check_ramp(self.batch_ramp, "schedule.batch-ramp", "share")
        check_ramp(self.length_ramp, "schedule.length-ramp", "tokens")


BUDGETS = ("max_steps", "max_tokens", "minutes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Budget, batch, precision, and when to evaluate and save."""

    max_steps: int | None = option(None, "budget: optimizer steps")
    max_tokens: int | None = option(None, "budget: tokens read, padding not counted")
    minutes: float | None = option(None, "budget: minutes of training, evaluation not counted")
    global_batch_size: int = option(128, "sequences a step, over all devices")
    micro_batch_size: int | Literal["auto"] | None = option(
        None,
        "sequences a forward pass on one device; none: the whole batch at once (fine-tuning on a "
        "CPU: a quarter); auto: as many as the memory has room for",
    )
    gradient_checkpointing: bool = option(
        False, "compute layers again in the backward pass instead of keeping them: less memory"
    )
    seed: int = option(0, "of weights, data order, masks and samples")
    eval_steps: int | None = option(None, "steps between evaluations; none: ten over the run")
    save_steps: int | None = option(None, "steps between checkpoints; none: ten over the run")
    save_total_limit: int = option(
        2, "last checkpoints kept; the one with the lowest evaluation loss is kept besides"
    )
    final_weights: Literal["last", "best"] = option(
        "last",
        "pretraining: the encoder and the other parts are of the last step, or of the saved step "
        "with the lowest evaluation loss (fine-tuning always keeps the best)",
    )
    max_skipped_steps: int = option(
        5,
        "steps in a row whose loss or gradient may be no finite number: such a step is not "
        "applied; 0: stop at the first",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "of matrix products in training; auto: bfloat16 where the machine has units for it"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "where to train")
    compile: bool | Literal["auto"] = option(
        "auto", "pretraining: each pass as one compiled graph of fixed shapes; auto: on a GPU"
    )
    sharding: Literal["none", "full"] = option(
        "none",
        "pretraining by several processes: none: each has the whole model; full: weights, "
        "gradients and moments are divided among them (FSDP2), for models that do not fit one "
        "device",
    )
    average_last: float = option(
        0.0,
        "pretraining: share of the budget, its last, whose weights are averaged; that average is "
        "evaluated at the end and saved; 0: the last weights",
    )

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
                require(value > 0, "training." + name.replace("_", "-"), value, "above 0")
        share = self.average_last
        require(0 <= share < 1, "training.average-last", share, "[0, 1)")
        if share and self.final_weights == "best":
            raise ConfigError(
                "--training.average-last and --training.final-weights best both say which weights "
                "are saved; give one"
            )
        require(
            self.sharding == "none" or self.micro_batch_size != "auto",
            "training.micro-batch-size",
            "auto",
            "a number with --training.sharding full: what fits is found for whole models alone",
        )
        require(
            self.sharding == "none" or self.compile is not True,
            "training.compile",
            "true",
            "auto or false with --training.sharding full, which gathers weights within a pass",
        )
        skipped = self.max_skipped_steps
        require(skipped >= 0, "training.max-skipped-steps", skipped, "0 or more")
        micro = self.micro_batch_size
        if isinstance(micro, int):
            require(
                micro > 0 and self.global_batch_size % micro == 0,
                "training.micro-batch-size",
                micro,
                f"a divisor of the global batch size {self.global_batch_size}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is written while training."""

    log_steps: int = option(20, "steps between lines of metrics.jsonl")
    trackers: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = option(
        (), "where metrics go besides, of those installed, parted by commas"
    )

    def __post_init__(self) -> None:
        require(self.log_steps > 0, "logging.log-steps", self.log_steps, "above 0")
