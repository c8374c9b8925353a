"""The text every machine has: documentation strings of the installed Python packages.

`electra quickstart` needs a corpus and a labelled task without a download. This module reads both
from the Python that runs it: the documentation strings of the standard library and of
site-packages (source files are parsed with `ast`, never imported, never executed) and the language
reference in `pydoc_data.topics`.

Whole source files are held out, by a hash of (package, relative path). The other files are the
pretraining text. The held-out files supply text for measuring and a real classification: *which
package is this passage from*. A passage is a run of one file's paragraphs of prose. The packages'
names are blanked, no paragraph stands in the pretraining text or in two examples, and training,
validation and test passages are from different files.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import signal
import sys
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distributions
from multiprocessing import get_context
from pathlib import Path

BLANK = "something"
"""The word that stands where a package was named."""

_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "testing", "idle_test", "_vendor", "_vendored", "vendor", "vendored"}
    | {"site-packages", "dist-packages", "lib-dynload", "__pycache__", "node_modules"}
)
_SKIPPED_FILES = re.compile(r"test_.*|.*_test|conftest")
_MAX_FILE_BYTES = 2_000_000
_MIN_DOCUMENT_CHARACTERS = 200
_MIN_PARAGRAPH_WORDS = 5
_MIN_PASSAGE_WORDS, _MAX_PASSAGE_WORDS = 40, 80
_MAX_PASSAGES_PER_FILE = (2, 10, 10)  # train, validation, test; few, so that training is varied
_TABLE_OR_CODE = re.compile(r">>>|\.\.\. |::|={3}|-{3}|\+-|\||\\\\|[{}]|^\s*(?:@|def |class |\$ )")
_PLAIN_WORD = re.compile(r"[\"'`(\[*]*[A-Za-z][A-Za-z'-]*[\"'`)\]*.,;:!?]*")
_ALIASES = {
    "matplotlib": ("plt", "mpl", "pyplot"),
    "narwhals": ("nw",),
    "networkx": ("nx",),
    "numpy": ("np", "npt"),
    "pandas": ("pd",),
    "PIL": ("pillow",),
    "pyarrow": ("pa",),
    "scipy": ("sp",),
    "sympy": ("sp",),
    "tensorflow": ("tf",),
    "transformers": ("hugging face", "huggingface"),
}


@dataclass(frozen=True)
class SourceFile:
    """A Python source file: its top-level package, its path below the root, where it is."""

    package: str
    relative_path: str
    path: Path

    def held_out(self, share: float) -> bool:
        """Whether this file is among the `share` of files that pretraining never reads."""
        return _fraction(self.package, self.relative_path) < share


@dataclass(frozen=True)
class Example:
    """A passage with its package's name as label, and the file it comes from."""

    text: str
    label: str
    source: str


@dataclass(frozen=True)
class PackageClassification:
    """The labelled task: three lists of examples, balanced over `labels`, from disjoint files."""

    labels: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


@dataclass(frozen=True)
class PythonDocumentation:
    """What the installed packages' documentation gives.

    `documents` is the pretraining text, one document per source file; `held_out_documents` come
    from the files that pretraining never reads; `skipped_files` did not parse or decode.
    """

    documents: tuple[str, ...]
    held_out_documents: tuple[str, ...]
    classification: PackageClassification
    files: int
    skipped_files: int


def default_roots() -> tuple[Path, ...]:
    """Find the running interpreter's standard library and site-packages."""
    paths = sysconfig.get_paths()
    named = [paths["stdlib"], paths["purelib"], paths["platlib"]]
    named += [entry for entry in sys.path if Path(entry).name.endswith("-packages")]
    found = dict.fromkeys(Path(name).resolve() for name in named)
    return tuple(path for path in found if path.is_dir())


def find_source_files(roots: Iterable[Path] | None = None) -> list[SourceFile]:
    """List the source files below `roots`, sorted by (package, relative path); tests are left out.

    The package is the first folder below the root, or the module's name, leading underscores
    dropped. A file found below two roots (same relative path) counts once.
    """
    found: dict[tuple[str, str], SourceFile] = {}
    for root in default_roots() if roots is None else roots:
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).parts
            if not _SKIPPED_FOLDERS.isdisjoint(parts[:-1]) or _SKIPPED_FILES.fullmatch(path.stem):
                continue
            first = parts[0] if len(parts) > 1 else path.stem
            package, relative_path = first.lstrip("_") or first, "/".join(parts)
            found.setdefault((package, relative_path), SourceFile(package, relative_path, path))
    return [found[key] for key in sorted(found)]


