"""benchmarks/gpu.py on the CPU: what it imports, what it counts, what it writes when."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu
from electra.corpus.examples import Examples
from electra.objectives.objective import build_objective
from electra.training.noise import Noise
from tests.objectives.build import SPECIAL

ROOT = Path(__file__).parent.parent
HIDDEN = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        missing = ("cyclopts", "rich", "datasets", "sklearn", "scipy", "pandas", "matplotlib")
        return None if name.split(".")[0] in missing else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""


def run(folder: Path, *given: str) -> subprocess.CompletedProcess[str]:
    """The script where only what it says it needs is installed."""
    (folder / "sitecustomize.py").write_text(HIDDEN, "utf-8")
    path = os.pathsep.join((str(folder), str(ROOT)))
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *given],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        check=False,
    )


@pytest.mark.slow
def test_quick_on_a_cpu_with_little_installed(tmp_path: Path) -> None:
    file = tmp_path / "out" / "gpu.json"
    done = run(tmp_path, "--quick", "--device", "cpu", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text("utf-8"))
    assert {"command", "commit", "machine", "rows", "summary"} <= written.keys()
    small, classic = written["rows"]
    assert (small["compile"], classic["documents"]) == (True, True)
    for row in written["rows"]:
        assert "error" not in row
        assert row["said"] == []
        assert 0 < row["loader_share"] < 1
        assert row["tokens_per_second"] > 0
        assert row["utilisation"] > 0
    assert small["compile_seconds"] > 0
    assert written["summary"]["small_tokens_per_second"] == small["tokens_per_second"]
    assert written["summary"]["base_utilisation"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_it_needs(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("this needs a GPU: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_row_that_fails_takes_no_other_along(tmp_path: Path) -> None:
    given = argparse.Namespace(device="cpu", data=None)
    failed = gpu._child(gpu.Case("none of these", False), given, 100)
    assert failed.keys() == {"error"}
    assert 'there is no recipe "none of these"' in failed["error"]
    assert gpu._child(gpu.QUICK[0], given, 1)["error"] == "no time was left"
    assert gpu.summary([{**vars(gpu.CASES[0]), **failed}])["small_utilisation"] is None


@pytest.mark.parametrize("recipe", ["small", "classic-small"])
def test_the_operations_are_those_of_the_products(recipe: str) -> None:
    case = gpu.Case(recipe, compile=False)
    config = gpu.config_of(case)
    vocab_size, rows, length = 1000, 2, config.data.max_length
    objective = build_objective(config, vocab_size, SPECIAL)
    objective.model.use_attention("eager")
    batch = {"input_ids": torch.randint(5, vocab_size, (rows, length))}
    noise = Noise(0)
    prepared, _ = objective.prepare(batch, noise)
    with FlopCounterMode(display=False) as counter:
        losses = objective.forward(prepared, noise).losses
        torch.autograd.backward(list(losses.values()))
    share = rows / config.training.global_batch_size
    found = gpu.step_flops(config, vocab_size, length) * share
    assert found == pytest.approx(counter.get_total_flops(), rel=0.03)
    fewer = gpu.step_flops(config, vocab_size, length / 2) * share
    assert 0.9 * found < fewer < found


def test_the_keys_are_those_of_the_own_document(tmp_path: Path) -> None:
    split = gpu.random_split(tmp_path, 1000, SPECIAL)
    examples = Examples(split, SPECIAL, max_length=64, kind="packed", with_documents=True)
    found = examples.rows(np.arange(1000, dtype=np.uint64))
    begins = np.zeros_like(found["input_ids"])
    begins[:, 2:-1] = found["input_ids"][:, 1:-2] == SPECIAL.sep
    document = begins.cumsum(1)
    seen = (document[:, :, None] == document[:, None, :]).sum(-1)
    assert gpu._keys(examples) == pytest.approx(seen.mean(), rel=0.01)
