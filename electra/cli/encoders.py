"""Commands that make an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from electra.cli.app import Json, Overrides, Overwrite, app, fields_help, progress_console
from electra.config import (
    BUDGETS,
    ClusterSettings,
    FinetuneConfig,
    PrepareSettings,
    PretrainConfig,
    finetune_defaults,
)
from electra.config.adapting import AdaptSettings
from electra.corpus.prepare_recipe import cluster_settings, prepare_settings, source_tables
from electra.errors import ConfigError
from electra.recipe import nest, read_recipe, recipe_names, resolve

Given = Annotated[frozenset[str], Parameter(parse=False)]
"""Fields that flags were given for."""
DEFAULT_SETTINGS = PrepareSettings()
DEFAULT_CLUSTER = ClusterSettings()


@app.command
def prepare(
    *sources: str,
    output: Path,
    settings: Annotated[PrepareSettings, Parameter(name="*")] = DEFAULT_SETTINGS,
    recipe: str | None = None,
    workers: int | None = None,
    executor: str = "local",
    cluster: ClusterSettings = DEFAULT_CLUSTER,
    overwrite: Overwrite = False,
    given: Given = frozenset(),
) -> None:
    """Turn raw text into a corpus folder: tokenizer, token shards, manifest.

    Interrupted or killed, the same command goes on where it was and ends with the same bytes;
    text from standard input comes but once, and begins again.

    Parameters
    ----------
    sources
        Files, folders or globs of .txt (a blank line ends a document), .jsonl, .csv, .tsv,
        .parquet, .arrow, .wet, each also .gz, .zst, .xz, .bz2; hub:owner/name for a data set of
        the Hub; - for standard input (text or JSON lines).
    output
        The corpus folder to make.
    recipe
        A .toml file with the fields above, a table [cleaning], and [[sources]] tables of path,
        name, weight and text_column: with weights, training reads the sources in these shares; a
        table [cluster] has the fields of --cluster.
        Flags win over it.
    workers
        Processes, or tasks of a cluster at one time; default one a core. The result does not
        depend on it.
    executor
        local: processes of this machine; slurm or ray: tasks of a cluster (extra cluster), all of
        whose machines must see the output folder and the text under the same paths (a shared file
        system).
    overwrite
        Move an old corpus folder to NAME.old-1.
    """
    from electra.prepare import prepare as run_prepare

    tables: list[dict[str, Any]] = []
    if recipe is not None:
        table = read_recipe(recipe)
        tables = source_tables(table.pop("sources", []), f"recipe {recipe}")
        cluster = cluster_settings(cluster, table.pop("cluster", {}), f"recipe {recipe}")
        settings = prepare_settings(settings, table, f"recipe {recipe}", given)
    if not sources and not tables:
        raise ConfigError("no text given: electra prepare FILE_OR_FOLDER ... --output DIR")
    run_prepare(
        sources,
        output=output,
        settings=settings,
        tables=tables,
        workers=workers,
        executor=executor,
        cluster=cluster,
        overwrite=overwrite,
        console=progress_console(),
    )


@app.command(help_epilogue=fields_help(PretrainConfig))
def pretrain(
    *,
    data: Path,
    output: Path,
    recipe: str | None = None,
    minutes: float | None = None,
    tokens: int | None = None,
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
        or a .toml file; default tiny, or what the run that is resumed was begun with. Flags of
        the form --section.field change single values.
    minutes
        The budget. Without --recipe network and batch follow from it and from the speed of
        this machine: electra plan shows which.
    tokens
        A budget of tokens read, instead.
    resume
        never | auto | DIR: never refuses a folder that holds a run; auto continues it from its
        last checkpoint, or begins; DIR must be the output folder, and hold a run to continue.
    overwrite
        Move an old run to NAME.old-1 and start afresh.
    """
    flags = nest(overrides or {})
    given = {"--minutes": minutes, "--tokens": tokens, **flags.get("training", {})}
    budgets = [name for name in ("--minutes", "--tokens", *BUDGETS) if given.get(name) is not None]
    if len(budgets) > 1 and (minutes is not None or tokens is not None):
        raise ConfigError(
            "give one budget: --minutes, --tokens, or one of --training.max-steps, "
            "--training.max-tokens, --training.minutes"
        )
    budget = {"minutes": minutes} if minutes is not None else {"max_tokens": tokens}
    planned = recipe is None and (minutes is not None or tokens is not None)
    planned = planned and "discriminator" not in flags.get("model", {})  # its network is there
    if recipe is None and resume != "never" and (output / "config.toml").is_file():
        recipe, planned = str(output / "config.toml"), False  # what it was begun with
    if planned:
        from electra.corpus.folder import Corpus
        from electra.plan import one_line
        from electra.plan import plan as run_plan
        from electra.training.run_folder import open_run

        Corpus(data)  # or an output folder is made for nothing
        if resume == "never" and not overwrite:
            open_run(output)  # refuses before candidates are timed
        device = flags.get("training", {}).get("device", "auto")
        found = run_plan(data=data, minutes=minutes, tokens=tokens, device=device)
        progress_console().print(one_line(found), highlight=False, markup=False)
        layers = [("plan", found["tables"])]
    else:
        recipe = "tiny" if recipe is None else recipe
        layers = [(f"recipe {recipe}", read_recipe(recipe))]
        if minutes is not None or tokens is not None:
            layers.append(("command line", {"training": budget}))
    config = resolve(PretrainConfig, [*layers, ("command line", flags)])
    recipe_optimizer = layers[0][1].get("optimizer", {})
    _note_rate_of_another_optimizer(recipe_optimizer, flags.get("optimizer", {}), config)
    from electra.pretrain import pretrain as run_pretrain

    run_pretrain(
        data=data,
        output=output,
        config=config,
        resume=resume,
        overwrite=overwrite,
        console=progress_console(),
    )


