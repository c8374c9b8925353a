"""Trackers: stand-ins that note what they are told, and the real ones where they are installed."""

import importlib.machinery
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from electra.cli import run as command
from electra.config import LoggingConfig, PretrainConfig
from electra.errors import ConfigError
from electra.recipe import resolve, to_tables, to_toml
from electra.training.trackers import TRACKERS, Trackers, check_trackers
from tests.shapes import tiny_config

CONFIG = {"training": {"seed": 3}, "model": {"family": "modern"}}
ROW = {"step": 20, "loss": 1.5, "lr": 0.1, "progress": [0.1, 0.2], "warning": "text"}


class Spy(types.ModuleType):
    """Notes every call as (name, arguments by name)."""

    def __init__(self, name: str, fails: str = "") -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.fails, self.calls = fails, list[tuple[str, dict[str, Any]]]()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, kwargs | {str(i): a for i, a in enumerate(args)}))
            if name == self.fails:
                raise ConnectionError("no\nnetwork")
            return self

        return call

    @property
    def info(self) -> Any:
        return types.SimpleNamespace(run_id="of-mlflow")

    def of(self, name: str) -> list[dict[str, Any]]:
        return [told for called, told in self.calls if called == name]


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(name: str, fails: str = "") -> Spy:
        made = Spy(name, fails)
        monkeypatch.setitem(sys.modules, name, made)
        if name == "tensorboard":
            monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", made)
        return made

    return make


def trackers(folder: Path, *names: str, said: list[str] | None = None, **more: Any) -> Trackers:
    say = (said if said is not None else []).append
    return Trackers(names, folder, config=CONFIG, say=say, **more)


def test_they_are_named_in_a_recipe_and_on_the_command_line() -> None:
    config = tiny_config("modern", logging={"trackers": ["wandb", "mlflow"]})
    assert config.logging.trackers == ("wandb", "mlflow")
    config = tiny_config("modern", logging={"trackers": "tensorboard,trackio"})
    assert config.logging.trackers == ("tensorboard", "trackio")
    import tomllib

    again = resolve(PretrainConfig, [("file", tomllib.loads(to_toml(config)))])
    assert again == config
    assert tiny_config("modern", logging={"trackers": "none"}).logging == LoggingConfig(log_steps=1)
    with pytest.raises(ConfigError, match=r'logging.trackers is wandbb; did you mean "wandb"\?'):
        tiny_config("modern", logging={"trackers": "wandbb"})


def test_one_that_is_not_installed_is_a_line_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="wandb is not installed; get it with: pip install wandb"):
        check_trackers(["wandb"])
    where = ["--data", str(tmp_path / "none"), "--output", str(tmp_path / "run")]
    assert command(["pretrain", *where, "--logging.trackers", "trackio"]) == 2
    shown = capsys.readouterr().err
    assert shown == (
        "electra: --logging.trackers trackio: trackio is not installed; get it with: "
        "pip install trackio\n"
    )
    assert not (tmp_path / "run").exists()


def test_what_each_is_told(tmp_path: Path, spy: Any) -> None:
    told = {name: spy(name) for name in TRACKERS}
    found = trackers(tmp_path, *TRACKERS)
    found.log(ROW)
    found.log({"step": 21, "warning": "no numbers"})
    found.close()
    board, wandb, trackio, mlflow = (told[name] for name in TRACKERS)
    assert board.of("SummaryWriter") == [{"0": str(tmp_path / "tensorboard"), "purge_step": None}]
    assert board.of("add_scalar") == [
        {"0": "loss", "1": 1.5, "2": 20},
        {"0": "lr", "1": 0.1, "2": 20},
    ]
    assert board.calls[-1][0] == "close"
    numbers = {"loss": 1.5, "lr": 0.1}
    (begun,) = wandb.of("init")
    assert begun["dir"] == str(tmp_path)
    assert begun["config"] == CONFIG
    assert begun["resume"] == "allow"
    assert wandb.of("log") == [{"0": numbers, "step": 20}]
    assert wandb.calls[-1][0] == "finish"
    (other,) = trackio.of("init")
    assert other["resume"] == "never"
    assert other["name"].startswith(tmp_path.name)
    assert other["config"] == {"training.seed": 3, "model.family": "modern"}
    assert trackio.of("log") == [{"0": numbers, "step": 20}]
    assert trackio.calls[-1][0] == "finish"
    assert mlflow.of("start_run") == [{"run_id": None, "run_name": tmp_path.name}]
    assert mlflow.of("log_params") == [{"0": other["config"]}]
    assert [row["0"] for row in mlflow.of("log_metrics")] == [numbers]
    assert mlflow.calls[-1][0] == "end_run"
    ids = json.loads((tmp_path / "trackers.json").read_text("utf-8"))
    assert ids == {
        "tensorboard": "tensorboard",
        "wandb": begun["id"],
        "trackio": other["name"],
        "mlflow": "of-mlflow",
    }


