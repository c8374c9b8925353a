"""Commands that inform, convert and compare."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from electra.cli.app import Json, Overrides, Overwrite, app, progress_console
from electra.config import PretrainConfig
from electra.errors import ConfigError
from electra.recipe import nest, read_recipe, resolve


@app.command
def doctor() -> None:
    """Show what this machine has, what will be used, and what is missing."""
    from electra.doctor import doctor as run_doctor

    run_doctor(Console())


@app.command(name="inspect")
def inspect_corpus(
    data: Path,
    *,
    samples: int = 3,
    verify: bool | None = None,
    json: Json = False,
) -> None:
    """Show what is in a corpus folder, and check that it is whole.

    Counts, lengths, sources, what was removed, what the tokenizer does, samples, masked examples.
    Shards that are missing, cut or altered are named, with exit code 2.

    Parameters
    ----------
    data
        A corpus folder made by electra prepare.
    samples
        Documents and masked examples that are shown.
    verify
        Read every shard and compare its checksum; default for corpora below 2 GiB. Sizes are
        compared always.
    json
        One line of JSON on standard output instead of tables.
    """
    from electra.inspect_corpus import inspect_corpus as run_inspect

    run_inspect(
        data,
        samples=samples,
        verify=verify,
        json=json,
        console=Console(),
        progress=progress_console(),
    )


@app.command
def plan(
    *,
    data: Path,
    minutes: float | None = None,
    tokens: int | None = None,
    device: str = "auto",
    json: Json = False,
) -> None:
    """Show what network and batch a budget is worth: what electra pretrain takes.

    The networks of the modern recipes are timed on this machine, the smallest first, until one
    would read too little text. docs/training.md has the rule and where it is from.

    Parameters
    ----------
    data
        A corpus folder made by electra prepare.
    minutes
        Of training on this machine.
    tokens
        To read in training, instead; then nothing is timed.
    device
        auto, cpu, cuda or mps.
    json
        One line of JSON on standard output instead of the table, with the whole recipe.
    """
    from electra.plan import plan as run_plan

    run_plan(data=data, minutes=minutes, tokens=tokens, device=device, json=json, console=Console())


@app.command
def flops(
    *,
    recipe: str = "tiny",
    vocab_size: int | None = None,
    published: Overwrite = False,
    json: Json = False,
    overrides: Overrides = None,
) -> None:
    """Count the FLOPs of a pretraining run and of one input, from the recipe alone.

    The rules are those behind the ELECTRA paper's figures (docs/fidelity.md).

    Parameters
    ----------
    recipe
        A name or a .toml file, as for electra pretrain; flags of the form --section.field change
        single values. With --model.discriminator the shape is that of the released weights.
    vocab_size
        Word pieces of the tokenizer; default those of --model.discriminator, else 30,522, as BERT
        and ELECTRA have.
    published
        The paper's runs instead: what its authors' script prints, and what is computed here.
    json
        One line of JSON on standard output instead of tables.
    """
    if published and (recipe != "tiny" or vocab_size is not None or overrides):
        raise ConfigError(
            "--published shows runs that are fixed: give no recipe, vocabulary or field"
        )
    from electra.flops import flops as run_flops
    from electra.flops import published as run_published

    if published:
        run_published(json=json, console=Console())
        return
    layers = [(f"recipe {recipe}", read_recipe(recipe)), ("command line", nest(overrides or {}))]
    config = resolve(PretrainConfig, layers)
    run_flops(config=config, vocab_size=vocab_size, json=json, console=Console())


@app.command
def report(
    *runs: Path,
    output: Path = Path("report.html"),
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw one page of HTML for one or several runs side by side.

    Curves over tokens and over minutes, final metrics, the settings that differ, and samples of
    what the discriminator sees. Runs that are not finished work, too. Figures need matplotlib
    (extra plot).

    Parameters
    ----------
    runs
        Run folders of electra pretrain, or of electra finetune.
    output
        The page. One that is there is replaced; another file only with --overwrite.
    overwrite
        Replace whatever file is there.
    json
        One line of JSON on standard output instead of the table: status, metrics, and the settings
        that differ.
    """
    from electra.report import report as run_report

    run_report(
        runs,
        output=output,
        overwrite=overwrite,
        json=json,
        console=Console(),
        progress=progress_console(),
    )


