"""Checkpoints of the reference become folders of transformers, and nothing is left out silently."""

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoTokenizer,
)
from transformers.models.prophetnet.tokenization_prophetnet import (
    BasicTokenizer,
    WordpieceTokenizer,
)

from electra.cli import run
from electra.config import PretrainConfig
from electra.convert import convert
from electra.corpus.tokenizer import SpecialIds
from electra.errors import ConfigError, DataError, OutputExistsError
from electra.evaluation.token_scores import TextScorer
from electra.model.pretrained_parts import open_parts
from electra.model.reference_names import reference_name
from electra.objectives.objective import build_objective
from electra.recipe import read_recipe, resolve
from electra.tasks.model_folder import load_tokenizer
from tests.golden.values import load
from tests.model.test_tf_checkpoint import reference_checkpoint
from tests.tf_bundle import write_bundle

Weights = dict[str, np.ndarray]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def told(*arguments: object, **keywords: object) -> tuple[dict[str, Path], str]:
    """Convert; return the folders and what was said."""
    said = StringIO()
    console = Console(file=said, width=10_000)
    return convert(*arguments, console=console, **keywords), said.getvalue()  # type: ignore[arg-type]


def changed(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A checkpoint of the reference's weights, changed."""
    return write_bundle(folder / "model.ckpt", change(load("initial_weights")))


def without(*beginnings: str) -> Callable[[Weights], Weights]:
    return lambda weights: {k: v for k, v in weights.items() if not k.startswith(beginnings)}


def write_vocab(folder: Path, size: int = 1000) -> Path:
    pieces = ["the", "cat", "##s", "eat", "house", "中", "é", "e", "The", ",", "'", "##'", "##e"]
    rows = SPECIAL + pieces + [f"[unused{i}]" for i in range(size - 5 - len(pieces))]
    file = folder / "vocab.txt"
    file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return file


def same_weights(folder: Path, part: str, weights: Weights, **keywords: bool) -> set[str]:
    """Check every tensor of a folder bit for bit; return the variables met."""
    met = set()
    for name, tensor in load_file(folder / "model.safetensors").items():
        full = f"discriminator.electra.{name}" if part == "encoder" else f"{part}.{name}"
        theirs, transposed = reference_name(full, **keywords)
        value = weights[theirs].T if transposed else weights[theirs]
        assert tensor.dtype == torch.float32
        assert np.array_equal(tensor, value), name
        met.add(theirs)
    return met


def test_the_references_checkpoint(tmp_path: Path) -> None:
    """Every tensor, and the outputs that the reference itself computed."""
    folders, said = told(reference_checkpoint(tmp_path), output=tmp_path / "out")
    weights, batch, expected = load("initial_weights"), load("batch"), load("forward")
    assert set(folders) == {"encoder", "discriminator", "generator"}
    met = [same_weights(folder, part, weights) for part, folder in folders.items()]
    assert set.union(*met) == set(weights)
    context = {n: torch.from_numpy(batch[n]).long() for n in ("attention_mask", "token_type_ids")}
    real, used = context["attention_mask"].bool(), torch.from_numpy(batch["masked_weights"]) > 0
    ids = {n: torch.from_numpy(expected[n]).long() for n in expected if n.endswith("input_ids")}
    generator = AutoModelForMaskedLM.from_pretrained(folders["generator"]).eval()
    discriminator = AutoModelForPreTraining.from_pretrained(folders["discriminator"]).eval()
    encoder = AutoModel.from_pretrained(folders["encoder"]).eval()
    with torch.no_grad():
        logits = generator(ids["masked_input_ids"], **context).logits
        judged = discriminator(ids["corrupted_input_ids"], **context).logits.sigmoid()
        hidden = encoder(ids["corrupted_input_ids"], **context).last_hidden_state
    at = torch.from_numpy(batch["masked_positions"]).long()
    logits = logits.gather(1, at.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))
    assert (logits - torch.from_numpy(expected["gen_logits"]))[used].abs().max() < 1e-5
    assert (judged - torch.from_numpy(expected["disc_probs"]))[real].abs().max() < 1e-5
    assert (hidden - torch.from_numpy(expected["disc_hidden"]))[real].abs().max() < 1e-5
    assert "discriminator: 2 layers of 128, inside 512, embeddings 1,000 x 64, 32 positions" in said
    assert "attention heads: 2 (assumed, tensors do not tell; --num-attention-heads or" in said
    assert "generator: 2 layers of 32, inside 128" in said
    assert "attention heads: 1 (assumed, tensors do not tell; --generator-attention-heads" in said
    assert "no vocab.txt beside the checkpoint" in said
    record = json.loads((tmp_path / "out" / "conversion.json").read_text(encoding="utf-8"))
    assert record["checkpoint"] == "model.ckpt"
    assert all(note in said for note in record["notes"])
    assert not list(tmp_path.glob("out.partial*"))


