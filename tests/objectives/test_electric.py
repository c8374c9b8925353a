"""Electric: towers blind to what they predict, the paper's loss, an energy that learns."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForPreTraining,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from electra.config import ObjectiveConfig
from electra.errors import CheckpointError, ConfigError
from electra.evaluation.token_scores import TextScorer
from electra.model.two_tower import TwoTower
from electra.objectives.electric import Electric, noise_logit
from electra.objectives.objective import PretrainingObjective, build_objective
from electra.pretrain import pretrain
from electra.training.checkpoint import module_tensors
from electra.training.loop import Batch
from tests.objectives.build import SPECIAL, make, noise, padded_batch
from tests.shapes import tiny_config

FAMILIES = ("classic", "modern")
NAME = {"name": "electric", "discriminator_weight": 10.0}


def electric(family: str, **sections: object) -> PretrainingObjective:
    return make(family, objective=NAME | {"mask_prob": 0.3}, **sections)


def shaken(objective: PretrainingObjective) -> PretrainingObjective:
    """Weights large enough for every token to matter."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return objective


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_no_tower_sees_the_token_it_predicts(family: str, kernel: str) -> None:
    towers = shaken(electric(family)).model.two_tower
    towers.use_attention(kernel)
    batch = padded_batch()
    before = towers.logits(towers(batch["input_ids"], batch))  # (B, L, V)
    for row, length in enumerate((14, 9, 5)):
        for place in range(length):
            ids = batch["input_ids"].clone()
            ids[row, place] = 7 if ids[row, place] != 7 else 8
            after = towers.logits(towers(ids, batch))
            moved = (after - before).abs().amax(-1)[row, :length]
            assert moved[place] == 0
            assert (moved[torch.arange(length) != place] > 1e-5).all()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_padding_does_not_matter_to_the_towers(family: str) -> None:
    towers = shaken(electric(family)).model.two_tower
    batch = padded_batch()
    wide = towers.log_probabilities(batch["input_ids"], batch)
    for row, length in enumerate((14, 9, 5)):
        alone = towers.log_probabilities(batch["input_ids"][row : row + 1, :length], {})
        assert torch.allclose(wide[row, :length], alone[0], atol=1e-4)


def plain_losses(objective: PretrainingObjective, batch: Batch) -> tuple[float, float]:
    """Both losses with loops over Python numbers, from the paper's quotients."""
    draws = noise()
    prepared, _ = objective.prepare(batch, draws)
    towers, ids = objective.model.two_tower, batch["input_ids"]
    log_q = towers.logits(towers(ids, batch)).log_softmax(-1).tolist()  # of the original text
    positions = prepared["masked_positions"]
    uniform = draws.uniform(positions.shape).tolist()
    chosen: list[dict[int, int]] = []
    noised = ids.clone()
    for row, places in enumerate(positions.tolist()):
        drawn = {}
        for slot, place in enumerate(places):
            if prepared["masked_weights"][row, slot]:
                cumulated, token = 0.0, -1
                while cumulated <= uniform[row][slot]:
                    token += 1
                    cumulated += math.exp(log_q[row][place][token])
                drawn[place] = token
                noised[row, place] = token
        chosen.append(drawn)
    energies = objective.model.replaced_logits(objective.model.encoder_hidden(noised, batch))
    noise_loss = energy_loss = 0.0
    for row, tokens in enumerate(ids.tolist()):
        places = [
            place
            for place, token in enumerate(tokens)
            if batch["attention_mask"][row, place] and token not in (0, 2, 3, 4)
        ]
        n, k = len(places), len(chosen[row])
        for place in places:
            noise_loss -= log_q[row][place][tokens[place]]
            p = math.exp(-energies[row, place])
            q = math.exp(log_q[row][place][int(noised[row, place])])
            part = k * q if place in chosen[row] else (n - k) * p
            energy_loss -= math.log(part / ((n - k) * p + k * q))
    return noise_loss, energy_loss


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_parity_with_loops(family: str) -> None:
    objective, batch = shaken(electric(family)), padded_batch()
    noise_loss, energy_loss = plain_losses(objective, batch)
    drawn = noise()
    prepared, counts = objective.prepare(batch, drawn)
    output = objective.forward(prepared, drawn)
    assert math.isclose(float(output.losses["generator_loss"]), noise_loss, rel_tol=1e-4)
    assert math.isclose(float(output.losses["discriminator_loss"]), energy_loss, rel_tol=1e-4)
    assert set(map(int, counts.values())) == {14 + 9 + 5 - 6}


def test_the_loss_is_least_where_the_energy_is_minus_log_p() -> None:
    """Gutmann and Hyvärinen 2010, theorem 1, for one context and any noise."""
    torch.manual_seed(2)
    p, q = torch.rand(6).softmax(0).double(), (3 * torch.rand(6)).softmax(0).double()
    k, n = torch.tensor([3]), torch.tensor([20])

    def gradient(energies: Tensor) -> Tensor:
        energies = energies.clone().requires_grad_()
        logits = noise_logit(energies.unsqueeze(0), q.log().unsqueeze(0), k, n)[0]
        data = (n - k) * p * torch.nn.functional.softplus(logits)
        drawn = k * q * torch.nn.functional.softplus(-logits)
        (found,) = torch.autograd.grad((data + drawn).sum(), energies)
        return found

    assert gradient(-p.log()).abs().max() < 1e-7
    assert gradient(-p.log() + 0.1).abs().min() > 1e-3  # self-normalised: no constant is free


