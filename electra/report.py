"""Pretraining runs side by side: one HTML page, and a table.

electra report runs/one runs/two --output both.html
"""

from __future__ import annotations

import importlib.util
import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from electra.artifacts.report import NO_FIGURES
from electra.artifacts.runs import RecordedRun, differing, read_runs
from electra.artifacts.runs_page import MARK, results_table, runs_page
from electra.errors import ConfigError, OutputExistsError
from electra.training.run_folder import write_text


def report(
    runs: Sequence[Path],
    *,
    output: Path = Path("report.html"),
    overwrite: bool = False,
    json: bool = False,
    console: Console | None = None,
    progress: Console | None = None,
) -> dict[str, Any]:
    """Write the page; return its tables ready for JSON.

    Args:
        runs: run folders, finished or not, all of pretraining or all of fine-tuning.
        output: the page. A file that is there is replaced where it is such a page.
        overwrite: replace any other file, too.
        json: print one line of JSON instead of a table.
        console: where the answer goes; none: nowhere.
        progress: where remarks go; none: nowhere.

    Returns:
        {"report": the page, "runs": [{"name", "folder", ...}] with what `RecordedRun.summary` has,
        "settings" and "environment": {key: {run: value}} where the runs differ}; of one run all
        settings and the whole environment.

    Raises:
        UserError: a folder is no run, or the output is something else.
    """
    _check_output(output, overwrite)
    found = read_runs(runs)
    write_text(output, runs_page(found))
    result = {
        "report": str(output),
        "runs": [{"name": r.name, "folder": str(r.path), **r.summary()} for r in found],
        "settings": _by_run(found, [r.settings for r in found]),
        "environment": _by_run(found, [r.environment for r in found]),
    }
    if progress is not None and importlib.util.find_spec("matplotlib") is None:
        progress.print(NO_FIGURES, markup=False, highlight=False)
    if console is not None and json:
        line = json_format.dumps(result, ensure_ascii=False)
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    elif console is not None:
        _show(found, console)
        console.print(f"report: {output}", markup=False, highlight=False, soft_wrap=True)
    return result


def _check_output(output: Path, overwrite: bool) -> None:
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; a file is wanted")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}")
    if output.exists() and not overwrite and not _is_report(output):
        raise OutputExistsError(
            f"{output} is there and no page of electra report: choose another --output, or give "
            "--overwrite to replace it"
        )


def _is_report(file: Path) -> bool:
    with file.open("rb") as opened:
        return MARK.encode() in opened.read(20_000)


def _by_run(
    runs: Sequence[RecordedRun], tables: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    if len(runs) == 1:
        return {key: {runs[0].name: value} for key, value in tables[0].items()}
    names = [run.name for run in runs]
    return {key: dict(zip(names, values, strict=True)) for key, values in differing(tables).items()}


def _show(runs: Sequence[RecordedRun], console: Console) -> None:
    columns = (Column(Text(run.name), justify="right", overflow="fold") for run in runs)
    table = Table("", *columns)
    for name, values in results_table(runs):
        table.add_row(Text(name.replace("_", " ")), *map(_cell, values))
    console.print(table)
    for run in runs:
        for line in run.warnings:
            told = line if len(runs) == 1 else f"{run.name}: {line}"
            console.print(f"warning: {told}", markup=False, highlight=False, soft_wrap=True)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("")
    if isinstance(value, str):
        return Text(value)
    whole = isinstance(value, int) or abs(value) >= 1000
    return Text(f"{value:,.0f}" if whole else f"{value:.4g}")
