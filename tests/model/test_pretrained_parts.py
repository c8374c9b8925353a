"""Networks that begin with released weights are those networks, and what is fresh is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForTokenClassification,
)

from electra.config import DataConfig, ModelConfig, PretrainConfig, TrainingConfig
from electra.corpus.tokenizer import load_tokenizer, save_tokenizer, vocabulary_hash
from electra.errors import ConfigError
from electra.model import released
from electra.model.pretrained_parts import PretrainedParts, open_parts
from electra.objectives.objective import PretrainingObjective, build_objective
from tests.objectives.build import SPECIAL, VOCAB, make, noise, padded_batch
from tests.shapes import tiny_config
from tests.tiny import make_encoder

FAMILIES = ("classic", "modern")
SAME_SIZE = {"generator_size": 1.0, "generator_layers": None}


def trained(family: str, **sections: object) -> PretrainingObjective:
    """An objective of which no weight is what a fresh one has."""
    objective = make(family, **sections)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return objective


def start(
    family: str, discriminator: Path, generator: Path | None = None, **sections: Any
) -> tuple[PretrainingObjective, PretrainedParts]:
    """The objective that begins with the folders, without a corpus; small recipes of the tests."""
    model = {"discriminator": str(discriminator), **sections.pop("model", {})}
    if generator is not None:
        model["generator"] = str(generator)
    config: PretrainConfig = tiny_config(family, model=model, **sections)
    parts = open_parts(config)
    assert parts is not None
    torch.manual_seed(2)
    config = parts.reshape(config)
    objective = build_objective(config, VOCAB, SPECIAL, parts=parts)
    return objective.eval(), parts


def losses(objective: PretrainingObjective) -> dict[str, Tensor]:
    generator = noise()
    batch, _ = objective.prepare(padded_batch(), generator)
    with torch.no_grad():
        return dict(objective(batch, generator).losses)


def assert_same_losses(one: PretrainingObjective, other: PretrainingObjective) -> None:
    a, b = losses(one), losses(other)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-5, rtol=1e-5), name


@pytest.mark.parametrize("sharing", ["embeddings", "gdes", "none", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_goes_on_where_it_was(family: str, sharing: str, tmp_path: Path) -> None:
    model = {"weight_sharing": sharing, **(SAME_SIZE if sharing == "all" else {})}
    before = trained(family, model=model)
    before.model.save_parts(tmp_path)
    after, parts = start(family, tmp_path / "discriminator", tmp_path / "generator", model=model)
    assert_same_losses(before, after)
    fresh = losses(make(family, model=model))
    assert abs(fresh["discriminator_loss"] - losses(after)["discriminator_loss"]) > 1e-2
    # ties are what they are in any run
    count = sum(p.numel() for p in before.parameters())
    assert sum(p.numel() for p in after.parameters()) == count
    table = after.model.generator.get_input_embeddings().weight
    assert after.model.generator.get_output_embeddings().weight is table
    if sharing in ("embeddings", "all"):
        assert after.model.encoder.get_input_embeddings().weight is table
    assert not any("differ" in note or "fresh" in note for note in parts.notes[1:])
    assert parts.notes[-1].endswith(
        "the optimizer begins afresh, as its state is not released with them"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_on_the_encoder_go_on_too(family: str, tmp_path: Path) -> None:
    before = trained(family, objective={"name": "masked_lm"})
    folder = before.model.save_parts(tmp_path)["masked_lm"]
    after, parts = start(family, folder, objective={"name": "masked_lm"})
    assert_same_losses(before, after)
    assert len(parts.notes) == 1


def released_pair(folder: Path) -> tuple[ElectraForPreTraining, ElectraForMaskedLM]:
    """As on the Hub: saved by transformers alone, one embedding table in both files."""
    torch.manual_seed(3)
    shape = {"vocab_size": VOCAB, "embedding_size": 24, "max_position_embeddings": 40}
    shape |= {"num_hidden_layers": 3, "layer_norm_eps": 1e-3, "initializer_range": 0.2}
    d = ElectraForPreTraining(
        ElectraConfig(**shape, hidden_size=48, num_attention_heads=3, intermediate_size=80)
    )
    g = ElectraForMaskedLM(
        ElectraConfig(**shape, hidden_size=16, num_attention_heads=2, intermediate_size=20)
    )
    g.electra.embeddings.load_state_dict(d.electra.embeddings.state_dict())
    for network, name in ((d, "d"), (g, "g")):
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        if name == "g":
            g.electra.embeddings.load_state_dict(d.electra.embeddings.state_dict())
        network.save_pretrained(folder / name)
    return d.eval(), g.eval()


def test_a_recipe_without_a_shape_is_not_overruled(tmp_path: Path) -> None:
    released_pair(tmp_path)
    networks = {"discriminator": str(tmp_path / "d"), "generator": str(tmp_path / "g")}
    config = PretrainConfig(
        model=ModelConfig(**networks),  # type: ignore[arg-type]
        data=DataConfig(max_length=32),
        training=TrainingConfig(max_steps=10),
    )
    parts = open_parts(config)
    assert parts is not None
    assert parts.reshape(config).model.hidden_size == 48
    assert not any("shape" in note for note in parts.notes)


def test_a_pair_of_the_hub_against_plain_transformers(tmp_path: Path) -> None:
    d, g = released_pair(tmp_path)
    # another size, another family, a warm start: overruled, and said
    objective, parts = start(
        "modern", tmp_path / "d", tmp_path / "g", objective={"warm_start": 0.5}
    )
    generator = noise()
    batch, _ = objective.prepare(padded_batch(), generator)
    judged = objective.judge(batch, generator)  # type: ignore[attr-defined]
    mask = batch["attention_mask"]
    with torch.no_grad():
        logits = g(batch["masked_input_ids"], attention_mask=mask).logits
        expected = logits.gather(1, batch["masked_positions"].unsqueeze(-1).expand(-1, -1, VOCAB))
        scores = d(judged.corrupted_input_ids, attention_mask=mask).logits
    assert torch.allclose(judged.generator_logits, expected, atol=1e-5)
    assert torch.allclose(judged.scores[mask.bool()], scores[mask.bool()], atol=1e-5)
    loss = losses(objective)["generator_loss"]
    nll = F.cross_entropy(expected.flatten(0, 1), batch["original_ids"].flatten(), reduction="none")
    assert torch.allclose(loss, (nll * batch["masked_weights"].flatten()).sum(), atol=1e-4)
    shape, warm, _ = parts.notes
    assert shape.startswith("the shape is that of the released weights: ")
    for said in (
        "hidden_size 48 (not 32)",
        "num_hidden_layers 3 (not 2)",
        "family classic (not modern)",
        "embedding_size 24 (not 32)",
        "generator_layers 3 (not 1)",
    ):
        assert said in shape
    assert warm.startswith(
        "no warm start (not 0.5 of the budget): it would overwrite the generator"
    )


def test_dropout_is_the_recipes(tmp_path: Path) -> None:
    released_pair(tmp_path)
    config = {"hidden_dropout_prob": 0.25, "attention_probs_dropout_prob": 0.5}
    objective, _ = start("classic", tmp_path / "d", tmp_path / "g", model=config)
    for network in (objective.model.encoder, objective.model.generator):
        assert network.config.hidden_dropout_prob == 0.25
        assert network.config.attention_probs_dropout_prob == 0.5
        assert network.config.layer_norm_eps == 1e-3


def test_a_discriminator_alone_and_an_encoder_alone(tmp_path: Path) -> None:
    d, _ = released_pair(tmp_path)
    objective, parts = start("classic", tmp_path / "d")
    assert parts.notes[-1] == (
        "no --model.generator: the generator is fresh, and what it proposes is easy to tell until "
        "it has learnt"
    )
    assert not any("no head" in note for note in parts.notes)
    assert objective.model.generator.config.hidden_size == 24
    d.electra.save_pretrained(tmp_path / "e")
    objective, parts = start("classic", tmp_path / "e")
    assert f"{tmp_path / 'e'} has no head for replaced tokens: it is fresh" in parts.notes
    ids = padded_batch()["input_ids"]
    with torch.no_grad():
        ours = objective.model.encoder_hidden(ids, {})
        assert torch.allclose(ours, d.electra(ids).last_hidden_state, atol=1e-5)


def test_a_modernbert_of_the_hub(tmp_path: Path) -> None:
    """Its windows, its rotations and its head for masked LM; for replaced tokens a fresh head."""
    torch.manual_seed(4)
    config = ModernBertConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=64,
        local_attention=6,
        initializer_range=0.2,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
        **dict.fromkeys(("cls_token_id", "sep_token_id"), 0),
    )
    theirs = ModernBertForMaskedLM(config).eval()
    theirs.save_pretrained(tmp_path)
    objective, _ = start("modern", tmp_path, objective={"name": "masked_lm"})
    batch = padded_batch()
    with torch.no_grad():
        hidden = objective.model.encoder_hidden(batch["input_ids"], batch)
        ours = objective.model.encoder_token_logits(hidden)
        logits = theirs(**batch).logits
    real = batch["attention_mask"].bool()
    assert torch.allclose(ours[real], logits[real], atol=1e-4)
    assert objective.model.encoder.config.local_attention == 6
    assert objective.model.encoder.config.sep_token_id == SPECIAL.sep
    _, parts = start("modern", tmp_path)
    assert f"{tmp_path} has no head for replaced tokens: it is fresh" in parts.notes


def test_the_head_of_another_token_classifier_is_not_taken(tmp_path: Path) -> None:
    folder = trained("modern").model.save_parts(tmp_path)["discriminator"]
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["id2label"] = {"0": "O", "1": "NAME"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _, parts = start("modern", folder)
    assert f"{folder} has no head for replaced tokens: it is fresh" in parts.notes


def test_a_head_of_two_rows_becomes_their_difference(tmp_path: Path) -> None:
    before = trained("modern")
    folder = before.model.save_parts(tmp_path)["discriminator"]
    two = ModernBertForTokenClassification.from_pretrained(folder)
    with torch.no_grad():
        two.classifier.weight.add_(0.5)
        two.classifier.bias.add_(2.0)
    two.save_pretrained(folder)
    after, _ = start("modern", folder, tmp_path / "generator")
    assert_same_losses(before, after)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_upcast(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    before = trained(family)
    before.model.to(dtype).save_parts(tmp_path)
    file = load_file(tmp_path / "generator" / "model.safetensors")
    assert {t.dtype for t in file.values()} == {dtype}
    after, parts = start(family, tmp_path / "discriminator", tmp_path / "generator")
    assert {p.dtype for p in after.parameters()} == {torch.float32}
    assert_same_losses(before.float(), after)
    assert not any("differ" in note for note in parts.notes)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_whose_tables_differ(family: str, tmp_path: Path) -> None:
    before = trained(family, model={"weight_sharing": "none"})
    before.model.save_parts(tmp_path)
    d, g = tmp_path / "discriminator", tmp_path / "generator"
    ours = dict(before.model.encoder.embeddings.named_parameters())
    theirs = dict(before.model.generator.base_model.embeddings.named_parameters())
    most = max(float((ours[name] - theirs[name]).detach().abs().max()) for name in ours)
    after, parts = start(family, d, g)
    note = parts.notes[-1]
    assert note.startswith(f"the embeddings of {d} and {g} differ by up to {most:.3g} (embeddings.")
    assert note.endswith("are used for both; --model.weight-sharing none keeps both")
    table = after.model.generator.get_input_embeddings().weight
    assert torch.equal(table, before.model.encoder.get_input_embeddings().weight)
    assert table is after.model.encoder.get_input_embeddings().weight
    # and the advice is good
    after, parts = start(family, d, g, model={"weight_sharing": "none"})
    assert_same_losses(before, after)
    assert not any("differ" in note for note in parts.notes)


def test_a_run_folder_stands_for_its_parts(tmp_path: Path) -> None:
    before = trained("modern")
    before.model.save_parts(tmp_path)
    after, _ = start("modern", tmp_path, tmp_path)
    assert_same_losses(before, after)


def refused(match: str, family: str, *folders: Path, **sections: Any) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        start(family, *folders, **sections)
    assert "\n" not in str(caught.value)


def test_folders_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("bert", "electra", "modernbert"):
        make_encoder(tmp_path / family, family)
    refused(
        r"--model\.discriminator .*/bert is a bert, which goes on by masked LM alone "
        r"\(--objective.name masked_lm\), not by replaced_token_detection",
        "classic",
        tmp_path / "bert",
    )
    refused(
        r"--model\.generator .*/bert is a bert; pretraining continues from ELECTRA or "
        "ModernBERT folders$",
        "classic",
        tmp_path / "electra",
        tmp_path / "bert",
    )
    refused(r"--model\.discriminator /no/such does not exist", "classic", Path("/no/such"))
    refused("holds no config.json, neither itself nor in discriminator/", "classic", tmp_path)
    file = tmp_path / "electra" / "config.json"
    refused("is a file; a folder or a Hub id is wanted", "classic", file)
    monkeypatch.setattr(released, "hub_is_reachable", lambda: False)
    refused("is no folder here and could not be had from the Hub", "classic", Path("nobody/has"))
    for role, folders in {"discriminator": ("bare",), "generator": ("electra", "bare")}.items():
        shutil.rmtree(tmp_path / "bare", ignore_errors=True)
        shutil.copytree(tmp_path / "electra", tmp_path / "bare")
        (tmp_path / "bare" / "model.safetensors").rename(tmp_path / "bare" / "pytorch_model.bin")
        refused(
            rf"--model\.{role} .*/bare holds no weights: model.safetensors is wanted \(a "
            "pytorch_model.bin is a pickle",
            "classic",
            *(tmp_path / name for name in folders),
        )
    (tmp_path / "bare" / "model.safetensors").write_bytes(b"no tensors")
    refused(r"--model\.discriminator .* cannot be opened", "classic", tmp_path / "bare")
    weights = load_file(tmp_path / "electra" / "model.safetensors")
    weights.pop(next(name for name in weights if "layer.1" in name and "key.bias" in name))
    save_file(weights, tmp_path / "bare" / "model.safetensors", {"format": "pt"})
    refused("lacks 1 tensors of its encoder, electra.encoder.layer.1", "classic", tmp_path / "bare")
    (tmp_path / "bare" / "config.json").write_text("{", encoding="utf-8")
    refused("config.json cannot be read", "classic", tmp_path / "bare")


def test_pairs_that_are_refused(tmp_path: Path) -> None:
    released_pair(tmp_path)
    trained("modern").model.save_parts(tmp_path / "modern")
    refused(
        r"--model\.generator .* is a modernbert, --model\.discriminator .* is a electra; both must "
        "be of one family",
        "classic",
        tmp_path / "d",
        tmp_path / "modern",
    )
    refused("has no masked-LM head; a generator is a folder of ElectraForMaskedLM", "classic",
            tmp_path / "d", tmp_path / "d")  # fmt: skip
    refused(
        r"hidden_size 48, --model\.discriminator .* has 16: a generator is not larger than its "
        r"discriminator \(are the two exchanged\?\)",
        "classic",
        tmp_path / "g",
        tmp_path / "d",
    )
    for name, value, mend in (
        ("vocab_size", VOCAB + 8, "discriminator's$"),
        ("embedding_size", 12, "discriminator's, or --model.weight-sharing none"),
    ):
        config = ElectraConfig.from_pretrained(tmp_path / "g")
        setattr(config, name, value)
        ElectraForMaskedLM(config).save_pretrained(tmp_path / "other")
        ours = {"vocab_size": VOCAB, "embedding_size": 24}[name]
        refused(
            rf"/other has {name} {value}, --model\.discriminator .* has {ours}: the generator must "
            f"have the {mend}",
            "classic",
            tmp_path / "d",
            tmp_path / "other",
        )
    # tables of another width are no obstacle where nothing is shared
    start("classic", tmp_path / "d", tmp_path / "other", model={"weight_sharing": "none"})
    refused(
        "--model.generator .* does not apply: the objective trains no generator",
        "classic",
        tmp_path / "d",
        tmp_path / "g",
        objective={"name": "masked_lm"},
    )
    refused(
        r"--data\.max-length is 41; --model\.discriminator .* reads at most 40 tokens",
        "classic",
        tmp_path / "d",
        data={"max_length": 41},
    )
    with pytest.raises(ConfigError, match=r"--model\.generator x goes with a discriminator"):
        tiny_config("classic", model={"generator": "x"})


def changed(tokenizer: Tokenizer, change: Any) -> Tokenizer:
    table = json.loads(tokenizer.to_str())
    change(table)
    return Tokenizer.from_str(json.dumps(table))


def test_vocabularies_are_compared_by_what_they_mean(corpus: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(corpus)
    own = vocabulary_hash(tokenizer)
    save_tokenizer(tokenizer, tmp_path, max_length=32, token_types=True)
    assert vocabulary_hash(load_tokenizer(tmp_path)) == own

    def spelled(table: dict[str, Any]) -> None:
        assert table["normalizer"]["strip_accents"] is table["normalizer"]["lowercase"]
        table["normalizer"]["strip_accents"] = None
        table["post_processor"] = table["decoder"] = None
        table["model"]["vocab"] = dict(reversed(table["model"]["vocab"].items()))
        table["padding"] = {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        }

    assert vocabulary_hash(changed(tokenizer, spelled)) == own

    def case(table: dict[str, Any]) -> None:
        table["normalizer"]["lowercase"] = False

    def swap(table: dict[str, Any]) -> None:
        vocab = table["model"]["vocab"]
        vocab["the"], vocab["."] = vocab["."], vocab["the"]

    def unk(table: dict[str, Any]) -> None:
        table["model"]["max_input_chars_per_word"] = 3

    for change in (case, swap, unk):
        assert vocabulary_hash(changed(tokenizer, change)) != own


def check(folder: Path, tokenizer: Tokenizer) -> list[str]:
    parts = open_parts(tiny_config("classic", model={"discriminator": str(folder)}))
    assert parts is not None
    parts.check_vocabulary(tokenizer)
    return parts.notes


def test_another_vocabulary_than_the_corpus(corpus: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(corpus)
    vocab_size = max(tokenizer.get_vocab().values()) + 1
    config = ElectraConfig(
        vocab_size=vocab_size,
        embedding_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    ElectraForPreTraining(config).save_pretrained(tmp_path)
    assert check(tmp_path, tokenizer) == [
        f"--model.discriminator {tmp_path} holds no tokenizer: that its {vocab_size} rows of "
        f"embeddings are the {vocab_size} word pieces of the corpus is taken on trust"
    ]
    save_tokenizer(tokenizer, tmp_path, max_length=32, token_types=True)
    assert check(tmp_path, tokenizer) == []
    other = changed(tokenizer, lambda table: table["normalizer"].update(lowercase=False))
    hashes = [vocabulary_hash(t)[:16] for t in (tokenizer, other)]
    with pytest.raises(ConfigError) as caught:
        check(tmp_path, other)
    assert str(caught.value) == (
        f"--model.discriminator {tmp_path} has another vocabulary (sha256 {hashes[0]}) than the "
        f"corpus ({hashes[1]}): prepare the corpus with electra prepare --tokenizer {tmp_path}"
    )
    # older folders have no tokenizer.json
    (tmp_path / "tokenizer.json").unlink()
    assert check(tmp_path, tokenizer) == []
    lines = (tmp_path / "vocab.txt").read_text("utf-8").splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join([*lines[:-1], "zzz"]) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"has another vocabulary .* than the corpus"):
        check(tmp_path, tokenizer)
    (tmp_path / "vocab.txt").unlink()
    for rows in (vocab_size - 1, vocab_size + 200):
        config.vocab_size = rows
        ElectraForPreTraining(config).save_pretrained(tmp_path)
        with pytest.raises(
            ConfigError, match=f"has {rows} rows of embeddings, the corpus {vocab_size} word pieces"
        ):
            check(tmp_path, tokenizer)


def test_what_is_saved_again_is_the_network(tmp_path: Path) -> None:
    """The folders of a continued run open as those of any run."""
    released_pair(tmp_path)
    objective, _ = start("classic", tmp_path / "d", tmp_path / "g")
    parts = objective.model.save_parts(tmp_path / "run")
    ids = padded_batch()["input_ids"]
    with torch.no_grad():
        one = AutoModelForMaskedLM.from_pretrained(tmp_path / "g").eval()(ids).logits
        other = AutoModelForMaskedLM.from_pretrained(parts["generator"]).eval()(ids).logits
    assert torch.allclose(one, other, atol=1e-5)
