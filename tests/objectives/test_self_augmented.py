"""What an example is corrupted with is what was drawn at its last visit, in one pass."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from electra.config import PrepareSettings
from electra.errors import ConfigError
from electra.objectives import self_augmented
from electra.objectives.objective import RunFacts
from electra.objectives.self_augmented import Replacements, SelfAugmented
from electra.prepare import prepare
from electra.pretrain import pretrain
from electra.training.loggers import read_metrics
from electra.training.loop import Batch
from tests.conftest import make_text
from tests.objectives.build import VOCAB, make, noise, padded_batch
from tests.shapes import tiny_config
from tests.test_pretrain import StopAt

NAME = {"name": "self_augmented"}


def facts(lines: list[str] | None = None, *, max_length: int = 14, **changes: Any) -> RunFacts:
    config = tiny_config("modern", objective=NAME, data={"max_length": max_length})
    told = [] if lines is None else lines
    run = RunFacts(config, None, "", told.append, num_examples=10)  # type: ignore[arg-type]
    return dataclasses.replace(run, **changes)


def augmented(family: str = "modern", **sections: Any) -> SelfAugmented:
    objective = {**NAME, "mask_prob": 0.3, **sections.pop("objective", {})}
    found = make(family, counts=torch.arange(VOCAB), objective=objective, **sections)
    assert isinstance(found, SelfAugmented)
    found.begin_run(facts())
    return found


def visited_batch() -> Batch:
    return {**padded_batch(), "example_ids": torch.tensor([7, 2, 4])}


def used(batch: Batch, name: str = "masked") -> list[set[int]]:
    """The chosen positions of each row."""
    pairs = zip(batch[f"{name}_positions"], batch[f"{name}_weights"], strict=True)
    return [set(p[w > 0].tolist()) for p, w in pairs]


def visit(objective: SelfAugmented, seed: int) -> tuple[Batch, Tensor]:
    """One step's forward pass; the batch and what was drawn in it."""
    drawn: list[Tensor] = []
    draw = objective.draw

    def listening(*args: Any) -> Tensor:
        drawn.append(draw(*args))
        return drawn[-1]

    objective.draw = listening  # type: ignore[method-assign]
    draws = noise(seed)
    batch, _ = objective.prepare(visited_batch(), draws)
    objective.forward(batch, draws)
    objective.draw = draw  # type: ignore[method-assign]
    assert len(drawn) == 1
    return batch, drawn[0]


@pytest.mark.parametrize("family", ["modern", "classic"])
def test_a_visit_reads_what_the_last_one_drew(family: str) -> None:
    objective = augmented(family)
    batch, drawn = visit(objective, 0)
    for seed in range(1, 4):
        following, following_drawn = visit(objective, seed)
        assert used(following) == used(batch, "next")
        assert any(a != b for a, b in zip(used(following), used(batch), strict=True))
        expected = batch["input_ids"].clone()
        for row in range(3):
            for slot, position in enumerate(batch["next_positions"][row].tolist()):
                if batch["next_weights"][row, slot]:
                    expected[row, position] = drawn[row, slot]
        assert torch.equal(following["corrupted_input_ids"], expected)
        assert torch.equal(following["is_replaced"], expected != batch["input_ids"])
        assert not torch.equal(following_drawn, drawn)
        batch, drawn = following, following_drawn


def test_the_first_visit_is_drawn_by_frequency() -> None:
    objective = augmented(objective={"mask_prob": 0.5})
    found = torch.zeros(VOCAB)
    for seed in range(600):
        batch, _ = objective.prepare(visited_batch(), noise(seed))
        inside = batch["corrupted_input_ids"].gather(1, batch["masked_positions"])
        found += torch.bincount(inside[batch["masked_weights"] > 0], minlength=VOCAB)
    expected = torch.arange(VOCAB).float()
    expected[[0, 2, 3, 4]] = 0
    expected *= found.sum() / expected.sum()
    assert found[[0, 2, 3, 4]].sum() == 0
    usual = expected > 0
    chi_squared = ((found - expected)[usual] ** 2 / expected[usual]).sum()
    assert chi_squared < 85  # 45 degrees of freedom: above once in 5,000


