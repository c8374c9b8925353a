"""Rows of files in forms of their own: JSON of several shapes, and TREC's question types.

A .json file (also .gz) holds JSON lines (CLUE), one list of rows, or an object of splits, name ->
list of rows (CLINC150, Larson et al., 2019), of which `PATH:train+oos_train` names the wanted ones.
A row is an object, or a pair of a text and its label. TREC (Li and Roth, 2002) has a line
`COARSE:fine question` for each row.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from electra.corpus.files import ReadReport, json_row, read_lines, whole_text
from electra.errors import DataError

TREC_LABELS = ("fine", "coarse")
"""Columns of `open_trec`: `DESC:manner` (the 50 fine types are such pairs) and `DESC`."""
_TREC = re.compile(r"(([A-Z]+):[a-z]+) (\S.*)")


def json_rows(path: Path, splits: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a .json file, in order; JSON lines are read one at a time.

    Args:
        path: the file.
        splits: names joined by `+`; none: the file is not one of splits.

    Raises:
        DataError: it is not JSON, or of another shape, or has no such split.
    """
    numbered = enumerate(read_lines(path), start=1)
    read: list[tuple[int, str]] = []
    for number, line in numbered:
        read.append((number, line))
        filled = [text for _, text in read if text.strip()]
        if filled and (len(filled) == 2 or not _is_object(filled[0])):
            break
    if len(filled := [text for _, text in read if text.strip()]) == 2 and splits is None:
        for number, line in itertools.chain(read, numbered):
            if line.strip():
                yield json_row(path, number, line)
        return
    if not filled:
        return
    try:
        value = json.loads("".join(line for _, line in itertools.chain(read, numbered)))
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    yield from _rows_of(value, path, splits)


def _is_object(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _rows_of(value: Any, path: Path, splits: str | None) -> Iterator[dict[str, Any]]:
    has_splits = isinstance(value, dict) and value and all(map(_is_split, value.values()))
    if splits is not None and not has_splits:
        raise DataError(f"{path} has no splits (an object of lists is wanted); leave :{splits} out")
    if has_splits:
        names = ", ".join(value)
        if splits is None:
            raise DataError(
                f"{path} holds splits; name one, or several with +, as {path}:{next(iter(value))} "
                f"(there are: {names})"
            )
        wanted = splits.split("+")
        for name in wanted:
            if name not in value:
                raise DataError(f'{path} has no split "{name}"; it has: {names}')
        value = [row for name in wanted for row in value[name]]
    elif isinstance(value, dict):
        value = [value]
    elif not isinstance(value, list):
        raise DataError(f"{path} is one {type(value).__name__}; a list of objects is wanted")
    for number, row in enumerate(value, start=1):
        if isinstance(row, dict):
            yield {key: whole_text(x) for key, x in row.items()}
        elif _is_pair(row):
            yield {"text": whole_text(row[0]), "label": whole_text(row[1])}
        else:
            raise DataError(
                f"{path} row {number} is {type(row).__name__}; an object, or a pair of text and "
                "label, is wanted"
            )


def _is_split(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(r, dict) or _is_pair(r) for r in rows)


def _is_pair(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 2
        and isinstance(row[0], str)
        and not isinstance(row[1], dict)
    )


def open_trec(path: Path) -> tuple[Iterator[dict[str, Any]], str] | None:
    """Rows of `text`, `fine` and `coarse`, and a note where the file had to be read as Latin-1.

    None where the first line has another form: it is no file of TREC's.
    """
    report = ReadReport()
    lines = read_lines(path, encoding_errors="replace", report=report)
    if not _TREC.fullmatch(next((line.strip() for line in lines if line.strip()), "")):
        return None
    for _ in lines:
        pass
    if not report.replaced_bytes:
        return _trec_rows(path, "utf-8"), ""
    note = f"{path} is not UTF-8; it is read as Latin-1, in which TREC's files were published"
    return _trec_rows(path, "latin-1"), note


def _trec_rows(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(read_lines(path, encoding=encoding), start=1):
        if not line.strip():
            continue
        found = _TREC.fullmatch(line.strip())
        if not found:
            raise DataError(
                f'{path} line {number} is "{line.strip()[:40]}"; "COARSE:fine question" is wanted, '
                "as in the first line"
            )
        yield {"text": found[3], "fine": found[1], "coarse": found[2]}
