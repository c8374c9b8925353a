"""What this machine trains on, in which precision, from which random numbers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from collections.abc import Iterator, Mapping
from importlib import metadata

import torch
from torch import Tensor

from electra.errors import ConfigError
from electra.model import plain_attention
from electra.training.distributed import World


def pick_device(wanted: str = "auto", world: World | None = None) -> torch.device:
    """The device to use: the one asked for, or the best there is.

    Raises:
        ConfigError: the device asked for is not on this machine.
    """
    mps = torch.backends.mps.is_available()
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": mps}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available.get(wanted, False):
        here = ", ".join(name for name, there in available.items() if there)
        raise ConfigError(f"the device asked for is {wanted}; this machine has: auto, {here}")
    if wanted == "cuda" and world is not None:
        return torch.device("cuda", world.local_rank)
    return torch.device(wanted)


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Precision of matrix products in training.

    `auto` is bfloat16 on a CUDA device that has it and on a CPU that gains by it (AMX, or
    AVX512-BF16 of AMD's; elsewhere it is emulated), else float32.
    """
    if wanted == "bfloat16":
        return torch.bfloat16
    if wanted == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    if wanted == "auto" and device.type == "cpu" and _cpu_gains_by_bfloat16():
        return torch.bfloat16
    return torch.float32


def inference_dtype(device: torch.device) -> torch.dtype:
    """Precision of predictions: float32 on a CPU, so that they are the same on all of them."""
    return torch.float32 if device.type == "cpu" else pick_dtype("auto", device)


def _cpu_gains_by_bfloat16() -> bool:
    """Intel's AVX512-BF16 alone is slower than float32 in a step (docs/lab_log.md)."""
    if _supports("_is_amx_tile_supported"):
        return True
    return _supports("_is_avx512_bf16_supported") and _cpuinfo("vendor_id") == "AuthenticAMD"


def _supports(probe: str) -> bool:
    return bool(getattr(torch.cpu, probe, lambda: False)())


def training_attention(device: torch.device, max_length: int, *, dropout: float) -> str:
    """The attention kernel to train with, under its name in transformers' attention interface.

    On a CPU the fused kernel's backward is slower than plain matrix products at short lengths
    (docs/lab_log.md), and it has no dropout; without any, plain scores need too much memory at
    long ones.
    """
    plain = device.type == "cpu" and (max_length <= 256 or dropout > 0)
    return plain_attention.NAME if plain else "sdpa"


def keep_memory() -> None:
    """Let glibc keep freed memory instead of handing it back to the system at every step.

    Activations of some megabytes are otherwise unmapped and faulted in again for each layer.
    Harmless where there is no glibc.
    """
    if libc := _glibc():
        # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX of malloc.h; one arena, since
        # the backward pass runs in a thread of its own and only the main arena can grow
        for parameter, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**26), (-8, 1)):
            libc.mallopt(parameter, value)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None


def moved(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors of a batch on a device; to a GPU they go while it computes."""
    if device.type == "cuda":  # from memory that may be paged out the copy would wait
        batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


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


def seed_rank(seed: int, world: World, step: int) -> None:
    """Give every process but the first the dropout of a step, a function of seed, rank and step.

    The first goes on from the random state that checkpoints hold.
    """
    if world.rank:
        torch.manual_seed(seed + 1_000_003 * world.rank + step)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of one large matrix product here and now.

    That is what a step could reach if it were one such product; on a machine that others use, too,
    it is what they leave.
    """
    size = 1024 if device.type == "cpu" else 8192
    noise = torch.Generator(device).manual_seed(0)  # the global ones stay as they are
    left, right = (
        torch.randn(size, size, generator=noise, device=device).to(dtype) for _ in range(2)
    )
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        torch.mm(left, right)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds)


def machine() -> dict[str, object]:
    """What a run depends on beside its recipe: versions, processor, devices."""
    names = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "datasets")
    return {
        "electra": _version("electra"),
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str | None:
    """Of a package; none where it is used without being installed, or not needed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """What Linux says of the first processor; nothing elsewhere."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith(field):
                return line.split(":", 1)[1].strip()
    return ""