def test_without_the_head_for_replaced_tokens(tmp_path: Path) -> None:
    prefix = changed(tmp_path, without("discriminator_predictions/"))
    folders, said = told(prefix, output=tmp_path / "out")
    torch.rand(1)  # whatever was drawn before, the fresh head is the same
    again, _ = told(prefix, output=tmp_path / "again")
    weights = load("initial_weights")
    same_weights(folders["encoder"], "encoder", weights)
    same_weights(folders["generator"], "generator", weights)
    one, two = (load_file(f["discriminator"] / "model.safetensors") for f in (folders, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    head = "discriminator_predictions.dense.weight"
    assert not torch.equal(
        one[head], torch.from_numpy(weights[head.replace(".", "/")[:-6] + "kernel"].T)
    )
    assert "has no discriminator_predictions/...: the head of discriminator/ is freshly" in said
    assert "is untrained" in said
    AutoModelForPreTraining.from_pretrained(folders["discriminator"])


def test_a_discriminator_alone(tmp_path: Path) -> None:
    prefix = changed(tmp_path, without("generator"))
    folders, said = told(prefix, output=tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "conversion.json",
        "discriminator",
        "encoder",
    ]
    assert set(folders) == {"encoder", "discriminator"}
    assert "no generator (generator/...): no generator/ is written" in said
    for given in ({"generator_attention_heads": 1}, {"generator_config": tmp_path / "x.json"}):
        with pytest.raises(ConfigError, match=r"has no generator \(no variables generator/"):
            convert(prefix, output=tmp_path / "other", **given)  # type: ignore[arg-type]


def test_a_masked_lm_head_on_the_encoder(tmp_path: Path) -> None:
    def fully_shared(weights: Weights) -> Weights:
        weights = without("generator/")(weights)
        weights["generator_predictions/dense/kernel"] = np.ones((128, 64), np.float32)
        return weights

    prefix = changed(tmp_path, fully_shared)
    folders, said = told(prefix, output=tmp_path / "out", num_attention_heads=4)
    assert set(folders) == {"encoder", "discriminator", "masked_lm"}
    same_weights(folders["masked_lm"], "masked_lm", fully_shared(load("initial_weights")))
    model = AutoModelForMaskedLM.from_pretrained(folders["masked_lm"])
    assert model.config.hidden_size == 128
    assert model.config.num_attention_heads == 4
    assert "it is in masked_lm/" in said


def test_a_generator_with_embeddings_of_its_own(tmp_path: Path) -> None:
    def untied(weights: Weights) -> Weights:
        rng = np.random.default_rng(0)
        shapes = {
            n: v.shape[:-1] for n, v in weights.items() if n.startswith("electra/embeddings/")
        }
        for name, shape in shapes.items():  # as wide as its layers: nothing is projected
            value = rng.normal(size=(*shape, 32)).astype(np.float32)
            weights[name.replace("electra/", "generator/", 1)] = value
        weights = without("generator/embeddings_project", "generator_predictions")(weights)
        weights["generator_predictions/dense/kernel"] = np.ones((32, 32), np.float32)
        for name in ("dense/bias", "LayerNorm/gamma", "LayerNorm/beta"):
            weights[f"generator_predictions/{name}"] = rng.normal(size=32).astype(np.float32)
        weights["generator_predictions/output_bias"] = np.ones(1000, np.float32)
        return weights

    folders, _ = told(changed(tmp_path, untied), output=tmp_path / "out")
    weights = untied(load("initial_weights"))
    met = same_weights(folders["generator"], "generator", weights, own_embeddings=True)
    met |= same_weights(folders["discriminator"], "discriminator", weights)
    assert met == set(weights)


def test_the_state_of_training_is_left_out_aloud(tmp_path: Path) -> None:
    def trained(weights: Weights) -> Weights:
        slots = {
            f"{n}/{s}": np.zeros_like(v) for n, v in weights.items() for s in ("adam_m", "adam_v")
        }
        return weights | slots | {"global_step": np.array(1_000_000, np.int64)}

    folders, said = told(changed(tmp_path, trained), output=tmp_path / "out")
    same_weights(folders["discriminator"], "discriminator", load("initial_weights"))
    slots = 2 * len(load("initial_weights"))
    assert f"left out: {slots} slots of the optimizer, global_step (1,000,000)" in said


def strange(weights: Weights) -> Weights:
    new = {f"task_specific/cola/{i}": np.zeros(2, np.float32) for i in range(7)}
    return weights | new


def bert(weights: Weights) -> Weights:
    weights = without("generator", "discriminator_predictions")(weights)
    return {name.replace("electra/", "bert/", 1): value for name, value in weights.items()}


def narrow(weights: Weights) -> Weights:
    name = "electra/encoder/layer_1/output/dense/kernel"
    return weights | {name: weights[name][:256]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            strange,
            r"no place in ELECTRA's networks: task_specific/cola/0, .* and 2 more; .*task he",
        ),
        (bert, r"is a BERT checkpoint: its variables are bert/.*of another architecture"),
        (without("electra/"), "is no checkpoint of ELECTRA: its variables are discriminator_pred"),
        (narrow, r"layer_1/output/dense/kernel has shape \(256, 128\), .* wants \(512, 128\)"),
        (
            without("electra/encoder/layer_1/output/"),
            r"no whole discriminator: it lacks electra/encoder/layer_1/output/dense/kernel, ",
        ),
        (without("generator_predictions/output_bias"), "no whole generator: it lacks generator_pr"),
        (without("discriminator_predictions/dense/"), "no whole discriminator: it lacks discrimi"),
        (without("electra/embeddings/word"), "it lacks electra/embeddings/word_embeddings"),
        (without("electra/encoder"), "it lacks electra/encoder/layer_0/attention/self/query"),
        (without("electra/embeddings_project"), "no whole discriminator: it lacks electra/embed"),
    ],
)
def test_other_checkpoints(
    tmp_path: Path, change: Callable[[Weights], Weights], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        convert(changed(tmp_path, change), output=tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_a_torn_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    prefix = reference_checkpoint(tmp_path)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1_000_000])
    with pytest.raises(DataError, match=r"00001 is torn: .*copy or download it again"):
        convert(prefix, output=tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_heads_and_configuration(tmp_path: Path) -> None:
    prefix = reference_checkpoint(tmp_path)
    of_d, of_g = tmp_path / "discriminator.json", tmp_path / "generator.json"
    shape = {"embedding_size": 64, "num_hidden_layers": 2, "vocab_size": 1000}
    wide = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 8}
    of_d.write_text(json.dumps(shape | wide | {"hidden_dropout_prob": 0.2, "summary_type": "x"}))
    of_g.write_text(json.dumps(shape | {"hidden_size": 32, "num_attention_heads": 2}))
    folders, said = told(prefix, output=tmp_path / "a", config=of_d, generator_config=of_g)
    config = AutoModel.from_pretrained(folders["encoder"]).config
    assert (config.num_attention_heads, config.hidden_dropout_prob) == (8, 0.2)
    assert config.attention_probs_dropout_prob == 0.1
    assert AutoModel.from_pretrained(folders["generator"]).config.num_attention_heads == 2
    assert f"attention heads: 8 (of {of_d})" in said
    assert "assumed" not in said
    folders, said = told(
        prefix,
        output=tmp_path / "b",
        config=of_d,
        num_attention_heads=4,
        generator_attention_heads=4,
    )
    assert AutoModel.from_pretrained(folders["encoder"]).config.num_attention_heads == 4
    assert AutoModel.from_pretrained(folders["generator"]).config.num_attention_heads == 4
    assert "attention heads: 4 (of --generator-attention-heads)" in said
    with pytest.raises(
        ConfigError, match=r"has hidden_size 32, but that of the discriminator .*128"
    ):
        convert(prefix, output=tmp_path / "c", config=of_g)
    for heads in (0, 3):
        with pytest.raises(ConfigError, match=r"discriminator is 128 wide.* does not divide it"):
            convert(prefix, output=tmp_path / "c", num_attention_heads=heads)
    for text, message in (
        ("{", "cannot be read as JSON"),
        ("[]", "not a JSON object"),
        ('{"hidden_act": "glue"}', "hidden_act is 'glue', which is not allowed"),
        ('{"num_attention_heads": "2"}', "num_attention_heads is '2', which is not allowed"),
    ):
        of_d.write_text(text)
        with pytest.raises(ConfigError, match=message):
            convert(prefix, output=tmp_path / "c", config=of_d)


