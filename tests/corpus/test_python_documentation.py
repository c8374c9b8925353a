"""Documentation strings of a small made-up site-packages folder, read as corpus and as task."""

import re
from pathlib import Path

import pytest

from electra.corpus.python_documentation import (
    BLANK,
    PythonDocumentation,
    find_source_files,
    read_docstrings,
    read_python_documentation,
)

PACKAGES = ("alphabet", "np_tools", "zeb")
FILES = 60
SHARE = 0.5
SIZES = {"train_per_label": 16, "validation_per_label": 5, "test_per_label": 7}
SHARED = (
    "This paragraph stands in every file of every package and so it must not be an example of any "
    "of them at all."
)


def _word(*key: int) -> str:
    """A made-up word of letters alone, another one for every key."""
    return "".join("abcdefghijklmnopqrstuvwxyz"[int(digit)] for digit in "".join(map(str, key)))


def _paragraph(package: str, file: int, number: int) -> str:
    return (
        f"The {package} package, also written {package.upper()}.core.run, explains its topic "
        f"called {_word(file, 1)}x{_word(number)}{package[::-1].replace('_', '')} to all of its "
        "patient readers in all parts of the world."
    )


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site-packages")
    for package in PACKAGES:
        for file in range(FILES):
            paragraphs = [_paragraph(package, file, number) for number in range(4)]
            if file % 2:  # a copy from the file before: an exact duplicate
                paragraphs.append(_paragraph(package, file - 1, 0))
            text = "\n\n    ".join([*paragraphs, SHARED])
            folder = root / package / f"part_{file % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"module_{file}.py").write_text(
                f'def explained():\n    """{text}\n    """\n    raise RuntimeError("executed")\n'
            )
    (root / "alphabet" / "broken.py").write_text('def broken(:\n    """text"""\n')
    (root / "alphabet" / "binary.py").write_bytes(b'"""\xff\xfe text"""\n')
    for name in ("alphabet/tests/module.py", "zeb/_vendor/module.py", "alphabet/test_it.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text('"""Nobody reads this secret."""\n')
    information = root / "Alpha_Bet_Dist-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: alpha-bet-dist\n")
    (information / "RECORD").write_text("alphabet/part_0/module_0.py,,\n")
    return root


@pytest.fixture(scope="module")
def documentation(site_packages: Path) -> PythonDocumentation:
    return read_python_documentation([site_packages], held_out_share=SHARE, **SIZES)


def test_lists_files_with_their_packages_and_leaves_out_tests_and_vendored_copies(
    site_packages: Path,
) -> None:
    files = find_source_files([site_packages])
    assert len(files) == FILES * len(PACKAGES) + 2
    assert {file.package for file in files} == set(PACKAGES)
    assert files == sorted(files, key=lambda file: (file.package, file.relative_path))


def test_counts_files_that_do_not_parse(documentation: PythonDocumentation) -> None:
    assert documentation.files == FILES * len(PACKAGES) + 2
    assert documentation.skipped_files == 2


def test_held_out_files_never_reach_the_pretraining_text(
    site_packages: Path, documentation: PythonDocumentation
) -> None:
    files = [file for file in find_source_files([site_packages]) if "module" in file.relative_path]
    held_out = [file for file in files if file.held_out(SHARE)]
    assert 0.3 < len(held_out) / len(files) < 0.7
    text = "\n".join(documentation.documents)
    duplicated = 0
    for file in held_out:
        number = int(file.path.stem.removeprefix("module_"))
        # Paragraph 0 of an even file is also in the next file, which may be a pretraining file.
        for paragraph in range(1, 4):
            assert _paragraph(file.package, number, paragraph) not in text
        duplicated += _paragraph(file.package, number, 0) in text
    assert duplicated > 0
    assert len(documentation.documents) == len(files) - len(held_out)
    assert len(documentation.held_out_documents) == len(held_out)


def test_splits_have_exact_sizes_and_come_from_different_held_out_files(
    site_packages: Path, documentation: PythonDocumentation
) -> None:
    task = documentation.classification
    assert task.labels == PACKAGES
    parts = {"train": task.train, "validation": task.validation, "test": task.test}
    held_out = {f.relative_path for f in find_source_files([site_packages]) if f.held_out(SHARE)}
    sources = {name: {example.source for example in part} for name, part in parts.items()}
    for name, part in parts.items():
        for label in task.labels:
            size = SIZES[f"{name}_per_label"]
            assert sum(example.label == label for example in part) == size
        assert sources[name] <= held_out
    assert not sources["train"] & sources["validation"]
    assert not sources["train"] & sources["test"]
    assert not sources["validation"] & sources["test"]


def test_names_are_blanked_and_duplicates_dropped(documentation: PythonDocumentation) -> None:
    task = documentation.classification
    examples = [*task.train, *task.validation, *task.test]
    for example in examples:
        assert not re.search("alphabet|np_tools|np-tools|zeb package|core.run", example.text, re.I)
        assert 40 <= len(example.text.split()) <= 80
        assert example.text.count(BLANK) == 4
    assert len({example.text.lower() for example in examples}) == len(examples)
    assert not any(SHARED in example.text for example in examples)
    topics = [topic for e in examples for topic in re.findall(r"called (\w+)", e.text)]
    assert len(set(topics)) == len(topics) == 2 * len(examples)
    assert not set(topics) & set(re.findall(r"called (\w+)", "\n".join(documentation.documents)))


def test_distribution_names_are_blanked_too(tmp_path: Path, site_packages: Path) -> None:
    for package in ("alphabet", "zeb"):
        for file in range(60):
            path = tmp_path / package / f"m{file}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(
                f'"""Install Alpha-Bet-Dist or alpha_bet_dist before you read topic {_word(file)} '
                f"of {package} with all of its many pages{' and more pages' * 8}."
                '"""\n'
            )
    (tmp_path / "d-1.dist-info").mkdir()
    for name in ("METADATA", "RECORD"):
        source = site_packages / "Alpha_Bet_Dist-1.0.dist-info" / name
        (tmp_path / "d-1.dist-info" / name).write_text(source.read_text())
    sizes = {"train_per_label": 4, "validation_per_label": 2, "test_per_label": 2}
    task = read_python_documentation([tmp_path], held_out_share=0.5, **sizes).classification
    assert task.labels == ("alphabet", "zeb")
    assert all(re.search(f"Install {BLANK} or {BLANK} before", e.text) for e in task.train)


def test_is_the_same_whatever_the_number_of_workers_and_differs_by_seed(
    site_packages: Path, documentation: PythonDocumentation
) -> None:
    again = read_python_documentation([site_packages], held_out_share=SHARE, workers=2, **SIZES)
    assert again == documentation
    other = read_python_documentation([site_packages], held_out_share=SHARE, seed=1, **SIZES)
    assert other.documents == documentation.documents
    assert other.classification != documentation.classification


def test_reads_docstrings_of_nested_definitions_and_the_language_reference(tmp_path: Path) -> None:
    path = tmp_path / "nested.py"
    path.write_text(
        '"""Module."""\nif True:\n    class A:\n        """Class."""\n'
        "        async def f(self):\n"
        '            """  Method.\n\n            More.\n            """\n'
        'TEXT = """not documentation"""\n'
    )
    assert read_docstrings(path) == ["Module.", "Class.", "Method.\n\nMore."]
    topics = tmp_path / "pydoc_data" / "topics.py"
    topics.parent.mkdir()
    topics.write_text(f'"""x"""\ntopics = {{"if": {" word" * 60!r}, "no": "short"}}\n')
    assert read_docstrings(topics) == [("word " * 60).strip()]
