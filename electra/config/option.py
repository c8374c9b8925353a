"""A field with its help, and the checks that name its flag."""

from __future__ import annotations

import dataclasses
from typing import Any

from electra.errors import ConfigError


def option(default: Any, help: str) -> Any:
    """A dataclass field with its help text."""
    return dataclasses.field(default=default, metadata={"help": help})


def positive(section: Any, prefix: str, name: str) -> None:
    """Refuse a field that is given and not above 0."""
    value = getattr(section, name)
    flag = f"{prefix}.{name.replace('_', '-')}"
    require(value is None or value > 0, flag, value, "above 0")


def require(condition: bool, flag: str, given: object, allowed: str) -> None:
    """Refuse a value, naming its flag and what is allowed."""
    if not condition:
        raise ConfigError(f"--{flag} is {given}; allowed: {allowed}")
