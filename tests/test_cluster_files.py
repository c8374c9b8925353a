"""The sample job files parse, and what they call exists."""

import os
import re
import shlex
import signal
import subprocess
import time
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.run as torchrun
import yaml

from electra.cli import _split_overrides
from electra.cli.app import app
from electra.config import PretrainConfig
from electra.recipe import nest, read_recipe, resolve

FOLDER = Path(str(resources.files("electra"))) / "recipes" / "cluster"
SLURM, KUBERNETES = FOLDER / "pretrain.slurm", FOLDER / "pretrain.yaml"


def of_slurm() -> list[str]:
    text = SLURM.read_text("utf-8").replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.startswith("srun "))
    return shlex.split(line.removesuffix("&"))[2:]


def of_kubernetes() -> list[str]:
    _, job = yaml.safe_load_all(KUBERNETES.read_text("utf-8"))
    return list(job["spec"]["template"]["spec"]["containers"][0]["command"])


@pytest.mark.parametrize("command", [of_slurm(), of_kubernetes()], ids=["slurm", "kubernetes"])
def test_what_they_call_exists(command: list[str]) -> None:
    assert command[:3] == ["python", "-m", "torch.distributed.run"]
    launch = torchrun.get_args_parser().parse_args(command[3:])
    assert launch.training_script == "electra"
    assert launch.module
    rest, overrides = _split_overrides(launch.training_script_args)
    verb, bound, _ = app.parse_args(rest, exit_on_error=False, print_error=False)
    assert verb.__name__ == "pretrain"
    assert bound.arguments["resume"] == "auto"
    recipe = bound.arguments["recipe"]
    config = resolve(PretrainConfig, [(recipe, read_recipe(recipe)), ("flags", nest(overrides))])
    assert config.training.save_steps == 1000
    assert launch.max_restarts == 3


def test_the_pods_of_the_job_find_each_other() -> None:
    service, job = yaml.safe_load_all(KUBERNETES.read_text("utf-8"))
    spec = job["spec"]
    pod: dict[str, Any] = spec["template"]["spec"]
    launch = torchrun.get_args_parser().parse_args(of_kubernetes()[3:])
    names = (job["metadata"]["name"], service["metadata"]["name"])
    assert launch.rdzv_endpoint == f"{names[0]}-0.{pod['subdomain']}:29400"
    assert pod["subdomain"] == names[1]
    assert service["spec"]["selector"] == {"job-name": names[0]}
    assert spec["completions"] == spec["parallelism"] == int(launch.nnodes)
    limits = pod["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == int(launch.nproc_per_node)


def script(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!/usr/bin/env bash\n{text}\n", encoding="utf-8")
    file.chmod(0o755)


def test_a_job_of_slurm_is_put_into_the_queue_again(tmp_path: Path) -> None:
    """With stand-ins of Slurm's commands: the processes are ended before the job is requeued."""
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    assert re.search(r"#SBATCH --signal=B:USR1@\d+ ", SLURM.read_text("utf-8"))
    done = tmp_path / "done"
    script(tmp_path, "scontrol", f'if [ "$1" = show ]; then echo a; else echo "$*" >> {done}; fi')
    script(
        tmp_path,
        "srun",
        f"trap 'echo ended >> {done}; exit 143' TERM\necho $$ > {tmp_path}/pid\n"
        "while :; do sleep 0.05; done",
    )
    script(tmp_path, "scancel", f'[ "$1" = --signal=TERM ] && kill -TERM "$(cat {tmp_path}/pid)"')
    job = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "a,b"}
    environment = os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", str(SLURM)], env=environment)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == 0
    assert done.read_text().splitlines() == ["ended", "requeue 7"]
