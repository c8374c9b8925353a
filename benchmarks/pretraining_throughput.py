"""Tokens a second of pretraining ELECTRA-Small: ours, the plain path of transformers, the machine.

    python -m benchmarks.pretraining_throughput --json FILE

Three contestants on the same shapes (32 x 128 tokens a step, full rows of random ids, masks of
15 %), each in a child process of its own; they take turns and the medians of `--rounds` count:

- ours: objective, optimizer, clipping, schedule, log and reader of `electra pretrain` by the loop
  itself, on a corpus folder; recipe `classic-small` with packed rows;
- plain: `ElectraForMaskedLM`, whose head reads all positions, and `ElectraForPreTraining` with one
  embedding, `torch.optim.AdamW` as it comes, gradients clipped; batches are in memory already;
- the machine's limit: the matrix products of one step of ours, recorded as it runs (forward,
  backward, attention), alone, at their shapes, strides and precision.

With and without dropout, vocabularies of 30,522 and 8,192, float32 on both sides; `ours, auto` has
the precision that `electra pretrain` takes on this machine by itself. Utilisation is the products'
floating-point operations over those that the machine does in the same time in one large product.
Peak memory is that of the child process, libraries counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.record import finish

ROWS, LENGTH = 32, 128
VOCABULARIES = (30_522, 8_192)
TOKENS = ROWS * LENGTH


@dataclasses.dataclass(frozen=True)
class Case:
    """A contestant and what it runs."""

    side: str
    """`ours`, `plain` or `limit`."""
    vocab_size: int
    dropout: float
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """For tables."""
        return {"plain": "plain transformers", "limit": "matrix products alone"}.get(
            self.side, "ours" if self.dtype == "float32" else "ours, auto"
        )


def main() -> None:
    """Measure and print; or be one of the children."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=6, help="of a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two rounds of two steps")
    parser.add_argument("--layers", type=int, default=12, help="fewer for a test")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.steps, given.rounds = 2, 2
    if given.child:
        _serve(Case(**json.loads(given.child)), given.layers)
        return
    cases = [
        Case(side, vocab_size, dropout)
        for vocab_size, dropout in itertools.product(VOCABULARIES, (0.1, 0.0))
        for side in ("ours", "plain", "limit")
    ]
    cases += [Case("ours", v, d, "auto") for v, d in itertools.product(VOCABULARIES, (0.1, 0.0))]
    seconds: dict[Case, list[float]] = {case: [] for case in cases}
    facts: dict[Case, dict[str, Any]] = {}
    # all of one vocabulary and dropout together: what is compared is measured within a minute
    for _, group in itertools.groupby(
        sorted(cases, key=lambda c: (c.vocab_size, c.dropout)), lambda c: (c.vocab_size, c.dropout)
    ):
        with contextlib.ExitStack() as stack:
            children = {c: stack.enter_context(_child(c, given.layers)) for c in group}
            for number in range(given.rounds + 1):
                for case, ask in children.items():
                    answer = ask(given.steps)
                    if number:  # the first turn warms up
                        seconds[case].append(answer.pop("seconds"))
                    facts[case] = answer
    rows = [_row(case, seconds[case], facts[case]) for case in cases]
    finish(rows, _summary(seconds, facts, given.rounds), json_file=given.json)


def _row(case: Case, seconds: list[float], facts: dict[str, Any]) -> dict[str, Any]:
    middle = statistics.median(seconds)
    return {
        "contestant": case.name,
        "vocabulary": case.vocab_size,
        "dropout": case.dropout,
        "dtype": facts["dtype"],
        "tokens_per_second": TOKENS / middle,
        "milliseconds_a_step": 1e3 * middle,
        "fastest": 1e3 * min(seconds),
        "slowest": 1e3 * max(seconds),
        "peak_megabytes": facts["peak_megabytes"],
    }


