"""The stages as tasks of Slurm and Ray: the same bytes as on one machine, and what goes wrong.

Slurm is five small scripts here, which run datatrove's own launch script: a job array as processes.
"""

import dataclasses
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import electra.prepare
from electra.cli import run
from electra.config import ClusterSettings, PrepareSettings
from electra.corpus import cluster
from electra.corpus.remote_parts import do_parts, said
from electra.corpus.stages import STAGES, Plan
from electra.errors import ConfigError, DataError, ElectraError
from electra.prepare import prepare
from tests.conftest import make_text

SMALL = PrepareSettings(vocab_size=120, validation_share=0.1, near_duplicates=True)
has_datatrove = pytest.mark.skipif(
    importlib.util.find_spec("datatrove") is None, reason="datatrove is not installed"
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Two files of eleven parts; a document stands in both."""
    folder = tmp_path / "texts"
    folder.mkdir()
    first = make_text(90, seed=1)
    (folder / "a.txt").write_text(first)
    (folder / "b.txt").write_text(make_text(60, seed=2) + "\n\n" + first.split("\n\n")[0])
    return folder


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(electra.prepare, "PART_BYTES", 4_000)
    monkeypatch.setattr(cluster, "LISTING_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(cluster, "_QUEUE_SECONDS", 0.1)


def refuse(monkeypatch: pytest.MonkeyPatch, *stages: str) -> None:
    """From now on this process does no part by itself."""

    def refused(plan: Plan, number: int, tick: object) -> None:
        raise AssertionError("a part was done by the process that started the tasks")

    for stage in stages:
        monkeypatch.setitem(STAGES, stage, refused)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


_SLURM = {
    "sbatch": r"""
echo sbatch "$@" >> STATE/calls
value() { sed -n "s/^#SBATCH --$1=//p" "${script}"; }
script="${@: -1}"
name=$(value job-name)
output=$(value output)
array=$(value array)
cp "$script" STATE/$name.sh
export SLURM_JOB_ID=7 SLURM_NODELIST=here
for rank in $(seq 0 ${array#0-}); do
  touch STATE/$name.$rank.queued
  if [ ! -e STATE/pending ]; then
    export SLURM_ARRAY_TASK_ID=$rank
    (bash STATE/$name.sh; rm -f STATE/$name.$rank.queued) \
      > ${output/\%A_\%a/7_$rank} 2>&1 < /dev/null &
  fi
done
echo Submitted batch job 7
""",
    "squeue": 'name=${@: -1}; cd STATE; ls | grep -- "${name#--name=}.*queued" || true',
    "scancel": 'echo scancel "$@" >> STATE/calls; name=${@: -1}; rm -f STATE/${name#--name=}.*d',
    "srun": 'while [ "${1:0:1}" = - ]; do [ $1 = -n ] && shift; shift; done; exec "$@"',
    "scontrol": "echo here",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Commands of Slurm; the folder has `calls`, and scripts and tasks by the name of their job."""
    state, commands = tmp_path / "slurm", tmp_path / "bin"
    state.mkdir()
    commands.mkdir()
    (state / "calls").touch()
    for name, script in _SLURM.items():
        (commands / name).write_text("#!/bin/bash\n" + script.replace("STATE", str(state)) + "\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    yield state
    end = time.monotonic() + 60  # tasks write into the folders of the test
    while list(state.glob("*.queued")) and time.monotonic() < end:
        time.sleep(0.1)


def test_names_and_settings_that_do_not_apply() -> None:
    settings = ClusterSettings()
    with pytest.raises(ConfigError, match=r'^--executor is slrum; did you mean "slurm"\?$'):
        cluster.check_executor("slrum", 2, settings)
    for executor, given, message in (
        ("local", ClusterSettings(memory=4), "memory is for --executor slurm and ray, not for"),
        ("ray", ClusterSettings(time="1:00:00"), "time is for --executor slurm, not for ray"),
        ("local", ClusterSettings(partition="long"), "partition is for --executor slurm, not for"),
    ):
        with pytest.raises(ConfigError, match=f"^--cluster.{message}"):
            cluster.check_executor(executor, 2, given)
    with pytest.raises(ConfigError, match=r"--cluster.memory is 0; allowed: 1 or more \(GB\)"):
        cluster.check_executor("ray", 2, ClusterSettings(memory=0))


def test_without_the_extra_one_line_says_what_to_install(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = importlib.util.find_spec
    lacking = "datatrove"
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == lacking else usual(name)
    )
    output = tmp_path / "c"
    assert run(["prepare", str(text), "--output", str(output), "--executor", "ray"]) == 2
    message = (
        '--executor ray needs datatrove, which is not installed: pip install "electra[cluster]"'
    )
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("c*"))


def test_slurm_wants_workers_and_its_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="--executor slurm needs --workers"):
        cluster.check_executor("slurm", None, ClusterSettings())
    with pytest.raises(ConfigError, match="needs sbatch, which is not on this machine: start on a"):
        cluster.check_executor("slurm", 2, ClusterSettings())


def test_a_recipe_has_a_table_for_the_cluster(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    command = ["prepare", str(text), "--output", str(tmp_path / "c"), "--recipe", str(recipe)]
    recipe.write_text('[cluster]\npartition = "long"\n')
    assert run(command) == 2
    assert "--cluster.partition is for --executor slurm, not for local" in capsys.readouterr().err
    recipe.write_text("[cluster]\npartitions = 1\n")
    assert run(command) == 2
    assert 'section "cluster" has no field "partitions"' in capsys.readouterr().err


def launched(folder: Path, text: Path) -> Plan:
    """A plan on disk as `prepare` makes it, and the launch of a task `mine` for stage `clean`."""
    plans: list[Plan] = []

    def stopped(plan: Plan, *_: object) -> None:
        plans.append(plan)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(electra.prepare, "_runner", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare([text], output=folder, settings=SMALL)
    plan = dataclasses.replace(plans[0], folder=folder)
    for name in ("done", "errors"):
        (folder / "cluster/clean" / name).mkdir(parents=True)
    (folder / "cluster/launch.json").write_text('{"token": "mine", "job": null}')
    plan.write()
    return plan


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what a task sets for itself does not stay."""
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.mark.usefixtures("one_thread")
def test_a_task_does_its_parts_once(text: Path, tmp_path: Path) -> None:
    plan = launched(tmp_path / "w", text)
    assert len(plan.parts) > 5
    assert list(do_parts(plan.folder, "clean", [0, 2, 4], "mine", os.getcwd())) == [0, 2, 4]
    done = plan.folder / "cluster/clean/done"
    assert said(done) == {0, 2, 4}
    assert int((done / "4").read_text()) == plan.parts[4].size
    assert list(do_parts(plan.folder, "clean", [0, 1, 2], "mine", os.getcwd())) == [1]
    assert [n for n in range(len(plan.parts)) if plan.texts(n).is_dir()] == [0, 1, 2, 4]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("launch", [None, '{"token": "another", "job": null}', '{"tok'])
def test_a_task_that_nobody_waits_for_stops(text: Path, tmp_path: Path, launch: str | None) -> None:
    plan = launched(tmp_path / "w", text)
    done = do_parts(plan.folder, "clean", [0, 1], "mine", os.getcwd())
    assert next(done) == 0
    file = plan.folder / "cluster/launch.json"
    file.unlink() if launch is None else file.write_text(launch)
    with pytest.raises(Exception, match="this task was started by a process that has ended"):
        next(done)
    assert said(plan.folder / "cluster/clean/done") == {0}
    assert not list((plan.folder / "cluster/clean/errors").iterdir())


@pytest.mark.usefixtures("one_thread")
def test_a_part_that_fails_stops_the_others(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = launched(tmp_path / "w", text)
    usual = STAGES["clean"]

    def full(plan: Plan, number: int, tick: Callable[[int], None]) -> None:
        if number == 1:
            raise OSError(28, "No space left on device")
        usual(plan, number, tick)

    monkeypatch.setitem(STAGES, "clean", full)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"part 1: OSError: .*No space left on device"):
        list(do_parts(plan.folder, "clean", [0, 1, 2], "mine", os.getcwd()))
    assert list(do_parts(plan.folder, "clean", [3, 4], "mine", os.getcwd())) == []
    assert said(plan.folder / "cluster/clean/done") == {0}
    with pytest.raises(ElectraError, match=r"^OSError: \[Errno 28\] No space left on device$"):
        cluster._raise_first(plan.folder / "cluster/clean/errors")


def test_tasks_of_a_process_that_was_killed_are_ended(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "w/cluster/launch.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"token": "old", "job": "electra-clean-old"}')
    queued = [slurm / f"electra-clean-{name}.0.queued" for name in ("old", "new")]
    for task in queued:
        task.touch()
    cluster.end_earlier_tasks(tmp_path / "w")
    assert "--name=electra-clean-old" in (slurm / "calls").read_text()
    assert [task.exists() for task in queued] == [False, True]
    assert not file.exists()
    queued[1].unlink()
    file.write_text('{"token": "old", "job": "electra-clean-old"}')
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ElectraError, match=r"job electra-clean-old may still be at work in .*\bw:"):
        cluster.end_earlier_tasks(tmp_path / "w")
    assert file.exists()


def on_slurm(text: Path, output: Path, **cluster_settings: Any) -> dict[str, Any]:
    return prepare(
        [text],
        output=output,
        settings=SMALL,
        workers=2,
        executor="slurm",
        cluster=ClusterSettings(**cluster_settings),
    )


@has_datatrove
def test_slurm_gives_the_same_bytes(
    text: Path, tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths of the text may be relative
    prepare([Path("texts")], output=Path("one"), settings=SMALL, workers=1)
    refuse(monkeypatch, "clean", "encode")
    on_slurm(Path("texts"), Path("two"), partition="long", time="2:00:00", memory=3)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    scripts = sorted(slurm.glob("*.sh"))
    names = [re.sub("[0-9a-f]{8}", "TOKEN", script.name) for script in scripts]
    assert names == ["electra-clean-TOKEN.sh", "electra-encode-TOKEN.sh"]
    lines = scripts[0].read_text().split("\n")
    directives = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    work = tmp_path / "two.partial/cluster/clean"
    assert directives == {
        "cpus-per-task=1",
        "mem-per-cpu=3G",
        "nodes=1",
        "partition=long",
        f"job-name={scripts[0].stem}",
        "time=2:00:00",
        f"output={work}/slurm_logs/%A_%a.out",
        f"error={work}/slurm_logs/%A_%a.out",
        "array=0-1",
        "requeue",
    }
    assert f"export PATH={Path(sys.executable).parent}:$PATH" in lines
    assert f"srun  -l -n 1 launch_pickled_pipeline {work}/executor.pik" in lines
    calls = (slurm / "calls").read_text()
    assert (calls.count("sbatch"), calls.count("scancel")) == (2, 0)


@has_datatrove
def test_what_tasks_of_slurm_have_done_is_not_done_again(
    text: Path, tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([text], output=tmp_path / "one", settings=SMALL, workers=1)
    usual = electra.prepare.select
    stop = slurm / "stop"

    def select(*arguments: Any) -> Any:
        stop.touch()
        return usual(*arguments)

    monkeypatch.setattr(electra.prepare, "select", select)
    message = r"and (\d+) of \1 parts are not done \(killed, .*7_0\.out ends with: out of time$"
    environment = f"[ ! -e {stop} ] || {{ echo out of time; exit 3; }}"
    with pytest.raises(ElectraError, match=message):
        on_slurm(text, tmp_path / "two", environment=environment)
    refuse(monkeypatch, "clean")
    prepare([text], output=tmp_path / "two", settings=SMALL, workers=1)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert not list(tmp_path.glob("*.partial"))


@has_datatrove
def test_a_mistake_that_a_task_of_slurm_meets_is_named(
    text: Path, tmp_path: Path, slurm: Path
) -> None:
    (text / "c.jsonl").write_text('{"text": "a first line of some length"}\n[1]\n')
    with pytest.raises(DataError, match=r"c\.jsonl.*line 2"):
        on_slurm(text, tmp_path / "c")


@has_datatrove
def test_interrupted_tasks_of_slurm_are_cancelled(
    text: Path, tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm / "pending").touch()
    usual = cluster.in_queue
    asked: list[str] = []

    def in_queue(job: str) -> bool:
        asked.append(job)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return usual(job)

    monkeypatch.setattr(cluster, "in_queue", in_queue)
    with pytest.raises(KeyboardInterrupt):
        on_slurm(text, tmp_path / "c")
    assert f"--name={asked[0]}" in (slurm / "calls").read_text().split("scancel")[1]
    assert not list(slurm.glob("*.queued"))
    with pytest.raises(ConfigError, match=r"--output is .*a b; --executor slurm wants a path of"):
        on_slurm(text, tmp_path / "a b")


@has_datatrove
def test_a_job_that_sbatch_refuses(text: Path, tmp_path: Path, slurm: Path) -> None:
    (tmp_path / "bin/sbatch").write_text("#!/bin/bash\necho no such partition >&2; exit 1\n")
    with pytest.raises(ElectraError, match=r"sbatch did not take .*launch_script.slurm \(exit 1\)"):
        on_slurm(text, tmp_path / "c")


@pytest.fixture
def ray_of_two() -> Iterator[Any]:
    """A Ray of this machine with two workers."""
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        ray.init(
            num_cpus=2,
            _memory=8 * 2**30,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield ray
        ray.shutdown()


@pytest.mark.slow
@has_datatrove
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ray_gives_the_same_bytes(
    text: Path, tmp_path: Path, ray_of_two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([text], output=tmp_path / "one", settings=SMALL, workers=1)
    begun_here(text, tmp_path / "two", monkeypatch)
    refuse(monkeypatch, "clean", "encode")
    cleaned: dict[str, int] = {}
    usual = electra.prepare.select

    def select(plan: Plan, progress: Any) -> Any:
        cleaned.update({f.name: f.stat().st_ino for f in (plan.folder / "texts").iterdir()})
        return usual(plan, progress)

    monkeypatch.setattr(electra.prepare, "select", select)
    before = {f.name: f.stat().st_ino for f in (tmp_path / "two.partial/texts").iterdir()}
    before = {name: inode for name, inode in before.items() if name.isdecimal()}
    prepare([text], output=tmp_path / "two", settings=SMALL, executor="ray")
    assert len(before) == 3 < len(cleaned)
    assert before.items() <= cleaned.items()
    assert content(tmp_path / "one") == content(tmp_path / "two")
    (text / "c.jsonl").write_text('{"text": "a first line of some length"}\n[1]\n')
    with pytest.raises(DataError, match=r"c\.jsonl.*line 2"):
        prepare([text], output=tmp_path / "c", settings=SMALL, executor="ray")
    with pytest.raises(ConfigError, match=r"2 cores and 8 GB, and a task wants one core and 9 GB"):
        prepare(
            [text],
            output=tmp_path / "d",
            settings=SMALL,
            executor="ray",
            cluster=ClusterSettings(memory=9),
        )


def begun_here(text: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts are cleaned on this machine, then its disk is full."""
    usual = STAGES["clean"]

    def full(plan: Plan, number: int, tick: Callable[[int], None]) -> None:
        if number == 3:
            raise OSError(28, "No space left on device")
        usual(plan, number, tick)

    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "clean", full)  # type: ignore[arg-type]
        with pytest.raises(ElectraError, match="the disk is full"):
            prepare([text], output=output, settings=SMALL, workers=1)
