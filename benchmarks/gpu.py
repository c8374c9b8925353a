"""Pretraining on a GPU: tokens a second, utilisation, memory, the time to compile, the loader.

    python -m benchmarks.gpu --json FILE [--data CORPUS] [--seconds 540]

The objective, optimizer, reader and loop of `electra pretrain` with the recipes `small` (14 M),
`base` (110 M) and `classic-small`, behind their warm start; each row in a process of its own,
written as soon as it is measured, the rows with headline figures first. Needs from the source tree
torch, transformers, tokenizers, numpy and safetensors alone. Without `--data` it makes a corpus of
random tokens.

Utilisation: three times the operations of a forward pass as `electra.model.flops` counts them,
without the lookup of embeddings and without keys that no token attends to, over what one large
product in bfloat16 does in the same time; `of_data_sheet` over the maker's figure. `loader_share`
is the time that the reader took over all; the device goes on meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import record

NEEDS = (
    "this needs a GPU: a machine with CUDA, and of this source tree torch >= 2.11, transformers, "
    "tokenizers, numpy and safetensors; --quick --device cpu tries the same code on a tiny case"
)
DATA_SHEET = {"H100": 989e12, "H200": 989e12, "GH200": 989e12, "A100": 312e12, "B200": 2250e12}
"""Dense bfloat16 operations a second, as the maker has them."""
VOCABULARY = {"small": 16_384, "base": 32_768, "classic-small": 30_522}
MICRO_BATCH = {"base": 128}
"""Rows of a forward pass; none: the recipe's whole batch."""
WINDOW = 8.0
"""Seconds that are measured."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table."""

    recipe: str
    compile: bool
    documents: bool = False
    quick: bool = False


CASES = (
    Case("small", True),
    Case("base", True),
    Case("small", False),
    Case("base", False),
    Case("small", True, documents=True),
    Case("base", True, documents=True),
    Case("classic-small", True),
    Case("classic-small", False),
    Case("small", False, documents=True),
    Case("base", False, documents=True),
    Case("classic-small", True, documents=True),
)
QUICK = (Case("small", True, quick=True), Case("classic-small", False, documents=True, quick=True))


