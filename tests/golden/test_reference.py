"""The classic family against values of google-research/electra (README.md beside this file).

`benchmarks/golden.py` compares; these tests hold it to its tolerances, and show that it would fail.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.golden import SPECIAL, Golden, forward_deviations, main, step_deviations
from electra.model.pretraining_model import PretrainingModel
from electra.model.reference_names import reference_name

HERE = Path(__file__).parent
FILES = ("batch", "initial_weights", "forward", "weights_after_6_steps")


@pytest.fixture
def altered(tmp_path: Path) -> Path:
    """A copy of the golden folder that a test may change."""
    for name in FILES:
        shutil.copy(HERE / f"{name}.npz", tmp_path)
    shutil.copy(HERE / "steps.json", tmp_path)
    return tmp_path


def test_forward() -> None:
    found = forward_deviations(Golden(HERE))
    assert len(found) == 9
    assert [d for d in found if not d.within] == []


def test_six_steps() -> None:
    found = step_deviations(Golden(HERE))
    assert [d.quantity for d in found][-1] == "weights after 6 steps"
    assert [d for d in found if not d.within] == []


def change(folder: Path, file: str, name: str, by: float) -> None:
    with np.load(folder / f"{file}.npz") as opened:
        arrays = dict(opened)
    arrays[name] = arrays[name] + np.asarray(by, dtype=arrays[name].dtype)
    np.savez(folder / f"{file}.npz", **arrays)


def test_a_deviation_is_seen(altered: Path) -> None:
    change(altered, "initial_weights", "electra/encoder/layer_1/output/LayerNorm/beta", 1e-3)
    beyond = {d.quantity for d in forward_deviations(Golden(altered)) if not d.within}
    assert "disc_hidden" in beyond
    assert "gen_logits" not in beyond  # the generator's layers are its own


@pytest.mark.parametrize(
    ("key", "value", "beyond"),
    [
        ("first_update_uses_schedule_index", 0, "lr of 6 steps"),
        ("adam_epsilon", 1e-3, "weights after 6 steps"),
        ("weight_decay", 0.1, "weights after 6 steps"),
        ("clip_norm", 200.0, "weights after 6 steps"),
        ("discriminator_weight", 20.0, "total_loss of 6 steps"),
    ],
)
def test_every_part_of_the_recipe_matters(
    altered: Path, key: str, value: float, beyond: str
) -> None:
    record = json.loads((altered / "steps.json").read_text())
    record["config"][key] = value
    (altered / "steps.json").write_text(json.dumps(record))
    assert beyond in {d.quantity for d in step_deviations(Golden(altered)) if not d.within}


def test_the_command_exits_with_1_beyond_tolerance(altered: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.golden", "--golden", str(altered)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    change(altered, "forward", "disc_loss", 1e-3)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "beyond tolerance: disc_loss" in done.stderr


def _without(altered: Path, name: str, key: str) -> None:
    if name == "steps":
        record = json.loads((altered / "steps.json").read_text())
        del (record["steps"][1] if key == "grad_norm" else record["config"])[key]
        (altered / "steps.json").write_text(json.dumps(record))
        return
    with np.load(altered / f"{name}.npz") as file:
        kept = {k: file[k] for k in file if k != key}
    np.savez(altered / f"{name}.npz", **kept)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("steps", "hidden_size"),
        ("steps", "grad_norm"),
        ("batch", "masked_positions"),
        ("forward", "gen_logits"),
        ("initial_weights", "generator_predictions/output_bias"),
        ("weights_after_6_steps", "generator_predictions/output_bias"),
    ],
)
def test_what_a_folder_lacks_is_named(
    altered: Path, name: str, key: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _without(altered, name, key)
    file = altered / ("steps.json" if name == "steps" else f"{name}.npz")
    monkeypatch.setattr(sys, "argv", ["golden", "--golden", str(altered)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f'golden: {file} lacks "{key}"; tests/golden/READ')


def test_a_folder_that_cannot_be_read(
    altered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fails(folder: Path, message: str) -> None:
        monkeypatch.setattr(sys, "argv", ["golden", "--golden", str(folder)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert shown.count("\n") == 1

    fails(tmp_path / "gone", "gone holds no steps.json")
    (altered / "forward.npz").write_bytes(b"PK\x03\x04")
    fails(altered, "forward.npz cannot be read: ")
    (altered / "forward.npz").unlink()
    fails(altered, "forward.npz cannot be read: ")
    (altered / "steps.json").write_text("{")
    fails(altered, "steps.json cannot be read: ")


@pytest.mark.parametrize(("embedding_size", "generator_size"), [(64, 64), (32, 128), (128, 64)])
def test_folders_of_other_sizes(tmp_path: Path, embedding_size: int, generator_size: int) -> None:
    """E = H of either network, and a generator of the discriminator's width.

    The values are our own, so this holds the reading of such folders, not the numbers in them.
    """
    sizes = {
        "vocab_size": 90,
        "sequence_length": 16,
        "batch_size": 4,
        "hidden_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 512,
        "embedding_size": embedding_size,
        "generator_hidden_size": generator_size,
        "max_position_embeddings": 16,
    }
    record = json.loads((HERE / "steps.json").read_text())
    record["config"] |= sizes
    record["steps"] = record["steps"][:3]
    (tmp_path / "steps.json").write_text(json.dumps(record))
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(5, 90, (4, 16), generator=generator)
    batch = {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "token_type_ids": torch.zeros_like(input_ids),
        "masked_positions": torch.tensor([[3, 7, 0]] * 4),
        "masked_weights": torch.tensor([[1.0, 1.0, 0.0]] * 4),
        "replaced_by_mask_token": torch.tensor([[1, 0, 0]] * 4),
    }
    np.savez(tmp_path / "batch.npz", **{name: t.numpy() for name, t in batch.items()})
    golden = Golden(tmp_path)
    torch.manual_seed(0)
    model = PretrainingModel(golden.config().model, vocab_size=90, special=SPECIAL)
    weights = {}
    for name, parameter in model.named_parameters():
        theirs, transposed = reference_name(name)
        value = parameter.detach().numpy()
        weights[theirs] = value.T if transposed else value
    assert ("electra/embeddings_project/kernel" in weights) == (embedding_size != 128)
    assert ("generator/embeddings_project/kernel" in weights) == (embedding_size != generator_size)
    np.savez(tmp_path / "initial_weights.npz", **weights)
    objective = golden.objective()
    for name, parameter in objective.model.named_parameters():
        assert torch.equal(parameter, dict(model.named_parameters())[name]), name
