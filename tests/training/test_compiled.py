"""Compiled passes: one graph each, the same numbers, made again where shapes or stages change."""

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend

from electra.config import FinetuneTrainingConfig, TrainingConfig
from electra.errors import ConfigError
from electra.model.document_attention import NAME
from electra.objectives.objective import PretrainingObjective
from electra.pretrain import pretrain
from electra.training.compiled import compile_passes, compiling
from electra.training.loggers import read_metrics
from electra.training.loop import Batch
from electra.training.noise import Noise
from tests.objectives.build import CPU, SPECIAL, VOCAB, make
from tests.shapes import FAMILIES, tiny_config

LENGTH = 16


def packed(rows: int = 4, seed: int = 0, *, documents: bool = False) -> Batch:
    """Full rows of random ids; with words of two tokens."""
    torch.manual_seed(seed)
    ids = torch.randint(5, VOCAB, (rows, LENGTH))
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    starts_word = torch.arange(LENGTH).expand(rows, -1) % 2 == 1
    batch = {"input_ids": ids, "starts_word": starts_word}
    if documents:
        batch["document_starts"] = torch.tensor([[0, 5, 9, LENGTH]]).expand(rows, -1)
    return batch


def one_step(objective: PretrainingObjective, batch: Batch, first: int) -> dict[str, Tensor]:
    """Losses, metrics and gradients of one micro-batch, as the loop has them."""
    noise = Noise(0, first)
    prepared, counts = objective.prepare(batch, noise)
    output = objective.forward(prepared, noise)
    sum(output.losses[n] / counts[n] for n in output.losses).backward()  # type: ignore[union-attr]
    found = {name: loss.detach() for name, loss in output.losses.items()}
    found |= {name: torch.as_tensor(total) for name, (total, _) in output.metrics.items()}
    found |= {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()
    return found


def both(
    family: str, said: list[str], backend: Any, **sections: Any
) -> tuple[PretrainingObjective, PretrainingObjective]:
    """The same objective of one layer twice, as it is and compiled."""
    shape = {**FAMILIES[family], "num_hidden_layers": 1}
    plain, compiled = (make(family, model=shape, **sections).train() for _ in range(2))
    compile_passes(compiled, CPU, tell=said.append, backend=backend)
    return plain, compiled


def test_code_for_a_processor_is_made_of_the_networks_alone() -> None:
    """Made of the masks' noise it crashes the process."""
    objective = make("modern")
    compile_passes(objective, CPU, tell=print)  # nothing is compiled before the first call
    assert "prepare" not in vars(objective)
    assert "forward" in vars(objective)
    assert objective.idle_slots, "a share that falls makes no new shapes"


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("family", ["classic", "modern"])
def test_each_pass_is_one_graph_with_the_same_numbers(family: str) -> None:
    said: list[str] = []
    counter = CompileCounterWithBackend("aot_eager")
    plain, compiled = both(family, said, counter)
    for step in range(3):  # other text and other noise, the same graphs
        batch = packed(seed=step, documents=True)
        expected = one_step(plain, batch, 4 * step)
        assert_same(one_step(compiled, batch, 4 * step), expected)
    assert not said
    assert counter.frame_count == 2


def test_variable_length_attention_is_in_the_graphs() -> None:
    """Compiled alone: no CPU can run the operation."""
    nodes: list[str] = []

    def record(graph: Any, inputs: Any) -> Any:
        nodes.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    said: list[str] = []
    backend = aot_autograd(fw_compiler=record, bw_compiler=record)
    _, objective = both("modern", said, backend)
    objective.model.use_attention(NAME)
    noise = Noise(0)
    batch, _ = objective.prepare(packed(documents=True), noise)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(NotImplementedError, match="'CPU'"):
        objective.forward(batch, noise)
    assert not said
    layers = 2  # one of each network
    assert nodes.count("torch_attn._varlen_attn.default") == layers
    assert nodes.count("torch_attn._varlen_attn_backward.default") == layers


def test_what_fails_in_the_backward_pass_is_left_too() -> None:
    def refuse(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no kernel for this")

    said: list[str] = []
    backend = aot_autograd(fw_compiler=lambda g, _: make_boxed_func(g.forward), bw_compiler=refuse)
    plain, compiled = both("modern", said, backend, objective={"name": "masked_lm"})
    assert_same(one_step(compiled, packed(), 0), one_step(plain, packed(), 0))
    assert len(said) == 1
    assert "no kernel for this" in said[0]


def test_another_graph_for_another_stage_or_shape_alone() -> None:
    moving = {"warm_start": 0.5, "mask_prob_end": 0.3}
    said: list[str] = []
    counter = CompileCounterWithBackend("eager")
    plain, compiled = both("modern", said, counter, objective=moving)
    graphs = []
    for progress, rows in ((0.1, 4), (0.2, 4), (0.6, 4), (0.7, 4), (0.8, 2), (0.9, 2)):
        plain.begin_step(progress)
        compiled.begin_step(progress)
        batch = packed(rows, seed=int(10 * progress))
        assert_same(one_step(compiled, batch, 0), one_step(plain, batch, 0))
        graphs.append(counter.frame_count)
    assert graphs == [2, 2, 4, 4, 6, 6]
    assert not said


def test_what_cannot_be_one_graph_is_left_and_said_once() -> None:
    said: list[str] = []
    counter = CompileCounterWithBackend("eager")
    words = {"name": "masked_lm", "masking": "whole_word"}
    plain, compiled = both("modern", said, counter, objective=words)
    for step in range(2):
        batch = packed(seed=step)
        expected = one_step(plain, batch, 4 * step)
        assert_same(one_step(compiled, batch, 4 * step), expected)
    assert len(said) == 1
    assert said[0].startswith("the masks are not compiled, which costs time alone: ")
    assert "\n" not in said[0]
    assert counter.frame_count == 1  # the losses are


def test_auto_is_for_gpus() -> None:
    gpu = torch.device("cuda")
    for wanted, expected in (("auto", (False, True)), (True, (True, True)), (False, (False,) * 2)):
        config = TrainingConfig(max_steps=1, compile=wanted)  # type: ignore[arg-type]
        assert (compiling(config, CPU), compiling(config, gpu)) == expected
    with pytest.raises(ConfigError, match="false in fine-tuning"):
        FinetuneTrainingConfig(compile=True)


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in read_metrics(run / "metrics.jsonl") if "loss" in row]


def assert_learns_the_same(corpus: Path, folder: Path) -> None:
    """A compiled run beside one as it is written."""
    for compile in (False, True):
        training = {"max_steps": 4, "global_batch_size": 8, "micro_batch_size": 4, "device": "cpu"}
        training |= {"dtype": "float32", "compile": compile, "eval_steps": 4}
        pretrain(
            data=corpus,
            output=folder / str(compile),
            config=tiny_config("classic", training=training),
        )
    plain, compiled = rows_of(folder / "False"), rows_of(folder / "True")
    assert len(plain) == len(compiled) == 4
    for one, other in zip(plain, compiled, strict=True):
        for name in ("loss", "generator_loss", "discriminator_loss", "grad_norm", "tokens_seen"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


def test_a_compiled_run_learns_the_same(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = functools.partial(compile_passes, backend="eager")
    monkeypatch.setattr("electra.pretrain.compile_passes", quick)
    assert_learns_the_same(corpus, tmp_path)


@pytest.mark.slow  # two minutes of a C++ compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor wants a C++ compiler on a CPU")
@pytest.mark.filterwarnings("default")
def test_inductor_learns_the_same(corpus: Path, tmp_path: Path) -> None:
    assert_learns_the_same(corpus, tmp_path)