@app.command
def convert(
    checkpoint: Path,
    *,
    output: Path,
    vocab: Path | None = None,
    config: Path | None = None,
    generator_config: Path | None = None,
    num_attention_heads: int | None = None,
    generator_attention_heads: int | None = None,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn a TensorFlow checkpoint of ELECTRA into folders for transformers.

    Writes encoder/, discriminator/ and, where the checkpoint has one, generator/: what AutoModel,
    AutoModelForPreTraining and AutoModelForMaskedLM open. TensorFlow is not needed.

    Parameters
    ----------
    checkpoint
        The files' name up to .index, one of the files, or their folder.
    output
        The folder to make.
    vocab
        vocab.txt; default the one beside the checkpoint. Without it no tokenizer is written.
    config
        The discriminator's .json, for what tensors do not tell: heads, dropout, activation.
    generator_config
        The generator's.
    num_attention_heads
        Of the discriminator; default one for each 64 of its width, as in the reference.
    generator_attention_heads
        Of the generator; likewise.
    lowercase
        Whether the vocabulary is of lowercased text; default where no word piece of it has an
        uppercase letter.
    strip_accents
        Whether accents are removed; default as lowercase.
    overwrite
        Move an old folder to NAME.old-1.
    """
    from electra.convert import convert as run_convert

    run_convert(
        checkpoint,
        output=output,
        vocab=vocab,
        config=config,
        generator_config=generator_config,
        num_attention_heads=num_attention_heads,
        generator_attention_heads=generator_attention_heads,
        lowercase=lowercase,
        strip_accents=strip_accents,
        overwrite=overwrite,
        console=progress_console(),
    )


@app.command
def benchmark(
    name: str | None = None,
    *,
    model: str | None = None,
    data: Path | None = None,
    seeds: int | None = None,
    output: Path | None = None,
    only: str | None = None,
    quick: Overwrite = False,
    json: Json = False,
    overrides: Overrides = None,
) -> None:
    """Run a suite of benchmarks on an encoder: one table over all its sets.

    Each set is fine-tuned with several seeds; the model of a run is chosen on validation data, and
    the test data is read once. Interrupted, the same command goes on: what is finished in the
    output folder is not done again. A set that fails stops no other; the exit code is 2 then.
    Without a name the suites are listed.

    Parameters
    ----------
    name
        A suite that comes with the package, or a .toml file. Adding a set is ten lines:
        [sets.mine] with task, train, validation (a source, or a share of the training rows such as
        0.1), test (likewise), metric, and what the recipe has otherwise (recipe.training.epochs =
        3).
    model
        An encoder: a folder, a run folder of electra pretrain, or a Hub id.
    data
        The folder that the suite's files lie below; default the environment's ELECTRA_DATA. Sets
        whose files are not there are skipped, and the mean says over how many it is.
    seeds
        Runs of each set, with seeds 0, 1, ...; default 3, with --quick 1.
    output
        Where runs and results.json go; default runs/benchmarks/NAME, with --quick NAME-quick.
    only
        Names of sets, parted by commas. Results of the others, of the same encoder and recipe, are
        kept.
    quick
        A few hundred rows and one epoch of each set, to see that everything works.
    json
        One line of JSON on standard output instead of the table.
    """
    tables = nest(overrides or {})
    from electra.benchmark import benchmark as run_benchmark
    from electra.benchmark import list_suites

    if name is None:
        list_suites(Console())
        return
    if model is None:
        raise ConfigError("no encoder given: electra benchmark NAME --model ENCODER --data FOLDER")
    run_benchmark(
        name,
        model=model,
        data=data,
        seeds=seeds,
        output=output,
        only=only,
        quick=quick,
        json=json,
        overrides=tables,
        console=Console(),
        progress=progress_console(),
    )
