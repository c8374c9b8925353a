"""Training within the memory there is: activations computed twice, and micro-batches that fit."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from electra.config import TrainingConfig
from electra.errors import ConfigError
from electra.training.device import autocast, moved
from electra.training.distributed import World
from electra.training.noise import Noise
from electra.training.parallel import layers_of

if TYPE_CHECKING:
    from electra.training.loop import BatchSource, Objective

Config = TypeVar("Config", bound=TrainingConfig)
_OVERHEAD = 1.5
"""What a backward pass needs over what the forward pass keeps for it."""
_SHARE = 0.8
"""Of the memory that is free; the rest is for what comes and goes."""
_STAGES = (0.0, 0.5, 0.999)
"""Shares of the budget that are tried: warm starts and stages need less than what follows."""
_CGROUP = Path("/sys/fs/cgroup")


def within_memory(
    config: Config,
    objective: Objective,
    source: BatchSource,
    *,
    device: torch.device,
    dtype: torch.dtype,
    world: World,
    before: Mapping[str, Any] | None = None,
) -> Config:
    """Do what the config says about memory; return it with a number for `auto`.

    A run that is resumed (`before` is the environment its checkpoint names) by as many processes
    keeps the micro-batch it had, and so its bits.
    """
    if config.gradient_checkpointing:
        assert isinstance(objective, nn.Module), "objectives are modules"
        recompute_activations(objective)
    if config.micro_batch_size != "auto":
        return config
    if before is not None and before["world_size"] == world.size:
        size = int(before["micro_batch_size"])
    else:
        share = config.global_batch_size // world.size
        found = fitting_micro_batch(
            objective, source, share, seed=config.seed, device=device, dtype=dtype
        )
        size = world.least(found)
    return dataclasses.replace(config, micro_batch_size=size)


def recompute_activations(module: nn.Module) -> None:
    """Keep the inputs of layers alone, and compute a layer again in the backward pass.

    Gradient checkpointing (Chen et al. 2016) of every network of transformers in the module, with
    the dropout that the first pass had: the same gradients for a forward pass more.

    Raises:
        ConfigError: there is no such layer.
    """
    layers = layers_of(module)
    if not layers:
        raise ConfigError(
            "--training.gradient-checkpointing true: this network has no layers that transformers "
            "can compute again; leave it out"
        )
    for layer in layers:
        layer.gradient_checkpointing = True
        func: Any = partial(checkpoint, use_reentrant=False)
        layer._gradient_checkpointing_func = func


def fitting_micro_batch(
    objective: Objective,
    source: BatchSource,
    share: int,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    available: int | None = None,
) -> int:
    """The largest divisor of `share` whose forward and backward pass has room.

    What passes of two and of four rows keep for their backward pass is counted, and carried on in a
    line; on a GPU the size found is tried. Objective and torch's random numbers stay as they were.

    Args:
        objective: on its device.
        source: of batches.
        share: rows of a step on this device.
        seed: of masks.
        device: where training is.
        dtype: of matrix products.
        available: bytes; none: what is free now.

    Returns:
        Rows; where none seems to have room the smallest divisor above 1, or all of two or fewer.
    """
    if share <= 2:
        return share

    assert isinstance(objective, nn.Module), "objectives are modules"
    trained = sum(p.numel() * p.element_size() for p in objective.parameters() if p.requires_grad)

    def trial(rows: int) -> int:
        with _as_it_was(objective):  # stages change weights, and what is trained
            objective.train()
            return max(
                _kept_bytes(objective, source, rows, at, seed=seed, device=device, dtype=dtype)
                for at in _STAGES
            )

    sizes = [n for n in range(share, 1, -1) if share % n == 0] or [share]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        two, four = trial(2), trial(min(4, share))
        a_row = max(1, (four - two) // (min(4, share) - 2))
        free = _SHARE * (free_memory(device) if available is None else available)
        room = (free - 3 * trained) / _OVERHEAD  # gradients and two moments
        most = 2 + (room - two) / a_row
        sizes = [n for n in sizes if n <= most] or sizes[-1:]
        if device.type == "cuda":
            sizes = [n for n in sizes if n == sizes[-1] or _fits(trial, n)]
    return sizes[0]


@contextlib.contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """Put back weights, buffers, which of them are which, and attributes."""
    before = []
    for part in module.modules():
        attributes = {k: dict(v) if isinstance(v, dict) else v for k, v in vars(part).items()}
        before.append((part, attributes))
    tensors = [*module.parameters(), *module.buffers()]
    values = [(tensor, tensor.detach().clone(), tensor.requires_grad) for tensor in tensors]
    try:
        yield
    finally:
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)
        with torch.no_grad():
            for tensor, value, trained in values:
                tensor.copy_(value).requires_grad_(trained)
                tensor.grad = None


def _fits(trial: Any, rows: int) -> bool:
    try:
        trial(rows)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False
    return True


def _kept_bytes(
    objective: Objective,
    source: BatchSource,
    rows: int,
    progress: float,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> int:
    """Bytes that a forward pass keeps for its backward pass, which is run, too."""
    assert isinstance(objective, nn.Module), "objectives are modules"
    own = {p.untyped_storage().data_ptr() for p in objective.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    objective.begin_step(progress)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        forward_backward(objective, source.batch(0, rows), Noise(seed), device=device, dtype=dtype)
    objective.zero_grad()
    return sum(kept.values())


def forward_backward(
    objective: Objective,
    batch: Mapping[str, Tensor],
    noise: Noise,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Add the gradients of a batch, all losses at weight 1: what a trial wants, not training."""
    prepared, _ = objective.prepare(moved(batch, device), noise)
    with autocast(device, dtype):
        losses = objective.forward(prepared, noise).losses
    total = sum(losses.values(), start=torch.zeros((), device=device))
    torch.autograd.backward(total)


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken on a device; of the machine's those of its container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [_available_on_machine()]
    with contextlib.suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        found.append(limit - int((_CGROUP / "memory.current").read_text()))
    return max(0, min(found))


def _available_on_machine() -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return 4 * 2**30  # a system that does not say
