"""The stages of a corpus on many machines, as tasks of datatrove's Slurm and Ray executors.

A task is `remote_parts.do_parts`, wrapped for datatrove in `cluster_tasks.py`. What comes between
the stages is done by the process that started the tasks; it waits for them.
"""

from __future__ import annotations

import getpass
import importlib
import importlib.util
import json
import os
import secrets
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from electra import errors
from electra.config import ClusterSettings
from electra.corpus.remote_parts import FOLDER, LAUNCH, LOOK_SECONDS, said
from electra.corpus.stages import Plan
from electra.errors import ConfigError, ElectraError, did_you_mean

EXECUTORS = ("local", "slurm", "ray")
LISTING_SECONDS = 60.0
"""For which a shared folder may hide what another machine has written (NFS, `acdirmax`)."""
MOST_TASKS = 1_000
"""Of a Slurm job array, whose limit is 1,001 where nothing else was set."""
_QUEUE_SECONDS = 5.0
_CANCEL_SECONDS = 120.0

Tick = Callable[[int], None]


class RunStage(Protocol):
    """Does a stage of parts, wherever; returns when all are done."""

    def __call__(self, plan: Plan, stage: str, numbers: Sequence[int], *, tick: Tick) -> None:
        """A stage of the parts with these numbers; `tick` hears of bytes that are done."""


def check_executor(executor: str, workers: int | None, settings: ClusterSettings) -> None:
    """Whether the tasks could be started from here.

    Raises:
        ConfigError: the name, the extra or a command is missing, or a setting does not apply.
    """
    if executor not in EXECUTORS:
        raise ConfigError(f"--executor is {executor}; {did_you_mean(executor, EXECUTORS)}")
    default = ClusterSettings()
    for name, only in (
        ("memory", ("slurm", "ray")),
        ("partition", ("slurm",)),
        ("time", ("slurm",)),
        ("qos", ("slurm",)),
        ("environment", ("slurm",)),
    ):
        if getattr(settings, name) != getattr(default, name) and executor not in only:
            raise ConfigError(
                f"--cluster.{name} is for --executor {' and '.join(only)}, not for {executor}: "
                "leave it out"
            )
    if settings.memory < 1:
        raise ConfigError(f"--cluster.memory is {settings.memory}; allowed: 1 or more (GB)")
    if executor == "local":
        return
    for package in ("datatrove", *(["ray"] if executor == "ray" else [])):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"--executor {executor} needs {package}, which is not installed: "
                'pip install "electra[cluster]"'
            )
    if executor == "slurm":
        if workers is None:
            raise ConfigError("--executor slurm needs --workers: tasks at one time, 1 to 1000")
        for command in ("sbatch", "squeue", "scancel"):
            if shutil.which(command) is None:
                raise ConfigError(
                    f"--executor slurm needs {command}, which is not on this machine: start on a "
                    "login node of the cluster"
                )


def end_earlier_tasks(folder: Path) -> None:
    """Stop what a process that was killed has left at work on a folder, whatever goes on there.

    Raises:
        ElectraError: tasks of Slurm that cannot be stopped from here.
    """
    file = folder / FOLDER / LAUNCH
    try:
        job = json.loads(file.read_text("utf-8")).get("job")
    except FileNotFoundError:
        return
    except ValueError:  # it was killed as it wrote: nothing was started yet
        job = None
    if job is not None:
        if shutil.which("scancel") is None or shutil.which("squeue") is None:
            raise ElectraError(
                f"the Slurm job {job} may still be at work in {folder}: start on a login node, or "
                f"stop it (scancel --name={job}) and remove {file}"
            )
        cancel(job)
    file.unlink(missing_ok=True)
    time.sleep(3 * LOOK_SECONDS)  # tasks of Ray look every second whether they are wanted


