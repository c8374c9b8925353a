"""What a budget is worth: the network and the batch for so many minutes or tokens.

    electra plan --data corpus --minutes 60
    electra pretrain --data corpus --output runs/first --minutes 60    # plans and trains

A network is worth it from so many tokens on, and a batch grows with a power of the tokens, fitted
on masked LM runs of up to 20 minutes of a core (`benchmarks/budgets.py`; docs/training.md says what
of the rule was measured). Minutes become tokens by steps of the candidates that are timed here, the
smallest first; tokens are told, so `--tokens` plans the same on every machine.
"""

from __future__ import annotations

import dataclasses
import json as json_format
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from electra.config import PretrainConfig
from electra.config.option import require
from electra.corpus.batches import CorpusSource
from electra.corpus.folder import Corpus
from electra.corpus.streams import examples_of, token_counts
from electra.corpus.tokenizer import SpecialIds, load_tokenizer, num_ids
from electra.errors import ConfigError
from electra.model.dropout import use_bit_dropout
from electra.objectives.objective import PretrainingObjective, RunFacts, build_objective
from electra.recipe import read_recipe, resolve, to_tables
from electra.training.device import (
    keep_memory,
    pick_device,
    pick_dtype,
    seed_everything,
    training_attention,
)
from electra.training.memory import forward_backward
from electra.training.noise import Noise
from electra.training.optimizer import build_optimizer

Tables = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """A network of a recipe, with what differs from it."""

    tokens: float
    """Read by masked LM in the budget, from which it is taken instead of the size before."""
    recipe: str
    changes: Tables = dataclasses.field(default_factory=dict)