def main() -> None:
    """Measure and print; or be one of the children."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=540.0, help="for everything")
    parser.add_argument("--data", type=Path, help="a prepared corpus; none: random tokens")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="two tiny cases")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        case = Case(**json.loads(given.child))
        print(json.dumps(measure(case, given.device, given.data)))
        return
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit(NEEDS)
    end = time.monotonic() + given.seconds
    peak = peak_flops(given.device)
    rows: list[dict[str, Any]] = []
    for case in QUICK if given.quick else CASES:
        row = dataclasses.asdict(case) | {"peak_flops": peak}
        row |= _child(case, given, end - time.monotonic())
        if "flops_per_second" in row:
            row["utilisation"] = row["flops_per_second"] / peak
            sheet = _data_sheet(given.device)
            row["of_data_sheet"] = row["flops_per_second"] / sheet if sheet else None
        rows.append(row)
        print("  ".join(f"{name} {_shown(value)}" for name, value in row.items()), flush=True)
        if given.json is not None:
            record.write(rows, summary(rows), given.json)
    for name, value in summary(rows).items():
        print(f"{name}: {_shown(value)}")


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The headline figures, of the compiled rows without documents; none where there is no row."""
    found = {
        row["recipe"]: row
        for row in rows
        if row["compile"] and not row["documents"] and "utilisation" in row
    }
    wanted = {
        "small_tokens_per_second": ("small", "tokens_per_second"),
        "small_utilisation": ("small", "utilisation"),
        "base_utilisation": ("base", "utilisation"),
    }
    return {name: found.get(recipe, {}).get(of) for name, (recipe, of) in wanted.items()}


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _child(case: Case, given: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The row of a case, or why there is none; a process that fails takes no other along."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", given.device]
    command += ["--child", json.dumps(dataclasses.asdict(case))]
    command += ["--data", str(given.data)] if given.data else []
    if seconds < 5:
        return {"error": "no time was left"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env={**os.environ}
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {seconds:.0f} seconds, when the time was over"}
    if done.returncode:
        sys.stderr.write(done.stderr)
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def peak_flops(device: str) -> float:
    """Operations a second of one large product of random numbers."""
    import torch

    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(20):
        _wait(device)
        begin = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(times[5:])


def _wait(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def _data_sheet(device: str) -> float | None:
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((flops for part, flops in DATA_SHEET.items() if part in name.split()), None)


def measure(case: Case, kind: str, data: Path | None) -> dict[str, Any]:
    """One row, of `--device` `kind`."""
    import torch

    from electra.corpus.batches import CorpusSource
    from electra.corpus.examples import Examples
    from electra.corpus.folder import Corpus
    from electra.corpus.tokenizer import SpecialIds, load_tokenizer, num_ids
    from electra.model.document_attention import kernel_for
    from electra.objectives.objective import build_objective
    from electra.training.compiled import compile_passes
    from electra.training.device import keep_memory, pick_dtype, training_attention
    from electra.training.loop import fit
    from electra.training.optimizer import build_optimizer
    from electra.training.schedule import Budget, TrainState

    begun = time.perf_counter()
    keep_memory()
    device, config = torch.device(kind), config_of(case)
    special, vocab_size = SpecialIds(0, 1, 2, 3, 4), VOCABULARY[case.recipe]
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            split = random_split(Path(folder), 1000 if case.quick else vocab_size, special)
        else:
            corpus, tokenizer = Corpus(data), load_tokenizer(data)
            special, vocab_size = SpecialIds.of(tokenizer), num_ids(tokenizer)
            split = corpus.split("train")
        examples = Examples(
            split,
            special,
            max_length=config.data.max_length,
            kind="packed",
            with_documents=case.documents,
        )
        torch.manual_seed(0)
        objective = build_objective(config, vocab_size, special).to(device)
        dropout = config.model.attention_probs_dropout_prob
        kernel = training_attention(device, config.data.max_length, dropout=dropout)
        if case.documents:
            kernel = kernel_for(device, kernel, dropout=dropout)
        objective.model.use_attention(kernel)
        optimizer = build_optimizer(objective, config.optimizer)
        said: list[str] = []
        if case.compile:
            one = config.training.micro_batch_size is None
            compile_passes(
                objective,
                device,
                tell=said.append,
                cuda_graphs=one and kind == "cuda",
                backend="aot_eager" if case.quick else "inductor",
            )
        source, state = _Timed(CorpusSource(examples, seed=0)), TrainState()

        class Ends(Budget):
            """Ends after so many of the steps that are planned."""

            def progress(self, state: TrainState) -> float:
                return 1.0 if state.step >= goal[0] else super().progress(state)

        goal, log = [0], _Last()

        def steps(count: int) -> float:
            """Seconds that so many steps take."""
            goal[0] += count
            _wait(kind)
            begin = time.perf_counter()
            fit(
                objective,
                optimizer=optimizer,
                source=source,
                state=state,
                budget=Ends(max_steps=config.training.max_steps),
                config=config.training,
                optimizer_config=config.optimizer,
                schedule=config.schedule,
                logging=config.logging,
                device=device,
                dtype=pick_dtype("auto", device),
                logger=log,
            )
            _wait(kind)
            return time.perf_counter() - begin

        started = time.perf_counter() - begun
        first = steps(1)
        second = steps(2)  # CUDA graphs are recorded at the second call
        usual = steps(2) / 2
        count = 2 if case.quick else max(5, min(2000, round(WINDOW / usual)))
        source.seconds, tokens = 0.0, state.tokens_seen
        if kind == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = steps(count)
        keys = _keys(examples) if case.documents else float(config.data.max_length)
        flops = step_flops(config, vocab_size, keys) * count / seconds
        return {
            "parameters": sum(p.numel() for p in objective.model.encoder.parameters()),
            "rows": config.training.global_batch_size,
            "micro_batch": config.training.micro_batch_size,
            "length": config.data.max_length,
            "tokens_per_second": (state.tokens_seen - tokens) / seconds,
            "flops_per_second": flops,
            "milliseconds_a_step": 1e3 * seconds / count,
            "steps": count,
            "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9 if kind == "cuda" else None,
            "start_seconds": started,
            "compile_seconds": first + second - 3 * usual if case.compile else None,
            "loader_share": source.seconds / seconds,
            "loss": log.row["loss"],
            "said": said,
        }


def config_of(case: Case) -> Any:
    """The recipe behind its warm start, on packed rows; tiny where it is to be quick."""
    from electra.config import PretrainConfig
    from electra.recipe import read_recipe, resolve

    changes: dict[str, dict[str, Any]] = {
        "objective": {"warm_start": 0.0},
        "training": {"max_steps": 10**6, "micro_batch_size": MICRO_BATCH.get(case.recipe)},
        "data": {"examples": "packed", "document_attention": case.documents},
    }
    if case.quick:
        changes["model"] = {"num_hidden_layers": 1, "generator_layers": 1}
        changes["training"] |= {"global_batch_size": 4, "micro_batch_size": None}
        changes["data"]["max_length"] = 32
    return resolve(PretrainConfig, [(case.recipe, read_recipe(case.recipe)), ("", changes)])


def random_split(folder: Path, vocab_size: int, special: Any) -> Any:
    """Two million random tokens in documents of some hundred, as a split."""
    import numpy as np

    from electra.corpus.folder import Split
    from electra.corpus.shards import ShardWriter

    writer = ShardWriter(folder, "train", vocab_size=vocab_size, sep_id=special.sep)
    draw = np.random.default_rng(0)
    written = 0
    while written < 2_000_000:
        length = int(np.clip(draw.lognormal(5.5, 0.9), 16, 10_000))
        writer.add(draw.integers(5, vocab_size, length).astype(np.uint32))
        written += length + 1
    writer.flush()
    return Split(folder, "train", writer.dtype, writer.shards)


def _keys(examples: Any) -> float:
    """Tokens of its own document that a token attends to, on average over some rows."""
    import numpy as np

    starts = examples.rows(np.arange(min(1000, len(examples)), dtype=np.uint64))["document_starts"]
    length = examples.max_length
    sizes = np.diff(starts, append=length)
    return float((sizes**2).sum() / (len(starts) * length))


def step_flops(config: Any, vocab_size: int, keys: float) -> float:
    """Operations of a step, each token attending to so many keys (see the module)."""
    from electra.model.flops import encoder_network, generator_network, layer_flops, train_flops

    counted, length = train_flops(config, vocab_size), config.data.max_length
    forward = sum(n for part, n in counted.parts.items() if not part.endswith("embeddings")) / 2
    for network in (encoder_network(config.model), generator_network(config.model)):
        unread = layer_flops(network, length) - layer_flops(network, round(keys))
        forward -= counted.tokens_per_step * network.num_hidden_layers * unread
    return 3 * forward


class _Timed:
    """A source that knows how long it took."""

    def __init__(self, source: Any) -> None:
        self._source, self.seconds = source, 0.0

    def batch(self, position: int, size: int) -> Any:
        """Of the source."""
        begin = time.perf_counter()
        batch = self._source.batch(position, size)
        self.seconds += time.perf_counter() - begin
        return batch


class _Last:
    """A logger that keeps the last row."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = {}

    def log(self, row: dict[str, Any]) -> None:
        """Keep it."""
        self.row = row

    def show(self, progress: float, text: str) -> None:
        """Nothing."""


if __name__ == "__main__":
    main()
