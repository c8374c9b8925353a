"""The command line: verbs to functions.

Imports neither torch nor transformers until a verb runs, so that `--help` and mistakes are
answered at once. Exit codes: 0; 2 what the user mends; 1 the machine's failures; 130 Ctrl-C; 143
SIGTERM.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from electra.config import (
    FINETUNE_DEFAULTS,
    FinetuneConfig,
    LabelledDataConfig,
    PrepareSettings,
    PretrainConfig,
)
from electra.errors import ConfigError, ElectraError
from electra.recipe import nest, option_rows, read_recipe, recipe_names, resolve

app = App(
    name="electra",
    help="Raw text to a language encoder, and the encoder to working applications.",
    help_epilogue="Start with `electra quickstart`, or with `electra prepare --help`.",
    version_flags=["--version"],
)
_USERS_OS_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
DEFAULT_SETTINGS = PrepareSettings()
_SECTION_FLAG = re.compile(r"--[a-z][a-z-]*\.[a-z0-9_-]+")
errors = Console(stderr=True, highlight=False, soft_wrap=True)

Overwrite = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(negative="")]
Overrides = Annotated[dict[str, str] | None, Parameter(parse=False)]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. A user's mistake prints one line, no traceback."""
    _quieten_libraries()
    try:
        rest, overrides = _split_overrides(list(arguments))
        verb, bound, unparsed = app.parse_args(rest, exit_on_error=False, print_error=False)
        if "overrides" in unparsed:
            bound.arguments["overrides"] = overrides
        elif overrides:
            raise ConfigError(f"electra {verb.__name__} takes no --{next(iter(overrides))}")
        verb(*bound.args, **bound.kwargs)
    except ElectraError as error:
        errors.print(f"electra: {error}", markup=False)
        return error.exit_code
    except CycloptsError as error:
        command = " ".join(["electra", *(error.command_chain or ())])
        errors.print(f"electra: {_one_line(error)} (see {command} --help)", markup=False)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `electra predict ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        errors.print(f"electra: {error}", markup=False)
        return 2 if isinstance(error, _USERS_OS_ERRORS) else 1
    except KeyboardInterrupt:
        errors.print("electra: interrupted")
        return 130
    return 0


def _one_line(error: CycloptsError) -> str:
    return " ".join(str(error).split())


def _quieten_libraries() -> None:
    """Progress bars and advice of libraries are not ours to show; errors still come through."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _console() -> Console:
    return Console(stderr=True)


def _split_overrides(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Take flags of the form `--section.field VALUE` out; their types are known to the recipe."""
    rest: list[str] = []
    overrides: dict[str, str] = {}
    waiting = iter(arguments)
    for argument in waiting:
        flag, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *waiting]
        elif not _SECTION_FLAG.fullmatch(flag):
            rest.append(argument)
        else:
            given = value if equals else next(waiting, None)
            if given is None:
                raise ConfigError(f"{flag} needs a value")
            overrides[flag.removeprefix("--")] = given
    return rest, overrides


def _fields_help(config: type) -> str:
    rows = [f"- `{flag}` ({kind}): {text}" for flag, kind, _, text in option_rows(config)]
    return "Fields of the recipe, each a flag:\n\n" + "\n".join(rows)


@app.command
def prepare(
    *sources: str,
    output: Path,
    settings: Annotated[PrepareSettings, Parameter(name="*")] = DEFAULT_SETTINGS,
    workers: int | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn raw text into a corpus folder: tokenizer, token shards, manifest.

    Parameters
    ----------
    sources
        Files, folders or globs of .txt (a blank line ends a document), .jsonl, .csv, .tsv,
        .parquet, each also .gz.
    output
        The corpus folder to make.
    workers
        Threads of the tokenizer; default one a core.
    overwrite
        Move an old corpus folder to NAME.old-1.
    """
    from electra.prepare import prepare as run_prepare

    if not sources:
        raise ConfigError("no text given: electra prepare FILE_OR_FOLDER ... --output DIR")
    run_prepare(
        sources,
        output=output,
        settings=settings,
        workers=workers,
        overwrite=overwrite,
        console=_console(),
    )


@app.command(help_epilogue=_fields_help(PretrainConfig))
def pretrain(
    *,
    data: Path,
    output: Path,
    recipe: str = "tiny",
    resume: str = "never",
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Pretrain an encoder on a corpus folder.

    The run folder gets encoder/ (fine-tune this one), generator/ and discriminator/, each opened
    by the Auto classes of transformers, report.html, metrics.jsonl and checkpoints/.

    Parameters
    ----------
    data
        A corpus folder made by electra prepare.
    output
        The run folder.
    recipe
        A name (tiny, small, base are modern; classic-small, classic-base, ... are as published)
        or a .toml file. Flags of the form --section.field change single values.
    resume
        never refuses a folder that holds a run; auto continues it from its last checkpoint.
    overwrite
        Move an old run to NAME.old-1 and start afresh.
    """
    layers = [(f"recipe {recipe}", read_recipe(recipe)), ("command line", nest(overrides or {}))]
    config = resolve(PretrainConfig, layers)
    from electra.pretrain import pretrain as run_pretrain

    run_pretrain(
        data=data,
        output=output,
        config=config,
        resume=resume,
        overwrite=overwrite,
        console=_console(),
    )


@app.command
def recipes() -> None:
    """List the recipes that come with the package."""
    out = Console()
    for name in recipe_names():
        model = read_recipe(name)["model"]
        shape = f"{model['num_hidden_layers']} x {model['hidden_size']}"
        out.print(f"{name:18} {model['family']:8} {shape}", highlight=False)


@app.command(help_epilogue=_fields_help(FinetuneConfig))
def finetune(
    *,
    model: str,
    train: str,
    validation: str,
    output: Path,
    task: str = "text-classification",
    seeds: int = 1,
    resume: str = "never",
    overwrite: Overwrite = False,
    from_scratch: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Fine-tune an encoder on labelled data.

    The output is a model folder for electra evaluate and predict, and for the Auto classes.

    Parameters
    ----------
    model
        An encoder: a folder, a run folder of electra pretrain, or a Hub id.
    train
        CSV, TSV, JSONL or Parquet (also .gz), or a Hub data set as ID:split.
    validation
        The same; the best of some ten evaluations on it is kept.
    output
        The model folder to make.
    task
        text-classification: one sentence or a pair; with scores as labels, regression.
    seeds
        Runs; above 1 each gets a folder seed-K, and the best is copied up.
    resume
        never refuses a folder that holds a run; auto continues it.
    overwrite
        Move an old run to NAME.old-1 and start afresh.
    from_scratch
        Random weights of the encoder's shape, to know what pretraining is worth.
    """
    layers = [("defaults", FINETUNE_DEFAULTS), ("command line", nest(overrides or {}))]
    config = resolve(FinetuneConfig, layers)
    from electra.finetune import finetune as run_finetune

    run_finetune(
        model=model,
        train=train,
        validation=validation,
        output=output,
        task=task,
        config=config,
        seeds=seeds,
        resume=resume,
        overwrite=overwrite,
        from_scratch=from_scratch,
        console=_console(),
    )


def _columns(overrides: dict[str, str] | None) -> LabelledDataConfig:
    tables = nest(overrides or {})
    for name, table in tables.items():
        for key in table:
            if name != "data" or key == "max_length":
                raise ConfigError(
                    f"--{name}.{key.replace('_', '-')} does not change a finished model; allowed: "
                    "--data.text-column, --data.text-pair-column, --data.label-column, "
                    "--data.header"
                )
    return resolve(FinetuneConfig, [("command line", tables)]).data


@app.command
def evaluate(
    *,
    model: Path,
    data: str,
    json: Json = False,
    output: Path | None = None,
    batch_size: int = 32,
    device: str = "auto",
    overrides: Overrides = None,
) -> None:
    """Score a fine-tuned model on labelled data.

    Parameters
    ----------
    model
        A folder that electra finetune wrote.
    data
        CSV, TSV, JSONL or Parquet (also .gz), or a Hub data set as ID:split. Columns are those of
        the training data; --data.text-column, --data.text-pair-column, --data.label-column and
        --data.header change them.
    json
        One line of JSON on standard output instead of tables.
    output
        Write the JSON to this file as well.
    batch_size
        Examples a forward pass.
    device
        auto, cpu, cuda or mps.
    """
    columns = _columns(overrides)
    from electra.evaluate import evaluate as run_evaluate

    run_evaluate(
        model=model,
        data=data,
        json=json,
        output=output,
        columns=columns,
        batch_size=batch_size,
        device=device,
        console=Console(),
        progress=_console(),
    )


@app.command
def predict(
    *texts: str,
    model: Path,
    input: str | None = None,
    json: Json = False,
    batch_size: int = 32,
    device: str = "auto",
    overrides: Overrides = None,
) -> None:
    """Answer texts with a fine-tuned model.

    Parameters
    ----------
    texts
        The texts; for a model of two sentences they come in twos.
    model
        A folder that electra finetune wrote.
    input
        Instead of texts a file: .txt (a line, a text), .jsonl, .csv, .tsv, .parquet, or - for
        standard input, lines of text or of JSON. JSONL and - answer in JSONL.
    json
        A line of JSON for each answer.
    batch_size
        Texts a forward pass.
    device
        auto, cpu, cuda or mps.
    """
    columns = _columns(overrides)
    from electra.predict import predict as run_predict
    from electra.predict import print_predictions

    answers = run_predict(
        model=model,
        texts=texts,
        input=input,
        columns=columns,
        batch_size=batch_size,
        device=device,
    )
    print_predictions(answers, json=json, input=input)


@app.command
def doctor() -> None:
    """Show what this machine has, what will be used, and what is missing."""
    from electra.doctor import doctor as run_doctor

    run_doctor(Console())


@app.command
def quickstart(
    *,
    minutes: float = 5.0,
    output: Path = Path("runs/quickstart"),
    compare: Overwrite = False,
    recipe: str = "tiny",
    overrides: Overrides = None,
) -> None:
    """Go the whole way once: raw text to encoder to classifier to report.

    The text is the documentation of the Python packages on this machine. A quickstart that was
    interrupted goes on; a finished one is moved aside.

    Parameters
    ----------
    minutes
        Minutes of pretraining; the rest takes some four more on two cores.
    output
        Where everything goes.
    compare
        Pretrain by masked LM alone for as long, too, and show both side by side.
    recipe
        Of the pretraining; flags of the form --section.field change it.
    """
    tables = nest(overrides or {})
    from electra.quickstart import quickstart as run_quickstart

    run_quickstart(
        output=output,
        minutes=minutes,
        compare=compare,
        recipe=recipe,
        overrides=tables,
        console=_console(),
    )
