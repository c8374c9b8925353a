"""What every benchmark writes: command, commit, machine, rows, summary."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from electra.training.device import machine
from electra.training.run_folder import write_text


def _commit() -> str:
    """The commit, marked where the tree has changes beside it; results are none."""
    here = Path(__file__).parent
    commit = _git("rev-parse", "--short=12", "HEAD", folder=here)
    changed = _git("diff", "--name-only", "HEAD", "--", ":/", ":!results", folder=here)
    return (commit or "unknown") + ("-dirty" if changed else "")


def _git(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _module() -> str:
    """`benchmarks.NAME` of the script that runs."""
    return f"benchmarks.{Path(sys.argv[0]).stem}"


COMMIT = _commit()
"""When the script began, whatever is committed while it runs."""


def finish(
    rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], *, json_file: Path | None
) -> None:
    """Print the rows as a table and the summary; write all of it to `json_file`."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    console.print(table)
    for name, value in summary.items():
        console.print(f"{name}: {_shown(value)}", highlight=False)
    console.print(f"commit {COMMIT}, {machine()['processor']}", highlight=False)
    if json_file is not None:
        write(rows, summary, json_file)


def write(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], json_file: Path) -> None:
    """Write all of it to `json_file`."""
    record: dict[str, Any] = {
        "command": shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
        "commit": COMMIT,
        "machine": machine(),
        "rows": list(rows),
        "summary": dict(summary),
    }
    json_file.parent.mkdir(parents=True, exist_ok=True)
    write_text(json_file, json.dumps(record, indent=1) + "\n")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value)
