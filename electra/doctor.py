"""What this machine has, what will be used, what is missing."""

from __future__ import annotations

import os
import shutil
from importlib import util
from pathlib import Path

from rich.console import Console
from rich.table import Table

from electra.training.device import machine, pick_device, pick_dtype

EXTRAS = {
    "matplotlib": ("plot", "curves in reports"),
    "peft": ("lora", "low-rank adapters (electra finetune --model.adapter lora)"),
    "rjieba": ("zh", "words of Chinese text (electra prepare --segmenter jieba)"),
}
"""Optional package -> its extra, and what it is for."""


def doctor(console: Console) -> None:
    """Print the tables."""
    facts = Table("this machine", "", title_justify="left")
    for name, value in machine().items():
        shown = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        facts.add_row(name, shown)
    facts.add_row("memory", _memory())
    facts.add_row("free disk here", f"{shutil.disk_usage(Path.cwd()).free / 1e9:,.0f} GB")
    console.print(facts)

    used = Table("what will be used", "")
    device = pick_device("auto")
    used.add_row("device", str(device))
    used.add_row("precision", str(pick_dtype("auto", device)).removeprefix("torch."))
    used.add_row("default recipe", "tiny" if device.type == "cpu" else "small (--recipe small)")
    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    used.add_row("Hugging Face Hub", "offline (HF_HUB_OFFLINE)" if offline else "when asked for")
    console.print(used)

    missing = Table("optional package", "for", "")
    for package, (extra, purpose) in EXTRAS.items():
        there = util.find_spec(package) is not None
        missing.add_row(package, purpose, "there" if there else f'pip install "electra[{extra}]"')
    console.print(missing)


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{total / 2**30:,.0f} GiB"
