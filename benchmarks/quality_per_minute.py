"""The track: which recipe makes the best encoder of M minutes, from raw text to six scores.

    python -m benchmarks.quality_per_minute --row classic --minutes 60 --seed 0 --official
    python -m benchmarks.quality_per_minute --row rtd --minutes 15 --name rtd-lr4e-3 \
        --set optimizer.learning_rate=4e-3
    python -m benchmarks.quality_per_minute --list

Text: enwiki and novels_en. Making the tokenizer and the corpus is not counted. Minutes are of one
processor, turned into steps before a run: ten steps of the row and ten of a fixed reference take
turns at eight places of the schedule on one thread, the fastest of three counts, and the row is
granted the steps that its ratio to the reference, whose step was timed once on a quiet machine
(`--reference`), leaves room for. So a run can be stopped, resumed and disturbed without changing
what it computes, and two can share a machine of two cores. On a GPU minutes are the clock's
(`--device cuda`).

Score: the mean of BLiMP (17 paradigms of 200 pairs; a masked LM by pseudo-log-likelihood, a
discriminator by the sum of log P(original)), SST-2 (8,000 rows, 2 epochs), STS-B, RTE, TREC (3
epochs each) and CoNLL-2003 (4,000 sentences, 3 epochs), fine-tuned at one rate with one seed.
Choices are made on selection data (`quality_selection.toml`: rows held back of training,
development sets, every second paradigm); `--official` scores the same run on the official sets and
the other paradigms, for the last table alone. `--unscored` ends with the held-out losses: what
rates and optimizers of one objective and mask rate are looked through by. One JSON a (row,
minutes, seed) under `benchmarks/results/quality/`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import protocol
from benchmarks.feature_rank import effective_rank, mean_cosine, token_states
from benchmarks.record import finish, write
from benchmarks.step_time import PLANNED, Contestant
from electra.benchmark import benchmark
from electra.config import PrepareSettings, PretrainConfig
from electra.corpus.folder import Corpus
from electra.prepare import prepare
from electra.pretrain import pretrain
from electra.recipe import nest, read_recipe, resolve
from electra.training.device import keep_memory

TEXTS = ("enwiki", "novels_en")
SIX = ("blimp", "sst2", "stsb", "rte", "trec", "conll2003")
"""The scores, in the order of tables."""
SCORED = ("official", "selection")
"""What runs are scored on, the sets of the last table and those that choose."""
HERE = Path(__file__).parent
RESULTS = HERE / "results" / "quality"
REFERENCE = HERE / "results" / "quality_reference.json"
VOCABULARY = 8_192
REFERENCE_ROW = "masked_lm"
"""The row that every other is timed against."""
PLACES = 8
"""Of the schedule where steps are timed."""
TURNS = 3
"""At each place; the fastest counts: with one, ratios of the same row differed by up to 14 %."""
RATE: dict[str, Any] = {
    "optimizer": {"learning_rate": 1e-3, "layerwise_lr_decay": 1.0},
    "schedule": {"warmup_ratio": 0.1},
    "training": {
        "global_batch_size": 32,
        "save_total_limit": 1,
        "eval_steps": 10**9,
        "save_steps": 10**9,
        "restarts": 0,
        "device": "cpu",
    },
    "data": {"max_length": 64},
}
"""Of all fine-tuning; the suites add epochs and longer inputs."""

MODERN: dict[str, Any] = {
    "model": {
        "family": "modern",
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "max_position_embeddings": 128,
        "generator_layers": 2,
        "initialization": "scaled",
    },
    "objective": {
        "name": "replaced_token_detection",
        "mask_prob": 0.15,
        "mask_token_prob": 1.0,
        "discriminator_weight": 50.0,
    },
    "optimizer": {"learning_rate": 2e-3, "adam_beta2": 0.98, "adam_epsilon": 1e-8},
    "schedule": {"warmup_ratio": 0.02},
    "training": {"global_batch_size": 32},
    "data": {"max_length": 64},
}
"""The modern network with plain replaced token detection: what the rungs change, one at a time."""
CLASSIC_DATA = {"data": {"max_length": 64}, "schedule": {"overlap": True, "warmup_steps": 500}}
ROWS: dict[str, list[Mapping[str, Any]]] = {
    "classic": [read_recipe("classic-tiny"), CLASSIC_DATA],
    "masked_lm_classic": [
        read_recipe("classic-tiny"),
        CLASSIC_DATA,
        {"objective": {"name": "masked_lm"}},
    ],
    "masked_lm": [MODERN, {"objective": {"name": "masked_lm"}}],
    "rtd": [MODERN],
    "tiny": [read_recipe("tiny")],
}
"""Row -> its recipe, in layers; `--set` adds one."""


def main() -> None:
    """Time the reference, or train and score one row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="of the row with what --set changes")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    scored = parser.add_mutually_exclusive_group()
    scored.add_argument("--official", action="store_true", help="score on the official sets")
    scored.add_argument("--unscored", action="store_true", help="held-out losses alone")
    parser.add_argument("--reference", action="store_true", help="time the reference's step")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--quick", action="store_true", help="60 steps, 10 pairs a paradigm")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.list:
        print("\n".join(ROWS))
        return
    lacking = [name for name in (*TEXTS, *SIX) if not (protocol.DATA / name).is_dir()]
    if lacking:
        sys.exit(f"skipped: no {', '.join(lacking)} in {protocol.DATA}; set ELECTRA_DATA")
    if given.changes and given.name is None:
        parser.error("--set makes another row: give it a --name")
    if given.device == "cpu" and not (given.reference or REFERENCE.is_file()):
        sys.exit(f"no {REFERENCE}: run this with --reference first, on a quiet machine")
    if given.device == "cpu":
        torch.set_num_threads(1)
        keep_memory()
    console = Console(stderr=True)
    corpus = _corpus(given.work, given.vocabulary, console)
    if given.reference:
        _time_reference(corpus)
    elif given.row is None:
        parser.error("give --row, --reference or --list")
    else:
        _run(given, corpus, console)


