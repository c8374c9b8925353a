"""Batch and length ramps: what they are at each progress, what is refused, what the loop does."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from electra.config import (
    FinetuneConfig,
    LoggingConfig,
    OptimizerConfig,
    PretrainConfig,
    ScheduleConfig,
    TrainingConfig,
)
from electra.config.ramps import batch_size_at, value_at
from electra.config.stages import stages
from electra.errors import ConfigError
from electra.model.flops import train_flops
from electra.recipe import nest, option_rows, resolve, to_toml
from electra.training.loop import Batch, StepOutput, fit
from electra.training.noise import Noise
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState
from tests.shapes import tiny_config

RAMP = ((0.0, 0.25), (0.3, 0.5), (0.6, 1.0))


def test_the_value_at_each_progress() -> None:
    found = [batch_size_at(RAMP, u / 10, 8) for u in range(11)]
    assert found == [2, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8]
    assert batch_size_at(RAMP, 0.2999999, 8) == 2
    assert batch_size_at((), 0.5, 8) == 8
    assert value_at(((0.0, 64), (0.9, 128)), 0.89, 0) == 64
    assert value_at((), 0.89, 7) == 7


def test_it_is_read_from_flags_and_recipes_and_written_back() -> None:
    base = to_toml(tiny_config("modern"))
    assert "batch_ramp = []" in base
    flags = nest({"schedule.batch-ramp": "[[0, 0.25], [0.3, 0.5], [0.6, 1]]"})
    config = tiny_config("modern", **flags)
    assert config.schedule.batch_ramp == RAMP
    assert "batch_ramp = [[0.0, 0.25], [0.3, 0.5], [0.6, 1.0]]" in to_toml(config)
    types = {flag: kind for flag, kind, _, _ in option_rows(PretrainConfig)}
    assert types["--schedule.batch-ramp"] == types["--schedule.length-ramp"] == "list"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0.5", "must be a list, such as"),
        ("half", "must be a list, such as"),
        ("[0, 0.5]", "it must be a list$"),
        ("[[0, 0.5, 1]]", "it must be a list of 2$"),
        ('[[0, "much"]]', "must be a number"),
        ("[[0.1, 0.5]]", "the first at 0, each later than the one before"),
        ("[[0, 0.5], [0, 1]]", "the first at 0, each later than the one before"),
        ("[[0, 0.5], [1, 1]]", "all below 1"),
        ("[[0, 0]]", "share above 0"),
        ("[[0, 0.3], [0.5, 1]]", "0.3 of --training.global-batch-size 8 is 2.4 sequences"),
        ("[[0, 0.05], [0.5, 1]]", "is 0.4 sequences; allowed: multiples of 1, at most 8"),
        ("[[0, 0.5], [0.5, 2]]", "is 16 sequences; allowed: multiples of 1, at most 8"),
    ],
)
def test_what_is_no_ramp_is_refused(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config("modern", **nest({"schedule.batch-ramp": given}))


def test_what_does_not_fit_is_refused() -> None:
    def ramped(name: str, ramp: Any, **sections: dict[str, Any]) -> PretrainConfig:
        return tiny_config("modern", schedule={name: ramp}, **sections)

    with pytest.raises(ConfigError, match=r"2 sequences; allowed: multiples of 4 \(--training.mic"):
        ramped("batch_ramp", [[0, 0.25]], training={"micro_batch_size": 4})
    with pytest.raises(ConfigError, match=r"it needs --training.micro-batch-size 2 or more"):
        ramped("batch_ramp", [[0, 0.125], [0.5, 1]], objective={"contrastive_weight": 1.0})
    with pytest.raises(ConfigError, match=r"length-ramp is 32 tokens; allowed: 8 to --data.max-l"):
        ramped("length_ramp", [[0, 32]])
    with pytest.raises(ConfigError, match=r"does not apply to --objective.name self_augmented"):
        ramped("length_ramp", [[0, 8], [0.5, 16]], objective={"name": "self_augmented"})
    fast = {"name": "fast_electra", "replacements": "kept", "generator_folder": "generator"}
    with pytest.raises(ConfigError, match="keeps rows of one length and batches of one size"):
        ramped("batch_ramp", [[0, 0.5], [0.5, 1]], objective=fast)
    for name in ("batch_ramp", "length_ramp"):
        with pytest.raises(ConfigError, match="is for pretraining: leave it out; fine-tuning"):
            resolve(FinetuneConfig, [("test", {"schedule": {name: [[0, 1]]}})])


def test_shares_are_taken_as_written() -> None:
    # 0.7 * 10 is 7.000000000000001 in binary, 0.29 * 100 is 28.999999999999996
    for share, size, wanted in ((0.7, 10, 7), (0.29, 100, 29)):
        assert Fraction(str(share)) * size == wanted
        training = {"global_batch_size": size}
        config = tiny_config("modern", schedule={"batch_ramp": [[0, share]]}, training=training)
        assert config.batch_sizes == [wanted]


def test_the_stages_of_a_run_and_its_flops() -> None:
    schedule = {"batch_ramp": [[0, 0.25], [0.5, 1]], "length_ramp": [[0, 8], [0.75, 16]]}
    by_steps = tiny_config("modern", schedule=schedule, training={"max_steps": 100})
    found = stages(by_steps.schedule, by_steps.training, by_steps.data)
    assert [(s.share, s.sequences, s.length) for s in found] == [
        (0.5, 2, 8),
        (0.25, 8, 8),
        (0.25, 8, 16),
    ]
    plain = tiny_config("modern", training={"max_steps": 100})
    ramped, full = train_flops(by_steps, 64), train_flops(plain, 64)
    assert ramped.tokens_per_step == 0.5 * 16 + 0.25 * 64 + 0.25 * 128
    assert full.tokens_per_step == 128
    assert ramped.per_step < 0.5 * full.per_step
    # half of 1,024 tokens in steps of 16, a quarter in steps of 64, a quarter in steps of 128
    by_tokens = tiny_config("modern", schedule=schedule, training={"max_tokens": 1024})
    assert train_flops(by_tokens, 64).steps == pytest.approx(32 + 4 + 2)


class Reader(nn.Module):
    """Keeps what it is given."""

    loss_weights: Mapping[str, float] = {"loss": 1.0}

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.noise: list[float] = []

    def begin_step(self, progress: float) -> None:
        pass

    def prepare(self, batch: Batch, noise: Noise) -> tuple[Batch, dict[str, Tensor]]:
        self.noise.append(float(noise.uniform((1, 1))))
        return batch, {"loss": torch.tensor(len(batch["input_ids"]))}

    def forward(self, batch: Batch, noise: Noise) -> StepOutput:
        return StepOutput({"loss": (self.weight * batch["input_ids"][:, 0]).sum()})


class Stream:
    """Rows of one length; which were read is kept."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.read: list[tuple[int, int]] = []

    def batch(self, position: int, size: int) -> Batch:
        self.read.append((position, size))
        return {"input_ids": torch.ones(size, self.length, dtype=torch.int64)}


