"""A recipe to FLOPs: what training and one input cost, before anything is run.

electra flops --recipe classic-small --json
"""

from __future__ import annotations

import json as json_format
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from electra.config import PretrainConfig
from electra.config.option import require
from electra.model.flops import (
    PUBLISHED,
    PUBLISHED_INPUT,
    PUBLISHED_OUTPUT_SHARE,
    PUBLISHED_VOCAB_SIZE,
    inference_flops,
    masked_share,
    published_flops,
    train_flops,
)


def flops(
    *,
    config: PretrainConfig,
    vocab_size: int | None = None,
    json: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Count a pretraining run and the inference of its encoder.

    Args:
        config: the resolved recipe; of networks that it begins with (`model.discriminator`) the
            shape is theirs, as in `pretrain`.
        vocab_size: V, as the tokenizer has it; none: theirs, else that of BERT and ELECTRA.
        json: print the result as one line of JSON instead of tables.
        console: where the result is printed; none: nowhere.

    Returns:
        {"objective", "family", "vocab_size", "length", "batch_size", "masked_share",
        "parts_per_step": {part: FLOPs}, "per_step", "per_token", "steps", "total",
        "inference": [{"length", "flops"}]}; "steps" and "total" are none for a budget in minutes.

    Raises:
        ConfigError: the vocabulary is empty, a network cannot be opened, or there is no generator
            of the recipe's size.
    """
    notes: list[str] = []
    if config.model.discriminator is not None:
        from electra.model.pretrained_parts import open_parts  # torch, which is not light

        parts = open_parts(config)
        assert parts is not None, "it names a network"
        config, notes = parts.reshape(config), parts.notes
        vocab_size = parts.discriminator.config.vocab_size if vocab_size is None else vocab_size
    vocab_size = PUBLISHED_VOCAB_SIZE if vocab_size is None else vocab_size
    require(vocab_size > 0, "vocab-size", vocab_size, "above 0")
    counted = train_flops(config, vocab_size)
    longest = config.model.max_position_embeddings
    lengths = sorted({config.data.max_length, min(PUBLISHED_INPUT, longest)})
    result = {
        "objective": config.objective.name,
        "family": config.model.family,
        "vocab_size": vocab_size,
        "length": config.data.max_length,
        "batch_size": config.training.global_batch_size,
        "masked_share": masked_share(config),
        "parts_per_step": dict(counted.parts),
        "per_step": counted.per_step,
        "per_token": counted.per_token,
        "steps": counted.steps,
        "total": counted.total,
        "inference": [
            {"length": length, "flops": inference_flops(config.model, vocab_size, length)}
            for length in lengths
        ],
    }
    if console is not None:
        if json:
            _print_json(console, result)
        else:
            for note in notes:
                _say(console, note)
            _show(console, result, config)
    return result


def published(*, json: bool = False, console: Console | None = None) -> list[dict[str, Any]]:
    """Count the runs of the ELECTRA paper, beside what its authors' script prints.

    Returns:
        [{"name", "recipe", "inference", "published", "computed"}]
    """
    rows = [
        {
            "name": name,
            "recipe": entry.recipe,
            "inference": entry.inference,
            "published": entry.flops,
            "computed": published_flops(name),
        }
        for name, entry in PUBLISHED.items()
    ]
    if console is not None:
        if json:
            _print_json(console, rows)
        else:
            table = Table("run", "recipe", "published", "computed")
            for row in rows:
                figures = (f"{row[key]:.4e}" for key in ("published", "computed"))
                table.add_row(str(row["name"]), str(row["recipe"]), *figures)
            console.print(table)
            _say(
                console,
                f"published: the authors' flops_computation.py, with {PUBLISHED_VOCAB_SIZE:,} "
                f"word pieces and the vocabulary met at {PUBLISHED_OUTPUT_SHARE} of the positions; "
                "inference: one input of "
                f"{PUBLISHED_INPUT} tokens. The paper prints 1.4e18 for electra_small.",
            )
    return rows


def _show(console: Console, result: dict[str, Any], config: PretrainConfig) -> None:
    title = (
        f"{result['objective']}, {result['family']}: {result['batch_size']:,} sequences of "
        f"{result['length']:,} tokens a step, vocabulary {result['vocab_size']:,}"
    )
    _say(console, title)
    table = Table("part, forward and backward", "FLOPs a step", "share")
    for name, value in result["parts_per_step"].items():
        if value:
            share = value / result["per_step"]
            table.add_row(name.replace("_", " "), f"{value:.4e}", f"{share:.1%}")
    table.add_row("total", f"{result['per_step']:.4e}", "100.0%", style="bold")
    console.print(table)
    totals = Table("FLOPs", "")
    if result["total"] is not None:
        totals.add_row(f"training, {result['steps']:,.0f} steps", f"{result['total']:.4e}")
    totals.add_row("a token of training", f"{result['per_token']:.4e}")
    for row in result["inference"]:
        totals.add_row(f"one input of {row['length']} tokens", f"{row['flops']:.4e}")
    console.print(totals)
    if result["total"] is None:
        _say(
            console,
            f"the budget is {config.training.minutes:g} minutes: how many steps that is, and so "
            "the total, depends on the machine",
        )


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False)


def _print_json(console: Console, result: object) -> None:
    console.print(Text(json_format.dumps(result)), soft_wrap=True)