def config_of(
    row: str, changes: list[str], *, seed: int, budget: Mapping[str, Any]
) -> PretrainConfig:
    """The recipe of a row with what is changed in it; the last layer is budget and seed."""
    named = nest(dict(change.split("=", 1) for change in changes))
    last = {"training": {**budget, "seed": seed}}
    layers = [*((row, layer) for layer in ROWS[row]), ("--set", named), ("budget", last)]
    return resolve(PretrainConfig, layers)


def _corpus(work: Path, vocabulary: int, console: Console) -> Corpus:
    folder = work / f"corpus-{vocabulary}"
    if not (folder / "manifest.json").is_file():
        prepare(
            [protocol.DATA / name for name in TEXTS],
            output=folder,
            settings=PrepareSettings(
                vocab_size=vocabulary, licence="Wikipedia, CC BY-SA 3.0; public-domain novels"
            ),
            console=console,
        )
    return Corpus(folder)


def _time_reference(corpus: Corpus, rounds: int = 30) -> None:
    """Milliseconds of a step of the reference: the median of many turns on a quiet machine."""
    contestant = Contestant(_planned(REFERENCE_ROW, []), corpus)
    contestant.time_steps()
    times = [1e3 * contestant.time_steps()[0] for _ in range(rounds)]
    rows = [{"row": REFERENCE_ROW, "fastest": min(times), "slowest": max(times)}]
    finish(rows, {"milliseconds": statistics.median(times)}, json_file=REFERENCE)


def _planned(row: str, changes: list[str]) -> PretrainConfig:
    return config_of(row, changes, seed=0, budget={"max_steps": PLANNED, "device": "cpu"})


def _ratio(row: str, changes: list[str], corpus: Corpus, reference_corpus: Corpus) -> float:
    """Processor time of a step over the reference's, on the average over the schedule."""
    one = Contestant(_planned(row, changes), corpus)
    other = Contestant(_planned(REFERENCE_ROW, []), reference_corpus)
    one.time_steps()
    other.time_steps()
    ratios = []
    for place in range(PLACES):
        at = int((place + 0.5) / PLACES * PLANNED)
        own = []
        for _ in range(1 + TURNS):  # the first after a stage has changed makes room
            one.state.step = other.state.step = at
            own.append((one.time_steps()[0], other.time_steps()[0]))
        least = [min(times) for times in zip(*own[1:], strict=True)]
        ratios.append(least[0] / least[1])
    return statistics.fmean(ratios)