@torch.no_grad()
def test_a_draw_equal_to_the_original_is_noise() -> None:
    objective, batch = electric("modern"), padded_batch()
    assert isinstance(objective, Electric)
    with torch.no_grad():  # the towers always draw token 9, and all text is 9
        objective.model.two_tower.bias[9] = 1e4
    batch["input_ids"] = torch.where(batch["input_ids"] > 4, 9, batch["input_ids"])
    drawn = noise()
    prepared, _ = objective.prepare(batch, drawn)
    found = objective.contrast(prepared, drawn)
    assert not found.is_replaced.any()
    assert int(found.is_noise.sum()) == int(prepared["masked_weights"].sum()) > 0


@torch.no_grad()
def test_rows_without_targets_are_no_infinities() -> None:
    objective = electric("modern")
    ids = torch.tensor([[2, 3, 0, 0], [2, 7, 3, 0]])  # none, and one that is always noise
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    drawn = noise()
    prepared, counts = objective.prepare(batch, drawn)
    assert int(counts["discriminator_loss"]) == 1
    output = objective.forward(prepared, drawn)
    assert all(torch.isfinite(loss) for loss in output.losses.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_energy_loss_leaves_the_towers_alone(family: str) -> None:
    objective = shaken(electric(family))
    drawn = noise()
    prepared, _ = objective.prepare(padded_batch(), drawn)
    objective.forward(prepared, drawn).losses["discriminator_loss"].backward()
    moved = {n for n, p in objective.named_parameters() if p.grad is not None and p.grad.any()}
    assert not {n for n in moved if n.startswith("model.two_tower")}
    assert any("embeddings" in n for n in moved)


@pytest.mark.parametrize("sharing", ["embeddings", "gdes", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_towers_and_encoder_share(family: str, sharing: str) -> None:
    model = electric(family, model={"weight_sharing": sharing}).model
    towers, encoder = model.two_tower, model.encoder
    assert towers.left.embeddings is towers.right.embeddings
    assert (towers.embeddings is encoder.embeddings) == (sharing == "embeddings")
    left = {id(p) for p in towers.left.parameters()}
    both = left & {id(p) for p in towers.right.parameters()}
    assert both == {id(p) for p in towers.embeddings.parameters()}
    own = set(model.generator_names())
    assert any(name.startswith("two_tower.right") for name in own)
    assert any(".embeddings." in name for name in own) == (sharing != "embeddings")


def test_one_network_cannot_be_two_towers() -> None:
    same = {"generator_layers": None, "generator_size": 1.0, "weight_sharing": "all"}
    with pytest.raises(ConfigError, match="weight-sharing all does not apply to electric"):
        tiny_config("modern", model=same, objective=NAME)


# two topics; given the topic, tokens are independent, so the rest of a text gives it away
TOPICS = torch.tensor([[0.60, 0.25, 0.10, 0.05], [0.05, 0.10, 0.25, 0.60]])


def speak(rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Topics (B,) and texts of 18 tokens between [CLS] and [SEP], (B, 20)."""
    topic = torch.randint(0, 2, (rows,), generator=generator)
    ids = torch.multinomial(TOPICS[topic], 18, replacement=True, generator=generator) + 5
    ends = [torch.full((rows, 1), i) for i in (SPECIAL.cls, SPECIAL.sep)]
    return topic, torch.cat([ends[0], ids, ends[1]], 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_energy_learns_the_true_conditional(family: str) -> None:
    """-E is log p within a tenth of a nat, and so sums to 1, though no softmax makes it."""
    torch.manual_seed(0)
    objective = build_objective(tiny_config(family, objective=NAME), 9, SPECIAL).train()
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.ndim == 2 and family == "classic":  # 0.02 is slow in so narrow a network
                parameter.normal_(0, 0.15)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=5e-3)
    data, steps = torch.Generator().manual_seed(3), 240
    for step in range(steps):
        drawn = noise(step)
        prepared, counts = objective.prepare({"input_ids": speak(64, data)[1]}, drawn)
        losses = objective.forward(prepared, drawn).losses
        weights = objective.loss_weights
        optimizer.zero_grad()
        torch.stack(
            [weights[name] * losses[name] / counts[name] for name in losses]
        ).sum().backward()
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1.0, (step + 1) / 30, 2 * (1 - step / steps))
        optimizer.step()
    objective.eval()
    topic, text = speak(200, data)
    found = []
    with torch.no_grad():
        for token in range(4):
            text[:, 5] = token + 5
            hidden = objective.model.encoder_hidden(text, {})
            found.append(-objective.model.replaced_logits(hidden)[:, 5])
    log_p = torch.stack(found, 1)  # (200, 4)
    true = TOPICS[topic].log()
    assert torch.corrcoef(torch.stack([true.flatten(), log_p.flatten()]))[0, 1] > 0.95
    assert (log_p - true).abs().mean() < 0.15
    assert 0.9 < log_p.exp().sum(1).mean() < 1.1


@pytest.mark.parametrize("family", FAMILIES)
def test_towers_come_back_from_their_files(family: str, tmp_path: Path) -> None:
    objective, batch = shaken(electric(family)), padded_batch()
    towers = objective.model.two_tower
    objective.save_extra(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"two_tower.safetensors", "two_tower.json"}
    again = TwoTower.load(tmp_path)
    with torch.no_grad():
        expected = towers.log_probabilities(batch["input_ids"], batch)
        found = again.log_probabilities(batch["input_ids"], batch)
    assert torch.allclose(found, expected, atol=1e-5)
    settings = json.loads((tmp_path / "two_tower.json").read_text("utf-8"))
    settings["format"] = "another"
    (tmp_path / "two_tower.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="its format is another, not electra two_tower 1"):
        TwoTower.load(tmp_path)
    with pytest.raises(CheckpointError, match="nowhere holds no two-tower cloze model"):
        TwoTower.load(tmp_path / "nowhere")


def test_checkpoints_hold_a_shared_table_once() -> None:
    objective = electric("modern")
    names = [n for n in module_tensors(objective) if n.endswith("tok_embeddings.weight")]
    assert len(names) == 1


@pytest.mark.parametrize("sharing", ["embeddings", "gdes"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_run(family: str, sharing: str, corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(family, model={"weight_sharing": sharing}, objective=NAME)
    run = tmp_path / "run"
    report = pretrain(data=corpus, output=run, config=config)
    assert {"generator_loss", "discriminator_loss", "pseudo_log_likelihood"} <= set(
        report["metrics"]
    )
    assert report["parameters"]["two_tower"] > 0
    parts = {p.name for p in run.iterdir() if p.is_dir()}
    assert parts == {"encoder", "discriminator", "extra", "checkpoints"}
    assert TwoTower.load(run / "extra").left.config.hidden_size in (16, 32)
    saved = AutoConfig.from_pretrained(run / "discriminator")
    assert saved.electra_logit == "energy"
    assert not hasattr(AutoConfig.from_pretrained(run / "encoder"), "electra_logit")
    auto = AutoModelForPreTraining if family == "classic" else AutoModelForTokenClassification
    auto.from_pretrained(run / "discriminator")
    card = (run / "discriminator" / "README.md").read_text("utf-8")
    assert "not a probability of being replaced" in card
    check_scores(run, family)


def check_scores(run: Path, family: str) -> None:
    """One pass over a text gives minus the energies of the network that was trained."""
    scorer = TextScorer.open(run, device="cpu")
    assert scorer.method == "electric"
    text = "the cat sees the house slowly"
    ids = AutoTokenizer.from_pretrained(run / "discriminator")(text, return_tensors="pt")
    auto = AutoModelForPreTraining if family == "classic" else AutoModelForTokenClassification
    network: Any = auto.from_pretrained(run / "discriminator").eval()
    with torch.no_grad():
        logits = network(input_ids=ids["input_ids"]).logits[0]
    energies = logits if family == "classic" else logits[:, 1]  # the other column is 0
    found = scorer.score([text])[0]
    assert found.token_scores == pytest.approx((-energies[1:-1]).tolist(), abs=1e-5)
    assert found.total == pytest.approx(-float(energies[1:-1].sum()), abs=1e-4)
    with pytest.raises(ConfigError, match="its logits are energies; give --method electric"):
        TextScorer.open(run, method="discriminator", device="cpu")


def test_what_it_takes() -> None:
    with pytest.raises(ConfigError, match=r"temperature 2\.0 does not apply to electric"):
        ObjectiveConfig(name="electric", temperature=2.0)


def test_an_energy_is_not_continued_as_a_probability(corpus: Path, tmp_path: Path) -> None:
    """Nor the other way round: the head is fresh then, and that is said."""
    runs = {"electric": tiny_config("modern", objective=NAME), "rtd": tiny_config("modern")}
    for name, config in runs.items():
        pretrain(data=corpus, output=tmp_path / name, config=config)
    for first, then in (("electric", "rtd"), ("rtd", "electric")):
        shown = io.StringIO()
        model = {"discriminator": str(tmp_path / first / "discriminator")}
        config = tiny_config("modern", model=model, objective={"name": runs[then].objective.name})
        run = tmp_path / f"{first}-{then}"
        console = Console(file=shown, width=400)
        pretrain(data=corpus, output=run, config=config, console=console)
        assert "head for replaced tokens" in shown.getvalue()
        assert ("two towers that make the noise are fresh" in shown.getvalue()) == (
            then == "electric"
        )
        saved = AutoConfig.from_pretrained(run / "discriminator")
        assert hasattr(saved, "electra_logit") == (then == "electric")
        assert TextScorer.open(run, device="cpu").method == (
            "electric" if then == "electric" else "discriminator"
        )
