"""Activations computed twice, and micro-batches by the memory there is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers.models.electra.modeling_electra import ElectraIntermediate

from electra.corpus.batches import CorpusSource
from electra.corpus.folder import Corpus
from electra.corpus.streams import examples_of
from electra.corpus.tokenizer import SpecialIds, load_tokenizer, num_ids
from electra.errors import ConfigError
from electra.objectives.objective import build_objective
from electra.pretrain import pretrain
from electra.training import memory
from electra.training.checkpoint import CheckpointStore
from tests.shapes import tiny_config
from tests.test_pretrain import assert_same_bits
from tests.toy_runs import make_home, run

CPU = torch.device("cpu")
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def test_layers_are_computed_again_to_the_same_bits(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"with": 0, "without": 0}
    usual = ElectraIntermediate.forward
    now = "without"

    def counted(self: ElectraIntermediate, *arguments: Any, **options: Any) -> Any:
        calls[now] += self.training
        return usual(self, *arguments, **options)

    monkeypatch.setattr(ElectraIntermediate, "forward", counted)
    pretrain(data=corpus, output=tmp_path / "a", config=tiny_config("classic", model=DROPOUT))
    now = "with"
    config = tiny_config("classic", model=DROPOUT, training={"gradient_checkpointing": True})
    pretrain(data=corpus, output=tmp_path / "b", config=config)
    assert calls["with"] == 2 * calls["without"] > 0
    assert_same_bits(tmp_path / "a", tmp_path / "b")


def rows_at_once(run: Path) -> int:
    """Of the last checkpoint."""
    last = max((run / "checkpoints").iterdir())
    return int(json.loads((last / "state.json").read_text())["environment"]["micro_batch_size"])


def test_auto_is_what_fits_and_stays_so(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, free: int | None = None, **training: Any) -> Path:
        if free is not None:
            training["micro_batch_size"] = "auto"
            monkeypatch.setattr(memory, "free_memory", lambda _: free)
        config = tiny_config("modern", training=training)
        pretrain(data=corpus, output=tmp_path / name, config=config, resume="auto")
        return tmp_path / name

    assert_same_bits(run("whole"), run("roomy", 2**40))
    assert rows_at_once(tmp_path / "roomy") == 8
    assert_same_bits(run("two", micro_batch_size=2), run("tight", 0))
    assert rows_at_once(tmp_path / "tight") == 2
    # interrupted, and resumed where there is more memory
    assert max(CheckpointStore(tmp_path / "tight/checkpoints").steps()) == 8
    resumed = tmp_path / "resumed"
    shutil.copytree(tmp_path / "tight", resumed)
    shutil.rmtree(resumed / "checkpoints/step-00000008")
    (resumed / "report.json").unlink()
    run("resumed", 2**40)
    assert rows_at_once(resumed) == 2
    assert_same_bits(tmp_path / "tight", resumed)


@pytest.mark.slow
def test_more_memory_is_more_rows_and_nothing_is_left_behind(corpus: Path) -> None:
    config = tiny_config("modern", objective={"warm_start": 0.4})
    opened, tokenizer = Corpus(corpus), load_tokenizer(corpus)
    special = SpecialIds.of(tokenizer)
    objective = build_objective(config, num_ids(tokenizer), special)
    source = CorpusSource(examples_of(opened, "train", config, special), seed=0)
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    random_state = torch.get_rng_state()

    def fits(available: int, share: int = 24) -> int:
        return memory.fitting_micro_batch(
            objective,
            source,
            share,
            seed=0,
            device=CPU,
            dtype=torch.float32,
            available=available,
        )

    found = [fits(int(2**power)) for power in range(16, 27)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (2, 24)
    assert {2, 24} < set(found) <= {2, 3, 4, 6, 8, 12, 24}
    assert [fits(2**40, share) for share in (1, 2, 3, 7)] == [1, 2, 3, 7]
    # twice the rows need twice the memory, near enough
    enough = {rows: next(n for n in range(0, 2**26, 2**14) if fits(n) >= rows) for rows in (6, 12)}
    weights = 3 * 4 * sum(p.numel() for p in objective.parameters()) / 0.8
    assert (enough[12] - weights) / (enough[6] - weights) == pytest.approx(2, rel=0.2)
    assert all(torch.equal(before[name], t) for name, t in objective.state_dict().items())
    assert all(p.grad is None for p in objective.parameters())
    assert torch.equal(random_state, torch.get_rng_state())


def test_what_the_machine_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    machine = memory.free_memory(CPU)
    assert machine > 2**20
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory(CPU) > 2**20
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("4000000\n")
    assert memory.free_memory(CPU) == 1_000_000


def test_what_auto_cannot_try(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"auto tries batches, which --objective.replacements"):
        tiny_config(
            "modern",
            objective={
                "name": "fast_electra",
                "generator_folder": str(tmp_path),
                "replacements": str(tmp_path),
            },
            training={"micro_batch_size": "auto"},
        )
    with pytest.raises(ConfigError, match=r"it must be a whole number or auto$"):
        tiny_config("modern", training={"micro_batch_size": "all"})


def test_fine_tuning_within_the_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda _: 0)
    few = {"max_steps": 4, "global_batch_size": 16}
    run(home, home / "two", few | {"micro_batch_size": 2})
    run(home, home / "auto", few | {"micro_batch_size": "auto", "gradient_checkpointing": True})
    assert rows_at_once(home / "auto") == 2
    one, other = (load_file(home / name / "model.safetensors") for name in ("two", "auto"))
    assert all(torch.equal(one[name], other[name]) for name in one)