@pytest.mark.parametrize(
    ("lowercase", "strip_accents"), [(True, None), (True, False), (False, None)]
)
def test_vocabulary(tmp_path: Path, lowercase: bool, strip_accents: bool | None) -> None:
    """The tokenizer saved, against the reference's own in Python (as transformers keeps it)."""
    prefix, vocab = reference_checkpoint(tmp_path), write_vocab(tmp_path)
    folders, said = told(
        prefix, output=tmp_path / "out", lowercase=lowercase, strip_accents=strip_accents
    )
    assert "vocab.txt" not in said
    rows = vocab.read_text(encoding="utf-8").splitlines()
    pieces = WordpieceTokenizer({row: i for i, row in enumerate(rows)}, unk_token="[UNK]")
    words = BasicTokenizer(do_lower_case=lowercase, strip_accents=strip_accents)
    for folder in folders.values():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.model_max_length == 32
        assert (folder / "vocab.txt").read_bytes() == vocab.read_bytes()
        for text in ("The cats, eat the housé 中the", "é É Thé the'e", "HOUSE house xyz"):
            expected = [p for word in words.tokenize(text) for p in pieces.tokenize(word)]
            assert tokenizer.tokenize(text) == expected
        coded = tokenizer("the", "cat")
        assert coded["input_ids"] == [2, 5, 3, 6, 3]
        assert coded["token_type_ids"] == [0, 0, 0, 1, 1]
    config = AutoModel.from_pretrained(folders["encoder"]).config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 2, 3)


