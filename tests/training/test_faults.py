"""What befalls a run from outside: a full disk, an output that is read-only, lost shards."""

import ast
import errno
import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import electra.pretrain as verb
from electra.corpus.folder import Corpus
from electra.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ElectraError,
    cannot_write,
    writing_to,
)
from electra.pretrain import pretrain
from electra.training import checkpoint, loop
from electra.training.checkpoint import CheckpointStore, torn
from electra.training.distributed import World
from electra.training.loggers import MetricsFile, RunLogger, read_metrics
from electra.training.run_folder import open_run
from electra.training.schedule import TrainState
from tests.shapes import tiny_config
from tests.test_pretrain import StopAt, assert_same_bits, rows_of, told
from tests.training.test_checkpoint import save, trained

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
READ_ONLY = OSError(errno.EROFS, os.strerror(errno.EROFS))
IN_RUST = SafetensorError("Error while serializing: I/O error: No space left (os error 28)")


def saving(**training: Any) -> Any:
    return tiny_config("modern", training={"save_steps": 2, "eval_steps": 2, **training})


class FailsAt:
    """A function that writes half a file and then fails, in its n-th call and later ones."""

    def __init__(self, calls: int, error: Exception) -> None:
        self.calls, self.error = calls, error

    def __call__(self, tensors: dict[str, torch.Tensor], file: Path) -> None:
        self.calls -= 1
        if self.calls < 0:
            file.write_bytes(b"half")
            raise self.error
        save_file(tensors, file)


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FULL, "the disk is full; make room there, and go on with --resume auto"),
        (IN_RUST, "the disk is full; make room there, and go on with --resume auto"),
        (READ_ONLY, "Read-only file system; make it writable, or choose another --output, and"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; look at the disk, and"),
    ],
)
@pytest.mark.parametrize("file", [0, 1, 2])
def test_a_checkpoint_that_cannot_be_written_leaves_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str, file: int
) -> None:
    store = CheckpointStore(tmp_path)
    save(store, *trained(0), 10)
    monkeypatch.setattr(checkpoint, "save_file", FailsAt(file, error))
    with pytest.raises(CheckpointError) as caught:
        save(store, *trained(1), 20)
    message = str(caught.value)
    assert message.startswith(f"the checkpoint {store.path(20)} cannot be written: {says}")
    assert message.endswith("(that of step 10 is as it was)")
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000010"]  # room is given back
    assert torn(store.path(10)) is None


@pytest.mark.parametrize("function", ["_sync", "_sha256"])
def test_what_fails_aside_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(path: Path) -> Any:
        raise FULL

    monkeypatch.setattr(checkpoint, function, fail)
    with pytest.raises(CheckpointError, match=r"the disk is full.*\(there is none before it\)"):
        save(CheckpointStore(tmp_path), *trained(0), 10)


def test_errors_of_rust_are_told_apart() -> None:
    assert "make it writable" in cannot_write("x", SafetensorError("no (os error 13)"))
    assert "look at the disk" in cannot_write("x", SafetensorError("no (os error 133)"))


