"""The README's commands exist and run, in tiny form, in the order they are written."""

import re
import shlex
from pathlib import Path

import pytest

from electra.cli import run
from tests.conftest import make_text

ROOT = Path(__file__).parent.parent
TINY = {
    "model.hidden-size": "16",
    "model.num-hidden-layers": "2",
    "data.max-length": "16",
    "training.global-batch-size": "4",
}
EXTRA = {
    "prepare": ["--overwrite"],
    "pretrain": [f"--{flag}={value}" for flag, value in TINY.items()],
    "finetune": ["--training.max-steps", "2"],
}


def commands() -> list[list[str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [c[1] for c in commands() if c[:1] == ["make"]]
    assert targets == ["quickstart", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M)


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    Path("texts/a.txt").write_text(make_text(120), encoding="utf-8")
    rows = "sentence\tlabel\na fine film\tgood\na dull one\tbad\nwhat a fine day\tgood\n"
    for name in ("train.tsv", "dev.tsv"):
        Path(name).write_text(rows, encoding="utf-8")
    verbs = []
    for command in commands():
        if command[:1] != ["electra"]:
            assert command[:1] in (["make"], ["pip"]), command
            continue
        verbs.append(command[1])
        if "--minutes" in command:
            command[command.index("--minutes") + 1] = "0.002"
        assert run([*command[1:], *EXTRA.get(command[1], [])]) == 0, command
    assert verbs == ["prepare", "pretrain", "finetune", "evaluate", "predict"]
    from transformers import AutoModel

    AutoModel.from_pretrained("runs/mine/encoder")


def test_every_verb_in_the_text_exists(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    listed = capsys.readouterr().out
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in set(re.findall(r"electra ([a-z]+)", text)):
        assert verb in listed, verb


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_figures_are_those_that_were_measured() -> None:
    from benchmarks import tables

    pages = {"README.md": tables.readme_figures(), "docs/model_cards.md": tables.card_figures()}
    for page, figures in pages.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert tables.with_figures(text, figures) == text, "run python -m benchmarks.tables"
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert tables.benchmarks_page() == text, "run python -m benchmarks.tables"