def read_docstrings(path: Path) -> list[str] | None:
    """Read a file's documentation strings in the order of its text; None if it does not parse."""
    try:
        source = path.read_bytes()
        if len(source) > _MAX_FILE_BYTES or (b'"""' not in source and b"'''" not in source):
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if path.parent.name == "pydoc_data" and path.stem == "topics":
        return [text for text in _string_values(tree) if len(text) >= _MIN_DOCUMENT_CHARACTERS]
    return list(_docstrings(tree))


def read_python_documentation(
    roots: Iterable[Path] | None = None,
    *,
    held_out_share: float = 0.25,
    max_labels: int = 12,
    train_per_label: int = 16,
    validation_per_label: int = 20,
    test_per_label: int = 40,
    seed: int = 0,
    workers: int = 1,
) -> PythonDocumentation:
    """Read the documentation below `roots` (default: this interpreter's) as corpus and task.

    Args:
        roots: Folders whose subfolders and modules are the packages.
        held_out_share: Share of the source files that the pretraining text leaves out.
        max_labels: At most this many packages are labels: those with the most passages.
        train_per_label: Training examples of each label.
        validation_per_label: Validation examples of each label.
        test_per_label: Test examples of each label.
        seed: Chooses files and passages of the splits; the hold-out does not depend on it.
        workers: Processes that parse; the result is the same for any number.
    """
    roots = default_roots() if roots is None else tuple(roots)
    files = find_source_files(roots)
    texts = _read_all([file.path for file in files], workers)
    seen: set[str] = set()
    paragraphs_seen: set[str] = set()
    documents: list[str] = []
    held_out: list[tuple[SourceFile, list[str]]] = []
    for file, docstrings in zip(files, texts, strict=True):
        if docstrings and file.held_out(held_out_share):
            held_out.append((file, docstrings))
        elif docstrings:
            new = _unseen(docstrings, seen)
            paragraphs_seen.update(_normalise(text) for doc in new for text in _paragraphs(doc))
            documents.append("\n".join(new))
    held_out = [(file, _unseen(docstrings, seen)) for file, docstrings in held_out]
    held_out_documents = ["\n".join(docstrings) for _, docstrings in held_out]
    classification = _classification(
        held_out,
        paragraphs_seen,
        _distribution_names(roots),
        sizes=(train_per_label, validation_per_label, test_per_label),
        max_labels=max_labels,
        seed=seed,
    )
    return PythonDocumentation(
        documents=tuple(text for text in documents if len(text) >= _MIN_DOCUMENT_CHARACTERS),
        held_out_documents=tuple(
            text for text in held_out_documents if len(text) >= _MIN_DOCUMENT_CHARACTERS
        ),
        classification=classification,
        files=len(files),
        skipped_files=sum(docstrings is None for docstrings in texts),
    )


def _read_all(paths: Sequence[Path], workers: int) -> list[list[str] | None]:
    if workers <= 1:
        return [read_docstrings(path) for path in paths]
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_ctrl_c) as pool:
        return list(pool.map(read_docstrings, paths, chunksize=64))


