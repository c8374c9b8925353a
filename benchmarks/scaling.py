"""What 8 to 512 GPUs are expected to give, on paper: docs/scaling.md.

    python -m benchmarks.scaling --write

Computed, not measured: parameters are counted on networks without memory, FLOPs by
`electra.model.flops`. The time of a step on one GPU comes from benchmarks/results/gpu.json where
that is there, else from an assumed utilisation; networks are assumptions, too. All of them are
arguments, and the summary holds what was given.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.record import finish
from electra.config import PretrainConfig
from electra.corpus.tokenizer import SpecialIds
from electra.model.flops import train_flops
from electra.objectives.objective import build_objective
from electra.recipe import read_recipe, resolve

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
BEGIN, END = "<!-- figures: python -m benchmarks.scaling --write -->", "<!-- end of figures -->"
RESULTS = Path(__file__).parent / "results"
MODELS = {"small": 16_384, "base": 32_768, "classic-large": 30_522}
"""Recipe -> vocabulary."""
WORLDS = (8, 16, 32, 64, 128, 256, 512)
BUCKET = 25 * 2**20
"""Bytes that DistributedDataParallel sends at once."""
VOTES = 3
"""Of the processors in each step, over TCP: to stop, on the gradient, and the clock. (The counts of
targets are summed by the GPUs.)"""
BACKWARD = 2 / 3
"""Share of a step's products that the backward pass has, during which gradients are sent."""


def main() -> None:
    """Count, and print the table."""
    given = parser().parse_args()
    rows, summary = plan(given)
    if given.write:
        PAGE.write_text(with_tables(PAGE.read_text("utf-8"), rows, summary), encoding="utf-8")
    finish(rows, summary, json_file=given.json)


def parser() -> argparse.ArgumentParser:
    """Of the command line; its defaults are the assumptions of the page."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--json", type=Path)
    made.add_argument("--write", action="store_true", help="the tables of docs/scaling.md")
    made.add_argument("--teraflops", type=float, default=989.0, help="data sheet, bfloat16")
    made.add_argument("--small", type=float, default=0.20, help="assumed utilisation")
    made.add_argument("--base", type=float, default=0.45, help="assumed, also of large")
    made.add_argument("--inside", type=float, default=300.0, help="GB/s a GPU, in a machine")
    made.add_argument("--fast", type=float, default=320.0, help="GB/s a machine, 8 x 400 Gb/s")
    made.add_argument("--slow", type=float, default=10.0, help="GB/s a machine, 1 x 100 Gb/s")
    made.add_argument("--hop", type=float, default=5.0, help="microseconds, between GPUs")
    made.add_argument("--tcp-hop", type=float, default=50.0, help="microseconds, processors")
    made.add_argument("--tokens", type=int, default=65_536, help="a GPU and step, as they fit")
    return made


def plan(given: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for each recipe, batch and number of GPUs; what they are made from."""
    measured = _summary("gpu")
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {
        "utilisation_from": "gpu.json" if measured else "assumed",
        "assumed": {
            name: value for name, value in vars(given).items() if name not in ("json", "write")
        },
    }
    for name, vocabulary in MODELS.items():
        kind = "small" if name == "small" else "base"
        utilisation = float(measured.get(f"{kind}_utilisation") or getattr(given, kind))
        config = resolve(PretrainConfig, [(name, read_recipe(name))])
        count = parameters(config, vocabulary)
        flops = train_flops(config, vocabulary).per_token
        speed = given.teraflops * 1e12 * utilisation / flops
        key = name.replace("-", "_")
        summary |= {
            f"{key}_parameters": count,
            f"{key}_gradient_megabytes": 4 * count / 1e6,
            f"{key}_checkpoint_megabytes": 12 * count / 1e6,
            f"{key}_megaflops_per_token": flops / 1e6,
            f"{key}_utilisation": utilisation,
            f"{key}_tokens_per_second_one_gpu": speed,
        }
        batch = config.training.global_batch_size * config.data.max_length
        for grows in ("the recipe's", "with the GPUs"):
            for world in WORLDS:
                tokens = batch / world if grows == "the recipe's" else given.tokens
                if tokens < config.data.max_length:
                    continue
                compute = tokens / speed
                row: dict[str, Any] = {
                    "recipe": name,
                    "batch": grows,
                    "GPUs": world,
                    "tokens a step": round(tokens * world),
                    "tokens a GPU": round(tokens),
                    "compute ms": 1e3 * compute,
                }
                for network in ("fast", "slow"):
                    send, tail = messages(count, world, network, given)
                    small = latency(world, given.hop) + VOTES * latency(world, given.tcp_hop)
                    seen = max(send - BACKWARD * compute, tail) + small
                    row[f"{network}: sending ms"] = 1e3 * send
                    row[f"{network}: efficiency"] = compute / (compute + seen)
                row["fast: M tokens/s"] = row["fast: efficiency"] * speed * world / 1e6
                rows.append(row)
    reading = _summary("reading_throughput").get("tokens_per_second_at_least")
    summary |= {
        "reading_tokens_per_second_a_process": reading,
        "reading_over_small_on_one_gpu": reading
        and reading / summary["small_tokens_per_second_one_gpu"],
        "seconds_a_checkpoint_gigabyte": _checkpoint_seconds(),
    }
    return rows, summary


