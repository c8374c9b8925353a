"""Commands that inform and convert."""

from __future__ import annotations

from rich.console import Console

from electra.cli.app import Json, Overrides, Overwrite, app
from electra.config import PretrainConfig
from electra.errors import ConfigError
from electra.recipe import nest, read_recipe, resolve

VOCAB_SIZE = 30_522
"""Word pieces of BERT and ELECTRA."""


@app.command
def doctor() -> None:
    """Show what this machine has, what will be used, and what is missing."""
    from electra.doctor import doctor as run_doctor

    run_doctor(Console())


@app.command
def flops(
    *,
    recipe: str = "tiny",
    vocab_size: int = VOCAB_SIZE,
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
        single values.
    vocab_size
        Word pieces of the tokenizer.
    published
        The paper's runs instead: what its authors' script prints, and what is computed here.
    json
        One line of JSON on standard output instead of tables.
    """
    if published and (recipe != "tiny" or vocab_size != VOCAB_SIZE or overrides):
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
