"""What a run was begun with: written beside it, and compared before it is continued.

`config.toml` holds the resolved recipe, `environment.json` the machine and the inputs: data, models
and whatever else decides what is learned, each with a hash of its content where it has one.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from electra.errors import ConfigError
from electra.recipe import resolve, to_tables, to_toml
from electra.training.device import machine
from electra.training.run_folder import launcher, write_text

Identity = dict[str, str]
_SMALL = 10_000_000
"""Bytes of a file in a folder, up to which its content counts."""


def identity(source: str) -> Identity:
    """The name as given and a SHA-256.

    It is that of the file (and the split that is named of it), of a model folder's weights, or of
    the names and sizes of another folder's files, and of what is in the small ones.
    """
    path = Path(source)
    named, _, split = source.rpartition(":")
    if not path.exists() and Path(named).suffix and Path(named).is_file():
        return {"name": source, "sha256": _digest(Path(named)), "split": split}
    weights = path / "model.safetensors"
    if weights.is_file() or path.is_file():
        return {"name": source, "sha256": _digest(weights if weights.is_file() else path)}
    if not path.is_dir():
        return {"name": source}
    files = [(f, f.stat().st_size) for f in sorted(path.rglob("*")) if f.is_file()]
    listing = [
        (f.relative_to(path).as_posix(), size, _digest(f) if size < _SMALL else "")
        for f, size in files
    ]
    return {"name": source, "sha256": hashlib.sha256(json.dumps(listing).encode()).hexdigest()}


def same_content(one: Identity, other: Identity) -> bool:
    """Whether two names are of the same file, as far as a hash can say."""
    return "sha256" in one and _content(one) == _content(other)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def describe_run(path: Path, config: Any, inputs: Mapping[str, Identity | str | bool]) -> None:
    """Write `config.toml` and `environment.json`; `inputs` by the names of their flags."""
    write_text(path / "config.toml", to_toml(config))
    facts: dict[str, Any] = {**machine(), "inputs": dict(inputs)}
    if (began_by := launcher()) is not None:
        facts["launcher"] = began_by
    write_text(path / "environment.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def check_same_run(
    path: Path,
    config: Any,
    inputs: Mapping[str, Identity | str | bool],
    *,
    may_change: Mapping[str, Iterable[str]],
) -> None:
    """Refuse to continue a run with other inputs or another recipe than it was begun with.

    Args:
        path: the run folder; nothing differs from what is not there.
        config: the dataclass of sections to go on with.
        inputs: as given to `describe_run`; the same content under another name is the same.
        may_change: section -> fields that are let pass.

    Raises:
        ConfigError: naming all that differs.
    """
    differing = _changed_fields(path, config, may_change)
    file = path / "environment.json"
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8")).get("inputs", {})
        for name, now in inputs.items():
            then = before.get(name)
            if _content(then) != _content(now):
                flag = name.replace("_", "-")
                differing.append(f"--{flag} {_name(then)} -> {_name(now)}")
    if differing:
        raise ConfigError(
            f"{path} was begun otherwise ({'; '.join(differing)}): resume with what it was begun "
            "with, or choose another --output"
        )


def other_bits(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A warning where `bit_environment` differs from the checkpoint's."""
    names = sorted({*before, *now})
    changed = [f"{n} {before.get(n)} -> {now.get(n)}" for n in names if before.get(n) != now.get(n)]
    if not changed:
        return None
    return f"the last bits may differ from an undisturbed run: {', '.join(changed)}"


def _content(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return (value["sha256"], value.get("split")) if "sha256" in value else value["name"]


def _name(value: Any) -> Any:
    return value["name"] if isinstance(value, dict) else value


def _changed_fields(path: Path, config: Any, may_change: Mapping[str, Iterable[str]]) -> list[str]:
    """`section.field before -> now` for each field that differs from the run's config.toml."""
    file = path / "config.toml"
    if not file.is_file():
        return []
    text = file.read_text(encoding="utf-8")
    before = to_tables(resolve(type(config), [(str(file), tomllib.loads(text))]))
    return [
        f"{name}.{key} {before[name].get(key)} -> {now.get(key)}"
        for name, now in to_tables(config).items()
        for key in sorted(before[name].keys() | now.keys())
        if before[name].get(key) != now.get(key) and key not in may_change.get(name, ())
    ]
