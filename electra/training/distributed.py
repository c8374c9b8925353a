"""Many processes as one: started by `torchrun`, silent otherwise."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

_meshes: list[Any] = []


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

    def merged(self, found: dict[str, str]) -> dict[str, str]:
        """What all processes found, in one."""
        if self.size == 1:
            return found
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, found)
        return {name: value for each in everyone for name, value in each.items()}

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

    def mesh(self, device: torch.device) -> Any:
        """All processes in a row, a `DeviceMesh` for tensors on devices of that type."""
        from torch.distributed.device_mesh import init_device_mesh

        mesh = init_device_mesh(device.type, (self.size,))
        _meshes.append(mesh)
        return mesh

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
        # torchrun may hand its processes, begun again, the store with the addresses of the dead
        store, rank, size = next(rendezvous("env://"))
        begun_again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"electra-{begun_again}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    return World(dist.get_rank(), dist.get_world_size(), local_rank)


def leave_world(world: World) -> None:
    """Close the group, so that the next run in this process starts afresh."""
    while _meshes:  # torch caches what it knows of a mesh, and with it the group and its threads
        _meshes.pop()._pg_registry.clear()
    if world.size > 1 and dist.is_initialized():
        dist.destroy_process_group()


def is_divided(tensor: Tensor) -> bool:
    """Whether this process holds a share of it (a `DTensor`, which is slow to import)."""
    return hasattr(tensor, "to_local")


def own_share(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, or its share of a divided one."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; of a divided one every process has to ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