def test_losses_by_hand_from_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("classic", "modern"):
        objective = augmented(family)
        model = objective.model
        visit(objective, 0)
        draws = noise(1)
        batch, counts = objective.prepare(visited_batch(), draws)
        calls: list[Tensor] = []
        real = model.encoder_hidden

        def counted(
            ids: Tensor, context: Batch, calls: list[Tensor] = calls, real: Any = real
        ) -> Tensor:
            calls.append(ids)
            hidden: Tensor = real(ids, context)
            return hidden

        monkeypatch.setattr(model, "encoder_hidden", counted)
        losses = objective.forward(batch, draws).losses
        assert len(calls) == 1
        assert torch.equal(calls[0], batch["corrupted_input_ids"])
        hidden = real(batch["corrupted_input_ids"], batch)
        scores = model.replaced_logits(hidden)
        judged = guessed = 0.0
        targets = 0
        for row, chosen in enumerate(used(batch)):
            for position in range(14):
                if batch["attention_mask"][row, position]:
                    sign = 1.0 if batch["is_replaced"][row, position] else -1.0
                    judged -= torch.nn.functional.logsigmoid(sign * scores[row, position]).item()
            logits = model.encoder_token_logits(hidden[row])
            for position in chosen:
                targets += 1
                original = int(batch["input_ids"][row, position])
                guessed -= logits[position].log_softmax(-1)[original].item()
        assert losses["discriminator_loss"].item() == pytest.approx(judged, rel=1e-5)
        assert losses["encoder_mlm_loss"].item() == pytest.approx(guessed, rel=1e-5)
        assert counts["encoder_mlm_loss"] == targets
        assert counts["discriminator_loss"] == batch["attention_mask"].sum()
        assert objective.loss_weights == {"encoder_mlm_loss": 1.0, "discriminator_loss": 10.0}