def _ignore_ctrl_c() -> None:
    """Leave Ctrl-C to the main process: tracebacks of workers are of no use to anybody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield cleaned docstrings, walking statements only (expressions hold none)."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text and (text := inspect.cleandoc(text)):
                yield text
        for field in ("finalbody", "orelse", "handlers", "body"):
            children = getattr(node, field, None)
            if isinstance(children, list):
                pending.extend(reversed(children))


def _string_values(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield inspect.cleandoc(value.value)


def _unseen(texts: Iterable[str], seen: set[str]) -> list[str]:
    """Keep the texts not in `seen` (up to white space and case), and add them to it."""
    kept = []
    for text in texts:
        if (key := _normalise(text)) not in seen:
            seen.add(key)
            kept.append(text)
    return kept


def _paragraphs(docstring: str) -> Iterator[str]:
    """Yield the paragraphs of prose: not too short or long, not code, not tables."""
    for block in re.split(r"\n\s*\n", docstring):
        words = block.split()
        if not _MIN_PARAGRAPH_WORDS <= len(words) <= _MAX_PASSAGE_WORDS:
            continue
        plain = sum(_PLAIN_WORD.fullmatch(word) is not None for word in words)
        if plain >= 0.75 * len(words) and not _TABLE_OR_CODE.search(block):
            yield " ".join(words)


def _passages(paragraphs: Iterable[str]) -> list[str]:
    """Merge paragraphs that follow each other to passages of neither too few nor too many words."""
    passages: list[str] = []
    pending: list[str] = []
    for paragraph in paragraphs:
        words = paragraph.split()
        if len(pending) + len(words) > _MAX_PASSAGE_WORDS:
            pending = []
        pending += words
        if len(pending) >= _MIN_PASSAGE_WORDS:
            passages.append(" ".join(pending))
            pending = []
    return passages


def _classification(
    held_out: Iterable[tuple[SourceFile, list[str]]],
    paragraphs_seen: set[str],
    distribution_names: Mapping[str, set[str]],
    *,
    sizes: tuple[int, int, int],
    max_labels: int,
    seed: int,
) -> PackageClassification:
    paragraphs: dict[str, dict[SourceFile, list[str]]] = defaultdict(dict)
    for file, docstrings in held_out:
        texts = (text for docstring in docstrings for text in _paragraphs(docstring))
        paragraphs[file.package][file] = _unseen(texts, paragraphs_seen)
    candidates = sorted(
        package
        for package, texts_of in paragraphs.items()
        if sum(len(_passages(texts)) for texts in texts_of.values()) >= sum(sizes)
    )
    # The names of all candidates are blanked in all passages, so that neither a name nor its
    # absence tells anything; blanking can make new duplicates, which go as well.
    names = _name_pattern(candidates, distribution_names)
    blanked_seen: set[str] = set()
    splits: dict[str, list[list[Example]]] = {}
    for package in candidates:
        by_file: list[list[Example]] = []
        for file in sorted(
            paragraphs[package], key=lambda file: _fraction(seed, file.relative_path)
        ):
            blanked = (names.sub(BLANK, text) for text in paragraphs[package][file])
            passages = _passages(_unseen(blanked, blanked_seen))
            passages.sort(key=lambda text: _fraction(seed, text))
            by_file.append([Example(text, package, file.relative_path) for text in passages])
        parts = _fill(by_file, sizes)
        if all(len(part) >= size for part, size in zip(parts, sizes, strict=True)):
            splits[package] = parts
    most_first = sorted(splits, key=lambda package: (-sum(map(len, splits[package])), package))
    labels = tuple(sorted(most_first[:max_labels]))
    train, validation, test = (
        tuple(
            sorted(
                (example for label in labels for example in splits[label][part][:size]),
                key=lambda example: _fraction(seed, example.text),
            )
        )
        for part, size in enumerate(sizes)
    )
    return PackageClassification(labels, train, validation, test)


def _fill(files: Iterable[list[Example]], sizes: Sequence[int]) -> list[list[Example]]:
    """Give each file to the part that is furthest from full, a few of its examples at most."""
    parts: list[list[Example]] = [[] for _ in sizes]
    for examples in files:
        fullness = [len(part) / max(size, 1) for part, size in zip(parts, sizes, strict=True)]
        chosen = fullness.index(min(fullness))
        parts[chosen].extend(examples[: _MAX_PASSAGES_PER_FILE[chosen]])
    return parts


def _name_pattern(
    packages: Iterable[str], distribution_names: Mapping[str, set[str]]
) -> re.Pattern[str]:
    """Match the names of packages and dotted names that begin with one, whatever their case.

    Names of five letters and more are also found inside words (`PyTorch`, `numpy_array`).
    """
    names: set[str] = set()
    for package in packages:
        names |= {package, *distribution_names.get(package, ()), *_ALIASES.get(package, ())}
    names |= {re.sub(r"[-_. ]", separator, name) for name in names for separator in ("-", "_", " ")}
    alternatives = [
        rf"[\w.]*{re.escape(name)}\w*" if len(name) >= 5 else rf"(?<!\w){re.escape(name)}(?!\w)"
        for name in sorted(names, key=lambda name: (-len(name), name))
    ]
    return re.compile(rf"(?:{'|'.join(alternatives) or '(?!)'})(?:\.\w+)*", re.IGNORECASE)


def _distribution_names(roots: Iterable[Path]) -> dict[str, set[str]]:
    """Map import names to the names of the distributions that install them."""
    names: dict[str, set[str]] = defaultdict(set)
    for distribution in distributions(path=[str(root) for root in roots]):
        name = distribution.metadata["Name"]
        for file in distribution.files or ():
            if name and file.suffix == ".py":
                top = file.parts[0].removesuffix(".py")
                names[top.lstrip("_") or top].add(name)
    return names


def _normalise(text: str) -> str:
    return " ".join(text.lower().split())


def _fraction(*key: object) -> float:
    """Hash `key` to a number from 0 (included) to 1 (excluded), the same on every machine."""
    digest = hashlib.blake2b(repr(key).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