class ClusterRunner:
    """Does stages of parts by tasks of a cluster, and waits for them; a context."""

    def __init__(self, executor: str, workers: int | None, settings: ClusterSettings) -> None:
        """`workers`: tasks at one time; none: as many as the Ray cluster has room for."""
        self._executor, self._workers, self._settings = executor, workers, settings
        self._started_ray = False

    def __enter__(self) -> ClusterRunner:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the Ray cluster, if it was joined here."""
        if self._started_ray:
            import ray

            ray.shutdown()

    def __call__(self, plan: Plan, stage: str, numbers: Sequence[int], *, tick: Tick) -> None:
        """Do a stage of parts, in any order.

        Args:
            plan: what there is to do; its folder is seen by all machines.
            stage: a name in `STAGES`.
            numbers: of the parts.
            tick: how far it is.

        Raises:
            ElectraError: of the first part that failed; or tasks ended and left parts undone.
        """
        if not numbers:
            return
        token = secrets.token_hex(4)
        job = f"electra-{stage}-{token}" if self._executor == "slurm" else None
        place = plan.folder / FOLDER
        shutil.rmtree(place, ignore_errors=True)
        for name in ("done", "errors"):
            (place / stage / name).mkdir(parents=True)
        launch = place / LAUNCH
        launch.write_text(json.dumps({"token": token, "job": job}), "utf-8")
        progress = _Progress(place / stage / "done", numbers, tick)
        try:
            if job is not None:
                self._by_slurm(plan, stage, numbers, token, job, progress)
            else:
                self._by_ray(plan, stage, numbers, token, progress)
        except BaseException:
            launch.unlink(missing_ok=True)  # tasks of Ray that were cut off look at it
            if job is None:
                time.sleep(2 * LOOK_SECONDS)
            raise
        _raise_first(place / stage / "errors")
        end = time.monotonic() + LISTING_SECONDS
        while (missing := progress.look()) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            _raise_first(place / stage / "errors")
        if missing:
            raise ElectraError(
                f"the tasks have ended, and {missing} of {len(numbers)} parts are not done "
                f"(killed, or out of memory or time?){_last_words(place / stage)}"
            )
        launch.unlink()

    def _by_ray(
        self, plan: Plan, stage: str, numbers: Sequence[int], token: str, progress: _Progress
    ) -> None:
        from electra.corpus.cluster_tasks import ray_executor

        room = self._join_ray()
        tasks = min(len(numbers), self._workers or room)
        executor = ray_executor(
            plan.folder,
            stage,
            numbers,
            token,
            tasks=tasks,
            at_once=min(tasks, room),
            settings=self._settings,
        )
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_SECONDS):
                progress.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            executor.run()
        finally:
            ended.set()
            thread.join()

    def _join_ray(self) -> int:
        """Have a Ray cluster; give the tasks it has room for."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray: Any = importlib.import_module("ray")  # its types are not all there
        if not ray.is_initialized():
            try:
                ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
            except (ConnectionError, ValueError) as error:
                first = str(error).partition("\n")[0]
                raise ConfigError(
                    f"--executor ray: no cluster at RAY_ADDRESS "
                    f"({os.environ.get('RAY_ADDRESS', 'not set')}): {first}"
                ) from None
            self._started_ray = True
        found = ray.cluster_resources()
        cores, memory = int(found.get("CPU", 0)), int(found.get("memory", 0) / 2**30)
        room = min(cores, memory // self._settings.memory)
        if room < 1:
            raise ConfigError(
                f"--executor ray: the cluster has {cores} cores and {memory} GB, and a task wants "
                f"one core and {self._settings.memory} GB (--cluster.memory)"
            )
        return room

    def _by_slurm(
        self,
        plan: Plan,
        stage: str,
        numbers: Sequence[int],
        token: str,
        job: str,
        progress: _Progress,
    ) -> None:
        from electra.corpus.cluster_tasks import slurm_executor

        if shlex.quote(str(plan.folder)) != str(plan.folder):
            raise ConfigError(
                f"--output is {plan.folder.with_suffix('')}; --executor slurm wants a path of "
                "letters, digits and . _ - / + : , = @ %"
            )
        executor = slurm_executor(
            plan.folder,
            stage,
            numbers,
            token,
            job=job,
            tasks=min(len(numbers), self._workers or 1, MOST_TASKS),
            settings=self._settings,
        )
        try:
            try:
                executor.launch_job()
            except subprocess.CalledProcessError as error:
                raise ElectraError(
                    f"sbatch did not take {plan.folder / FOLDER / stage}/launch_script.slurm "
                    f"(exit {error.returncode}); what it said stands above"
                ) from None
            while in_queue(job):
                progress.look()
                _raise_first(plan.folder / FOLDER / stage / "errors")
                time.sleep(_QUEUE_SECONDS)
        except BaseException:
            cancel(job)
            raise


class _Progress:
    """How many bytes of the parts are done, told once each."""

    def __init__(self, folder: Path, numbers: Sequence[int], tick: Tick) -> None:
        self._folder, self._tick = folder, tick
        self._left = set(numbers)

    def look(self) -> int:
        """How many parts are left."""
        for number in sorted(said(self._folder) & self._left):
            self._left.remove(number)
            self._tick(int((self._folder / str(number)).read_text("utf-8")))
        return len(self._left)


def _raise_first(folder: Path) -> None:
    """Raise what a part said that failed, the first of them."""
    for number in sorted(said(folder)):
        message = json.loads((folder / str(number)).read_text("utf-8"))
        kind: type[ElectraError] = getattr(errors, message["kind"], ElectraError)
        raise kind(message["error"])


def _last_words(folder: Path) -> str:
    """The last line of the first log of a task that did not end well, for a message."""
    logs = sorted((*folder.glob("slurm_logs/*.out"), *folder.glob("logs/*.log")))
    tasks = {file.name for file in folder.glob("completions/*")}
    for log in logs:
        rank = log.stem.rpartition("_")[2].zfill(5)
        lines = log.read_text("utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        if rank not in tasks and said:
            return f"; {log} ends with: {said[-1][:300]}"
    return ""


def in_queue(job: str) -> bool:
    """Whether Slurm has tasks of that name, waiting or at work."""
    result = _slurm("squeue", "--noheader", f"--user={getpass.getuser()}", f"--name={job}")
    # a server that does not answer says nothing about the job
    return result.returncode != 0 or bool(result.stdout.strip())


def cancel(job: str) -> None:
    """Cancel the tasks of that name, and wait until Slurm has none."""
    _slurm("scancel", f"--user={getpass.getuser()}", f"--name={job}")
    end = time.monotonic() + _CANCEL_SECONDS
    while in_queue(job):
        if time.monotonic() > end:
            raise ElectraError(f"Slurm does not end its job {job}: scancel --name={job}")
        time.sleep(LOOK_SECONDS)


def _slurm(*command: str) -> subprocess.CompletedProcess[Any]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
