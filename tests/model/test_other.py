"""Released masked LMs of other families compute here what they compute in transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from electra.config import ModelConfig
from electra.errors import ConfigError
from electra.model.other import MODEL_TYPES
from electra.model.pretrained_parts import open_parts
from electra.objectives.masked_lm import masked_logits
from electra.objectives.objective import build_objective
from tests.objectives.build import SPECIAL, VOCAB, noise, padded_batch
from tests.shapes import tiny_config
from tests.tiny import make_encoder


def released(folder: Path, model_type: str, **more: Any) -> Any:
    """A masked LM as on the Hub, of which no weight is what a fresh one has."""
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 40,
        "pad_token_id": SPECIAL.pad,
        **more,
    }
    if model_type == "distilbert":
        shape |= {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers"):
            del shape[name]
        del shape["num_attention_heads"]
    torch.manual_seed(1)
    auto: Any = AutoModelForMaskedLM
    network = auto.from_config(AutoConfig.for_model(model_type, **shape))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return network.eval()


def opened(folder: Path, **sections: Any) -> Any:
    """The objective that begins with the folder, and the notes about it."""
    sections = {"objective": {"name": "masked_lm"}, **sections}
    config = tiny_config("modern", model={"discriminator": str(folder)}, **sections)
    parts = open_parts(config)
    assert parts is not None
    config = parts.reshape(config)
    objective = build_objective(config, VOCAB, SPECIAL, parts=parts)
    return objective.eval(), parts


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_logits_against_plain_transformers(model_type: str, tied: bool, tmp_path: Path) -> None:
    network = released(tmp_path / "m", model_type, tie_word_embeddings=tied)
    objective, parts = opened(tmp_path / "m")
    objective.model.use_attention("sdpa")
    assert len(parts.notes) <= 2, parts.notes  # the shape; nothing is fresh
    assert not any("is fresh" in note for note in parts.notes)
    batch, _ = objective.prepare(padded_batch(), noise())
    with torch.no_grad():
        ours = masked_logits(
            objective.model, objective.model.encoder_hidden(batch["masked_input_ids"], batch), batch
        )
        theirs = network(
            input_ids=batch["masked_input_ids"], attention_mask=batch.get("attention_mask")
        ).logits
    at = batch["masked_positions"].unsqueeze(-1).expand(-1, -1, VOCAB)
    assert torch.allclose(ours, theirs.gather(1, at), atol=1e-5)
    # what is saved opens as what it was, with the same logits
    folders = objective.model.save_parts(tmp_path / "saved")
    auto: Any = AutoModelForMaskedLM
    again = auto.from_pretrained(folders["masked_lm"]).eval()
    with torch.no_grad():
        saved = again(
            input_ids=batch["masked_input_ids"], attention_mask=batch.get("attention_mask")
        ).logits
    assert torch.allclose(saved, theirs, atol=1e-5)


def test_a_head_that_learns_alone_leaves_the_encoder(tmp_path: Path) -> None:
    released(tmp_path / "m", "bert")
    objective, _ = opened(tmp_path / "m", objective={"name": "masked_lm", "head_share": 0.5})
    for progress, moves in ((0.2, False), (0.5, True)):
        objective.zero_grad(set_to_none=True)
        objective.begin_step(progress)
        batch, _ = objective.prepare(padded_batch(), noise())
        objective(batch, noise()).losses["encoder_mlm_loss"].backward()
        encoder = [p.grad for p in objective.model.encoder.parameters()]
        assert any(gradient is not None for gradient in encoder) is moves
        assert objective.model.masked_lm.cls.predictions.transform.dense.weight.grad is not None


def test_what_is_refused(tmp_path: Path) -> None:
    make_encoder(tmp_path / "bert", "bert")
    with pytest.raises(ConfigError, match=r"is a bert, which goes on by masked LM alone"):
        opened(tmp_path / "bert", objective={"name": "replaced_token_detection"})
    with pytest.raises(ConfigError, match=r"--data\.document-attention is for ELECTRA"):
        opened(tmp_path / "bert", data={"document_attention": True, "max_length": 16})
    with pytest.raises(ConfigError, match=r"--model\.family other is that of released networks"):
        ModelConfig(family="other")
    released(tmp_path / "roberta", "roberta", max_position_embeddings=20)
    with pytest.raises(ConfigError, match="reads at most 19 tokens"):  # positions begin behind 0
        opened(tmp_path / "roberta", data={"max_length": 20})
