"""The family of objectives at equal time on one small network, from Wikipedia.

    python -m benchmarks.objectives --calibrate
    python -m benchmarks.objectives --row electra --seed 0
    python -m benchmarks.objectives --list

Every row trains the same encoder on the same text with the same optimizer; only the objective
differs. Budgets are minutes of one processor: 25 for the rows of table 5 and 8 for the others (what
two threads make of them is `two_threads_faster` of the calibration). `--calibrate` turns them into
steps: the processor time of a step of every row on one thread, in turns. It is written down,
so that a run can be stopped, resumed and disturbed without changing what it computes. The rows of
table 5 are scored by `benchmarks/protocol.py`, and at every tenth of the run by BLiMP (50 pairs a
paradigm), which makes a curve; the others show what they learned on held-out text. One JSON a row
and seed under `benchmarks/results/objectives/`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file

from benchmarks import protocol
from benchmarks.record import finish
from benchmarks.step_time import CPU, PLANNED, Contestant
from electra.config import PrepareSettings, PretrainConfig
from electra.corpus.folder import Corpus
from electra.corpus.tokenizer import load_tokenizer, save_tokenizer
from electra.model.flops import train_flops
from electra.plan import objective_and_source
from electra.prepare import prepare
from electra.pretrain import pretrain
from electra.recipe import read_recipe, resolve
from electra.training.checkpoint import module_tensors
from electra.training.device import keep_memory

RESULTS = Path(__file__).parent / "results" / "objectives"
SPEED = Path(__file__).parent / "results" / "objectives_speed.json"
VOCABULARY = 8_192
CURVE_PAIRS = 50
REFERENCE = "electra"
"""The row that every other is timed against."""
SAME_SIZE: dict[str, Any] = {"generator_layers": None, "generator_size": 1.0}

TABLE_5: dict[str, dict[str, dict[str, Any]]] = {
    "bert": {"objective": {"name": "masked_lm"}},
    "replace_mlm": {"objective": {"name": "replace_mlm"}},
    "electra_15_percent": {"objective": {"name": "electra_15_percent"}},
    "all_tokens_mlm": {"objective": {"name": "all_tokens_mlm"}},
    "electra": {"objective": {"name": "replaced_token_detection"}},
}
"""The rows of the paper's table 5: what each changes in the recipe."""
PAPER = {
    "bert": 82.2,
    "replace_mlm": 82.4,
    "electra_15_percent": 82.4,
    "all_tokens_mlm": 84.3,
    "electra": 85.0,
}
"""GLUE dev average, base size (Clark et al. 2020, table 5)."""
OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "two_stage": {
        "objective": {"name": "two_stage"},
        "model": {**SAME_SIZE, "weight_sharing": "none"},
    },
    "adversarial": {"objective": {"name": "adversarial"}},
    "uniform_generator": {"objective": {"generator": "uniform"}},
    "unigram_generator": {"objective": {"generator": "unigram"}},
    "sharing_none": {"model": {"weight_sharing": "none"}},
    "sharing_all": {"model": {"weight_sharing": "all", **SAME_SIZE}},
    "sharing_gdes": {"model": {"weight_sharing": "gdes"}},
    "electric": {"objective": {"name": "electric"}},
    "fast_electra": {"objective": {"name": "fast_electra", "temperature": 2.0}},
    "self_augmented": {"objective": {"name": "self_augmented"}},
    "whole_word_masking": {"objective": {"masking": "whole_word"}},
    "span_masking": {"objective": {"masking": "span"}},
    "corrective_head": {"objective": {"encoder_mlm_weight": 1.0}},
    "contrastive": {"objective": {"contrastive_weight": 1.0}},
    "decoupled_optimizers": {"optimizer": {"generator_learning_rate": 1e-3}},
}
ROWS = {**TABLE_5, **OTHERS}


def main() -> None:
    """Calibrate, or train and score one row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--row", choices=sorted(ROWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="of one processor")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--quick", action="store_true", help="60 steps, 10 pairs a paradigm")
    parser.add_argument("--work", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.list:
        print("\n".join(ROWS))
        return
    if not protocol.available():
        sys.exit(f"skipped: data sets are missing in {protocol.DATA}; set ELECTRA_DATA")
    torch.set_num_threads(1)
    keep_memory()
    console = Console(stderr=True)
    _prepare(given.work, console)
    if given.calibrate:
        _calibrate(given.work, [given.row] if given.row else list(ROWS), given.rounds)
    elif given.row is None:
        parser.error("give --row, --calibrate or --list")
    else:
        _run(given, corpus_of(given.row, given.work), console)


def _prepare(work: Path, console: Console) -> None:
    """All of the text, and a fifth of it with the same tokenizer."""
    text, settings = protocol.DATA / "enwiki", PrepareSettings(licence="Wikipedia, CC BY-SA 3.0")
    for folder, sources, changes in (
        (work / "corpus", [text], {"vocab_size": VOCABULARY}),
        (work / "corpus-small", [text / "enwiki_2018.txt.gz"], {"tokenizer": str(work / "corpus")}),
    ):
        if not (folder / "manifest.json").is_file():
            made = dataclasses.replace(settings, **changes)
            prepare(sources, output=folder, settings=made, console=console)


def corpus_of(row: str, work: Path) -> Corpus:
    """The text of a row: a fifth for the one that learns from second visits."""
    return Corpus(work / ("corpus-small" if row == "self_augmented" else "corpus"))


def config_of(row: str, *, steps: int, seed: int, work: Path) -> PretrainConfig:
    """The `tiny` network and optimizer, published masks and weights, and the row's objective."""
    tiny = read_recipe("tiny")
    base = {name: table for name, table in tiny.items() if name not in ("objective", "training")}
    base["training"] = {"max_steps": steps, "global_batch_size": 32, "seed": seed}
    base["training"] |= {"save_total_limit": 12, "device": "cpu"}
    given = ROWS[row]
    if row == "fast_electra":
        generator = str(work / f"bert-seed{seed}" / "masked_lm")
        given = {"objective": {**given["objective"], "generator_folder": generator}}
    return resolve(PretrainConfig, [("tiny", base), (row, given)])


def _calibrate(work: Path, wanted: list[str], rounds: int) -> None:
    """Time a step of each row in turns with `electra`; what was known stays as it was.

    A row that is timed later is written as its ratio to `electra` times what `electra` took first.
    """
    known = {row["row"]: row for row in _speeds()["rows"]} if SPEED.is_file() else {}
    if not (work / "bert-seed0" / "masked_lm").is_dir() and "fast_electra" in wanted:
        print("fast_electra is left out: its generator is what the row bert with seed 0 trains")
        wanted = [row for row in wanted if row != "fast_electra"]
    contestants = {
        row: Contestant(config_of(row, steps=PLANNED, seed=0, work=work), corpus_of(row, work))
        for row in dict.fromkeys([REFERENCE, *wanted])
    }
    times: dict[str, list[float]] = {row: [] for row in contestants}
    wall: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds + 1):
        for row, contestant in contestants.items():
            # the second half of the rounds stands later in the run, where stages have changed
            contestant.state.step = 0 if number <= rounds // 2 else 3 * PLANNED // 4
            processor, elapsed = contestant.time_steps()
            if number:  # round 0 warms up
                times[row].append(1e3 * processor)
                if row == REFERENCE:
                    wall[1].append(1e3 * elapsed)
        torch.set_num_threads(2)
        wall[2].append(1e3 * contestants[REFERENCE].time_steps()[1])
        torch.set_num_threads(1)
    found = {row: statistics.fmean(map(statistics.median, _halves(times[row]))) for row in times}
    before = known.get(REFERENCE, {"milliseconds": found[REFERENCE]})["milliseconds"]
    for row, milliseconds in found.items():
        if row not in known:
            known[row] = {
                "row": row,
                "milliseconds": milliseconds * before / found[REFERENCE],
                "fastest": min(times[row]),
                "slowest": max(times[row]),
                "electra_beside_it": found[REFERENCE],
            }
    rows = [known[row] for row in ROWS if row in known]
    summary = {"rounds": rounds, "two_threads_faster": min(wall[1]) / min(wall[2])}
    if SPEED.is_file():  # rows may be added beside other work, which the clock would count
        summary = _speeds()["summary"]
    finish(rows, summary, json_file=SPEED)