def test_vocabulary_that_does_not_fit(tmp_path: Path) -> None:
    prefix = reference_checkpoint(tmp_path)
    (tmp_path / "other").mkdir()
    vocab = write_vocab(tmp_path / "other", 900)
    with pytest.raises(DataError, match=r"has 900 word pieces, .*word_embeddings has 1,000 rows"):
        convert(prefix, output=tmp_path / "out", vocab=vocab)
    vocab.write_text("the\n[PAD]\n[CLS]\n")
    with pytest.raises(DataError, match=r"lacks \[UNK\], \[SEP\], \[MASK\]; a vocab"):
        convert(prefix, output=tmp_path / "out", vocab=vocab)
    with pytest.raises(DataError, match=r"nowhere\.txt cannot be read"):
        convert(prefix, output=tmp_path / "out", vocab=tmp_path / "nowhere.txt")


def test_a_row_that_stands_twice_keeps_the_others_in_place(tmp_path: Path) -> None:
    prefix, vocab = reference_checkpoint(tmp_path), write_vocab(tmp_path)
    rows = vocab.read_text(encoding="utf-8").splitlines()
    rows[8] = "the"
    vocab.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    folders, _ = told(prefix, output=tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(folders["encoder"])
    assert tokenizer.convert_tokens_to_ids(["the", "house", "cat"]) == [8, 9, 6]
    assert (folders["encoder"] / "vocab.txt").read_bytes() == vocab.read_bytes()


def test_an_old_folder_is_kept(tmp_path: Path) -> None:
    prefix, output = reference_checkpoint(tmp_path), tmp_path / "out"
    output.mkdir()
    (output / "mine").write_text("x")
    with pytest.raises(OutputExistsError, match=r"out exists; .*--overwrite"):
        convert(prefix, output=output)
    folders, said = told(prefix, output=output, overwrite=True)
    assert (tmp_path / "out.old-1" / "mine").read_text() == "x"
    assert folders["encoder"].is_dir()
    assert "the old " in said
    shutil.rmtree(output)
    output.write_text("x")
    with pytest.raises(OutputExistsError, match="is a file"):
        convert(prefix, output=output, overwrite=True)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference_checkpoint(tmp_path)
    write_vocab(tmp_path)
    command = f"convert {tmp_path} --output {tmp_path}/out --no-lowercase"
    assert run(command.split()) == 0
    assert "wrote " in capsys.readouterr().err
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "encoder").tokenize("The") == ["The"]
    assert run(f"convert {tmp_path}/none --output {tmp_path}/x".split()) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("electra: there is no TensorFlow checkpoint ")
    assert shown.count("\n") == 1


