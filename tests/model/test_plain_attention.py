"""The registered attention is transformers' own plain one, but for the draws of dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    DebertaV2Config,
    DebertaV2Model,
    ElectraConfig,
    ElectraModel,
    ModernBertConfig,
    ModernBertModel,
)

from electra.model import plain_attention
from electra.model.dropout import BitDropout, use_bit_dropout
from electra.training.device import training_attention

SHAPE = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2}


def network(family: str, dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    if family == "electra":
        config = ElectraConfig(
            embedding_size=32,
            intermediate_size=64,
            attention_probs_dropout_prob=dropout,
            hidden_dropout_prob=dropout,
            **SHAPE,
        )
        return ElectraModel(config)
    types = ["full_attention", "sliding_attention"]
    rates = {"attention_dropout": dropout, "mlp_dropout": dropout}
    config = ModernBertConfig(
        intermediate_size=48, layer_types=types, eos_token_id=3, **SHAPE, **IDS, **rates
    )
    return ModernBertModel(config)


@pytest.mark.parametrize("family", ["electra", "modernbert"])
def test_states_and_gradients_are_those_of_eager_attention(family: str) -> None:
    ids = torch.randint(5, 40, (3, 24), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 17:] = 0
    found = []
    for kernel in ("eager", plain_attention.NAME):
        model = network(family).train()
        plain_attention.use_attention(model, kernel)
        assert model.config._attn_implementation == kernel
        hidden = model(ids, attention_mask=mask).last_hidden_state
        (hidden * mask.unsqueeze(-1)).square().sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([(hidden * mask.unsqueeze(-1)).detach(), *gradients])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def test_rotary_heads_by_rows_with_positions_of_their_own() -> None:
    ids = torch.randint(5, 40, (3, 24), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(24) + torch.tensor([[0], [7], [30]])
    model, other = network("modernbert").eval(), network("modernbert").eval()
    plain_attention.use_attention(other, plain_attention.NAME)
    kinds = {type(m) for m in other.modules()}
    assert plain_attention.RotaryHeadsAttention in kinds
    with torch.no_grad():
        one, two = (n(ids, position_ids=positions).last_hidden_state for n in (model, other))
        same = model(ids).last_hidden_state
    assert torch.allclose(one, two, atol=1e-5)
    assert torch.allclose(one[1:], same[1:], atol=1e-4)  # differences count alone
    plain_attention.use_attention(other, "sdpa")
    assert not any(isinstance(m, plain_attention.RotaryHeadsAttention) for m in other.modules())


@pytest.mark.parametrize("family", ["electra", "modernbert"])
def test_dropout_is_that_of_eager_attention_on_average(family: str) -> None:
    ids = torch.arange(5, 21).view(1, 16)
    means, spreads = [], []
    for kernel in ("eager", plain_attention.NAME):
        model = network(family, dropout=0.2).train()
        plain_attention.use_attention(model, kernel)
        if kernel != "eager":
            use_bit_dropout(model)
            assert any(type(part) is BitDropout for part in model.modules())
        with torch.no_grad():
            runs = torch.cat([model(ids).last_hidden_state for _ in range(1500)])
        means.append(runs.mean(0))
        spreads.append(runs.std(0))
    assert float(spreads[1].mean() / spreads[0].mean()) == pytest.approx(1, abs=0.03)
    error = spreads[0] * (2 / 1500) ** 0.5
    assert float(((means[1] - means[0]).abs() / error).max()) < 5.5


def test_a_folder_knows_nothing_of_it(tmp_path: Path) -> None:
    model = network("electra", dropout=0.1)
    use_bit_dropout(model)
    plain_attention.use_attention(model, plain_attention.NAME)
    model.save_pretrained(tmp_path)
    assert plain_attention.NAME not in (tmp_path / "config.json").read_text()
    opened = AutoModel.from_pretrained(tmp_path)
    assert opened.config._attn_implementation == "sdpa"


def test_networks_with_attention_of_their_own_keep_it() -> None:
    config = DebertaV2Config(intermediate_size=64, **SHAPE)
    model = DebertaV2Model(config)
    plain_attention.use_attention(model, plain_attention.NAME)
    assert model.config._attn_implementation == "eager"


def test_where_it_is_chosen() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert training_attention(cpu, 256, dropout=0.0) == plain_attention.NAME
    assert training_attention(cpu, 384, dropout=0.0) == "sdpa"
    assert training_attention(cpu, 384, dropout=0.1) == plain_attention.NAME
    assert training_attention(gpu, 128, dropout=0.1) == "sdpa"
