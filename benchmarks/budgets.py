"""The rule of `electra plan`, on runs of the track: batch and width by budget.

    python -m benchmarks.budgets          # results/budgets.json and docs/budgets.svg

Reads `results/quality/unscored/`, of which it takes masked LM with the rates and masks of `tiny`.
Batch: of each budget, the vertex of the parabola through the held-out losses of the best batch and
its neighbours, over the logarithm of the batch; through the vertices a power of the tokens read,
by least squares. Width: a wider network is ahead at equal tokens, and reads fewer in the
same time, how many fewer is the processor's; the table has what it is ahead by
and what it has to be, and where `electra.plan.SIZES` sets the limits is judged by that.

Warm start: `results/quality/selection/`, of which it takes `tiny` with any share of masked LM
before replaced tokens take over, a generator of one or two layers, and masked LM alone, all seeds:
what is drawn is the reason why the plan leaves that share as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality_per_minute import VOCABULARY
from benchmarks.record import finish

HERE = Path(__file__).parent
RUNS = HERE / "results" / "quality" / "unscored"
SCORED = HERE / "results" / "quality" / "selection"
RESULT = HERE / "results" / "budgets.json"
PICTURE = HERE.parent / "docs" / "budgets.svg"
LENGTH = 64
RULE_OF = {
    "optimizer.name": "muon",
    "optimizer.learning_rate": "4e-3",
    "objective.mask_prob": ".3",
    "objective.mask_prob_end": ".15",
}
SHAPE = {"model.hidden_size": "128", "training.global_batch_size": "32"}
"""With what the track's row has where nothing is said."""
PARENT = "tiny-repetition-02"
"""The row whose warm start was varied."""
MASKED = {"mask_prob", "mask_prob_end", "mask_token_prob", "causal_start", "repetition_weight"}
"""What masked LM alone has of `tiny`'s objective."""
OF_TRAINING = ("global_batch_size", "average_last")
"""Fields of `[training]` that are not the budget's, the seed's or the machine's."""
GENERATOR = {"generator_layers": 0}
"""Of any depth."""
AT = 5e6
"""Tokens that the fitted batch is told for."""
FOLLOWS = {"model.num_attention_heads", "model.intermediate_size"}
"""The width."""


def main() -> None:
    """Fit, print, write, draw."""
    runs = ladder()
    vertices = best_batches(runs)
    power, at = fitted(vertices)
    summary: dict[str, Any] = {"batch_power": power, f"batch_tokens_at_{AT:.0e}": at}
    for minutes, (tokens, batch) in vertices.items():
        summary[f"best_batch_{minutes:g}min"] = batch
        summary[f"best_batch_{minutes:g}min_tokens"] = tokens
    shares = warm_starts()
    for run in shares:
        key = f"means_{run['minutes']:g}min_at_{run['warm_start']:g}"
        summary.setdefault(key, []).append(run["mean"])
    finish(wider(runs), summary, json_file=RESULT)
    draw(runs, vertices, power, at, shares)