def _run(given: argparse.Namespace, corpus: Corpus, console: Console) -> None:
    name = given.name or given.row
    run = given.work / (f"{name}-{given.minutes:g}min-seed{given.seed}" + "-quick" * given.quick)
    given.work.mkdir(parents=True, exist_ok=True)
    plan = run.with_name(run.name + ".json")
    asked = {"row": given.row, "changes": given.changes, "vocabulary": given.vocabulary}
    if not plan.is_file():
        budget: dict[str, Any] = {"minutes": given.minutes, "device": given.device}
        timed: dict[str, Any] = {}
        if given.device == "cpu":
            base = _corpus(given.work, VOCABULARY, console)
            timed["ratio_to_reference"] = _ratio(given.row, given.changes, corpus, base)
            milliseconds = json.loads(REFERENCE.read_text("utf-8"))["summary"]["milliseconds"]
            timed["milliseconds_per_step"] = timed["ratio_to_reference"] * milliseconds
            steps = int(60_000 * given.minutes / timed["milliseconds_per_step"])
            budget = {"max_steps": 60 if given.quick else steps, "device": "cpu"}
        plan.write_text(json.dumps({**asked, **timed, "budget": budget}), encoding="utf-8")
    planned = json.loads(plan.read_text("utf-8"))
    if {key: planned[key] for key in asked} != asked:
        sys.exit(f"{plan} is of {planned['row']} {planned['changes']}: give another --name")
    config = config_of(given.row, given.changes, seed=given.seed, budget=planned["budget"])
    started = time.monotonic()
    report = pretrain(data=corpus.folder, output=run, config=config, resume="auto", console=console)
    trained = time.monotonic() - started
    started = time.monotonic()
    pairs = 10 if given.quick else protocol.PAIRS
    kind = "official" if given.official else "unscored" if given.unscored else "selection"
    scores = _scores(run, kind=kind, pairs=pairs, quick=given.quick) if kind in SCORED else {}
    states = token_states(str(run / "encoder"), corpus)
    summary = {
        "name": name,
        **{key: value for key, value in planned.items() if key != "budget"},
        "minutes": given.minutes,
        "seed": given.seed,
        "scored_on": kind,
        "steps": report["steps"],
        "tokens": report["tokens"],
        "parameters": report.get("parameters"),
        **scores,
        "effective_rank": effective_rank(states),
        "mean_cosine": mean_cosine(states),
        **report["metrics"],
        "seconds_of_this_training": trained,
        "seconds_of_scoring": time.monotonic() - started,
    }
    file = RESULTS / kind / f"{name}-{given.minutes:g}min-seed{given.seed}.json"
    columns = ("name", *SIX, "mean") if scores else ("name", *report["metrics"])
    rows = [{key: summary[key] for key in columns}]
    finish(rows, summary, json_file=None)
    if given.json or not given.quick:
        write(rows, {**summary, "config": dataclasses.asdict(config)}, given.json or file)


def paradigms(*, official: bool) -> list[str]:
    """Every second paradigm by name is for selection, the rest for the last table."""
    names = sorted(path.name for path in (protocol.DATA / "blimp").glob("*.jsonl.gz"))
    return names[1::2] if official else names[::2]


def link_paradigms(folder: Path, *, official: bool) -> None:
    """A folder of these paradigms alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in paradigms(official=official):
        (folder / name).symlink_to((protocol.DATA / "blimp" / name).resolve())


def _scores(run: Path, *, kind: str, pairs: int, quick: bool) -> dict[str, Any]:
    """The six scores as fractions, their mean, and the generator's minimal pairs."""
    work = run.with_name(run.name + f"-{kind}")
    pairs_folder = work / "blimp"
    shutil.rmtree(pairs_folder, ignore_errors=True)
    link_paradigms(pairs_folder, official=kind == "official")
    found = protocol.blimp(run, pairs=pairs, folder=pairs_folder)
    result = benchmark(
        str(HERE / f"quality_{kind}.toml"),
        model=str(run / "encoder"),
        data=protocol.DATA,
        seeds=1,
        output=work / "sets",
        quick=quick,
        overrides=RATE,
        progress=Console(stderr=True),
    )
    found |= {name: row["median"] for name, row in result["sets"].items()}
    found["mean"] = statistics.fmean(found[name] for name in SIX)
    return found


if __name__ == "__main__":
    main()
