"""Many processes as one: started by `torchrun`, silent otherwise.

Gradients are summed, not averaged: every loss is already divided by the global number of targets.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the terminal."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def total(self, number: int) -> int:
        """The sum of all processes' numbers."""
        if self.size == 1:
            return number
        shared = torch.tensor([number])
        dist.all_reduce(shared)
        return int(shared.item())

    def everywhere(self, flag: Tensor) -> Tensor:
        """Whether a bool is true in every process, on its device, which is not waited for."""
        if self.size > 1:
            votes = flag.int()
            dist.all_reduce(votes, op=dist.ReduceOp.MIN)
            flag = votes.bool()
        return flag

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients over all processes, in one flat message for each dtype."""
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for gradients in by_dtype.values():
            flat = torch.cat([g.reshape(-1) for g in gradients])
            dist.all_reduce(flat)
            start = 0
            for g in gradients:
                g.copy_(flat[start : start + g.numel()].view_as(g))
                start += g.numel()

    def agree(self, flag: bool) -> bool:
        """Whether any process says yes, so that all stop at the same step."""
        if self.size == 1:
            return flag
        votes = torch.tensor([int(flag)])
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item())

    def least(self, number: int) -> int:
        """The smallest of all processes' numbers."""
        if self.size == 1:
            return number
        shared = torch.tensor([number])
        dist.all_reduce(shared, op=dist.ReduceOp.MIN)
        return int(shared.item())

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

    def same_number(self, number: float) -> float:
        """The main process's number, so that all agree: its clock, say."""
        if self.size == 1:
            return number
        shared = torch.tensor([number], dtype=torch.float64)
        dist.broadcast(shared, src=0)
        return float(shared.item())


def join_world() -> World:
    """Join the processes `torchrun` started; a world of one where it did not."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return World()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    # Imported later (an optimizer does), the defaults `group=group.WORLD` of its functions would be
    # this group: `leave_world` could not end its threads, and they abort the process at its exit.
    importlib.import_module("torch.distributed.nn")
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend)
    return World(dist.get_rank(), dist.get_world_size(), local_rank)


def leave_world(world: World) -> None:
    """Close the group, so that the next run in this process starts afresh."""
    if world.size > 1 and dist.is_initialized():
        dist.destroy_process_group()