def _halves(times: list[float]) -> tuple[list[float], list[float]]:
    """Of the rounds early in the run, and of those late in it."""
    return times[: len(times) // 2], times[len(times) // 2 :]


def _speeds() -> dict[str, Any]:
    speeds: dict[str, Any] = json.loads(SPEED.read_text(encoding="utf-8"))
    return speeds


def _run(given: argparse.Namespace, corpus: Corpus, console: Console) -> None:
    row, seed = given.row, given.seed
    minutes = given.minutes or (25.0 if row in TABLE_5 else 8.0)
    speeds = {found["row"]: found["milliseconds"] for found in _speeds()["rows"]}
    if row not in speeds:
        sys.exit(f"no step of {row} was timed: add --calibrate to this command first")
    per_step = speeds[row]
    steps = 60 if given.quick else int(60_000 * minutes / per_step)
    config = config_of(row, steps=steps, seed=seed, work=given.work)
    run = given.work / (f"{row}-seed{seed}" + ("-quick" if given.quick else ""))
    started = time.monotonic()
    report = pretrain(data=corpus.folder, output=run, config=config, resume="auto", console=console)
    if report["steps"] != steps:
        sys.exit(f"{run} holds a run of {report['steps']} steps, not {steps}: move it aside")
    trained = time.monotonic() - started
    flops = flops_per_step(config)
    curve = _evaluations(run, flops)
    scores: dict[str, Any] = {}
    started = time.monotonic()
    if row in TABLE_5:
        pairs = 10 if given.quick else protocol.PAIRS
        _add_blimp(curve, run, config, corpus, pairs=min(pairs, CURVE_PAIRS))
        folder = run.with_name(run.name + "-scores")
        scores = protocol.score(run, folder, seed=seed, pairs=pairs, console=console)
    summary = {
        "row": row,
        "seed": seed,
        "minutes": minutes,
        "milliseconds_per_step": per_step,
        "steps": steps,
        "tokens": report["tokens"],
        "flops": flops * steps,
        **scores,
        **report["metrics"],
        "seconds_of_this_training": trained,
        "seconds_of_scoring": time.monotonic() - started,
    }
    file = given.json or RESULTS / f"{row}-seed{seed}.json"
    finish(curve, summary, json_file=None if given.quick and not given.json else file)


def flops_per_step(config: PretrainConfig) -> float:
    """As the reference counts, but without its dense embedding lookup, which nobody computes.

    With a small network that lookup would be most of the count, and the same for every row.
    """
    parts = train_flops(config, VOCABULARY).parts
    return sum(value for name, value in parts.items() if not name.endswith("embeddings"))


def _evaluations(run: Path, flops: float) -> list[dict[str, Any]]:
    """The held-out metrics at every tenth of the run."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {"step": row["step"], "flops": row["step"] * flops}
        | {name: value for name, value in row.items() if name.startswith("eval_")}
        for row in map(json.loads, lines)
        if any(name.startswith("eval_") for name in row)
    ]


def _add_blimp(
    curve: list[dict[str, Any]], run: Path, config: PretrainConfig, corpus: Corpus, *, pairs: int
) -> None:
    """BLiMP at every checkpoint of the curve."""
    objective, _ = objective_and_source(config, corpus, CPU)
    tokenizer = load_tokenizer(corpus.folder)
    for row in curve:
        folder = run / "checkpoints" / f"step-{row['step']:08d}"
        saved = load_file(folder / "model.safetensors")
        assert saved.keys() == module_tensors(objective).keys(), "a checkpoint of this row"
        objective.load_state_dict(saved, strict=False)  # of tied tensors one is there
        parts = run / ".curve"
        shutil.rmtree(parts, ignore_errors=True)
        for part in objective.model.save_parts(parts).values():
            save_tokenizer(tokenizer, part, max_length=64, token_types=False)
        scores = protocol.blimp(parts, pairs=pairs)
        shutil.rmtree(parts)
        row |= {name: value for name, value in scores.items() if name != "blimp_scored_by"}


if __name__ == "__main__":
    main()
