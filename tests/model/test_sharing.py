"""Ways of sharing between generator and discriminator."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForMaskedLM

from electra.errors import ConfigError
from electra.model.sharing import disentangled
from electra.training.checkpoint import module_tensors
from electra.training.optimizer import build_optimizer
from tests.objectives.build import make, noise, padded_batch
from tests.shapes import tiny_config

FAMILIES = ("classic", "modern")
SAME_SIZE = {"generator_size": 1.0, "generator_layers": None}


def gradients(objective: torch.nn.Module, loss: str) -> dict[str, Tensor]:
    objective.zero_grad()
    generator = noise()
    batch, _ = objective.prepare(padded_batch(), generator)  # type: ignore[operator]
    objective(batch, generator).losses[loss].backward()
    return {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_shared(family: str) -> None:
    model = make(family, model={"weight_sharing": "none"}).model
    own = {id(p) for p in model.discriminator.parameters()}
    assert not own & {id(p) for p in model.generator.parameters()}
    generator = model.generator
    assert generator.get_output_embeddings().weight is generator.get_input_embeddings().weight


@pytest.mark.parametrize("family", FAMILIES)
def test_one_network_with_two_heads(family: str) -> None:
    objective = make(family, model={"weight_sharing": "all", **SAME_SIZE})
    model = objective.model
    assert model.generator.base_model is model.encoder
    with pytest.raises(ConfigError, match="makes one network of both"):
        tiny_config(family, model={"weight_sharing": "all", "generator_layers": 1})
    for loss in ("generator_loss", "discriminator_loss"):
        assert any("layers.0" in n or "layer.0" in n for n in gradients(objective, loss))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_disentangled(family: str) -> None:
    """The generator's loss moves the tables, the discriminator's loss the differences alone."""
    objective = make(family, model={"weight_sharing": "gdes"})
    tables = {"classic": 2, "modern": 1}[family]
    assert len(disentangled(objective.model.encoder)) == tables
    from_generator = gradients(objective, "generator_loss")
    from_discriminator = gradients(objective, "discriminator_loss")
    assert not any(n.endswith("delta") for n in from_generator)
    assert sum(n.endswith("base") for n in from_generator) == tables
    assert sum(n.endswith("delta") for n in from_discriminator) == tables
    assert not any(n.endswith("base") for n in from_discriminator)
    assert not any(n.startswith("model.generator") for n in from_discriminator)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_begins_with_the_generators_tables(family: str) -> None:
    model = make(family, model={"weight_sharing": "gdes"}).model
    ids = padded_batch()["input_ids"]
    theirs = model.generator.get_input_embeddings()(ids)
    assert torch.equal(model.encoder.get_input_embeddings()(ids), theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sum_is_exported(family: str, tmp_path: Path) -> None:
    objective = make(family, model={"weight_sharing": "gdes"})
    model = objective.model
    with torch.no_grad():
        for _, table in disentangled(model.encoder):
            table.delta.normal_()
    parts = model.save_parts(tmp_path)
    batch = padded_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    real = mask.bool()
    with torch.no_grad():
        ours = model.encoder_hidden(ids, batch)
        theirs = AutoModel.from_pretrained(parts["encoder"]).eval()(ids, attention_mask=mask)
        assert torch.allclose(theirs.last_hidden_state[real], ours[real], atol=1e-5)
        everywhere = torch.arange(14).expand(3, 14)
        ours = model.generator_logits(ids, batch, everywhere)
        opened = AutoModelForMaskedLM.from_pretrained(parts["generator"]).eval()
        logits = opened(ids, attention_mask=mask).logits
        assert torch.allclose(logits[real], ours[real], atol=1e-4)
    # training goes on with the same tables
    assert len(disentangled(model.encoder)) > 0
    assert model.encoder.get_input_embeddings().base is (
        model.generator.get_output_embeddings().weight
    )


@pytest.mark.parametrize("sharing", ["gdes", "embeddings", "none", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ties_survive_moves_and_reloads(family: str, sharing: str) -> None:
    model = {"weight_sharing": sharing, **(SAME_SIZE if sharing == "all" else {})}
    objective = make(family, model=model)
    number = len({id(p) for p in objective.parameters()})
    objective.to(torch.float64).to(torch.float32)
    assert len({id(p) for p in objective.parameters()}) == number
    tensors = module_tensors(objective)
    assert sum(t.numel() for t in tensors.values()) >= sum(
        p.numel() for p in objective.parameters()
    )
    objective.load_state_dict({**objective.state_dict(), **tensors})
    assert len({id(p) for p in objective.parameters()}) == number


@pytest.mark.parametrize("sharing", ["gdes", "embeddings", "none", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_warm_start_hands_over_all(family: str, sharing: str) -> None:
    """After it the generator predicts what the masked LM on the encoder did."""
    objective = make(
        family,
        model={"weight_sharing": sharing, **SAME_SIZE},
        objective={"warm_start": 0.5},
    )
    config = tiny_config(family, optimizer={"weight_decay": 0.0}).optimizer
    optimizer = build_optimizer(objective, config)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    gradients(objective, "encoder_mlm_loss")
    optimizer.step()
    model, batch = objective.model, padded_batch()
    ids, real = batch["input_ids"], batch["attention_mask"].bool()
    assert all(table.delta.any() for _, table in disentangled(model.encoder))
    everywhere = torch.arange(14).expand(3, 14)
    with torch.no_grad():
        before = model.encoder_token_logits(model.encoder_hidden(ids, batch))[real]
        objective.begin_step(0.5)
        after = model.generator_logits(ids, batch, everywhere)[real]
        kept = model.encoder_token_logits(model.encoder_hidden(ids, batch))[real]
    assert torch.allclose(after, before, atol=1e-5)
    assert torch.allclose(kept, before, atol=1e-5)


@pytest.mark.parametrize("sharing", ["embeddings", "gdes", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_generator_has_to_itself(family: str, sharing: str) -> None:
    """Exactly the parameters that its loss moves and the discriminator's loss does not."""
    objective = make(family, model={"weight_sharing": sharing})
    from_generator = set(gradients(objective, "generator_loss"))
    from_discriminator = set(gradients(objective, "discriminator_loss"))
    own = {f"model.{name}" for name in objective.model.generator_names()}
    assert from_generator - from_discriminator == own
