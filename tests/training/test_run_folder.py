from pathlib import Path

import pytest
import torch
from torch import nn

from electra.config import FinetuneConfig, OptimizerConfig, TrainingConfig
from electra.errors import ConfigError, DataError, OutputExistsError
from electra.training.checkpoint import CheckpointStore
from electra.training.run_folder import open_run, write_text
from electra.training.run_identity import check_same_run, describe_run, identity, other_bits
from electra.training.schedule import TrainState


def save_checkpoint(run: Path, step: int) -> Path:
    module = nn.Linear(2, 2)
    return CheckpointStore(run / "checkpoints").save(
        module=module,
        optimizer=torch.optim.SGD(module.parameters()),
        state=TrainState(step=step),
        environment={},
    )


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a" / "run")
    assert run.status == "fresh"
    assert run.path.is_dir()
    assert run.notes == ()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert open_run(tmp_path).status == "fresh"


def test_a_folder_with_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").touch()
    (tmp_path / "run.old-1").mkdir()
    with pytest.raises(
        OutputExistsError,
        match=r"run already holds a run: --resume auto continues it, --overwrite moves it to "
        r"run\.old-2 and starts afresh",
    ):
        open_run(tmp_path / "run")


def test_foreign_files_are_refused_even_when_resuming(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputExistsError, match="already holds files: --overwrite moves it"):
        open_run(tmp_path)
    with pytest.raises(OutputExistsError, match="holds files but no run that could be resumed"):
        open_run(tmp_path, resume="auto")


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(OutputExistsError, match="is a file; --output wants a folder"):
        open_run(tmp_path / "run", overwrite=True)


def test_overwrite_moves_the_old_folder(tmp_path: Path) -> None:
    for number in (1, 2):
        run = open_run(tmp_path / "run", overwrite=True)
        (run.path / "config.toml").write_text(str(number))
    run = open_run(tmp_path / "run", overwrite=True)
    assert run.status == "fresh"
    assert not any(run.path.iterdir())
    assert (tmp_path / "run.old-1" / "config.toml").read_text() == "1"
    assert (tmp_path / "run.old-2" / "config.toml").read_text() == "2"
    assert "moved what was in" in run.notes[0]
    assert run.notes[0].endswith("run.old-2")


def test_where_one_stands_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "run" / "notes"
    inside.mkdir(parents=True)
    (tmp_path / "run" / "config.toml").touch()
    monkeypatch.chdir(inside)
    for here in ("..", str(tmp_path / "run"), "/"):
        with pytest.raises(ConfigError, match=r"you are in that folder; go out of it \(cd\)"):
            open_run(Path(here), overwrite=True)
        with pytest.raises(OutputExistsError, match="already holds"):
            open_run(Path(here))
    with pytest.raises(OutputExistsError, match=r"--overwrite moves it to run\.old-1 and"):
        open_run(Path(".."))
    assert (tmp_path / "run" / "config.toml").is_file()


def test_auto_starts_fresh_continues_and_finds_finished(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert open_run(path, resume="auto").status == "fresh"
    (path / "config.toml").touch()
    run = open_run(path, resume="auto")
    assert run.status == "fresh"
    assert run.notes == (f"no whole checkpoint in {path}: starting afresh",)
    save_checkpoint(path, 20)
    run = open_run(path, resume="auto")
    assert run.status == "continued"
    assert run.notes == (f"continuing the run in {path} from step 20",)
    run.finish({"metrics": {"loss": 1.5}})
    run = open_run(path, resume="auto")
    assert run.status == "finished"
    assert "is finished: nothing to do" in run.notes[0]
    assert run.report() == {"metrics": {"loss": 1.5}}


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 10)
    newest = save_checkpoint(tmp_path, 20)
    (newest / "model.safetensors").write_bytes(b"half")
    run = open_run(tmp_path, resume="auto")
    assert run.status == "continued"
    assert "passing over a torn checkpoint" in run.notes[0]
    assert run.notes[1].endswith("from step 10")


def test_torn_checkpoints_alone_are_moved_aside(tmp_path: Path) -> None:
    (save_checkpoint(tmp_path, 20) / "model.safetensors").write_bytes(b"half")
    run = open_run(tmp_path, resume="auto")
    assert run.status == "fresh"
    assert not run.checkpoints.exists()
    assert (tmp_path / "checkpoints.old-1" / "step-00000020").is_dir()


def test_resume_by_path(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DataError, match="there is no run in that folder"):
        open_run(run, resume=str(run))
    save_checkpoint(run, 5)
    assert open_run(run, resume=str(run)).status == "continued"
    with pytest.raises(ConfigError, match="is another folder than --output"):
        open_run(run, resume=str(tmp_path))


def test_overwrite_and_resume_contradict(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--overwrite and --resume auto contradict"):
        open_run(tmp_path, resume="auto", overwrite=True)


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(DataError, match=r"report\.json cannot be read"):
        open_run(tmp_path, resume="auto").report()


def test_a_text_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.json", "new \ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_run_is_known_again_by_content(tmp_path: Path) -> None:
    for name in ("a.tsv", "b.tsv"):
        (tmp_path / name).write_text("same")
    (tmp_path / "c.tsv").write_text("other")
    run = tmp_path / "run"
    run.mkdir()
    config = FinetuneConfig()
    free = {"training": {"max_steps"}}
    check_same_run(run, config, {"train": identity("a.tsv")}, may_change=free)
    describe_run(run, config, {"train": identity(str(tmp_path / "a.tsv"))})
    check_same_run(run, config, {"train": identity(str(tmp_path / "b.tsv"))}, may_change=free)
    with pytest.raises(ConfigError, match=r"begun otherwise \(--train .*a\.tsv -> .*c\.tsv\)"):
        check_same_run(run, config, {"train": identity(str(tmp_path / "c.tsv"))}, may_change=free)
    other = FinetuneConfig(optimizer=OptimizerConfig(learning_rate=1.0))
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate 0\.0005 -> 1\.0"):
        check_same_run(run, other, {}, may_change=free)


def test_fields_that_may_change_pass(tmp_path: Path) -> None:
    from electra.config import PretrainConfig

    describe_run(tmp_path, PretrainConfig(training=TrainingConfig(max_steps=1)), {})
    longer = PretrainConfig(training=TrainingConfig(max_steps=2))
    check_same_run(tmp_path, longer, {}, may_change={"training": {"max_steps"}})
    with pytest.raises(ConfigError, match=r"training\.max_steps 1 -> 2"):
        check_same_run(tmp_path, longer, {}, may_change={})


def test_other_bits() -> None:
    assert other_bits({"threads": 1}, {"threads": 1}) is None
    assert "threads 1 -> 2" in str(other_bits({"threads": 1}, {"threads": 2}))


def test_what_torchrun_begins_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    begun = {"resume": "never", "overwrite": True}
    run = tmp_path / "run"
    run.mkdir()
    describe_run(run, FinetuneConfig(), {})
    save_checkpoint(run, 3)
    assert open_run(run, **begun).status == "continued"
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")  # by hand, or by another torchrun
    with pytest.raises(OutputExistsError, match="already holds a run"):
        open_run(run)
    assert open_run(run, **begun).status == "fresh"
    assert (tmp_path / "run.old-1" / "checkpoints").is_dir()
