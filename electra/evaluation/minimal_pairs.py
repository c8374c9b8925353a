"""Minimal pairs: of two sentences that differ in little, does the good one score higher?

Read are the files of BLiMP (Warstadt et al. 2020), those of CLiMP (Xiang et al. 2021), and any
JSONL, CSV or TSV with the columns `sentence_good` and `sentence_bad`, each also .gz.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from electra.corpus.compression import without_compression
from electra.corpus.files import ReadReport, expand, kind_of, read_rows
from electra.errors import ConfigError, DataError
from electra.evaluation.token_scores import TextScorer, TooLongError

MINIMAL_PAIRS = "minimal-pairs"
GOOD, BAD = "sentence_good", "sentence_bad"
PARADIGM = "UID"
"""The field that names the paradigm of a pair, as in BLiMP."""
_KINDS = ("jsonl", "csv", "tsv")
Progress = Callable[[float, str], None]
"""Called with the share done, 0 to 1, and the paradigm at work."""


@dataclass(frozen=True, slots=True)
class MinimalPair:
    """Two sentences, the first acceptable, the second not."""

    good: str
    bad: str


def read_minimal_pairs(
    source: str | Path, *, limit: int | None = None
) -> dict[str, list[MinimalPair]]:
    """The pairs of a file, or of all files in a folder, by paradigm.

    Args:
        source: .jsonl, .csv or .tsv, also .gz, or a folder of them. The paradigm is the row's
            `UID` where it has one, else the file's name without its ending, or for files of one
            name their path in the folder.
        limit: keep the first so many pairs of each paradigm; none: all.

    Raises:
        ConfigError: `limit` is below 1.
        DataError: nothing to read; a column or a sentence is missing, named by file and line; rows
            of CLiMP that do not take turns.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit is {limit}; allowed: above 0")
    paradigms: dict[str, list[MinimalPair]] = {}
    for file, name in _names(_files(Path(source))).items():
        count = 0
        for paradigm, pair in _pairs(file, name):
            count += 1
            kept = paradigms.setdefault(paradigm, [])
            if limit is None or len(kept) < limit:
                kept.append(pair)
        if count == 0:
            raise DataError(f"{file} holds no pairs")
    return paradigms


def pair_accuracy(scores: Iterable[tuple[float, float]]) -> float:
    """Share of pairs (good, bad), at least one, whose good sentence scores higher.

    A tie counts half: a model that gives every sentence one score gets chance, not 1 or 0.
    """
    points = [1.0 if good > bad else 0.5 if good == bad else 0.0 for good, bad in scores]
    return sum(points) / len(points)


def score_minimal_pairs(
    scorer: TextScorer,
    paradigms: Mapping[str, Sequence[MinimalPair]],
    progress: Progress | None = None,
) -> dict[str, float]:
    """Paradigm -> accuracy. The sentences of a paradigm are scored together.

    Raises:
        DataError: a sentence is longer than the network can read.
    """
    total = sum(map(len, paradigms.values()))
    accuracies: dict[str, float] = {}
    before = 0.0
    for name, pairs in paradigms.items():
        share = len(pairs) / total

        def tell(
            done: int, passes: int, name: str = name, before: float = before, share: float = share
        ) -> None:
            if progress is not None:
                progress(before + share * done / passes, name)

        texts = [text for pair in pairs for text in (pair.good, pair.bad)]
        try:
            totals = [score.total for score in scorer.score(texts, tell)]
        except TooLongError as error:
            raise DataError(f"{name} pair {error.number // 2 + 1}: {error}") from None
        accuracies[name] = pair_accuracy(zip(totals[::2], totals[1::2], strict=True))
        before += share
    return accuracies


