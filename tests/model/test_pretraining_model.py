"""What is shared stays shared; what is saved opens in transformers with the same outputs."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForTokenClassification,
    pipeline,
)

from electra.corpus.tokenizer import SpecialIds, load_tokenizer, num_ids, save_tokenizer
from electra.errors import ConfigError
from electra.model.pretraining_model import PretrainingModel
from electra.training.checkpoint import module_tensors
from tests.shapes import tiny_config

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
FAMILIES = ("classic", "modern")


def make_model(family: str, *, with_masked_lm: bool = False) -> PretrainingModel:
    torch.manual_seed(1)
    model = PretrainingModel(
        tiny_config(family).model, vocab_size=60, special=SPECIAL, with_masked_lm=with_masked_lm
    )
    with torch.no_grad():  # zero biases and unit norms would hide what is not copied
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def embeddings_of(model: PretrainingModel) -> list[torch.Tensor]:
    return [
        t
        for network in (model.encoder, model.generator.base_model)
        for t in network.embeddings.parameters()
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_one_tensor_each(family: str) -> None:
    model = make_model(family, with_masked_lm=True)

    def check() -> None:
        tensors = embeddings_of(model)
        half = len(tensors) // 2
        assert half == {"classic": 5, "modern": 2}[family]  # tables and LayerNorm
        for one, other in zip(tensors[:half], tensors[half:], strict=True):
            assert one is other
        table = model.encoder.get_input_embeddings().weight
        assert model.generator.get_output_embeddings().weight is table
        assert model.masked_lm.get_output_embeddings().weight is table

    check()
    model.to(torch.float64).to(torch.float32)
    check()
    saved = {name: t.clone() for name, t in module_tensors(model).items()}
    model.load_state_dict({**model.state_dict(), **saved})
    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_parts_open_with_equal_outputs(family: str, tmp_path: Path) -> None:
    model = make_model(family)
    parts = model.save_parts(tmp_path)
    assert set(parts) == {"encoder", "generator", "discriminator"}
    ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    real = mask.bool()
    context = {"attention_mask": mask}
    everywhere = torch.arange(12).expand(3, 12)
    with torch.no_grad():
        encoder = AutoModel.from_pretrained(parts["encoder"]).eval()
        assert encoder.config.num_labels == 2
        assert encoder.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
        hidden = model.encoder_hidden(ids, context)
        theirs = encoder(ids, attention_mask=mask).last_hidden_state
        assert torch.allclose(theirs[real], hidden[real], atol=1e-5)

        generator = AutoModelForMaskedLM.from_pretrained(parts["generator"]).eval()
        logits = model.generator_logits(ids, context, everywhere)
        assert torch.allclose(
            generator(ids, attention_mask=mask).logits[real], logits[real], atol=1e-4
        )

        probabilities = model.replaced_logits(hidden).sigmoid()[real]
        if family == "classic":
            opened = AutoModelForPreTraining.from_pretrained(parts["discriminator"]).eval()
            found = opened(ids, attention_mask=mask).logits.sigmoid()[real]
        else:
            opened = AutoModelForTokenClassification.from_pretrained(parts["discriminator"]).eval()
            assert opened.config.id2label == {0: "original", 1: "replaced"}
            found = opened(ids, attention_mask=mask).logits.softmax(-1)[..., 1][real]
        assert (found - probabilities).abs().max() < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_special_ids_reach_the_configuration(family: str) -> None:
    config = make_model(family).encoder.config
    assert config.pad_token_id == 0
    assert (config.bos_token_id, config.eos_token_id) == (2, 3)
    if family == "modern":
        assert (config.cls_token_id, config.sep_token_id) == (2, 3)
        assert set(config.layer_types) == {"full_attention"}


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_kernels_agree(family: str) -> None:
    model = make_model(family)
    ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    found = []
    for name in ("sdpa", "eager"):
        model.use_attention(name)
        with torch.no_grad():
            found.append(model.encoder_hidden(ids, {"attention_mask": mask})[mask.bool()])
    assert torch.allclose(*found, atol=1e-5)


def test_the_hubs_pipeline_marks_replaced_words(corpus: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(corpus)
    model = PretrainingModel(
        tiny_config("modern").model, vocab_size=num_ids(tokenizer), special=SPECIAL
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = model.save_parts(tmp_path)["discriminator"]
    save_tokenizer(tokenizer, folder, max_length=32, token_types=False)
    text = "the cat sees the house in spring"
    marked = pipeline("token-classification", model=str(folder))(text)
    ids = torch.tensor([tokenizer.encode(text).ids])
    with torch.no_grad():
        probabilities = model.replaced_logits(model.encoder_hidden(ids, {})).sigmoid()[0, 1:-1]
    assert len(marked) == len(probabilities)
    for word, probability in zip(marked, probabilities.tolist(), strict=True):
        sure = probability if word["entity"] == "replaced" else 1 - probability
        assert sure >= 0.5
        assert abs(word["score"] - sure) < 1e-6
    assert {word["entity"] for word in marked} <= {"original", "replaced"}


def test_zero_outputs_make_a_new_network_its_embeddings() -> None:
    config = tiny_config("modern", model={"initialization": "scaled"}).model
    model = PretrainingModel(config, vocab_size=60, special=SPECIAL)
    ids = torch.randint(5, 60, (2, 6))
    with torch.no_grad():
        hidden = model.encoder_hidden(ids, {})
        expected = model.encoder.final_norm(model.encoder.embeddings(ids))
    assert torch.allclose(hidden, expected)


def test_masked_lm_alone() -> None:
    model = PretrainingModel(
        tiny_config("modern").model,
        vocab_size=60,
        special=SPECIAL,
        with_discriminator=False,
        with_generator=False,
        with_masked_lm=True,
    )
    assert model.discriminator is None
    assert set(model.num_parameters()) == {"encoder", "masked_lm"}


def test_the_references_initial_weights() -> None:
    """A normal of 0.02 cut at two deviations; Glorot's for the two layers left to the default."""
    config = tiny_config("classic", model={"initialization": "reference", "hidden_size": 96}).model
    torch.manual_seed(0)
    model = PretrainingModel(config, vocab_size=500, special=SPECIAL)
    glorot = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        if "embeddings_project" in name or "dense_prediction" in name:
            bound = (6 / sum(parameter.shape)) ** 0.5
            glorot += 1
        else:
            bound = 0.04
            # the deviation of a normal cut at two of its own is 0.88 of it
            rough = 3 / parameter.numel() ** 0.5
            assert float(parameter.detach().std()) == pytest.approx(0.0176, rel=rough), name
        assert float(parameter.detach().abs().max()) <= bound, name
        assert float(parameter.detach().abs().max()) > 0.85 * bound, name
    assert glorot == 3  # both projections and the last layer
    with pytest.raises(ConfigError, match="initialization reference is not for the modern family"):
        tiny_config("modern", model={"initialization": "reference"})


def test_a_generator_whose_heads_do_not_divide_its_width() -> None:
    shape = {"hidden_size": 512, "num_attention_heads": 8, "generator_size": 0.33333}
    with pytest.raises(ConfigError, match=r"171 wide, which 2 heads cannot share; with 0\.375 it"):
        PretrainingModel(tiny_config("classic", model=shape).model, vocab_size=9, special=SPECIAL)
