"""The benchmark of polishing runs, in its quick form, on a toy run and toy pairs."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import polish
from electra.pretrain import pretrain
from tests.shapes import tiny_config

PAIRS = [
    ("the cat sees the house.", "the cat finds the house.", 4.0),
    ("the dog likes the song.", "the river leaves the bridge.", 0.5),
    ("the child paints the boat.", "the child paints the lamp.", 3.0),
    ("the sailor helps the city.", "the bird crosses the field at night.", 1.0),
]


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(
        "modern",
        objective={"warm_start": 0.5, "encoder_mlm_weight": 1.0},
        model={"generator_layers": 1, "max_position_embeddings": 64},
        schedule={"warmup_steps": 2},
        data={"max_length": 64},
    )
    folder = tmp_path_factory.mktemp("polish") / "run"
    pretrain(data=corpus, output=folder, config=config)
    return folder


def test_the_quick_run(
    trained: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(polish, "DATA", tmp_path)
    monkeypatch.setattr(polish, "QUICK_MINUTES", 0.002)
    (tmp_path / "stsb").mkdir()
    lines = "".join(f"{a},{b},{score}\n" for a, b, score in PAIRS)
    (tmp_path / "stsb" / "stsb-en-dev.csv").write_text(lines, encoding="utf-8")
    table = tmp_path / "polish.json"
    line = ["polish", "--run", str(trained), "--data", str(corpus), "--quick", "--json", str(table)]
    rows = ("own_objective", "deletion_and_mlm")
    line += ["--work", str(tmp_path / "work"), "--batch-size", "8", "--rows", *rows]
    monkeypatch.setattr(sys, "argv", line)
    polish.main()
    found = json.loads(table.read_text(encoding="utf-8"))
    assert [row["row"] for row in found["rows"]] == ["before", *rows]
    by_name = {row["row"]: row for row in found["rows"]}
    assert by_name["before"]["steps"] is None
    assert all(row["steps"] > 0 for row in found["rows"][1:])
    for row in found["rows"]:
        assert -1 <= row["spearman"] <= 1
        assert found["summary"][f"spearman_{row['row']}"] == row["spearman"]
    assert "spearman" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*line, "--official"])
    with pytest.raises(SystemExit, match=r"skipped: .*stsb-en-test.csv is missing"):
        polish.main()


def test_rows_have_what_they_say(trained: Path) -> None:
    parser = polish.parser()
    given = parser.parse_args(
        ["--run", str(trained), "--data", "x", "--minutes", "2", "--max-length", "32"]
    )
    configs = {row: polish.config_of(row, given) for row in polish.ROWS if row != "before"}
    for row, config in configs.items():
        assert config.training.minutes == 2
        assert config.training.max_steps is None
        assert config.optimizer.learning_rate == given.learning_rate
        part = "discriminator" if row == "own_objective" else "masked_lm"
        assert config.model.discriminator == str(trained / part)
    assert configs["own_objective"].objective.name == "replaced_token_detection"
    assert configs["own_objective"].objective.warm_start == 0
    assert configs["own_objective"].model.generator == str(trained / "generator")
    assert configs["masked_lm"].data.max_length == 64
    assert configs["deletion"].data.max_length == 32
    assert configs["deletion"].objective.encoder_mlm_weight == 0
    assert configs["deletion_and_mlm"].objective.encoder_mlm_weight == 1
    assert configs["dropout"].model.hidden_dropout_prob == 0.1
