"""What holds for every objective: a file, a page, exact resuming, ties in many processes."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from electra.config import PretrainConfig
from electra.config.objective import OBJECTIVES
from electra.objectives.objective import PretrainingObjective, build_objective
from electra.pretrain import pretrain
from electra.training import loop
from electra.training.distributed import World, join_world, leave_world
from electra.training.optimizer import build_optimizer
from electra.training.schedule import Budget, TrainState
from tests.golden.remake import VOCAB, Counting, Rows
from tests.objectives.build import SPECIAL
from tests.shapes import tiny_config
from tests.test_pretrain import StopAt, assert_same_bits, rows_of
from tests.two_processes import in_two_processes

DOCS = Path(__file__).parents[2] / "docs" / "objectives.md"
SAME_SIZE = {"generator_size": 1.0, "generator_layers": None}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_has_a_file_and_a_page(name: str) -> None:
    module = importlib.import_module(f"electra.objectives.{name}")
    assert issubclass(module.OBJECTIVE, PretrainingObjective)
    assert "Cost: " in module.__doc__
    page = DOCS.read_text(encoding="utf-8")
    assert f"\n## {name}\n" in page
    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert "Source: " in section
    assert "Cost: " in section


@pytest.mark.parametrize(
    ("family", "sections"),
    [
        ("classic", {"objective": {"name": "electra_15_percent"}}),
        ("modern", {"objective": {"name": "replace_mlm"}}),
        ("classic", {"objective": {"name": "all_tokens_mlm"}}),
        ("modern", {"objective": {"generator": "unigram", "contrastive_weight": 0.5}}),
        ("modern", {"objective": {"masking": "span"}, "model": {"weight_sharing": "gdes"}}),
        ("classic", {"objective": {"masking": "whole_word"}, "model": {"weight_sharing": "none"}}),
        ("classic", {"model": {"weight_sharing": "all", **SAME_SIZE}}),
        ("modern", {"optimizer": {"generator_learning_rate": 1e-3}}),
        ("classic", {"objective": {"duplicate_positions": True}}),
    ],
)
def test_resumed_equals_undisturbed(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    sections: dict[str, dict[str, Any]],
) -> None:
    model = {"hidden_dropout_prob": 0.1, **sections.get("model", {})}
    training = {"max_steps": 6, "save_steps": 2}
    config = tiny_config(family, **{**sections, "model": model, "training": training})
    pretrain(data=corpus, output=tmp_path / "whole", config=config)
    monkeypatch.setattr(loop, "clip_gradients", StopAt(loop.clip_gradients, 4))
    with pytest.raises(MemoryError):
        pretrain(data=corpus, output=tmp_path / "run", config=config)
    monkeypatch.undo()
    pretrain(data=corpus, output=tmp_path / "run", config=config, resume="auto")
    assert_same_bits(tmp_path / "whole", tmp_path / "run")
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "run")


def shared_config(sharing: str) -> PretrainConfig:
    model = {"weight_sharing": sharing, **(SAME_SIZE if sharing == "all" else {})}
    training = {"max_steps": 3, "global_batch_size": 8, "micro_batch_size": 4}
    return tiny_config("classic", model=model, training=training)


def trained(sharing: str, world: World) -> tuple[PretrainingObjective, list[dict[str, float]]]:
    config = shared_config(sharing)
    torch.manual_seed(0)
    objective = build_objective(config, VOCAB, SPECIAL)
    rows = Rows()
    loop.fit(
        objective,
        optimizer=build_optimizer(objective, config.optimizer),
        source=Counting(),
        state=TrainState(),
        budget=Budget.of(config.training),
        config=config.training,
        optimizer_config=config.optimizer,
        schedule=config.schedule,
        logging=config.logging,
        device=torch.device("cpu"),
        dtype=torch.float32,
        logger=rows,
        world=world,
    )
    return objective, rows.rows


def _rank(rank: int, folder: Path) -> None:
    world = join_world()
    for sharing in ("embeddings", "gdes", "all"):
        objective, rows = trained(sharing, world)
        number = len({id(p) for p in objective.parameters()})
        record = {"weights": objective.state_dict(), "rows": rows, "parameters": number}
        torch.save(record, f"{folder}/{sharing}-{rank}.pt")
    world.wait()
    leave_world(world)


def test_two_processes_share_as_one_does(tmp_path: Path) -> None:
    """Same weights on both ranks as in one process, and as many tensors: ties hold."""
    in_two_processes(_rank, tmp_path)
    for sharing in ("embeddings", "gdes", "all"):
        objective, rows = trained(sharing, World())
        for rank in (0, 1):
            saved = torch.load(tmp_path / f"{sharing}-{rank}.pt", weights_only=True)
            assert saved["parameters"] == len({id(p) for p in objective.parameters()})
            for name, tensor in objective.state_dict().items():
                assert torch.allclose(saved["weights"][name], tensor, atol=1e-5), name
            for one, other in zip(rows, saved["rows"], strict=True):
                assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