@pytest.mark.parametrize(
    "name",
    ["model", "optimizer", "random", "state.json", "checksums.json"],
)
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path, name: str) -> None:
    store = CheckpointStore(tmp_path)
    save(store, *trained(0), 1)
    newest = save(store, *trained(1), 2)
    file = newest / (name if "." in name else f"{name}.safetensors")
    whole = file.read_bytes()
    step = 1 if name.endswith(".json") else max(1, len(whole) // 100)
    for place in [*range(0, len(whole), step), len(whole) - 1]:
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        file.write_bytes(bytes(data))
        problem = torn(newest)
        assert problem is not None, place
        assert str(newest) in problem
    loaded = store.load_latest(module=(made := trained(5))[0], optimizer=made[1])
    assert loaded is not None
    assert loaded.state.step == 1
    assert len(loaded.skipped) == 1
    file.write_bytes(whole)
    assert torn(newest) is None


def test_checksums_of_nothing_are_no_checkpoint(tmp_path: Path) -> None:
    path = save(CheckpointStore(tmp_path), *trained(0), 1)
    (path / "checksums.json").write_text("{}")
    assert "lacks what a checkpoint has" in str(torn(path))


def best(store: CheckpointStore, step: int, best_step: int | None) -> None:
    module, optimizer = trained(step)
    state = TrainState(step=step, best_step=best_step)
    store.save(module=module, optimizer=optimizer, state=state, environment={})


def test_the_best_is_kept_besides_the_last(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step, best_step in ((10, 10), (20, 10), (30, 10), (40, 10)):
        best(store, step, best_step)
    assert store.steps() == [10, 30, 40]
    best(store, 50, 50)
    # that of step 40 still names step 10, should that of step 50 be torn
    assert store.steps() == [10, 40, 50]
    best(store, 60, 50)
    assert store.steps() == [50, 60]
    module, _ = trained(0)
    store.load_weights(50, module)
    for name, tensor in checkpoint.module_tensors(trained(50)[0]).items():
        assert torch.equal(checkpoint.module_tensors(module)[name], tensor)
    (store.path(50) / "model.safetensors").write_bytes(b"half")
    with pytest.raises(
        CheckpointError, match=r"the weights of step 50 cannot be read: .* checksum"
    ):
        store.load_weights(50, module)


def test_killed_between_saving_and_deleting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    best(store, 10, 10)
    best(store, 20, 10)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_tidy", StopAt(store._tidy, 1))
        with pytest.raises(MemoryError):
            best(store, 30, 10)
    assert store.steps() == [10, 20, 30]
    assert all(torn(store.path(step)) is None for step in store.steps())
    (tmp_path / ".partial-step-00000035").mkdir()  # and one killed while it wrote
    best(store, 40, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000040"]


def test_a_torn_newer_one_does_not_push_out_the_good(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    best(store, 10, None)
    best(store, 40, None)
    (store.path(40) / "state.json").unlink()
    best(store, 15, None)  # resumed from step 10, stopped by hand
    assert store.steps() == [15]
    assert torn(store.path(15)) is None


def test_the_disk_is_full_in_the_middle_of_a_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(data=corpus, output=tmp_path / "whole", config=saving())
    monkeypatch.setattr(checkpoint, "save_file", FailsAt(4, FULL))  # the second checkpoint
    run = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"the disk is full; .*step 2 is as it was"):
        pretrain(data=corpus, output=run, config=saving())
    monkeypatch.undo()
    pretrain(data=corpus, output=run, config=saving(), resume="auto")
    assert_same_bits(tmp_path / "whole", run)
    assert rows_of(tmp_path / "whole") == rows_of(run)


def test_all_processes_leave_where_one_cannot_save(tmp_path: Path) -> None:
    class Other(World):
        """Beside a process that failed."""

        def agree(self, flag: bool) -> bool:
            return True

    with pytest.raises(ElectraError, match="another process stopped the run at step 7"):
        loop._save(
            CheckpointStore(tmp_path),
            *trained(0),
            TrainState(step=7),
            {},
            Other(rank=1, size=1),
            None,
        )
    assert not list(tmp_path.iterdir())


# ---- the weights that are handed out -------------------------------------------------------------


@pytest.mark.parametrize("which", ["best", "last"])
def test_the_parts_are_of_the_best_or_the_last_step(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    losses = iter([5.0, 3.0, 4.0, 4.5, 3.0])

    def probe(*_: Any, **__: Any) -> dict[str, float]:
        return {"generator_loss": next(losses), "discriminator_loss": 0.1}

    monkeypatch.setattr(verb, "probe", probe)
    run = tmp_path / "run"
    config = saving(final_weights=which, save_total_limit=1)
    report = pretrain(data=corpus, output=run, config=config)
    assert report["steps"] == 8
    assert report["weights_step"] == (4 if which == "best" else 8)
    assert CheckpointStore(run / "checkpoints").steps() == [4, 8]
    saved = json.loads((run / "checkpoints/step-00000008/state.json").read_text("utf-8"))
    assert saved["state"]["best_step"] == 4
    kept = load_file(run / f"checkpoints/step-{report['weights_step']:08d}" / "model.safetensors")
    for name, tensor in load_file(run / "encoder" / "model.safetensors").items():
        assert torch.equal(kept[f"model.discriminator.model.{name}"], tensor), name
    assert report["metrics"]["generator_loss"] == (3.0 if which == "best" else 4.5)


# ---- the output ----------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_metrics_that_cannot_be_written_are_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    file = MetricsFile(path)
    with pytest.raises(ElectraError) as caught:
        file.write({"step": 1})
    assert str(caught.value) == (
        f"{path} cannot be written: the disk is full; make room there, and go on from the last "
        "checkpoint with --resume auto"
    )
    file.close()


def test_an_output_that_cannot_be_written_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise READ_ONLY

    says = r"--output .*run cannot be written: Read-only file system; make it writable, or choose"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", fail)
        with pytest.raises(ConfigError, match=says):
            open_run(tmp_path / "run")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ConfigError, match=says):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("error", [FULL, Exception("No space left on device (os error 28)")])
def test_whatever_library_finds_the_disk_full_it_is_a_line(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """In the tables of metrics, samples, parts, report: what a run writes beside checkpoints."""
    config = saving()
    pretrain(data=corpus, output=tmp_path / "whole", config=config)
    run = tmp_path / "run"
    for name in ("describe_run", "save_tokenizer", "write_run_page"):

        def fail(*_: Any, **__: Any) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(verb, name, fail)
            with pytest.raises(ElectraError) as caught:
                pretrain(data=corpus, output=run, config=config, resume="auto")
        assert str(caught.value) == (
            f"{run} cannot be written: the disk is full; make room there, and go on with "
            "--resume auto"
        )
    pretrain(data=corpus, output=run, config=config, resume="auto")
    assert_same_bits(tmp_path / "whole", run)


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (ConnectionError("reset"), ValueError("odd"), DataError("(os error 28)")):
        with pytest.raises(type(error)) as caught, writing_to(tmp_path):
            raise error
        assert caught.value is error


# ---- shards --------------------------------------------------------------------------------------


def shard_of(folder: Path) -> Path:
    return folder / Corpus(folder).split("train").shards[0].file


def vanish(file: Path) -> None:
    file.unlink()


def change(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(bytes(data))


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 8)


def replace(file: Path) -> None:
    """As another preparation would: by a new file of that name, which an open one does not see."""
    data = file.read_bytes()
    file.with_name("new").write_bytes(data[::-1])
    os.replace(file.with_name("new"), file)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (vanish, "has vanished"),
        (change, "has changed since it was opened"),
        (cut, "has changed since it was opened"),
        (replace, "has changed since it was opened"),
    ],
)
def test_shards_that_are_no_longer_what_they_were(
    corpus: Path, tmp_path: Path, harm: Any, says: str
) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    split = Corpus(tmp_path / "corpus").split("train")
    split.check_unchanged()
    file = shard_of(tmp_path / "corpus")
    harm(file)
    if file.exists():
        os.utime(file, ns=(0, 0))  # clocks of file systems are coarse
    with pytest.raises(DataError) as caught:
        split.check_unchanged()
    assert str(caught.value) == (
        f"shard {file} {says}; put back what it was and go on with --resume auto, or prepare again "
        "and train afresh"
    )


def test_a_shard_that_was_only_touched_is_taken(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    split = Corpus(tmp_path / "corpus").split("train")
    os.utime(shard_of(tmp_path / "corpus"), ns=(0, 0))
    split.check_unchanged()
    split.check_unchanged()


def test_a_shard_that_fails_to_be_read_is_named(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = Corpus(corpus).split("train")

    def fail(*_: Any) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "pread", fail)
    match = rf"shard {shard_of_named(corpus)} cannot be read at 0: Stale file handle"
    with pytest.raises(DataError, match=match):
        split.tokens(0, 0, 4)


def shard_of_named(folder: Path) -> str:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    return str(folder / manifest["splits"]["train"]["shards"][0]["file"])


def test_a_run_whose_shard_vanishes_keeps_its_last_checkpoint(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    file = shard_of(tmp_path / "corpus")
    aside = tmp_path / "aside"
    calls = 0

    def clip(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            shutil.move(file, aside)
        return clip_gradients(*args)

    clip_gradients = loop.clip_gradients
    monkeypatch.setattr(loop, "clip_gradients", clip)
    run = tmp_path / "run"
    with pytest.raises(DataError, match="has vanished; put back what it was"):
        pretrain(data=tmp_path / "corpus", output=run, config=saving())
    assert CheckpointStore(run / "checkpoints").steps()[-1] == 4
    shutil.move(aside, file)
    pretrain(data=tmp_path / "corpus", output=run, config=saving(), resume="auto")
    pretrain(data=corpus, output=tmp_path / "whole", config=saving())
    assert_same_bits(tmp_path / "whole", run)


# ---- clocks, and what is shown -------------------------------------------------------------------


def test_no_duration_is_taken_from_a_clock_that_may_be_set() -> None:
    package = Path(verb.__file__).parent
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                assert name not in {"time.time", "time.time_ns", "datetime.now"}, file


def test_a_clock_that_is_set_moves_no_budget(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back or a day on at every look, while steps and minutes are counted."""
    pretrain(data=corpus, output=tmp_path / "whole", config=saving())
    real, jumps = time.time, itertools.cycle([-3600.0, 86400.0, -86400.0])
    monkeypatch.setattr("time.time", lambda: real() + next(jumps))
    pretrain(data=corpus, output=tmp_path / "steps", config=saving())
    assert_same_bits(tmp_path / "whole", tmp_path / "steps")
    config = tiny_config("modern", training={"minutes": 0.02})
    begun = time.monotonic()
    report = pretrain(data=corpus, output=tmp_path / "minutes", config=config)
    assert 0.02 <= report["minutes"] <= (time.monotonic() - begun) / 60
    rows = [row for row in read_metrics(tmp_path / "minutes" / "metrics.jsonl") if "loss" in row]
    assert all(a["seconds"] <= b["seconds"] for a, b in itertools.pairwise(rows))
    progress = [share for row in rows for share in row["progress"]]
    assert progress == sorted(progress)


def test_what_is_shown_and_what_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    console = Console(file=(tmp_path / "shown").open("w+"), width=60)
    rows = MetricsFile(tmp_path / "metrics.jsonl")

    def watch(row: dict[str, Any]) -> list[str]:
        return ["look here"] if row.get("loss") == 9.0 else []

    logger = RunLogger(rows, console, title="pretraining", watch=watch)
    logger.show(0.5, "")  # goes on from half of the budget
    logger.log({"step": 20, "loss": 9.0})
    logger.log({"step": 20, "eval_discriminator_auc": 0.7125})
    now = 160.0
    logger.show(0.6, "1,000 tok/s  loss 9.000")
    logger.close()
    console.file.seek(0)
    assert console.file.read() == (
        "warning: look here\npretraining  60%  0:04:00 left  1,000 tok/s  loss 9.000  AUC 0.713\n"
    )
    console.file.close()
    assert read_metrics(tmp_path / "metrics.jsonl")[1] == {"step": 20, "warning": "look here"}


@pytest.mark.parametrize("width", [66, 80, 200])
def test_a_terminal_shows_the_time_left_however_narrow(tmp_path: Path, width: int) -> None:
    numbers = "1,000 tok/s 38.0% of peak discriminator loss 0.692 generator loss 8.192 AUC 0.6"
    with (tmp_path / "shown").open("w+", encoding="utf-8") as file:
        console = Console(file=file, width=width, force_terminal=True, color_system=None)
        logger = RunLogger(None, console, title="pretraining")
        logger.show(0.0, "")
        logger.show(0.25, numbers)
        logger.close()
        file.seek(0)
        plain = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", file.read())
    bar, *below = plain[plain.rindex("pretraining") :].strip().splitlines()
    assert "25%" in bar
    assert "left" in bar
    assert " ".join(" ".join(below).split()) == numbers
    assert max(map(len, [bar, *below])) <= width


def test_a_run_shows_speed_losses_and_norm_and_gives_no_false_alarm(
    corpus: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        "modern", training={"max_steps": 60, "eval_steps": 10}, logging={"log_steps": 1}
    )
    shown = told(data=corpus, output=tmp_path / "run", config=config)
    line = " ".join(shown.split())
    for name in (
        *("tok/s", "% of peak", "generator loss", "discriminator loss", "grad norm", "left", "AUC"),
    ):
        assert name in line, name
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert not [r for r in rows if "warning" in r]
    assert all(0 < row["utilisation"] < 1 for row in rows if "loss" in row)