def with_tables(page: str, rows: list[dict[str, Any]], summary: dict[str, Any]) -> str:
    """The page with what stands between the markers made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    names = [
        *("parameters", "gradient_megabytes", "checkpoint_megabytes", "megaflops_per_token"),
        *("utilisation", "tokens_per_second_one_gpu"),
    ]
    models = [
        {"recipe": recipe}
        | {name.replace("_", " "): summary[f"{recipe.replace('-', '_')}_{name}"] for name in names}
        for recipe in MODELS
    ]
    return f"{before}{BEGIN}\n{_markdown(models)}\n\n{_markdown(rows)}\n{END}{after}"


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    for row in rows:
        shown = (
            f"{v:,.3g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v
            for v in row.values()
        )
        lines.append("| " + " | ".join(map(str, shown)) + " |")
    return "\n".join(lines)


def parameters(config: PretrainConfig, vocabulary: int) -> int:
    """What a recipe trains, tied ones once."""
    with torch.device("meta"):
        objective = build_objective(config, vocabulary, SpecialIds(0, 1, 2, 3, 4))
    return sum(p.numel() for p in objective.parameters() if p.requires_grad)


def messages(
    count: int, world: int, network: Literal["fast", "slow"], given: Any
) -> tuple[float, float]:
    """Seconds to sum all gradients, and those of the last bucket, which nothing overlaps.

    A ring sends 2 (n - 1) / n of the bytes through its narrowest link: that of a GPU within a
    machine of eight, that of the machine beyond.
    """
    bandwidth = (given.inside if world <= 8 else min(given.inside, getattr(given, network))) * 1e9
    size = 4 * count
    buckets = math.ceil(size / BUCKET)
    share = 2 * (world - 1) / world
    hop = latency(world, given.hop)
    return share * size / bandwidth + buckets * hop, share * min(size, BUCKET) / bandwidth + hop


def latency(world: int, microseconds: float) -> float:
    """Seconds of a sum of nothing: up a tree and down again."""
    return 2 * math.log2(world) * microseconds * 1e-6


def _summary(name: str) -> dict[str, Any]:
    file = RESULTS / f"{name}.json"
    return dict(json.loads(file.read_text("utf-8"))["summary"]) if file.is_file() else {}


def _checkpoint_seconds() -> float | None:
    """Measured, of a gigabyte, on the largest recipe there is."""
    file = RESULTS / "checkpoint_cost.json"
    if not file.is_file():
        return None
    row = max(json.loads(file.read_text("utf-8"))["rows"], key=lambda row: row["megabytes"])
    return 1e3 * float(row["seconds"]) / float(row["megabytes"])


if __name__ == "__main__":
    main()
