"""Texts without labels, from a file or a stream: what `predict` and `score` read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from electra.corpus.compression import without_compression
from electra.corpus.files import ReadReport, json_row, kind_of, read_rows
from electra.errors import ConfigError, DataError
from electra.tasks.text_files import json_rows

CHUNK = 1_024
"""Inputs read, sorted by length and answered together, so that memory is bounded."""
STDIN = "-"


@dataclass(frozen=True)
class Inputs:
    """An open source of rows."""

    rows: Iterator[dict[str, Any]]
    place: str
    """What it is called in messages."""
    chunk: int = CHUNK
    """Rows to answer together: one where a person is typing them."""


def require_one(texts: Sequence[str], input: str | None, *, folders: bool = False) -> None:
    """Check that a command names texts or a file, and that the one or the other can be read.

    Args:
        texts: as given.
        input: as given.
        folders: whether a folder will do as well.

    Raises:
        ConfigError: it names neither, or both, or a text is a file's name.
        DataError: a text is not UTF-8, or there is no such file.
    """
    if bool(texts) == (input is not None):
        raise ConfigError("give texts, or a file with --input (- for standard input): one of them")
    for number, text in enumerate(texts, start=1):
        check_utf8(text, f"text {number}")
        if os.path.isfile(text):  # which a Path that is too long would raise at
            raise ConfigError(f"text {number} is the name of a file: give it with --input {text}")
    if input not in (None, STDIN) and not file_and_splits(input)[0].is_file():
        if folders and Path(input).is_dir():
            return
        what = "is a folder; a file is wanted" if Path(input).is_dir() else "does not exist"
        raise DataError(f"--input {input} {what}")


def check_utf8(text: str, place: str) -> None:
    """Refuse text that no tokenizer takes.

    Raises:
        DataError: it has bytes that were not UTF-8 (Python keeps them as halves of surrogate
            pairs), or such halves themselves.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        what = f"byte 0x{half - 0xDC00:02x}" if 0xDC80 <= half <= 0xDCFF else f"U+{half:04X}"
        raise DataError(
            f"{place} is not UTF-8: character {error.start + 1} is {what}; convert it"
        ) from None


def open_input(
    input: str,
    *,
    header: str = "auto",
    columns: Iterable[str] = (),
    stdin: TextIO | None = None,
    report: ReadReport | None = None,
) -> Inputs:
    """The rows of a file, or of standard input where `input` is `-`; read as they are taken.

    Args:
        input: .txt (a line, a text), .jsonl, .json, .csv, .tsv, .parquet, each also .gz, splits of
            a JSON file as `PATH.json:train+dev`, or `-` for lines of text or JSON.
        header: as in `read_rows`.
        columns: as in `read_rows`.
        stdin: none: `sys.stdin`.
        report: told how far the file has been read.
    """
    path, splits = file_and_splits(input)
    if input != STDIN and is_json(str(path)):
        return Inputs(json_rows(path, splits), input)
    if input != STDIN:
        rows = read_rows(path, header=header, columns=columns, report=report)
        return Inputs(rows, input)
    stream = stdin or sys.stdin
    return Inputs(_stream_rows(stream), "standard input", 1 if stream.isatty() else CHUNK)


def answers_in_json(input: str | None) -> bool:
    """Whether the answers are JSON without being asked: JSONL in and `-` are JSONL out."""
    if input is None or input == STDIN:
        return input == STDIN
    path = file_and_splits(input)[0]
    return is_json(str(path)) or kind_of(path) == "jsonl"


def is_json(source: str) -> bool:
    """Whether a file is one JSON value by its name (.json, .json.gz)."""
    return without_compression(source).lower().endswith(".json")


def file_and_splits(source: str) -> tuple[Path, str | None]:
    """A file, and which splits of it are wanted where it is a .json file that is there.

    `full.json:train+dev` are `full.json` and `train+dev`; any other path comes back as it is.
    """
    for file, _, splits in (source.rpartition(":"), source.partition(":")):
        if splits and is_json(file) and Path(file).is_file() and not Path(source).is_file():
            return Path(file), splits
    return Path(source), None


def _stream_rows(stream: TextIO) -> Iterator[dict[str, Any]]:
    """JSON objects where the first line is one, else lines of text."""
    is_json: bool | None = None
    number = 0
    while True:
        number += 1
        try:
            line = next(stream)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise DataError(f"standard input line {number} is not UTF-8: {error}") from None
        check_utf8(line, f"standard input line {number}")
        if not line.strip():
            continue
        if is_json is None:
            is_json = line.lstrip().startswith("{")
        if not is_json:
            yield {"text": line.rstrip("\r\n")}
            continue
        yield json_row(Path("standard input"), number, line)
