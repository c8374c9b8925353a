"""Tensors that processes hold shares of, on disk: `torch.distributed.checkpoint` as safetensors.

Each process writes the shares it holds into a file of its own. They are read again cut in whatever
way: by another number of processes, whole by one, or as shares of tensors that were saved whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from electra.training.distributed import World

_PREFIX = "shard-"


def has_shares(folder: Path) -> bool:
    """Whether any of the tensors in a folder lie there in shares."""
    return any(folder.glob(f"{_PREFIX}*"))


def write_shares(folder: Path, tensors: Mapping[str, Tensor], world: World) -> list[Path]:
    """Write divided tensors, every process its own; synced. Returns this process's files.

    Raises:
        OSError: one of the processes could not write; all of them raise.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    # never torch's default writer: its metadata is a pickle
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        save(dict(tensors), storage_writer=writer)
    except CheckpointException as failed:
        error = next(iter(failed.failures.values()))[0]
        raise error if isinstance(error, OSError) else OSError(str(error)) from None
    return sorted(folder.glob(f"{_PREFIX}{world.rank + 1:05d}-*"))


def read_shares(folder: Path, likes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a folder that `likes` names, each cut as its like is.

    A tensor whose like has another shape comes back as zeros of the shape that was saved; tensors
    without a dimension are left out.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(folder))
    found: dict[str, Tensor] = {}
    wrong: dict[str, Tensor] = {}
    for name, saved in reader.read_metadata().state_dict_metadata.items():
        size = getattr(saved, "size", torch.Size())
        if len(size) and name in likes and likes[name].shape == size:
            found[name] = torch.zeros_like(likes[name], requires_grad=False)
        elif len(size) and name in likes:
            wrong[name] = torch.zeros(size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that one process reads alone
        load(dict(found), storage_reader=reader, no_dist=not dist.is_initialized())
    return found | wrong
