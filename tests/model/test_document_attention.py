"""Attention that stays inside documents: each is read as if it stood alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from electra.corpus.tokenizer import SpecialIds
from electra.errors import ConfigError
from electra.model import document_attention
from electra.model.document_attention import NAME, cumulative_lengths, document_ids, kernel_for
from electra.model.pretraining_model import PretrainingModel
from tests.shapes import FAMILIES, tiny_config

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
CASES = [("classic", 16), ("modern", 16), ("modern", 200)]  # the last with sliding windows


def make_model(family: str, length: int) -> PretrainingModel:
    torch.manual_seed(1)
    most = 1024 if length > 100 else 32
    shape = {**FAMILIES[family], "max_position_embeddings": most, "initialization": "published"}
    model = PretrainingModel(tiny_config(family, model=shape).model, vocab_size=60, special=SPECIAL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def make_rows(length: int) -> tuple[Tensor, Tensor]:
    """Rows of several documents, of one, and of one that ends early; their starts."""
    torch.manual_seed(2)
    ids = torch.randint(5, 60, (3, length))
    ids[:, 0] = 2
    ids[:, -1] = 3
    starts = torch.full((3, 5), length)
    starts[:, 0] = 0
    starts[0, 1:4] = torch.tensor([3, 4, length // 2])
    starts[2, 1] = length - 2
    return ids, starts


def documents(starts: Tensor, length: int) -> list[tuple[int, int, int]]:
    """(row, first column, end) of each document, by counting."""
    found = []
    for row, begins in enumerate(starts.tolist()):
        real = [b for b in begins if b < length]
        found += [(row, b, e) for b, e in zip(real, [*real[1:], length], strict=True)]
    return found


def alone(family: str, encoder: Any, ids: Tensor, begin: int) -> Tensor:
    """Hidden states of one document's tokens, (1, n) -> (n, H)."""
    positions = torch.arange(ids.shape[1])[None] + (begin > 0)
    output = encoder(ids, position_ids=positions)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def slow_varlen(calls: list[dict[str, Any]]) -> Any:
    """A stand-in for `varlen_attn`: documents one by one, in float32."""

    def kernel(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        ends_q: Tensor,
        ends_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        window_size: tuple[int, int] = (-1, -1),
    ) -> Tensor:
        calls.append({"shape": query.shape, "dtype": query.dtype, "ends": ends_q, "max": max_q})
        calls[-1]["window"] = window_size
        assert (ends_q is ends_k, max_q) == (True, max_k)
        output = torch.full_like(query, float("nan"))
        for a, b in zip(ends_q.tolist(), ends_q.tolist()[1:], strict=False):
            scores = torch.einsum("qhd,khd->hqk", query[a:b].float(), key[a:b].float())
            scores = scores * query.shape[-1] ** -0.5
            if window_size != (-1, -1):
                place = torch.arange(b - a)
                far = (place[:, None] - place[None]).abs() > window_size[0]
                scores = scores.masked_fill(far, float("-inf"))
            read = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value[a:b].float())
            output[a:b] = read.to(query.dtype)
        return output

    return kernel


@pytest.mark.parametrize("kernel", ["eager", "sdpa", NAME])
@pytest.mark.parametrize(("family", "length"), CASES)
def test_each_document_is_read_as_if_alone(family: str, length: int, kernel: str) -> None:
    model = make_model(family, length)
    ids, starts = make_rows(length)
    model.use_attention(kernel)  # without half precision the registered one is sdpa with a mask
    found = model.encoder_hidden(ids, {"document_starts": starts})
    model.use_attention("sdpa")
    for row, begin, end in documents(starts, length):
        expected = alone(family, model.encoder, ids[row : row + 1, begin:end], begin)
        assert torch.allclose(found[row, begin:end], expected, atol=2e-5)
    across = model.encoder_hidden(ids, {})
    assert not torch.allclose(found[0], across[0], atol=1e-2)