def minimal_pairs_result(
    scorer: TextScorer,
    paradigms: Mapping[str, Sequence[MinimalPair]],
    data: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score, and sum up as `evaluate --json` has it.

    Args:
        scorer: a network.
        paradigms: from `read_minimal_pairs`.
        data: where they are from.
        progress: told how far it is.

    Returns:
        {"task", "data", "n": pairs, "metric": "accuracy", "metrics": {"accuracy": mean over the
        paradigms}, "paradigms": {name: accuracy}}
    """
    accuracies = score_minimal_pairs(scorer, paradigms, progress)
    return {
        "task": MINIMAL_PAIRS,
        "data": str(data),
        "n": sum(map(len, paradigms.values())),
        "metric": "accuracy",
        "metrics": {"accuracy": sum(accuracies.values()) / len(accuracies)},
        "paradigms": accuracies,
    }


def _files(source: Path) -> list[Path]:
    files = expand([source])
    kept = [file for file in files if kind_of(file) in _KINDS]
    if not kept:
        raise DataError(f"{source} holds no minimal pairs; allowed: .jsonl, .csv, .tsv (.gz)")
    return kept


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """What the pairs of each file are called that have no name of their own."""
    stems = {file: Path(without_compression(file.name)).stem for file in files}
    seen = Counter(stems.values())
    top = os.path.commonpath([file.parent for file in files])
    return {
        file: stem if seen[stem] == 1 else file.relative_to(top).as_posix()
        for file, stem in stems.items()
    }


def _pairs(file: Path, name: str) -> Iterator[tuple[str, MinimalPair]]:
    if kind_of(file) == "jsonl":
        return _named_columns(file, name)
    first = [cell.strip() for cell in next(read_rows(file, header="false"), {}).values()]
    if {GOOD, BAD} & set(first):
        return _named_columns(file, name)
    for cell in first:
        if GOOD in cell or BAD in cell:
            raise DataError(
                f'{file} has "{cell}" as the name of one column: cells are wanted with commas '
                "between them in .csv, with tabs in .tsv"
            )
    return _alternating(file, name)


def _sentence(value: object, place: str, column: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f'{place} has no sentence in column "{column}"')
    return value


def _named_columns(file: Path, name: str) -> Iterator[tuple[str, MinimalPair]]:
    """Rows with `sentence_good` and `sentence_bad`, as in BLiMP."""
    report = ReadReport()
    for row in read_rows(file, header="true", report=report):
        place = f"{file} line {report.line}"
        for column in (GOOD, BAD):
            if column not in row:
                raise DataError(f'{place} has no column "{column}"; it has: {", ".join(row)}')
        pair = MinimalPair(*(_sentence(row[column], place, column) for column in (GOOD, BAD)))
        yield str(row.get(PARADIGM) or name), pair


def _alternating(file: Path, name: str) -> Iterator[tuple[str, MinimalPair]]:
    """CLiMP's rows: good and bad take turns; the last column says which, or there is but one."""
    report = ReadReport()
    rows: list[tuple[int, list[str]]] = []
    for row in read_rows(file, header="false", report=report):
        rows.append((report.line, list(row.values())))
    if rows and _is_header(rows[0][1]):
        del rows[0]
    for number, (line, cells) in enumerate(rows):
        label, kind = ("0", "bad") if number % 2 else ("1", "good")
        if len(cells) > 1 and cells[-1] != label:
            raise DataError(
                f'{file} line {line} ends in "{cells[-1]}" where a {kind} sentence ({label}) is '
                f"due; wanted are the columns {GOOD} and {BAD}, or CLiMP's rows by turns"
            )
    if len(rows) % 2:
        raise DataError(
            f"{file} has {len(rows)} rows, an odd number; good and bad sentences take turns, and "
            f"the last one (line {rows[-1][0]}) has no partner"
        )
    sentences = []
    for line, cells in rows:
        column = max(0, len(cells) - 2)
        sentences.append(_sentence(cells[column], f"{file} line {line}", str(column)))
    for good, bad in zip(sentences[::2], sentences[1::2], strict=True):
        yield name, MinimalPair(good, bad)


def _is_header(cells: list[str]) -> bool:
    """Whether no label ends the row, or it numbers the columns as CLiMP's do: nothing, 0, 1, ..."""
    numbered = cells == ["", *map(str, range(len(cells) - 1))]
    return len(cells) > 1 and (numbered or cells[-1] not in ("0", "1"))