def test_a_resumed_run_goes_on_in_the_same_runs(tmp_path: Path, spy: Any) -> None:
    for name in TRACKERS:
        spy(name)
    trackers(tmp_path, *TRACKERS).close()
    ids = json.loads((tmp_path / "trackers.json").read_text("utf-8"))
    told = {name: spy(name) for name in TRACKERS}
    trackers(tmp_path, *TRACKERS, step=40, continued=True).close()
    assert told["tensorboard"].of("SummaryWriter")[0]["purge_step"] == 41
    assert told["wandb"].of("init")[0]["id"] == ids["wandb"]
    assert told["trackio"].of("init")[0]["name"] == ids["trackio"]
    assert told["trackio"].of("init")[0]["resume"] == "allow"
    assert told["mlflow"].of("start_run") == [{"run_id": "of-mlflow", "run_name": None}]
    assert told["mlflow"].of("log_params") == []
    assert json.loads((tmp_path / "trackers.json").read_text("utf-8")) == ids
    # a run that begins afresh in the same folder is another
    told = {"wandb": spy("wandb")}
    trackers(tmp_path, "wandb").close()
    assert told["wandb"].of("init")[0]["id"] != ids["wandb"]


def test_one_that_fails_on_the_way_is_left_out_and_said_once(tmp_path: Path, spy: Any) -> None:
    broken, whole = spy("wandb", fails="log"), spy("trackio")
    said: list[str] = []
    found = trackers(tmp_path, "wandb", "trackio", said=said)
    for step in (1, 2, 3):
        found.log({"step": step, "loss": 1.0})
    found.close()
    assert said == [
        "warning: tracker wandb failed (ConnectionError: no network) and is left out from here on; "
        "metrics.jsonl has everything"
    ]
    assert len(broken.of("log")) == 1
    assert len(whole.of("log")) == 3


def test_one_that_cannot_begin(tmp_path: Path, spy: Any) -> None:
    spy("wandb", fails="init")
    other = spy("trackio")
    match = "wandb cannot begin a run: ConnectionError: no network; mend that, or leave it out"
    with pytest.raises(ConfigError, match=match):
        trackers(tmp_path, "trackio", "wandb")
    assert other.calls[-1][0] == "finish"
    # a run that is continued is not stopped by it
    said: list[str] = []
    found = trackers(tmp_path, "trackio", "wandb", said=said, continued=True)
    found.log({"step": 1, "loss": 1.0})
    found.close()
    assert len(said) == 1
    assert len(other.of("log")) == 1
    # nor by one that cannot end
    spy("mlflow", fails="end_run")
    found = trackers(tmp_path, "mlflow", said=said)
    found.close()
    assert "tracker mlflow failed" in said[1]


@pytest.mark.parametrize("name", list(TRACKERS))
def test_the_real_ones(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sittings of a run, kept on this machine alone."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlflow").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = to_tables(tiny_config("modern"))
    folder = tmp_path / "run"
    folder.mkdir()
    said: list[str] = []
    for step in (0, 40):
        found = Trackers(
            [name], folder, config=config, step=step, continued=step > 0, say=said.append
        )
        found.log({"step": step + 20, "loss": 1.5, "warning": "text"})
        found.log({"step": step + 20, "eval_loss": 1.25})
        found.close()
    assert said == []
    assert json.loads((folder / "trackers.json").read_text("utf-8")).keys() == {name}
