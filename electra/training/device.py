"""What this machine trains on, in which precision, from which random numbers."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata

import torch

from electra.errors import ConfigError
from electra.training.distributed import World


def pick_device(wanted: str = "auto", world: World | None = None) -> torch.device:
    """The device to use: the one asked for, or the best there is.

    Raises:
        ConfigError: the device asked for is not on this machine.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(wanted, False):
        here = ", ".join(name for name, there in available.items() if there)
        raise ConfigError(f"--training.device is {wanted}; this machine has: {here}")
    if wanted == "cuda" and world is not None:
        return torch.device("cuda", world.local_rank)
    return torch.device(wanted)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a CUDA device that has it, float32 elsewhere.

    On a CPU without AMX bfloat16 is emulated and slower.
    """
    if wanted == "bfloat16":
        return torch.bfloat16
    if wanted == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


@contextlib.contextmanager
def autocast(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Run matrix products in `dtype`; weights stay float32."""
    if dtype == torch.float32:
        yield
    else:
        with torch.autocast(device.type, dtype=dtype):
            yield


def seed_everything(seed: int) -> None:
    """Seed torch's global generators: weights and dropout. Data and masks have their own."""
    torch.manual_seed(seed)


def machine() -> dict[str, object]:
    """What a run depends on beside its recipe: versions, processor, devices."""
    names = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "datasets")
    return {
        "electra": metadata.version("electra"),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