class Silent:
    def log(self, row: dict[str, Any]) -> None:
        pass

    def show(self, progress: float, text: str) -> None:
        pass


def train(budget: dict[str, Any], schedule: dict[str, Any], state: TrainState) -> Any:
    config = resolve(
        PretrainConfig,
        [("test", {"training": {**budget, "global_batch_size": 8, "micro_batch_size": 2}})],
    ).training
    chosen = ScheduleConfig(**schedule)
    reader, long, short = Reader(), Stream(16), Stream(8)
    optimizer_config = OptimizerConfig()
    fit(
        reader,
        optimizer=build_optimizer(reader, optimizer_config),
        source=long,
        shorter={8: short},
        state=state,
        budget=Budget.of(config),
        config=config,
        optimizer_config=optimizer_config,
        schedule=chosen,
        logging=LoggingConfig(),
        device=torch.device("cpu"),
        dtype=torch.float32,
        logger=Silent(),
    )
    return reader, long.read, short.read


def test_each_length_has_a_stream_and_no_example_is_read_twice() -> None:
    schedule = {
        "batch_ramp": ((0.0, 0.25), (0.5, 1.0)),
        "length_ramp": ((0.0, 8), (0.25, 16), (0.75, 8)),
    }
    state = TrainState()
    reader, long, short = train({"max_steps": 8}, schedule, state)
    # steps 0, 1: two short ones each; 2, 3: two long; 4, 5: eight long; 6, 7: eight short
    assert long == [(p, 2) for p in range(0, 4 + 16, 2)]
    assert short == [(p, 2) for p in range(0, 4 + 16, 2)]
    assert state.examples_seen == 40
    assert state.seen_shorter == {"8": 20}
    assert (state.position(None), state.position(8)) == (20, 20)
    assert state.tokens_seen == 20 * 16 + 20 * 8
    assert len(set(reader.noise)) == len(reader.noise) == 20


@pytest.mark.parametrize("budget", [{"max_steps": 8}, {"max_tokens": 600}])
def test_going_on_needs_no_replay(budget: dict[str, Any]) -> None:
    schedule = {
        "batch_ramp": ((0.0, 0.25), (0.5, 1.0)),
        "length_ramp": ((0.0, 8), (0.3, 16)),
    }
    whole = train(budget, schedule, TrainState())
    step, state = 3, TrainState()
    for _ in range(step):  # what a checkpoint after three steps holds
        length = 8 if Budget.of(TrainingConfig(**budget)).progress(state) < 0.3 else None
        state.step += 1
        state.count_examples(2, length)
        state.tokens_seen += 2 * (length or 16)
    noise, long, short = train(budget, schedule, state)[0].noise, *train_reads(whole)
    assert noise == whole[0].noise[step:]
    assert state.examples_seen == sum(size for _, size in (*long, *short))


def train_reads(found: Any) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return found[1], found[2]


def test_minutes_and_their_replay_see_progress_alone() -> None:
    replayed = Budget(replayed=(0.0, 0.4, 0.55, 0.9))
    sizes = [
        batch_size_at(RAMP, replayed.progress(TrainState(step=step, seconds=1e9)), 8)
        for step in range(4)
    ]
    assert sizes == [2, 4, 4, 8]
