"""Forward and backward passes in many processes, by PyTorch's own means.

Each process has a copy of the module, and gradients are summed bucket by bucket while the backward
pass goes on (DistributedDataParallel); or weights, gradients and moments are divided among them,
and the weights of a layer are gathered where it is needed (FSDP2, `fully_shard`).

Gradients are summed, not averaged: every loss is already divided by the global number of targets.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from electra.errors import ConfigError
from electra.training.distributed import World, is_divided
from electra.training.noise import Noise


def layers_of(module: nn.Module) -> list[Any]:
    """The layers of every network of transformers in the module."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]


def divide(module: nn.Module, world: World, device: torch.device) -> None:
    """Divide the weights among all processes, in place; of one process nothing is made.

    Layers are gathered one by one; embeddings, heads and whatever is tied to them are gathered
    with the module itself. Outside of its passes (`forward`, `probe`) the module holds the shares.
    The optimizer is to be built after it.

    Raises:
        ConfigError: there are no layers.
    """
    if world.size == 1:
        return
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    layers = layers_of(module)
    if not layers:
        raise ConfigError(
            "--training.sharding full: this network has no layers that could be divided; leave it "
            "out"
        )
    mesh = world.mesh(device)
    for unit in (*reversed(layers), module):
        # by default the module itself would stay gathered after an evaluation, and be what is saved
        unit = fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo can neither average nor multiply
    register_fsdp_forward_method(module, "probe")


@torch.no_grad()
def gather(module: nn.Module) -> None:
    """Make the weights of a divided module whole, in every process; no pass may follow."""
    whole: dict[int, nn.Parameter] = {}  # tied ones stay tied
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and is_divided(parameter):
                if id(parameter) not in whole:
                    full: Any = parameter
                    whole[id(parameter)] = nn.Parameter(full.full_tensor())
                part._parameters[name] = whole[id(parameter)]


class Passes:
    """Forward passes of an objective, whose backward passes leave the sum over all processes."""

    def __init__(self, objective: nn.Module, world: World) -> None:
        """Take an objective, a divided one or one to be copied."""
        self._objective: Any = objective
        self.divided = any(is_divided(p) for p in objective.parameters())
        self._copy: DistributedDataParallel | None = None
        if world.size > 1 and not self.divided:
            # Which parameters a step leaves unused changes: warm starts, stages, heads of tasks
            self._copy = DistributedDataParallel(
                objective, find_unused_parameters=True, gradient_as_bucket_view=True
            )
            self._copy.broadcast_buffers = False  # they are alike; torch 2.13 renames the argument
            self._copy.register_comm_hook(None, _summed)

    def run(self, batch: Mapping[str, Tensor], noise: Noise, *, last: bool) -> Any:
        """What the objective makes of a batch; the `last` of a step has the gradients summed."""
        if self.divided:
            self._objective.set_requires_gradient_sync(last)
            self._objective.set_is_last_backward(last)
        if self._copy is None:
            return self._objective(batch, noise)
        self._copy.require_backward_grad_sync = last  # what `no_sync` sets
        return self._copy(batch, noise)


# torch reads these annotations, so they are no strings here
def _summed(
    _state: None,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future
