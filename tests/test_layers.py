"""The shape of the house: imports go down only, files stay readable, names say something."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "electra"
FILES = sorted(ROOT.rglob("*.py"))
VERBS = {
    "prepare",
    "plan",
    "pretrain",
    "finetune",
    "evaluate",
    "predict",
    "score",
    "doctor",
    "flops",
    "convert",
    "inspect_corpus",
    "report",
}
LAYERS = [
    {"errors"},
    {"config"},
    {"recipe"},
    {"corpus", "evaluation.metrics", "evaluation.answers", "evaluation.calibration"},
    {"model"},
    {"training"},
    {"objectives", "tasks"},
    {"evaluation", "artifacts"},
    {"finetuning", "adaptation"},
    VERBS,
    {"quickstart", "benchmark", "adapt"},
    {"cli"},
]
# `electra/__init__.py` and `__main__.py` name the public API and the command line lazily
OUTSIDE = {"__init__", "__main__"}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if len(parts) == 1 else ".".join(parts)


def file_of(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def layer_of(module: str) -> int:
    for number, names in enumerate(LAYERS):
        if module in names or module.split(".")[0] in names:
            return number
    raise AssertionError(f"{module} stands in no layer: add it to LAYERS or move it")


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("electra."):
            module = (node.module or "").removeprefix("electra.")
            folder = ROOT / module.replace(".", "/")
            for alias in node.names:
                inside = (folder / f"{alias.name}.py").exists()
                found.add(f"{module}.{alias.name}" if inside else module)
        elif isinstance(node, ast.ImportFrom) and node.module == "electra":
            found |= {alias.name for alias in node.names if (ROOT / f"{alias.name}.py").exists()}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("electra.")
                for alias in node.names
                if alias.name.startswith("electra.")
            }
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    module = module_of(path)
    if module in OUTSIDE or path.name == "__init__.py":
        return
    own = layer_of(module)
    for target in imported(path):
        there = layer_of(target)
        same_folder = "." in module and module.split(".")[0] == target.split(".")[0]
        assert there < own or same_folder, f"{module} imports {target}, which is not below it"
        if module in VERBS:
            assert target not in VERBS, f"the verb {module} imports the verb {target}"


def test_no_cycles() -> None:
    graph = {module_of(p): imported(p) for p in FILES if p.name != "__init__.py"}
    assert all(
        (ROOT / m.replace(".", "/")).is_dir() or m in graph for v in graph.values() for m in v
    )
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' -> '.join((*trail, module))}"
        if module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        if module not in OUTSIDE:
            visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_stay_readable(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 420, f"{path.name} has {lines} lines: split it"
    assert path.stem not in {"utils", "util", "common", "misc", "helpers", "core"}


def test_what_pretraining_reaches_is_read_in_an_afternoon() -> None:
    reached: set[str] = set()
    waiting = ["pretrain"]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += imported(file_of(module))
    lines = sum(file_of(module).read_text("utf-8").count("\n") for module in reached)
    assert lines < 11000
    assert len(reached) <= 67