def _width(hidden_size: int) -> Tables:
    shape = {"num_attention_heads": hidden_size // 32, "intermediate_size": 2 * hidden_size}
    return {"model": {"hidden_size": hidden_size, **shape}}


SIZES = (
    Size(tokens=0, recipe="tiny", changes=_width(64)),
    Size(tokens=8e6, recipe="tiny"),
    Size(tokens=60e6, recipe="tiny", changes=_width(192)),
    Size(tokens=330e6, recipe="small"),
    Size(tokens=2.7e9, recipe="base"),
)
"""From small to large. 128 wide is level with 64 in as much time at 5e6 on one processor and not
yet on another, hence 8e6; 192 wide is not worth it at 10e6 on either. 60e6 and more are 20 tokens a
weight (Hoffmann et al. 2022, arXiv 2203.15556), not measured."""
BATCH_TOKENS, BATCH_AT, BATCH_POWER = 3560, 5e6, 0.48
"""A batch of `BATCH_TOKENS` for a run of `BATCH_AT` tokens, more by this power of its tokens."""
TIMED_TOKENS = 4096
"""In a step that is timed."""
TIMED_STEPS = 3


def plan(
    *,
    data: Path,
    minutes: float | None = None,
    tokens: int | None = None,
    device: str = "auto",
    json: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Choose; return the recipe.

    Args:
        data: the corpus folder that will be read.
        minutes: of training on this machine.
        tokens: to read, instead.
        device: that candidates are timed on.
        json: print the result as one line of JSON instead of a table.
        console: where the result is printed; none: nowhere.

    Returns:
        {"minutes" or "max_tokens", "tokens": read by masked LM, "passes": over the corpus,
        "recipe": name, "tables": all sections of the recipe, with what the budget changes,
        "candidates": [{"network", "from_tokens", "tokens_per_second", "tokens"}]}; speeds are none
        for a budget of tokens.

    Raises:
        ConfigError: not exactly one budget, or it is not above 0; minutes, and torchrun started
            this process.
    """
    _check(minutes, tokens)
    pick_device(device)
    corpus = Corpus(data)
    candidates: list[dict[str, Any]] = []
    for size in SIZES:
        config, speed, read = _config(size), None, tokens or 0
        if minutes is not None:
            try:
                speed = tokens_per_second(config, corpus, device)
            except torch.OutOfMemoryError:
                if not candidates:
                    raise
                break
            read = max(1, round(60 * minutes * speed))
        row = {"network": _network(config), "from_tokens": size.tokens, "tokens": read}
        candidates.append({**row, "tokens_per_second": speed})
        if read < size.tokens:
            break
    size, read = SIZES[_taken(candidates)], candidates[_taken(candidates)]["tokens"]
    config = _config(size)
    rows = batch_rows(read, config.data.max_length)
    budget = {"minutes": minutes} if minutes is not None else {"max_tokens": tokens}
    tables: Tables = {"training": {**budget, "global_batch_size": rows}}
    layers = [*_layers(size), ("plan", tables)]
    result = {
        **budget,
        "tokens": read,
        "passes": read / max(1, corpus.split("train").num_tokens),
        "recipe": size.recipe,
        "tables": to_tables(resolve(PretrainConfig, layers)),
        "candidates": candidates,
    }
    if console is not None:
        _show(console, result, json)
    return result


def batch_rows(tokens: float, length: int) -> int:
    """Sequences of `length` tokens in a batch for a run of so many tokens: a power of two.

    Rounded up from .6 of the way: at all three budgets a batch too large cost more than one too
    small.
    """
    wanted = BATCH_TOKENS * (tokens / BATCH_AT) ** BATCH_POWER / length
    return int(2 ** max(3, math.floor(math.log2(wanted) + 0.4)))


def _passes(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def one_line(result: Mapping[str, Any]) -> str:
    """The choice in words."""
    config = resolve(PretrainConfig, [("plan", result["tables"])])
    budget = (
        f"{result['minutes']:g} minutes here"
        if "minutes" in result
        else f"{result['max_tokens']:,} tokens"
    )
    return (
        f"{budget} are worth a network of {_network(config)} and batches of "
        f"{config.training.global_batch_size:,} sequences of {config.data.max_length} tokens "
        f"(recipe {result['recipe']}; {_short(result['tokens'])} tokens by masked LM, "
        f"{_passes(result['passes'])} times the corpus)"
    )


def tokens_per_second(config: PretrainConfig, corpus: Corpus, device: str = "auto") -> float:
    """By steps of masked LM, the first stage of the modern recipes, on the corpus's own text."""
    where = pick_device(device)
    dtype = pick_dtype(config.training.dtype, where)
    keep_memory()
    objective, source = objective_and_source(config, corpus, where)
    optimizer = build_optimizer(objective, config.optimizer)
    rows = max(1, TIMED_TOKENS // config.data.max_length)
    first = next(objective.parameters())
    objective.begin_step(0.0)
    seconds = []
    for step in range(TIMED_STEPS + 1):
        begun = time.perf_counter()
        forward_backward(
            objective, source.batch(step * rows, rows), Noise(step), device=where, dtype=dtype
        )
        optimizer.step()
        optimizer.zero_grad()
        first.flatten()[0].item()  # waits for a GPU
        seconds.append(time.perf_counter() - begun)
    return rows * config.data.max_length / min(seconds[1:])


def objective_and_source(
    config: PretrainConfig, corpus: Corpus, device: torch.device
) -> tuple[PretrainingObjective, CorpusSource]:
    """What `pretrain` trains and reads, begun, for steps that are timed and no run."""
    tokenizer = load_tokenizer(corpus.folder)
    special, rows = SpecialIds.of(tokenizer), num_ids(tokenizer)
    seed_everything(config.training.seed)
    counts = token_counts(corpus, rows, config)
    objective = build_objective(config, rows, special, token_counts=counts).to(device)
    use_bit_dropout(objective)
    dropout = config.model.attention_probs_dropout_prob
    kernel = training_attention(device, config.data.max_length, dropout=dropout)
    objective.model.use_attention(kernel)
    examples = examples_of(corpus, "train", config, special)
    source = CorpusSource(examples, seed=config.training.seed, with_ids=objective.wants_ids)
    fingerprint, size = str(corpus.manifest["fingerprint"]), len(examples)
    objective.begin_run(RunFacts(config, tokenizer, fingerprint, lambda _: None, size, 1))
    return objective, source


def _check(minutes: float | None, tokens: int | None) -> None:
    if (minutes is None) == (tokens is None):
        raise ConfigError("give one budget: --minutes or --tokens")
    name, budget = ("tokens", tokens) if minutes is None else ("minutes", minutes)
    require(budget is not None and 0 < budget < math.inf, name, budget, "above 0")
    if minutes is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "--minutes times candidates in one process alone, and torchrun has started "
            "several: give --tokens, or --recipe with --training.minutes"
        )


def _layers(size: Size) -> list[tuple[str, Tables]]:
    return [(f"recipe {size.recipe}", read_recipe(size.recipe)), ("plan", size.changes)]


def _config(size: Size) -> PretrainConfig:
    return resolve(PretrainConfig, _layers(size))


def _taken(candidates: Sequence[Mapping[str, Any]]) -> int:
    """The largest candidate whose budget is as long as it wants."""
    return max(n for n, row in enumerate(candidates) if row["tokens"] >= row["from_tokens"])


def _network(config: PretrainConfig) -> str:
    return f"{config.model.num_hidden_layers} layers of {config.model.hidden_size}"


def _short(tokens: float) -> str:
    for unit, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= unit:
            return f"{tokens / unit:.3g} {word}"
    return f"{tokens:.0f}"


def _show(console: Console, result: Mapping[str, Any], json: bool) -> None:
    if json:
        console.print(Text(json_format.dumps(result)), soft_wrap=True)
        return
    table = Table("network", "worth it from", "tokens a second here", "tokens in the budget", "")
    taken = _taken(result["candidates"])
    for number, row in enumerate(result["candidates"]):
        speed = row["tokens_per_second"]
        table.add_row(
            row["network"],
            _short(row["from_tokens"]) if row["from_tokens"] else "the first",
            "" if speed is None else f"{speed:,.0f}",
            _short(row["tokens"]),
            "taken" if number == taken else "",
        )
    console.print(table)
    console.print(one_line(result), highlight=False, markup=False, soft_wrap=True)
