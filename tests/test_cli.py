"""The command line: light, exact in its exit codes, one line for a mistake."""

import subprocess
import sys
from pathlib import Path

import pytest

from electra.cli import run
from electra.cli.app import progress_console
from tests.conftest import make_text


def test_help_is_light() -> None:
    code = (
        "import sys; from electra.cli import run; "
        "code = run(['--help']); run(['pretrain', '--help']); run(['finetune', '--help']); "
        "assert code == 0; "
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'tokenizers'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verbs = (
        "prepare plan pretrain finetune evaluate predict score report doctor flops convert "
        "quickstart adapt"
    )
    for verb in verbs.split():
        assert verb in done.stdout
    assert "--training.max-steps" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pretrian", 'Did you mean "pretrain"?'),
        ("pretrain --data x", "--output"),
        ("pretrain --data x --output y --outptu z", "Did you mean --output?"),
        ("pretrain --data x --output y --training.max-stepz 3", 'did you mean "max_steps"?'),
        ("pretrain --data x --output y --trainin.max-steps 3", 'did you mean "training"?'),
        ("pretrain --data x --output y --training.max-steps", "--training.max-steps needs a value"),
        ("pretrain --data x --output y --training.max-steps=ten", "it must be a whole number"),
        ("pretrain --data x --output y --recipe tinny", 'did you mean "tiny"?'),
        ("pretrain --data x --output y", "x is not a prepared corpus"),
        ("pretrain --data x --output y --training.device tpu", 'did you mean "cpu"?'),
        ("pretrain --data x --output y --minutes 1 --tokens 1", "give one budget"),
        ("pretrain --data x --output y --minutes 1 --training.max-steps 5", "give one budget"),
        ("pretrain --data x --output y --recipe tiny --minutes 0", "minutes is 0.0; allowed"),
        ("plan --data x", "give one budget: --minutes or --tokens"),
        ("plan --data x --minutes 1", "x is not a prepared corpus"),
        ("prepare --output y", "no text given"),
        ("prepare nothing.txt --output y", "nothing.txt does not exist"),
        ("prepare x --output y --vocab-size many", "many"),
        ("prepare x --output y --training.max-steps 1", "takes no --training.max-steps"),
        ("evaluate --model nowhere --data x", "nowhere"),
        ("evaluate --model nowhere --data x --batch-size 0", "--batch-size is 0; allowed: above 0"),
        ("evaluate --model x --data x --training.max-steps 1", "does not change a finished model"),
        (
            "predict --model x --data.label-column y hello",
            "--data.label-column is for labels, and none are read; allowed: --data.text-column, "
            "--data.text-pair-column, --data.header",
        ),
        ("predict --model x --data.label-separator ; hello", "is for labels, and none are read"),
        ("score --model x --data.max-length 9 hello", "does not change a finished model"),
        ("evaluate --model x --data x --output no/where.json", "there is no folder no"),
        ("quickstart --minutes 0", "--minutes is 0.0; allowed: above 0"),
        ("adapt --model x --output y --minutes 1", "--text"),
        ("adapt --model x --text t --output y", "no budget: give --minutes"),
        ("adapt --model ./x --text t u --output y --minutes 1", "--model ./x does not exist"),
        ("adapt --model x --text t --output y --minutes 1 --train z", "--task and --validation"),
        ("predict --model nowhere hello", "nowhere"),
        ("predict --model nowhere --input -", "--model nowhere is not a folder"),
        ("score --model ./nowhere hello", "--model ./nowhere does not exist"),
        ("score --model ./nowhere --input -", "--model ./nowhere does not exist"),
        ("score --model x", "give texts, or a file with --input"),
        ("score --model x --method bleu hello", "--method is bleu; allowed: auto, discriminator"),
        ("evaluate --model x --data x --limit 3", "--limit and --method are for --task minimal"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments.split()) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.startswith("electra: ")
    assert shown.count("\n") == 1
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text(make_text(5), encoding="utf-8")
    Path("file").write_text("x")
    assert run(["prepare", "texts.txt", "--output", "file/corpus"]) == 2
    shown = capsys.readouterr().err
    assert "Not a directory" in shown
    assert "Traceback" not in shown


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert "tiny" in shown
    assert "classic-large-pp" in shown


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    for word in ("torch", "transformers", "cores", "device", "matplotlib"):
        assert word in shown


def test_from_text_to_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(make_text(100), encoding="utf-8")
    rows = [f"the cat sees the house number {i}\tanimal" for i in range(12)]
    rows += [f"a ship crosses the wide sea number {i}\tship" for i in range(12)]
    for name in ("train", "dev"):
        text = "sentence\tlabel\n" + "\n".join(rows) + "\n"
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
    t = str(tmp_path)
    commands = [
        f"prepare {t}/text.txt --output {t}/corpus --vocab-size 100",
        f"pretrain --data {t}/corpus --output {t}/run --training.max-steps 3 "
        "--model.hidden-size 16 --data.max-length 16 --training.global-batch-size 4",
        f"finetune --model {t}/run/encoder --train {t}/train.tsv --validation {t}/dev.tsv "
        f"--output {t}/model --training.max-steps 40 --optimizer.learning-rate 3e-3",
        f"evaluate --model {t}/model --data {t}/dev.tsv --json",
        f"predict --model {t}/model --json the_cat a_ship",
    ]
    for command in commands:
        assert run(command.split()) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert '"metric": "accuracy"' in shown
    assert shown.count('"label"') == 2


def test_of_several_processes_the_first_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not progress_console().quiet
    for rank, quiet in (("0", False), ("1", True)):
        monkeypatch.setenv("RANK", rank)
        assert progress_console().quiet is quiet
