"""Recipes of `electra prepare`, under its flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from electra.config import CleaningSettings, ClusterSettings, PrepareSettings
from electra.errors import ConfigError
from electra.recipe import checked_table

T = TypeVar("T")


def source_tables(value: Any, origin: str) -> list[dict[str, Any]]:
    """`[[sources]]` of a recipe of `prepare`.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ConfigError(
            f"{origin}: sources is {value!r}; allowed: a table [[sources]] for each, with "
            'path = "..."'
        )
    return value


def prepare_settings(
    flags: PrepareSettings, tables: Mapping[str, Any], origin: str, given: Collection[str] = ()
) -> PrepareSettings:
    """A recipe of `prepare` under the flags: those that are given, or not at their defaults, win.

    Args:
        flags: from the command line.
        tables: the fields of `PrepareSettings`, and a table `cleaning`.
        origin: for messages.
        given: fields that flags were given for, as `vocab_size` and `cleaning.c4`.

    Raises:
        ConfigError: unknown field, wrong type, value out of range.
    """
    fields = dict(tables)
    cleaning = fields.pop("cleaning", {})
    if not isinstance(cleaning, Mapping):
        raise ConfigError(f'{origin}: "cleaning" is a table, not a single value')
    values = checked_table(PrepareSettings, "prepare", fields, origin)
    values["cleaning"] = _under(
        flags.cleaning,
        checked_table(CleaningSettings, "cleaning", cleaning, origin),
        {name.removeprefix("cleaning.") for name in given if name.startswith("cleaning.")},
    )
    return _under(flags, values, given)


def cluster_settings(flags: ClusterSettings, table: Any, origin: str) -> ClusterSettings:
    """The table `cluster` of a recipe of `prepare` under the flags, as `prepare_settings`.

    Raises:
        ConfigError: unknown field, wrong type.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f'{origin}: "cluster" is a table, not a single value')
    return _under(flags, checked_table(ClusterSettings, "cluster", table, origin))


def _under(flags: T, values: Mapping[str, Any], given: Collection[str] = ()) -> T:
    """The values of a recipe, and of the flags those given, or not at their defaults."""
    default = type(flags)()
    chosen = {
        field.name: getattr(flags, field.name)
        for field in dataclasses.fields(flags)  # type: ignore[arg-type]
        if (field.name in given or getattr(flags, field.name) != getattr(default, field.name))
        and not dataclasses.is_dataclass(getattr(flags, field.name))
    }
    return type(flags)(**{**values, **chosen})