def _note_rate_of_another_optimizer(
    recipe: Mapping[str, Any], changed: Mapping[str, Any], config: PretrainConfig
) -> None:
    name, tuned = config.optimizer.name, recipe.get("name", "adamw")
    own_rate = {"learning_rate", "learning-rate"} & changed.keys()
    if name != tuned and "learning_rate" in recipe and not own_rate:
        progress_console().print(
            f"note: the recipe's learning rate {config.optimizer.learning_rate:g} is for {tuned}, "
            f"and {name} may not learn at it; --optimizer.learning-rate sets another",
            highlight=False,
        )


@app.command(help_epilogue=fields_help(PretrainConfig))
def adapt(
    *,
    model: str,
    text: Annotated[list[str], Parameter(consume_multiple=True)],
    output: Path,
    minutes: float | None = None,
    generator: str | None = None,
    new_words: int = 0,
    text_column: str | None = None,
    validation_share: float = 0.05,
    licence: str | None = None,
    task: str | None = None,
    train: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    seeds: int | None = None,
    finetune_recipe: str | None = None,
    resume: str = "never",
    overwrite: Overwrite = False,
    json: Json = False,
    overrides: Overrides = None,
) -> None:
    """Go on pretraining an encoder on the text of a domain.

    The output gets encoder/ (fine-tune this one), report.json with held-out losses before and
    after, corpus/, and pretraining/, a run folder with the other networks. docs/adapting.md.

    Parameters
    ----------
    model
        A folder or Hub id of BERT, RoBERTa, DeBERTa, ModernBERT, ELECTRA and their like, or a run
        folder: discriminator/ with generator/ go on by replaced token detection, masked_lm/ or
        encoder/ by masked LM.
    text
        Files, folders or globs, as for electra prepare.
    output
        The folder to make.
    minutes
        Of training; or --training.max-steps, --training.max-tokens.
    generator
        Folder or Hub id, to a discriminator that --model names.
    new_words
        So many words that the tokenizer cuts into pieces become tokens, those worth most
        (occurrences times pieces saved); WordPiece and byte-level BPE.
    text_column
        Where the text stands in tables.
    validation_share
        Share of the documents held out.
    licence
        Terms of the text; model cards name them.
    task
        Also fine-tune the encoder before and after on a labelled set, see electra finetune.
    train
        Its training rows.
    validation
        Its validation rows.
    test
        Its test rows, read once a seed and encoder.
    seeds
        Fine-tuning runs of each encoder; default 1.
    finetune_recipe
        A .toml file for electra finetune, the same for both encoders.
    resume
        never refuses a folder that holds something; auto goes on where it was.
    overwrite
        Move an old folder to NAME.old-1 and start afresh.
    json
        One line of JSON on standard output instead of the table.
    """
    settings = AdaptSettings(
        new_words=new_words,
        text_column=text_column,
        validation_share=validation_share,
        licence=licence,
    )
    of_task = {
        "--task": task,
        "--train": train,
        "--validation": validation,
        "--test": test,
        "--seeds": seeds,
        "--finetune-recipe": finetune_recipe,
    }
    given = [flag for flag, value in of_task.items() if value is not None]
    lacking = [flag for flag in ("--task", "--train", "--validation") if flag not in given]
    if given and lacking:
        raise ConfigError(
            f"{given[0]} is for fine-tuning before and after, which wants "
            f"{' and '.join(lacking)}, too"
        )
    tables, config = nest(overrides or {}), None
    if task is not None:
        layers = finetune_defaults(task)
        if finetune_recipe is not None:
            layers.append((f"recipe {finetune_recipe}", read_recipe(finetune_recipe)))
        config = resolve(FinetuneConfig, layers)
    from electra.adapt import Labelled
    from electra.adapt import adapt as run_adapt

    labelled = None
    if task is not None and train is not None and validation is not None:
        seeds = 1 if seeds is None else seeds
        labelled = Labelled(task, train, validation, test, seeds, config)
    run_adapt(
        model=model,
        text=text,
        output=output,
        minutes=minutes,
        generator=generator,
        settings=settings,
        labelled=labelled,
        overrides=tables,
        resume=resume,
        overwrite=overwrite,
        json=json,
        console=Console(),
        progress=progress_console(),
    )


@app.command
def recipes() -> None:
    """List the recipes that come with the package."""
    out = Console()
    for name in recipe_names():
        model = read_recipe(name)["model"]
        shape = f"{model['num_hidden_layers']} x {model['hidden_size']}"
        out.print(f"{name:18} {model['family']:8} {shape}", highlight=False)


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
        console=progress_console(),
    )
