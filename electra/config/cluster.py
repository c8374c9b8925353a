"""What the tasks of a cluster are given."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """What tasks of `--executor slurm` and `ray` are given; no byte of the corpus depends on it.

    Parameters
    ----------
    memory
        GB a task is given; each has one core.
    partition
        Of Slurm; default: the cluster's own.
    time
        Limit of a Slurm task, as 12:00:00; default: the partition's.
    qos
        Quality of service of Slurm; default: the user's.
    environment
        Shell commands that a Slurm task begins with; this Python comes first on its PATH.
    """

    memory: int = 2
    partition: str | None = None
    time: str | None = None
    qos: str | None = None
    environment: str | None = None