@pytest.mark.parametrize(("family", "length"), CASES)
def test_variable_length_attention_is_called_with_all_documents(
    family: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(family, length)
    ids, starts = make_rows(length)
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(document_attention, "varlen_attn", slow_varlen(calls))
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        model.use_attention("sdpa")
        expected = model.encoder_hidden(ids, {"document_starts": starts})
        model.use_attention(NAME)
        found = model.encoder_hidden(ids, {"document_starts": starts})
    # the same but for roundings of bfloat16
    assert (found - expected).norm() < 0.02 * expected.norm()
    config = model.encoder.config
    assert len(calls) == config.num_hidden_layers
    for call in calls:
        assert call["shape"] == (3 * length, 2, 16)
        assert (call["dtype"], call["ends"].dtype) == (torch.bfloat16, torch.int32)
        assert (len(call["ends"]), call["max"]) == (3 * 5 + 1, length)
    windows = [(64, 64) if kind == "sliding_attention" else (-1, -1) for kind in layers_of(config)]
    assert [call["window"] for call in calls] == windows
    assert ((64, 64) in windows) == (length > 100)


def layers_of(config: Any) -> list[str]:
    return list(getattr(config, "layer_types", ["full_attention"] * config.num_hidden_layers))


def test_lengths_are_those_of_the_documents() -> None:
    length = 16
    _, starts = make_rows(length)
    ends = cumulative_lengths(starts, length)
    slow = [0]
    for _, begin, end in documents(starts, length):
        slow.append(slow[-1] + end - begin)
    kept = [0] + [b for a, b in zip(ends.tolist(), ends.tolist()[1:], strict=False) if b > a]
    assert kept == slow
    assert (ends.diff() >= 0).all()
    assert len(ends) == starts.numel() + 1
    ids = document_ids(starts, length)
    for number, (row, begin, end) in enumerate(documents(starts[:1], length)):
        assert (ids[row, begin:end] == number).all()
    full = torch.arange(length).expand(2, -1)  # as many documents as tokens
    assert cumulative_lengths(full, length).tolist() == list(range(2 * length + 1))


def test_the_operation_itself_has_the_shapes() -> None:
    """Of torch's own, which no CPU can run: shapes alone."""
    query = torch.empty(2, 3, 8, 16, dtype=torch.bfloat16, device="meta")
    ends = torch.empty(7, dtype=torch.int32, device="meta")
    output, _ = document_attention.attend(
        torch.nn.Identity(),
        *(query, query, query, None),
        cu_seq_lens_q=ends,
        cu_seq_lens_k=ends,
        max_length_q=8,
        max_length_k=8,
    )
    assert output.shape == (2, 8, 3, 16)


def test_the_kernel_is_for_gpus_without_dropout() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert kernel_for(gpu, "sdpa", dropout=0.0) == NAME
    assert kernel_for(gpu, "sdpa", dropout=0.1) == "sdpa"
    assert kernel_for(cpu, "eager", dropout=0.0) == "eager"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_knows_nothing_of_it(family: str, tmp_path: Path) -> None:
    model = make_model(family, 16)
    model.use_attention(NAME)
    folders = model.save_parts(tmp_path)
    for folder in folders.values():
        assert NAME not in (folder / "config.json").read_text("utf-8")
        assert "attn_implementation" not in json.loads((folder / "config.json").read_text("utf-8"))
    opened = AutoModel.from_pretrained(folders["encoder"]).eval()
    ids, _ = make_rows(16)
    model.use_attention("sdpa")
    assert torch.allclose(opened(ids).last_hidden_state, model.encoder_hidden(ids, {}), atol=1e-5)


def test_what_it_does_not_go_with_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"false with --data.examples documents"):
        tiny_config("modern", data={"document_attention": True, "examples": "documents"})
    for objective in ({"name": "electric"}, {"contrastive_weight": 1.0}):
        with pytest.raises(ConfigError, match="does not go with --objective"):
            tiny_config("modern", data={"document_attention": True}, objective=objective)
