r"""An encoder and the text of a domain to an encoder of that domain.

    electra adapt --model DIR|ID --text texts/ --output runs/mine --minutes 30

Continued pretraining (Gururangan et al. 2020, "Don't Stop Pretraining"): the text is prepared with
the model's own tokenizer, to which words of the domain may be added; an encoder goes on by masked
LM, a generator with its discriminator by replaced token detection; held-out text, and on demand a
labelled set, say what it was worth. Every stage is one of the other verbs on files in the output
folder, and is not done again where it is done already.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json as json_format
import os
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from electra.adaptation.defaults import adapt_tables, check_known, has_fresh_head
from electra.adaptation.held_out import held_out_metrics
from electra.adaptation.new_words import LEAST_COUNT, NewWord, check_growable, choose_words
from electra.adaptation.saving import save_encoder, save_with_words
from electra.adaptation.starting_point import MASKED_LM, StartingPoint, open_starting_point
from electra.artifacts.adaptation_report import print_adaptation, write_adapted_card
from electra.config import (
    BUDGETS,
    CleaningSettings,
    FinetuneConfig,
    PrepareSettings,
    PretrainConfig,
    finetune_defaults,
)
from electra.config.adapting import AdaptConfig, AdaptSettings
from electra.corpus.folder import Corpus
from electra.corpus.manifest import MANIFEST
from electra.corpus.tokenizer import load_tokenizer
from electra.errors import ConfigError, Interrupted, UserError, writing_to
from electra.evaluate import evaluate
from electra.finetune import FinetuneResult, finetune
from electra.prepare import prepare
from electra.pretrain import pretrain
from electra.recipe import resolve
from electra.tasks.task import task_class
from electra.tasks.task_options import check_options
from electra.training.device import machine
from electra.training.run_folder import RunFolder, open_run, write_text
from electra.training.run_identity import Identity, check_same_run, describe_run, identity

DEFAULTS = AdaptSettings()
WORDS = "words.json"
"""In `start/`: which words are new."""


@dataclass(frozen=True)
class Labelled:
    """A labelled set of the domain, to fine-tune the encoder on before and after."""

    task: str
    train: str
    validation: str
    test: str | None = None
    seeds: int = 1
    config: FinetuneConfig | None = None
    """None: `finetune_defaults(task)` alone."""


def adapt(
    *,
    model: str,
    text: Sequence[str],
    output: Path,
    minutes: float | None = None,
    generator: str | None = None,
    settings: AdaptSettings = DEFAULTS,
    labelled: Labelled | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    resume: str = "never",
    overwrite: bool = False,
    json: bool = False,
    console: Console | None = None,
    progress: Console | None = None,
) -> dict[str, Any]:
    """Train on; write `encoder/` and report.json; return the report.

    Args:
        model: a folder, a run folder or a Hub id.
        text: files, folders or globs, as for `prepare`.
        output: the folder to make.
        minutes: of training; none: `overrides` have a budget.
        generator: to a discriminator that `model` is.
        settings: new words, the corpus.
        labelled: none: held-out text alone says what it was worth.
        overrides: sections of a pretraining recipe, as from the command line.
        resume: `never`, `auto`, or the output folder itself.
        overwrite: move what is in the output folder aside.
        json: print the report as one line of JSON instead of the table.
        console: where the result is printed; none: nowhere.
        progress: where progress goes; none: nowhere.

    Raises:
        UserError: what the user can mend.
        Interrupted: Ctrl-C while training; the same command with `resume="auto"` goes on.
    """
    progress = progress or Console(quiet=True)
    overrides = _with_budget(overrides or {}, minutes)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "electra adapt is for one process: with torchrun use electra prepare --tokenizer, then "
            "electra pretrain --model.discriminator"
        )
    if not text:
        raise ConfigError("no text given: electra adapt --text FILE_OR_FOLDER ...")
    asked = overrides.get("objective", {}).get("name")
    start = open_starting_point(model, generator, objective=asked)
    roles = {"discriminator": start.network, "generator": start.generator}
    of_network = {"model": {role: part.name for role, part in roles.items() if part}}
    resolve(PretrainConfig, [("--model", of_network), ("command line", overrides)])
    tokenizer = load_tokenizer(start.tokenizer)
    if settings.new_words:
        check_growable(tokenizer, f"--model {model}")
    if labelled is not None:
        _check_labelled(labelled)
    run = open_run(output, resume=resume, overwrite=overwrite, of_runs=True)
    for note in run.notes:
        progress.print(note, highlight=False, markup=False)
    config = AdaptConfig(adapt=settings)
    inputs = _inputs(start, text, labelled)
    if run.status != "fresh":
        check_same_run(run.path, config, inputs, may_change={})
    if run.status == "finished":
        report = run.report()
    else:
        describe_run(run.path, config, inputs)
        try:
            with writing_to(output):
                report = _run(run, start, text, settings, labelled, overrides, progress)
        except UserError:
            if run.status == "fresh" and not (run.path / "pretraining").is_dir():
                # a mistake in text or flags, and nothing was trained; "." is emptied and stays
                shutil.rmtree(run.path, ignore_errors=True)
            raise
        except (Interrupted, KeyboardInterrupt) as stop:
            number = stop.exit_code - 128 if isinstance(stop, Interrupted) else int(signal.SIGINT)
            raise Interrupted(
                number,
                "interrupted; the same electra adapt command with --resume auto (and without "
                "--overwrite) goes on from here",
            ) from None
    if console is not None and json:
        line = json_format.dumps(report, ensure_ascii=False)
        console.print(Text(line), soft_wrap=True)
    elif console is not None:
        print_adaptation(report, console)
        place = shlex.quote(str(run.path / "encoder"))
        console.print(f"electra finetune --model {place} ...", highlight=False, markup=False)
    return report


def _with_budget(
    overrides: Mapping[str, Mapping[str, Any]], minutes: float | None
) -> dict[str, Mapping[str, Any]]:
    """The sections with the budget of `--minutes`.

    Raises:
        ConfigError: there is none, or two.
    """
    training = overrides.get("training", {})
    given = [f"--training.{name.replace('_', '-')}" for name in BUDGETS if name in training]
    if minutes is None and not given:
        raise ConfigError(
            "no budget: give --minutes, or one of --training.max-steps, --training.max-tokens"
        )
    if minutes is None:
        return dict(overrides)
    if given:
        raise ConfigError(f"--minutes and {given[0]} are both budgets; give one")
    if minutes <= 0:
        raise ConfigError(f"--minutes is {minutes}; allowed: above 0")
    return {**overrides, "training": {**training, "minutes": minutes}}


def _check_labelled(labelled: Labelled) -> None:
    """Read the labelled set before hours of training.

    Raises:
        UserError: there is no such task, its files cannot be read, or no run of it is asked for.
    """
    if labelled.seeds < 1:
        raise ConfigError(f"--seeds is {labelled.seeds}; allowed: 1 or more")
    config = labelled.config or resolve(FinetuneConfig, finetune_defaults(labelled.task))
    built = task_class(labelled.task)
    check_options(built, config)
    learned, _ = built.from_training(labelled.train, config)
    learned.read(labelled.validation, config.data)
    if labelled.test is not None:
        learned.read(labelled.test, config.data)


def _inputs(
    start: StartingPoint, text: Sequence[str], labelled: Labelled | None
) -> dict[str, Identity | str | bool]:
    """What decides the outcome, by flag, for `check_same_run`."""
    files = [identity(source) for source in text]
    whole = hashlib.sha256("".join(f.get("sha256", f["name"]) for f in files).encode("utf-8"))
    found: dict[str, Identity | str | bool] = {
        "text": {"name": " ".join(text), "sha256": whole.hexdigest()}
    }
    for flag, part in (("model", start.network), ("generator", start.generator)):
        if part is not None:
            found[flag] = {"name": part.name, "sha256": part.sha256}
    if labelled is not None:
        found |= {"train": identity(labelled.train), "validation": identity(labelled.validation)}
        if labelled.test is not None:
            found["test"] = identity(labelled.test)
    return found


def _run(
    run: RunFolder,
    given: StartingPoint,
    text: Sequence[str],
    settings: AdaptSettings,
    labelled: Labelled | None,
    overrides: Mapping[str, Mapping[str, Any]],
    progress: Console,
) -> dict[str, Any]:
    """All stages, or what is left of them; the report."""
    output = run.path
    start, words = given, {"asked": settings.new_words, "added": 0}
    if settings.new_words:
        start, words = _with_words(given, text, settings, output, progress)
    corpus = _corpus(start.tokenizer, text, settings, output / "corpus", progress)
    fresh = has_fresh_head(start)
    tables = adapt_tables(start, corpus, fresh_head=fresh)
    config = resolve(PretrainConfig, [("defaults of adapt", tables), ("command line", overrides)])
    by_masked_lm = config.objective.name == MASKED_LM
    if fresh and by_masked_lm:
        progress.print(
            f"{given.network.name} has no masked-LM head: a fresh one learns alone for the first "
            f"{config.objective.head_share:.0%} of the budget",
            highlight=False,
            markup=False,
        )
    before = output / "before.json"
    if not before.is_file():
        write_text(before, json_format.dumps(held_out_metrics(corpus, config), indent=1) + "\n")
    training = pretrain(
        data=corpus.folder,
        output=output / "pretraining",
        config=config,
        resume="auto",
        console=progress,
    )
    report: dict[str, Any] = {
        "electra": machine()["electra"],
        "model": given.network.name,
        "base_model": None if Path(given.network.name).exists() else given.network.name,
        "model_type": given.network.config.model_type,
        "objective": config.objective.name,
        "head": "fresh" if fresh and (by_masked_lm or given.generator) else "own",
        "new_words": words,
        "recipe": {
            "learning_rate": config.optimizer.learning_rate,
            "max_length": config.data.max_length,
            "global_batch_size": config.training.global_batch_size,
        },
        "training": {name: training[name] for name in ("steps", "tokens", "minutes", "epochs")},
        "corpus": training["corpus"],
        "held_out": {
            "before": json_format.loads(before.read_text(encoding="utf-8")),
            "after": held_out_metrics(corpus, _of_the_run(config, output / "pretraining")),
        },
    }
    partial, encoder = output / ".encoder.partial", output / "encoder"
    for folder in (partial, encoder):  # one from an earlier try
        shutil.rmtree(folder, ignore_errors=True)
    trained, tokenizer = output / "pretraining" / "encoder", load_tokenizer(corpus.folder)
    save_encoder(start, trained, tokenizer, partial)
    write_adapted_card(partial, report, corpus.manifest)
    partial.rename(encoder)
    if labelled is not None:
        report["task"] = _compare(
            labelled, {"before": given.encoder, "after": str(encoder)}, output, progress
        )
        write_adapted_card(encoder, report, corpus.manifest)
    run.finish(report)
    return report


def _of_the_run(config: PretrainConfig, run: Path) -> PretrainConfig:
    """The same recipe, of the networks that a run saved."""
    heads = ("discriminator", "masked_lm", "encoder")
    network = next(run / name for name in heads if (run / name).is_dir())
    generator = run / "generator"
    model = dataclasses.replace(
        config.model,
        discriminator=str(network),
        generator=str(generator) if generator.is_dir() else None,
    )
    return dataclasses.replace(config, model=model)


def _with_words(
    given: StartingPoint,
    text: Sequence[str],
    settings: AdaptSettings,
    output: Path,
    progress: Console,
) -> tuple[StartingPoint, dict[str, Any]]:
    """Networks in `start/` that know the new words, and which these are.

    Raises:
        ConfigError: there are none in the text.
    """
    folder, counted = output / "start", output / "counted"
    if not folder.is_dir():
        corpus = _corpus(given.tokenizer, text, settings, counted, progress)
        words = choose_words(corpus, load_tokenizer(given.tokenizer), settings.new_words)
        if not words:
            raise ConfigError(
                f"no word of the text is cut into pieces and occurs {LEAST_COUNT} times or more: "
                "leave --new-words out"
            )
        partial = output / ".start.partial"
        shutil.rmtree(partial, ignore_errors=True)
        save_with_words(given, words, partial)
        facts = _facts_of_words(words, corpus, settings)
        write_text(partial / WORDS, json_format.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        partial.rename(folder)
    shutil.rmtree(counted, ignore_errors=True)
    facts = json_format.loads((folder / WORDS).read_text(encoding="utf-8"))
    progress.print(
        f"{facts['added']:,} new words, the first of them: {', '.join(facts['words'][:10])}",
        highlight=False,
        markup=False,
    )
    objective = None if given.generator else MASKED_LM
    return open_starting_point(str(folder), objective=objective), facts


def _facts_of_words(
    words: Sequence[NewWord], corpus: Corpus, settings: AdaptSettings
) -> dict[str, Any]:
    saved, tokens = sum(w.saved for w in words), corpus.manifest["splits"]["train"]["tokens"]
    return {
        "asked": settings.new_words,
        "added": len(words),
        "tokens_saved_share": saved / tokens,
        "words": [word.text for word in words],
    }


def _corpus(
    tokenizer: str, text: Sequence[str], settings: AdaptSettings, folder: Path, progress: Console
) -> Corpus:
    """The text as a corpus folder, made where it is not there."""
    if not (folder / MANIFEST).is_file():
        prepare(
            list(text),
            output=folder,
            settings=PrepareSettings(
                tokenizer=tokenizer,
                text_column=settings.text_column,
                validation_share=settings.validation_share,
                cleaning=CleaningSettings(symbols=False),  # tables are the domain's, too
                licence=settings.licence,
            ),
            console=progress,
        )
    corpus = Corpus(folder)
    check_known(corpus)
    return corpus


def _compare(
    labelled: Labelled, encoders: Mapping[str, str], output: Path, progress: Console
) -> dict[str, Any]:
    """Fine-tune both encoders alike; scores of each seed on the validation and the test data."""
    found: dict[str, Any] = {"name": labelled.task, "seeds": labelled.seeds}
    for when, encoder in encoders.items():
        folder = output / "finetuning" / when
        result = finetune(
            model=encoder,
            task=labelled.task,
            train=labelled.train,
            validation=labelled.validation,
            output=folder,
            config=labelled.config or resolve(FinetuneConfig, finetune_defaults(labelled.task)),
            seeds=labelled.seeds,
            resume="auto" if folder.exists() else "never",
            console=progress,
        )
        found["metric"] = result.metric
        found[when] = {
            "validation": [run.metrics[result.metric] for run in result.runs],
            "test": _tested(result, labelled.test),
        }
    return found


def _tested(result: FinetuneResult, test: str | None) -> list[float]:
    """The metric of each seed's model on the test data; empty without any."""
    if test is None:
        return []
    found = [evaluate(model=run.folder, data=test)["metrics"] for run in result.runs]
    return [float(metrics[result.metric]) for metrics in found]