def test_what_was_converted_without_a_vocabulary_is_not_read_as_text(tmp_path: Path) -> None:
    folders, _ = told(reference_checkpoint(tmp_path), output=tmp_path / "out")
    for given in (tmp_path / "out", *folders.values()):
        if given.name != "encoder":
            with pytest.raises(
                ConfigError, match=r"holds no tokenizer .*convert does with --vocab"
            ):
                TextScorer.open(given, device="cpu")
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        load_tokenizer(str(folders["encoder"]))


@pytest.mark.parametrize(
    ("piece", "cased"),
    [("The", True), ("##É", True), ("the", False), ("[unusedA]", False), ("<S>", False)],
)
def test_the_case_is_that_of_the_vocabulary(tmp_path: Path, piece: str, cased: bool) -> None:
    prefix, vocab = reference_checkpoint(tmp_path), write_vocab(tmp_path)
    rows = vocab.read_text(encoding="utf-8").replace("\nThe\n", f"\n{piece}\n")
    vocab.write_text(rows, encoding="utf-8")
    folders, said = told(prefix, output=tmp_path / "out")
    tokens = AutoTokenizer.from_pretrained(folders["encoder"]).tokenize("CAT é")
    assert tokens == (["[UNK]", "é"] if cased else ["cat", "e"])
    reason = (
        f'text is not lowercased, as it has "{piece}"' if cased else "text is lowercased, as no"
    )
    assert f"lowercase: {reason}" in said
    assert "assumed from the vocabulary; --lowercase or --no-lowercase says it" in said
    folders, said = told(prefix, output=tmp_path / "other", lowercase=cased)
    tokens = AutoTokenizer.from_pretrained(folders["encoder"]).tokenize("CAT é")
    assert tokens == (["cat", "e"] if cased else ["[UNK]", "é"])
    assert "assumed from the vocabulary" not in said


@pytest.mark.parametrize("given", ["", "discriminator"])
def test_a_head_that_was_not_there_is_not_taken_for_trained(tmp_path: Path, given: str) -> None:
    write_vocab(tmp_path)
    prefix = changed(tmp_path, without("discriminator_predictions/"))
    told(prefix, output=tmp_path / "out")
    for method in ("auto", "discriminator"):
        with pytest.raises(ConfigError, match=r"head for replaced tokens is untrained, as the ch"):
            TextScorer.open(tmp_path / "out" / given, method=method, device="cpu")
    scorer = TextScorer.open(tmp_path / "out", method="pseudo-log-likelihood", device="cpu")
    assert Path(scorer.folder).name == "generator"
    encoder = json.loads((tmp_path / "out" / "encoder" / "config.json").read_text())
    assert "replaced_token_head" not in encoder
    config = resolve(
        PretrainConfig,
        [
            ("recipe", read_recipe("classic-tiny")),
            (
                "here",
                {
                    "model": {"discriminator": str(tmp_path / "out" / given)},
                    "data": {"max_length": 32},
                },
            ),
        ],
    )
    parts = open_parts(config)
    assert parts is not None
    special = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
    objective = build_objective(parts.reshape(config), 1000, special, parts=parts)
    assert any("has no head for replaced tokens: it is fresh" in note for note in parts.notes)
    saved = objective.model.save_parts(tmp_path / "run")["discriminator"]  # a head that trains
    assert "replaced_token_head" not in (saved / "config.json").read_text()