def _summary(
    seconds: dict[Case, list[float]], facts: dict[Case, dict[str, Any]], rounds: int
) -> dict[str, Any]:
    def ratio(over: Case, under: Case) -> float:
        """Of times of one turn, as one over the other: a slow minute slows both."""
        return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))

    summary: dict[str, Any] = {}
    for vocab_size, (dropout, ending) in itertools.product(
        VOCABULARIES, ((0.1, ""), (0.0, "_no_dropout"))
    ):
        ours, plain = Case("ours", vocab_size, dropout), Case("plain", vocab_size, dropout)
        auto = Case("ours", vocab_size, dropout, "auto")
        summary[f"ratio_to_naive_{vocab_size}{ending}"] = ratio(plain, ours)
        summary[f"ratio_to_naive_{vocab_size}{ending}_auto_dtype"] = ratio(plain, auto)
        summary[f"ratio_to_limit_{vocab_size}{ending}"] = ratio(
            Case("limit", vocab_size, dropout), ours
        )
    first = VOCABULARIES[0]
    ours, limit = Case("ours", first, 0.1), Case("limit", first, 0.1)
    summary["ratio_to_limit"] = summary[f"ratio_to_limit_{first}"]
    summary["peak_memory_ratio"] = (
        facts[ours]["peak_megabytes"] / facts[Case("plain", first, 0.1)]["peak_megabytes"]
    )
    summary["tokens_per_second"] = TOKENS / statistics.median(seconds[ours])
    found = facts[limit]
    summary["gigaflops_a_step"] = found["flops"] / 1e9
    summary["model_flops_utilisation"] = (
        found["flops"] / statistics.median(seconds[ours]) / found["peak_flops"]
    )
    summary["rounds"] = rounds
    return summary


