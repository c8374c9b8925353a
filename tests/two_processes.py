"""Work that two processes do together, as `torchrun` would start them."""

import gc
import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing

from electra.training.distributed import join_world, leave_world


def in_two_processes(work: Callable[[int, Path], None], folder: Path) -> None:
    """Call `work(rank, folder)` in both; a function of a module, which joins and leaves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(  # type: ignore[attr-defined]
        _joined, args=(work, str(folder), port), nprocs=2, join=True
    )


def _joined(rank: int, work: Callable[[int, Path], None], folder: str, port: int) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    # one group for all that is begun: whoever joins anew may meet the old one's port, still open
    leave = dist.destroy_process_group
    dist.destroy_process_group = lambda *_: None
    work(rank, Path(folder))
    gc.collect()
    dist.destroy_process_group = leave
    leave_world(join_world())
    # what is left of a group aborts the process at its exit, now and then
    threads = [task.read_text() for task in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads
