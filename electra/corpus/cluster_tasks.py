"""`remote_parts.py` for datatrove's executors; this module needs the extra `cluster`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datatrove.executor import RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from electra.config import ClusterSettings
from electra.corpus.remote_parts import FOLDER, do_parts


class PartsStep(PipelineStep):
    """A pipeline of one step: the parts of a rank, each from files to files."""

    type = "electra"

    def __init__(self, folder: Path, stage: str, numbers: Sequence[int], token: str) -> None:
        """The arguments are `do_parts`'s; the numbers are those of all ranks."""
        self.name = stage  # before the counts of the step, which have its name
        super().__init__()
        self.folder, self.stage, self.token = str(folder), stage, token
        self.numbers = list(numbers)
        self.directory = os.getcwd()

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Do the parts rank, rank + world_size, ...; there are no documents to pass on."""
        numbers = self.numbers[rank::world_size]
        for _ in do_parts(Path(self.folder), self.stage, numbers, self.token, self.directory):
            self.stat_update("parts", unit="task")
        return data


class _SlurmExecutor(SlurmPipelineExecutor):
    """Without what the user left to the cluster, and without the job that sums the logs up."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """The directives that have a value, or need none."""
        found: dict[str, Any] = super().get_sbatch_args(max_array)
        return {name: value for name, value in found.items() if value is not None}

    def launch_merge_stats(self) -> None:
        """Nothing: after a task that failed that job would wait for ever."""


def slurm_executor(
    folder: Path,
    stage: str,
    numbers: Sequence[int],
    token: str,
    *,
    job: str,
    tasks: int,
    settings: ClusterSettings,
) -> SlurmPipelineExecutor:
    """An executor whose `launch_job` submits a job array of so many tasks, one core each."""
    logger.disable("datatrove")
    commands = [f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"]
    if settings.environment is not None:
        commands.append(settings.environment)
    return _SlurmExecutor(
        [PartsStep(folder, stage, numbers, token)],
        tasks=tasks,
        time=settings.time,
        partition=settings.partition,
        qos=settings.qos,
        mem_per_cpu_gb=settings.memory,
        job_name=job,
        env_command="\n".join(commands),
        logging_dir=str(folder / FOLDER / stage),
    )


def ray_executor(
    folder: Path,
    stage: str,
    numbers: Sequence[int],
    token: str,
    *,
    tasks: int,
    at_once: int,
    settings: ClusterSettings,
) -> RayPipelineExecutor:
    """An executor whose `run` does so many tasks on the Ray cluster, one core each."""
    logger.disable("datatrove")
    return RayPipelineExecutor(
        [PartsStep(folder, stage, numbers, token)],
        tasks=tasks,
        workers=at_once,
        mem_per_cpu_gb=settings.memory,
        logging_dir=str(folder / FOLDER / stage),
    )
