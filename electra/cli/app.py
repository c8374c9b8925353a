"""What every command of the line shares: the application, types of its flags, consoles."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from electra.config import FinetuneConfig, LabelledDataConfig
from electra.errors import ConfigError
from electra.recipe import nest, option_rows, resolve

app = App(
    name="electra",
    help="Raw text to a language encoder, and the encoder to working applications.",
    help_epilogue="Start with `electra quickstart`, or with `electra prepare --help`.",
    version_flags=["--version"],
)
Overwrite = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(negative="")]
Input = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
"""A file, or `-`, which is a value here and no flag."""
_READING_TEXTS = ("text_column", "text_pair_column", "header")
_READING = (*_READING_TEXTS, "label_column", "label_separator", "lost_answers")
Overrides = Annotated[dict[str, str] | None, Parameter(parse=False)]


def progress_console() -> Console:
    """Where progress goes: standard error, so that answers can be piped; of torchrun's processes
    the first speaks.
    """
    return Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")


def fields_help(config: type) -> str:
    """The flags of a recipe, for the end of a command's help."""
    rows = [f"- `{flag}` ({kind}): {text}" for flag, kind, _, text in option_rows(config)]
    return "Fields of the recipe, each a flag:\n\n" + "\n".join(rows)


def columns_of(overrides: dict[str, str] | None, *, labelled: bool = True) -> LabelledDataConfig:
    """The columns that `--data.*` flags name for a finished model; of labels where it reads any."""
    allowed = _READING if labelled else _READING_TEXTS
    tables = nest(overrides or {})
    for name, table in tables.items():
        for key in table:
            if name != "data" or key not in allowed:
                known = name == "data" and key in _READING
                why = (
                    "is for labels, and none are read"
                    if known
                    else "does not change a finished model"
                )
                flags = ", ".join(f"--data.{field.replace('_', '-')}" for field in allowed)
                raise ConfigError(f"--{name}.{key.replace('_', '-')} {why}; allowed: {flags}")
    return resolve(FinetuneConfig, [("command line", tables)]).data