def test_the_store_keeps_every_number_and_the_later_of_two_rows() -> None:
    for length, vocab in ((256, 200), (300, 65_536), (70_000, 300_000)):
        store = Replacements(6, 4, max_length=length, vocab_size=vocab)
        positions = torch.tensor([[1, 2, length - 1, 0]]) + torch.tensor([[0], [0], [0]])
        tokens = torch.tensor([[0, 1, vocab - 1, 5], [6, 7, 8, 9], [vocab // 2, 3, 2, 1]])
        store.write(torch.tensor([3, 5, 3]), positions, tokens)
        found, words = store.read(torch.tensor([5, 3, 0]))
        assert torch.equal(found, torch.stack([positions[1], positions[2], positions[0] * 0]))
        assert torch.equal(words, torch.stack([tokens[1], tokens[2], tokens[0] * 0]))
    small = Replacements(6, 4, max_length=128, vocab_size=30_522)
    assert (small.positions.dtype, small.token_ids.dtype) == (torch.uint8, torch.int16)


def test_held_out_text_leaves_the_store_alone() -> None:
    objective = augmented()
    visit(objective, 0)
    before = {name: t.clone() for name, t in objective.state_dict().items()}
    output = objective.probe(padded_batch(), noise(3))  # without example_ids
    assert {"encoder_mlm_loss", "discriminator_loss"} <= output.means.keys()
    assert output.is_replaced is not None
    assert output.is_replaced.any()
    assert all(torch.equal(before[name], t) for name, t in objective.state_dict().items())


def test_what_is_refused_and_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = augmented()
    lines: list[str] = []
    objective.begin_run(facts(lines, num_examples=1_000_000, max_length=16))
    # 4 slots of one byte for the position and one for the token, of 50
    assert lines == [
        "replacements for 1,000,000 examples take 8.0 MB of memory and of every checkpoint"
    ]
    with pytest.raises(ConfigError, match=r"runs in one process, not 2: .* start without torchrun"):
        objective.begin_run(facts(world_size=2))
    with pytest.raises(ConfigError, match=r"7\.5 GiB of replacements .* allowed: 4 GiB: lower"):
        objective.begin_run(facts(num_examples=10**9, max_length=16))
    monkeypatch.setattr(self_augmented, "LARGEST_STORE", 10)
    with pytest.raises(ConfigError, match="prepare less text"):
        objective.begin_run(facts())
    for given in ({"mask_token_prob": 1.0}, {"encoder_mlm_weight": 1.0}, {"generator": "unigram"}):
        with pytest.raises(ConfigError, match="does not apply to self_augmented; it takes: mask"):
            tiny_config("modern", objective={**NAME, **given})


def test_replacements_get_as_good_as_the_language_allows() -> None:
    """Eight classes in a fixed order, four tokens each alike: the original is one of four.

    So the head should draw the right class always and the original in a quarter of the cases.
    Fewer, were it taught that what it reads is never right (as it is where samples that equal the
    original are left out of its loss); more, were it to repeat what it reads.
    """
    objective = augmented(
        model={"initialization": "scaled", "hidden_size": 64},
        objective={"mask_prob": 0.2, "discriminator_weight": 1.0},
    )
    rows = 3200  # too many to be learned by heart
    objective.begin_run(facts(num_examples=rows))
    coins = torch.Generator().manual_seed(1)
    classes = (torch.randint(8, (rows, 1), generator=coins) + torch.arange(14)) % 8
    texts = 5 + 4 * classes + torch.randint(4, (rows, 14), generator=coins)
    texts[:, 0], texts[:, -1] = 2, 3
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    originals, right_classes = [], []
    for step in range(650):
        draws = noise(step)
        ids = torch.randint(rows, (32,), generator=coins)
        batch, counts = objective.prepare({"input_ids": texts[ids], "example_ids": ids}, draws)
        output = objective.forward(batch, draws)
        loss = sum(output.losses[name] / counts[name] for name in counts)
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        same, total = output.metrics["sampled_original_share"]
        originals.append(same.item() / float(total))
        positions, drawn = objective.replacements.read(ids)
        right = (drawn - 5) // 4 == classes[ids].gather(1, positions)
        right_classes.append(right[positions > 0].float().mean().item())
    assert sum(originals[:20]) / 20 < 0.08
    assert 0.2 < sum(originals[-150:]) / 150 < 0.3
    assert sum(right_classes[-150:]) / 150 > 0.9


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few enough examples for several visits in a few steps."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "text.txt").write_text(make_text(25), encoding="utf-8")
    settings = PrepareSettings(vocab_size=120, validation_share=0.2)
    prepare([folder / "text.txt"], output=folder / "corpus", settings=settings)
    return folder / "corpus"


@pytest.mark.parametrize("family", ["modern", "classic"])
def test_a_resumed_run_has_the_same_replacements(
    small_corpus: Path, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        family,
        model={"hidden_dropout_prob": 0.1},
        objective={**NAME, "masking": "whole_word"},
        training={"max_steps": 18, "global_batch_size": 32, "save_steps": 4, "eval_steps": 9},
    )
    with (tmp_path / "said.txt").open("w") as said:
        console = Console(file=said, width=200)
        report = pretrain(
            data=small_corpus, output=tmp_path / "whole", config=config, console=console
        )
    assert "MB of memory and of every checkpoint" in (tmp_path / "said.txt").read_text()
    assert report["epochs"] > 2
    assert 0 <= report["metrics"]["sampled_original_share"] <= 1
    assert 0 < report["metrics"]["discriminator_auc"] < 1
    assert {p.name for p in (tmp_path / "whole").iterdir()} >= {"encoder", "discriminator"}
    assert not (tmp_path / "whole" / "masked_lm").exists()
    from electra.training import loop

    monkeypatch.setattr(loop, "clip_gradients", StopAt(loop.clip_gradients, 15))
    with pytest.raises(MemoryError):
        pretrain(data=small_corpus, output=tmp_path / "run", config=config)
    monkeypatch.undo()
    pretrain(data=small_corpus, output=tmp_path / "run", config=config, resume="auto")
    whole, run = (
        load_file(tmp_path / name / "checkpoints" / "step-00000018" / "model.safetensors")
        for name in ("whole", "run")
    )
    assert whole.keys() == run.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, run[name]), name
    assert (whole["replacements.positions"] > 0).any(1).all()  # all were visited
    losses = [
        [row.get("loss") for row in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "run")
    ]
    assert losses[0] == losses[1]