def ladder() -> list[dict[str, Any]]:
    """The runs of one rate and mask rate, of one seed, by minutes, width and batch."""
    found = []
    for file in sorted(RUNS.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        run = record["summary"]
        given = dict(change.split("=", 1) for change in run["changes"])
        shape = SHAPE | {key: given.pop(key) for key in SHAPE if key in given}
        given = {key: value for key, value in given.items() if key not in FOLLOWS}
        if run["row"] != "masked_lm" or run["seed"] != 0 or given != RULE_OF:
            continue
        found.append(
            {
                "processor": record["machine"]["processor"].removesuffix(" Processor"),
                "minutes": run["minutes"],
                "width": int(shape["model.hidden_size"]),
                "batch": int(shape["training.global_batch_size"]),
                "tokens": run["tokens"],
                "loss": run["encoder_mlm_loss"],
            }
        )
    return sorted(found, key=lambda run: (run["minutes"], run["width"], run["batch"]))


def warm_starts() -> list[dict[str, Any]]:
    """Scored runs of `PARENT` by minutes and share; all of it: masked LM alone."""
    runs = [
        json.loads(file.read_text("utf-8"))["summary"] for file in sorted(SCORED.glob("*.json"))
    ]
    tiny = next(run["config"] for run in runs if run["name"] == PARENT)
    found = []
    for run in runs:
        given = run["config"]
        alone = given["objective"]["name"] == "masked_lm"
        of_loss = MASKED if alone else tiny["objective"].keys() - {"warm_start"}
        of_loss = of_loss & given["objective"].keys()  # fields come and go
        same = all(given["objective"][key] == tiny["objective"][key] for key in of_loss)
        same &= given["model"] | GENERATOR == tiny["model"] | GENERATOR
        same &= given["optimizer"] == tiny["optimizer"] and run["vocabulary"] == VOCABULARY
        same &= given["schedule"] == tiny["schedule"]
        same &= all(given["training"][key] == tiny["training"][key] for key in OF_TRAINING)
        if same:
            share = 1.0 if alone else given["objective"]["warm_start"]
            found.append(
                {key: run[key] for key in ("name", "minutes", "mean")} | {"warm_start": share}
            )
    return sorted(found, key=lambda run: (run["minutes"], run["warm_start"]))


def best_batches(runs: list[dict[str, Any]], width: int = 128) -> dict[float, tuple[float, float]]:
    """Minutes -> tokens read and sequences of the batch at the vertex, where one is enclosed."""
    found = {}
    for minutes in sorted({run["minutes"] for run in runs}):
        mine = [r for r in runs if r["minutes"] == minutes and r["width"] == width]
        best = min(range(len(mine)), key=lambda n: mine[n]["loss"], default=0)
        if 0 < best < len(mine) - 1:
            three = mine[best - 1 : best + 2]
            places = [math.log2(r["batch"]) for r in three]
            square, slope, _ = np.polyfit(places, [r["loss"] for r in three], 2)
            vertex = -slope / (2 * square)
            tokens = np.interp(vertex, places, [r["tokens"] for r in three])
            found[minutes] = (float(tokens), float(2**vertex))
    return found


def fitted(vertices: Mapping[float, tuple[float, float]]) -> tuple[float, float]:
    """Power of the tokens read, and tokens of the batch at `AT`."""
    tokens, batches = np.log([*vertices.values()]).T
    power, constant = np.polyfit(tokens - math.log(AT), batches + math.log(LENGTH), 1)
    return float(power), float(math.exp(constant))


def wider(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the next width is ahead by at equal tokens, and what it has to be at equal time.

    In the same time the wider one reads fewer tokens; the narrower gains by the rest what its own
    line over the logarithm of the tokens says.
    """
    found = []
    for narrow, wide in pairwise(sorted({run["width"] for run in runs})):
        line = _line(runs, narrow)
        needed: dict[str, float | None] = {}
        for processor in sorted({run["processor"] for run in runs}):
            fast, slow = (_speed(runs, width, processor) for width in (narrow, wide))
            needed[processor] = None
            if fast is not None and slow is not None:
                needed[processor] = -float(line[0]) * math.log(fast / slow)
        for run in _best(runs, wide):
            ahead = float(np.polyval(line, math.log(run["tokens"]))) - run["loss"]
            found.append(
                {
                    "wider": f"{wide} over {narrow}",
                    "tokens": run["tokens"],
                    "ahead at equal tokens": ahead,
                    **{f"needed, {name}": value for name, value in needed.items()},
                }
            )
    return found


def _best(runs: list[dict[str, Any]], width: int) -> list[dict[str, Any]]:
    """Of each budget the run with the best batch, the shortest first."""
    mine = [run for run in runs if run["width"] == width]
    budgets = sorted({run["minutes"] for run in mine})
    return [min((r for r in mine if r["minutes"] == m), key=lambda r: r["loss"]) for m in budgets]


def _line(runs: list[dict[str, Any]], width: int) -> Any:
    """Loss over the logarithm of the tokens: slope, constant."""
    best = _best(runs, width)
    return np.polyfit([math.log(r["tokens"]) for r in best], [r["loss"] for r in best], 1)


def _speed(runs: list[dict[str, Any]], width: int, processor: str) -> float | None:
    """Tokens in a time, of the fastest batch."""
    mine = [r for r in runs if r["width"] == width and r["processor"] == processor]
    return max((r["tokens"] / r["minutes"] for r in mine), default=None)


def draw(
    runs: list[dict[str, Any]],
    vertices: Mapping[float, tuple[float, float]],
    power: float,
    at: float,
    shares: list[dict[str, Any]],
) -> None:
    """Losses by batch and by width, the batch by tokens read, scores by warm start."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "budgets"  # the same bytes for the same runs
    figure = Figure(figsize=(9, 7), layout="constrained")
    (left, middle), (right, last) = figure.subplots(2, 2)
    minutes = sorted({run["minutes"] for run in runs})
    for number, budget in enumerate(minutes):
        color, label = f"C{number}", f"{budget:g} minutes"
        of_width = [r for r in runs if r["minutes"] == budget and r["width"] == 128]
        x, y = [r["batch"] for r in of_width], [r["loss"] for r in of_width]
        left.plot(x, y, "o-", color=color, label=label)
        widths = sorted({r["width"] for r in runs if r["minutes"] == budget})
        best = [
            min(r["loss"] for r in runs if r["minutes"] == budget and r["width"] == w)
            for w in widths
        ]
        middle.plot(widths, best, "o-", color=color, label=label)
    for axes, name, of in (
        (left, "sequences a batch, 128 wide", "batch"),
        (middle, "width, best batch tried", "width"),
    ):
        ticks = sorted({run[of] for run in runs})
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
        axes.set(xlabel=name, ylabel="held-out loss of masked LM")
        axes.legend(fontsize=8)
    tokens = np.geomspace(5e5, 1e8, 50)
    right.plot(tokens, at * (tokens / AT) ** power, color="grey", label=f"power {power:.2f}")
    for number, budget in enumerate(minutes):
        if budget in vertices:
            read, batch = vertices[budget]
            right.plot([read], [batch * LENGTH], "o", color=f"C{number}", label=f"{budget:g} min")
    right.set(xscale="log", yscale="log", xlabel="tokens read", ylabel="tokens of the best batch")
    right.legend(fontsize=8)
    for budget in sorted({run["minutes"] for run in shares}):
        of_budget = [run for run in shares if run["minutes"] == budget]
        x, y = [run["warm_start"] for run in of_budget], [100 * run["mean"] for run in of_budget]
        color = f"C{minutes.index(budget)}" if budget in minutes else f"C{len(minutes)}"
        last.plot(x, y, "o", color=color, label=f"{budget:g} minutes, each seed")
    last.set(xlabel="warm start (1: masked LM alone)", ylabel="mean of six scores")
    last.legend(fontsize=8)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