@contextlib.contextmanager
def _child(case: Case, layers: int) -> Iterator[Callable[[int], dict[str, Any]]]:
    """A process that answers how long so many steps took."""
    command = [sys.executable, "-m", "benchmarks.pretraining_throughput"]
    command += ["--layers", str(layers), "--child", json.dumps(dataclasses.asdict(case))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(steps: int) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                sys.exit(f"{case.name} has ended")
            answer: dict[str, Any] = json.loads(line)
            return answer

        yield ask
        process.stdin.close()


def _serve(case: Case, layers: int) -> None:
    """Answer on standard output, which nothing else may write to."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from electra.training.device import keep_memory, pick_device, pick_dtype

    facts: dict[str, Any] = {}
    if case.side != "plain":
        keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        if case.side == "plain":
            step = _plain(case, layers)
        else:
            step = _ours(case, Path(folder), layers)
        if case.side == "limit":
            step = _products_of(step, facts)
        wanted = case.dtype if case.dtype == "auto" else "float32"
        facts["dtype"] = str(pick_dtype(wanted, pick_device("cpu"))).removeprefix("torch.")
        for line in sys.stdin:
            steps = int(line)
            if case.side == "limit":  # the best of all turns: one may fall into a slow moment
                facts["peak_flops"] = max(facts.get("peak_flops", 0.0), _peak_flops())
            begin = time.perf_counter()
            for _ in range(steps):
                step()
            facts["seconds"] = (time.perf_counter() - begin) / steps
            facts["peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            answers.write(json.dumps(facts) + "\n")
            answers.flush()


def _config(case: Case, layers: int) -> Any:
    from electra.config import PretrainConfig
    from electra.recipe import read_recipe, resolve

    given = {
        "model": {
            "hidden_dropout_prob": case.dropout,
            "attention_probs_dropout_prob": case.dropout,
            "num_hidden_layers": layers,
        },
        "training": {"max_steps": 10**6, "global_batch_size": ROWS, "device": "cpu"},
        "data": {"max_length": LENGTH, "examples": "packed"},
    }
    return resolve(PretrainConfig, [("classic-small", read_recipe("classic-small")), ("", given)])


def _ours(case: Case, folder: Path, layers: int) -> Callable[[], None]:
    """A step through the loop of `electra pretrain`."""
    import numpy as np
    import torch

    from electra.corpus.batches import CorpusSource
    from electra.corpus.examples import Examples
    from electra.corpus.folder import Split
    from electra.corpus.shards import ShardWriter
    from electra.corpus.tokenizer import SpecialIds
    from electra.model.dropout import use_bit_dropout
    from electra.objectives.objective import build_objective
    from electra.training.device import pick_dtype, training_attention
    from electra.training.loop import fit
    from electra.training.optimizer import build_optimizer
    from electra.training.schedule import Budget, TrainState

    config = _config(case, layers)
    special = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
    writer = ShardWriter(folder, "train", vocab_size=case.vocab_size, sep_id=special.sep)
    draw = np.random.default_rng(0)
    for _ in range(100):
        writer.add(draw.integers(5, case.vocab_size, 20_000).astype(np.uint32))
    writer.flush()
    split = Split(folder, "train", writer.dtype, writer.shards)
    examples = Examples(split, special, max_length=LENGTH, kind="packed")
    torch.manual_seed(0)
    objective = build_objective(config, case.vocab_size, special)
    device = torch.device("cpu")
    use_bit_dropout(objective)
    objective.model.use_attention(training_attention(device, LENGTH, dropout=case.dropout))
    optimizer = build_optimizer(objective, config.optimizer)
    source, state = CorpusSource(examples, seed=0), TrainState()

    class OneStep(Budget):
        """Ends after the next of all the steps that are planned."""

        def progress(self, state: TrainState) -> float:
            return 1.0 if state.step >= goal[0] else super().progress(state)

    goal = [0]

    def step() -> None:
        goal[0] += 1
        fit(
            objective,
            optimizer=optimizer,
            source=source,
            state=state,
            budget=OneStep(max_steps=config.training.max_steps),
            config=config.training,
            optimizer_config=config.optimizer,
            schedule=config.schedule,
            logging=config.logging,
            device=device,
            dtype=pick_dtype("auto" if case.dtype == "auto" else "float32", device),
            logger=_Silent(),
        )

    return step


class _Silent:
    """A logger that says nothing."""

    def log(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def show(self, progress: float, text: str) -> None:
        """Nothing."""


def _plain(case: Case, layers: int) -> Callable[[], None]:
    """A step as it is written with transformers alone."""
    import torch
    from torch.nn import functional as F
    from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": case.vocab_size,
        "embedding_size": 128,
        "num_hidden_layers": layers,
        "hidden_dropout_prob": case.dropout,
        "attention_probs_dropout_prob": case.dropout,
        "pad_token_id": 0,
    }
    discriminator = ElectraForPreTraining(
        ElectraConfig(hidden_size=256, num_attention_heads=4, intermediate_size=1024, **shape)
    )
    generator = ElectraForMaskedLM(
        ElectraConfig(hidden_size=64, num_attention_heads=1, intermediate_size=256, **shape)
    )
    generator.electra.embeddings = discriminator.electra.embeddings
    generator.tie_weights()
    discriminator.train()
    generator.train()
    networks = torch.nn.ModuleList([discriminator, generator])
    parameters = list(networks.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=5e-4)
    batches = torch.randint(5, case.vocab_size, (16, ROWS, LENGTH))
    batches[..., 0], batches[..., -1] = 2, 3
    number = itertools.count()

    def step() -> None:
        ids = batches[next(number) % len(batches)]
        mask = torch.ones_like(ids)
        chosen = (torch.rand(ids.shape) < 0.15) & (ids > 4)
        masked = ids.masked_fill(chosen & (torch.rand(ids.shape) < 0.85), 4)
        labels = ids.masked_fill(~chosen, -100)
        proposed = generator(input_ids=masked, attention_mask=mask, labels=labels)
        with torch.no_grad():
            logits = proposed.logits[chosen]
            noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)))
            corrupted = ids.clone()
            corrupted[chosen] = (logits + noise).argmax(-1)
        is_replaced = (corrupted != ids).float()
        judged = discriminator(input_ids=corrupted, attention_mask=mask)
        loss = proposed.loss + 50 * F.binary_cross_entropy_with_logits(judged.logits, is_replaced)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _products_of(step: Callable[[], None], facts: dict[str, Any]) -> Callable[[], None]:
    """The matrix products of a step, recorded, and nothing else; `facts` gets their FLOPs."""
    import torch
    from torch.utils import _python_dispatch

    aten = torch.ops.aten
    first = {
        aten.mm.default: 0,
        aten.bmm.default: 0,
        aten.addmm.default: 1,
        aten.baddbmm.default: 1,
    }
    found: Counter[tuple[Any, ...]] = Counter()

    mode: Any = _python_dispatch.TorchDispatchMode

    class Recorder(mode):
        """Notes shapes, strides and precision of the factors."""

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            assert "scaled_dot_product" not in str(func), "attention is to be products here"
            if func in first:
                pair = args[first[func] :][:2]
                found[tuple((tuple(t.shape), t.stride(), t.dtype) for t in pair)] += 1
            return func(*args, **(kwargs or {}))

    step()
    with Recorder():
        step()
    products = []
    for factors, count in found.items():
        left, right = (
            # gradients of sums have strides of 0
            torch.randn(1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)))
            .to(dtype)
            .as_strided(shape, stride)
            for shape, stride, dtype in factors
        )
        products.append((left, right, torch.matmul(left, right), count))
    facts["flops"] = sum(
        2 * left.numel() * right.shape[-1] * count for left, right, _, count in products
    )

    def alone() -> None:
        for left, right, out, count in products:
            multiply = torch.mm if left.ndim == 2 else torch.bmm
            for _ in range(count):
                multiply(left, right, out=out)

    return alone


def _peak_flops() -> float:
    """Floating-point operations a second of one large product, float32."""
    import torch

    size = 2048
    left, right = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(8):
        begin = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)


if __name__ == "__main__":
    main()
