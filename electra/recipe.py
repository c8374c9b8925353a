"""Reading, merging and writing recipes: defaults < recipe file < command-line flags.

`resolve` merges the layers, refuses unknown keys with the nearest name, and checks types; ranges
are checked by the sections themselves. A recipe is a TOML file with one table a section; `to_toml`
writes the resolved one back.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from electra.config import BUDGETS
from electra.config.objective import without_inapplicable
from electra.errors import ConfigError, did_you_mean

T = TypeVar("T")
Values = Mapping[str, Any]


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("electra") / "recipes"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def read_recipe(name: str) -> dict[str, Any]:
    """The tables of a recipe: a name that comes with the package, or a path to a .toml file."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"recipe file {name} does not exist")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"recipe file {name} is not UTF-8: {error}") from None
    elif name in recipe_names():
        text = (resources.files("electra") / "recipes" / f"{name}.toml").read_text("utf-8")
    else:
        raise ConfigError(
            f'there is no recipe "{name}"; {did_you_mean(name, recipe_names())} '
            "(or give the path of a .toml file)"
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {name} is not valid TOML: {error}") from None


def resolve(cls: type[T], layers: Sequence[tuple[str, Values]]) -> T:
    """Build a config from layers, the last one wins.

    Args:
        cls: `PretrainConfig` or another dataclass of sections.
        layers: (origin, tables) pairs; the origin ("recipe tiny", "command line") is for messages.
            Values from the command line are strings and are parsed by the type of their field.

    A budget given in a later layer replaces whichever budget an earlier one had. A layer that names
    an objective drops what earlier ones said that does not apply to it.

    Raises:
        ConfigError: unknown section or field, wrong type, value out of range.
    """
    sections = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    merged: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for origin, tables in layers:
        for name, table in tables.items():
            if name not in sections:
                raise ConfigError(
                    f'{origin}: there is no section "{name}"; {did_you_mean(name, sections)}'
                )
            if not isinstance(table, Mapping):
                raise ConfigError(f'{origin}: "{name}" is a section, not a single value')
            if name == "training" and any(key in table for key in (*BUDGETS, "epochs")):
                for key in (*BUDGETS, "epochs"):
                    merged[name].pop(key, None)
            checked = checked_table(hints[name], name, table, origin)
            if name == "objective" and "name" in checked:
                merged[name] = without_inapplicable(merged[name], checked["name"])
            merged[name] |= checked
    return cls(**{name: hints[name](**merged[name]) for name in sections})


def checked_table(cls: type, name: str, table: Values, origin: str) -> dict[str, Any]:
    """A table with its fields' names and types, or a `ConfigError`."""
    hints = typing.get_type_hints(cls)
    result = {}
    for key, value in table.items():
        key = key.replace("-", "_")
        if key not in hints:
            raise ConfigError(
                f'{origin}: section "{name}" has no field "{key}"; {did_you_mean(key, hints)}'
            )
        result[key] = _coerce(value, hints[key], f"{origin}: {name}.{key}")
    return result


def _coerce(value: Any, kind: Any, where: str) -> Any:
    """`value` as the type `kind`; strings (from flags) are parsed."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        kinds = [a for a in arguments if a is not type(None)]
        words = [
            word for a in kinds if typing.get_origin(a) is Literal for word in typing.get_args(a)
        ]
        if value in words:
            return value
        try:
            return _coerce(value, kinds[0], where)
        except ConfigError as error:
            more = f" or {', '.join(words)}" if words else ""
            raise ConfigError(f"{error}{more}") from None
    if origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{where} is {value}; {did_you_mean(str(value), map(str, arguments))}")
    if kind is bool:
        spelled = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in spelled:
            return spelled[value.lower()]
    elif origin is tuple and isinstance(value, str):
        if typing.get_origin(arguments[0]) is not tuple and not value.startswith("["):
            words = [] if value.lower() == "none" else value.split(",")
            return _coerce(words, kind, where)
        try:
            listed = json.loads(value)
        except ValueError:
            listed = None
        if isinstance(listed, list):
            return _coerce(listed, kind, where)
        raise ConfigError(f"{where} is {value!r}; it must be a list, such as [[0, 0.5], [0.5, 1]]")
    elif origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(_coerce(entry, arguments[0], where) for entry in value)
        if len(value) == len(arguments):
            return tuple(map(_coerce, value, arguments, [where] * len(value)))
        raise ConfigError(f"{where} has {list(value)}; it must be a list of {len(arguments)}")
    elif kind is str and isinstance(value, str | int):
        return str(value)
    elif kind in (int, float) and not isinstance(value, bool):
        try:
            number = float(value) if isinstance(value, str | int | float) else None
        except ValueError:
            number = None
        if number is not None and math.isfinite(number):
            if kind is float:
                return number
            if number == int(number):
                return int(number)
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    wanted[tuple] = "a list"
    raise ConfigError(f"{where} is {value!r}; it must be {wanted.get(origin or kind, str(kind))}")


def nest(flat: Values) -> dict[str, dict[str, Any]]:
    """`{"training.max-steps": "10"}` -> `{"training": {"max_steps": "10"}}` (flags to tables)."""
    tables: dict[str, dict[str, Any]] = {}
    for flag, value in flat.items():
        name, dot, key = flag.partition(".")
        if not dot:
            raise ConfigError(f"there is no option --{flag}")
        tables.setdefault(name.replace("-", "_"), {})[key.replace("-", "_")] = value
    return tables


def to_tables(config: Any) -> dict[str, dict[str, Any]]:
    """The config as plain tables, without the fields that are none (TOML has no null)."""
    return {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in dataclasses.asdict(config).items()
    }


def to_toml(config: Any) -> str:
    """The resolved config as a recipe file that `resolve` reads back to an equal config."""
    lines: list[str] = []
    for name, table in to_tables(config).items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml_value(value)}" for key, value in table.items()]
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, str | list | tuple | bool):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def option_rows(cls: type) -> list[tuple[str, str, str, str]]:
    """(flag, type, default, help) of every field of every section, for `--help` and the docs."""
    rows = []
    for name, kind in typing.get_type_hints(cls).items():
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            flag = f"--{name}.{field.name.replace('_', '-')}"
            rows.append(
                (flag, _type_name(hints[field.name]), str(field.default), field.metadata["help"])
            )
    return rows


def _type_name(kind: Any) -> str:
    arguments = [a for a in typing.get_args(kind) if a is not type(None)]
    if typing.get_origin(kind) is Literal:
        return "|".join(map(str, arguments))
    if typing.get_origin(kind) is tuple:
        return "list"
    if arguments:
        return "|".join(map(_type_name, arguments))
    return str(kind.__name__)
