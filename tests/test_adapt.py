"""`adapt` from an encoder and text to an encoder of the domain, on tiny ones."""

import io
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
)

from electra import adapt as module
from electra import pretrain as pretrain_module
from electra.adapt import Labelled, adapt
from electra.adaptation.defaults import has_fresh_head
from electra.adaptation.new_words import (
    LEAST_COUNT,
    choose_words,
    grow_network,
    grow_tokenizer,
)
from electra.adaptation.starting_point import open_starting_point
from electra.cli import run
from electra.config import FinetuneConfig, PrepareSettings, finetune_defaults
from electra.config.adapting import AdaptSettings
from electra.corpus.folder import Corpus
from electra.corpus.languages import language_settings
from electra.corpus.tokenizer import load_tokenizer, num_ids, save_tokenizer
from electra.corpus.tokenizer_training import train_tokenizer
from electra.errors import ConfigError, DataError, Interrupted, OutputExistsError, UserError
from electra.prepare import prepare
from electra.recipe import resolve
from tests.tiny import VOCABULARY, make_encoder, make_tokenizer, sentences, write_tsv

SHAPE = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
PHRASES = [
    "the films and the books was good here then",
    "one play is coldly not very warm there",
    "two plays is a film and a book",
    "the warmly film was dull and poor here",
]
QUICK: dict[str, dict[str, Any]] = {
    "optimizer": {"learning_rate": 1e-2},
    "training": {"max_steps": 40, "global_batch_size": 8, "eval_steps": 20, "save_steps": 20},
    "data": {"max_length": 16},
}


def domain(documents: int = 120, seed: int = 0) -> str:
    """Documents of four phrases, so that a model learns them in a moment."""
    chooser = random.Random(seed)
    texts = (
        " ".join(chooser.choice(PHRASES) for _ in range(chooser.randint(3, 6)))
        for _ in range(documents)
    )
    return "\n\n".join(texts)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoders `bert` (bare) and `roberta` (with a head, byte-level BPE), a pair, and text."""
    folder = tmp_path_factory.mktemp("adapt")
    (folder / "text.txt").write_text(domain(), encoding="utf-8")
    make_encoder(folder / "bert", "bert")
    torch.manual_seed(3)
    texts = [" ".join(VOCABULARY[5:28])] * 50
    tokenizer = train_tokenizer(texts, kind="bpe", vocab_size=290, settings=language_settings("en"))
    auto: Any = AutoModelForMaskedLM
    shape = SHAPE | {"vocab_size": num_ids(tokenizer)}
    auto.from_config(AutoConfig.for_model("roberta", **shape)).save_pretrained(folder / "roberta")
    save_tokenizer(tokenizer, folder / "roberta", max_length=63, token_types=False)
    pair = folder / "pair"
    discriminator = ElectraForPreTraining(ElectraConfig(**SHAPE, embedding_size=16))
    generator = ElectraForMaskedLM(
        ElectraConfig(**SHAPE | {"num_hidden_layers": 1}, embedding_size=16)
    )
    generator.electra.embeddings.load_state_dict(discriminator.electra.embeddings.state_dict())
    discriminator.save_pretrained(pair / "discriminator")
    generator.save_pretrained(pair / "generator")
    discriminator.electra.save_pretrained(pair / "encoder")
    for part in ("discriminator", "generator", "encoder"):
        make_tokenizer(pair / part)
    return folder


def start(home: Path, output: Path, model: str = "bert", **more: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": str(home / model),
        "text": [str(home / "text.txt")],
        "output": output,
        "overrides": QUICK,
    }
    return adapt(**(arguments | more))


@pytest.fixture(scope="module")
def adapted(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bare BERT with new words, shown on a task; and what was printed."""
    output = tmp_path_factory.mktemp("adapted") / "run"
    write_tsv(home / "train.tsv", ["sentence", "label"], sentences(60, 0))
    write_tsv(home / "dev.tsv", ["sentence", "label"], sentences(30, 1))
    write_tsv(home / "test.tsv", ["sentence", "label"], sentences(30, 2))
    shown = Console(file=io.StringIO(), width=200)
    labelled = Labelled(
        "text-classification",
        *(str(home / f"{name}.tsv") for name in ("train", "dev", "test")),
        seeds=2,
        config=resolve(
            FinetuneConfig,
            [*finetune_defaults("text-classification"), ("test", {"training": {"max_steps": 3}})],
        ),
    )
    start(
        home,
        output,
        settings=AdaptSettings(new_words=3, validation_share=0.1, licence="made for the tests"),
        labelled=labelled,
        console=shown,
    )
    assert isinstance(shown.file, io.StringIO)
    return output, shown.file.getvalue()


def test_the_encoder_learns_the_domain(adapted: tuple[Path, str]) -> None:
    output, shown = adapted
    report = json.loads((output / "report.json").read_text("utf-8"))
    before, after = report["held_out"]["before"], report["held_out"]["after"]
    assert after["masked_lm_loss"] < before["masked_lm_loss"] - 0.3
    assert after["masked_lm_accuracy"] > before["masked_lm_accuracy"]
    assert (report["objective"], report["head"]) == ("masked_lm", "fresh")
    assert report["training"]["steps"] == 40
    for when in ("before", "after"):
        assert len(report["task"][when]["validation"]) == len(report["task"][when]["test"]) == 2
    for part in ("held-out masked-LM loss", "text-classification: accuracy, test", "fresh head"):
        assert part in shown
    card = (output / "encoder" / "README.md").read_text("utf-8")
    for part in ("made for the tests", "3 words of the domain", "accuracy, test", "masked_lm"):
        assert part in card
    assert str(output.parent) not in card


def test_the_encoder_opens_and_knows_the_new_words(adapted: tuple[Path, str], home: Path) -> None:
    folder = adapted[0] / "encoder"
    encoder, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    words = json.loads((adapted[0] / "report.json").read_text("utf-8"))["new_words"]["words"]
    assert len(words) == 3
    first = len(VOCABULARY)
    for number, word in enumerate(words):
        assert tokenizer(word, add_special_tokens=False)["input_ids"] == [first + number]
    assert tokenizer.tokenize("the film is not here") == ["the", "film", "is", "not", "here"]
    assert tokenizer.model_max_length == 64
    assert "token_type_ids" in tokenizer("a film")
    assert encoder.config.vocab_size == first + 3
    encoder(**tokenizer("the films was good", return_tensors="pt"))
    # what masked LM does not train is as it was; what it trains has moved
    old, new = load_file(home / "bert" / "model.safetensors"), encoder.state_dict()
    assert torch.equal(old["pooler.dense.weight"], new["pooler.dense.weight"])
    layer = "encoder.layer.1.output.dense.weight"
    assert not torch.allclose(old[layer], new[layer], atol=1e-3)
    assert (folder / "vocab.txt").read_text("utf-8").split()[-3:] == words


def test_new_words_begin_as_the_means_of_their_pieces(
    adapted: tuple[Path, str], home: Path
) -> None:
    """Against the pieces that the tokenizer of the old encoder cuts the words into."""
    begun = AutoModel.from_pretrained(adapted[0] / "start" / "encoder")
    old = AutoModel.from_pretrained(home / "bert")
    pieces = AutoTokenizer.from_pretrained(home / "bert")
    table, before = (m.get_input_embeddings().weight.detach() for m in (begun, old))
    assert torch.equal(table[: len(before)], before)
    words = json.loads((adapted[0] / "start" / "words.json").read_text("utf-8"))["words"]
    for number, word in enumerate(words):
        ids = pieces(word, add_special_tokens=False)["input_ids"]
        assert len(ids) > 1
        mean = sum(before[i] for i in ids) / len(ids)
        assert torch.allclose(table[len(before) + number], mean, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_output_rows_and_bias_begin_as_means_too(tied: bool) -> None:
    torch.manual_seed(0)
    auto: Any = AutoModelForMaskedLM
    old = auto.from_config(AutoConfig.for_model("bert", **SHAPE, tie_word_embeddings=tied)).eval()
    with torch.no_grad():
        old.get_output_embeddings().bias.normal_()
    v = len(VOCABULARY)
    new = grow_network(old, {v: (5, 6, 7), v + 1: (8, 9)})
    ids = torch.tensor([[2, 5, 6, 20, 3]])
    with torch.no_grad():
        before, after = old(ids).logits, new(ids).logits
    assert torch.allclose(after[..., :v], before, atol=1e-5)  # the old ones are what they were
    # both are linear in row and bias: the logit of a mean is the mean of the logits
    assert torch.allclose(after[..., v], before[..., 5:8].mean(-1), atol=1e-5)
    assert torch.allclose(after[..., v + 1], before[..., 8:10].mean(-1), atol=1e-5)
    table = new.get_input_embeddings().weight
    assert torch.allclose(table[v], old.get_input_embeddings().weight[5:8].mean(0), atol=1e-6)
    assert (new.get_output_embeddings().weight is table) is tied


@pytest.fixture(scope="module")
def corpora(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Corpus]:
    folder = tmp_path_factory.mktemp("corpora")
    for name in ("bert", "roberta"):
        settings = PrepareSettings(tokenizer=str(home / name), validation_share=0.1)
        prepare([home / "text.txt"], output=folder / name, settings=settings)
    return {name: Corpus(folder / name) for name in ("bert", "roberta")}


def words_of(corpus: Corpus) -> Counter[str]:
    """Words of the training split that have several pieces, by reading them one by one."""
    tokenizer, counts = load_tokenizer(corpus.folder), Counter[str]()
    split = corpus.split("train")
    for shard, info in enumerate(split.shards):
        text = tokenizer.decode(split.tokens(shard, 0, info.tokens).tolist())
        counts.update(text.split())
    cut = (w for w in counts if len(tokenizer.encode(f" {w}", add_special_tokens=False).ids) > 1)
    return Counter({word: counts[word] for word in cut})


def test_chosen_words_are_those_worth_most(corpora: dict[str, Corpus]) -> None:
    corpus = corpora["bert"]
    tokenizer, expected = load_tokenizer(corpus.folder), words_of(corpus)
    assert set(expected) == {"films", "books", "plays", "coldly", "warmly"}
    found = choose_words(corpus, tokenizer, 10)
    assert {w.text: w.count for w in found} == dict(expected)
    worth = [w.saved for w in found]
    assert worth == sorted(worth, reverse=True)
    assert [w.text for w in choose_words(corpus, tokenizer, 2)] == [w.text for w in found[:2]]
    for word in found:
        assert word.pieces == tuple(tokenizer.encode(word.text, add_special_tokens=False).ids)
        assert word.count >= LEAST_COUNT


def test_byte_level_words_keep_their_space(corpora: dict[str, Corpus]) -> None:
    corpus = corpora["roberta"]
    tokenizer = load_tokenizer(corpus.folder)
    found = choose_words(corpus, tokenizer, 4)
    assert found
    assert {word.token for word in found} <= {f"\u0120{w}" for w in words_of(corpus)}
    grown = grow_tokenizer(tokenizer, found)
    for number, word in enumerate(found):
        ids = grown.encode(f"the {word.text}", add_special_tokens=False).ids
        assert ids[-1] == num_ids(tokenizer) + number
        assert tuple(tokenizer.encode(f" {word.text}", add_special_tokens=False).ids) == word.pieces
    assert grown.decode(grown.encode("the films.").ids) == tokenizer.decode(
        tokenizer.encode("the films.").ids
    )


def test_a_word_that_makes_others_unknown_is_left_out(tmp_path: Path) -> None:
    """WordPiece takes `films`, and has no piece for the rest of the rarer `filmsq`."""
    make_tokenizer(tmp_path)
    table = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    for piece in ("##sq", "##e"):
        table["model"]["vocab"][piece] = len(table["model"]["vocab"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(table), encoding="utf-8")
    texts = domain(60).split("\n\n")
    texts[::3] = [f"{text} a filmsq was here and a booke was there" for text in texts[::3]]
    (tmp_path / "text.txt").write_text("\n\n".join(texts), encoding="utf-8")
    settings = PrepareSettings(tokenizer=str(tmp_path), validation_share=0.1)
    prepare([tmp_path / "text.txt"], output=tmp_path / "corpus", settings=settings)
    corpus = Corpus(tmp_path / "corpus")
    tokenizer = load_tokenizer(corpus.folder)
    chosen = {word.text for word in choose_words(corpus, tokenizer, 5)}
    assert chosen == {"books", "plays", "coldly", "warmly"}
    everything = {word.text for word in choose_words(corpus, tokenizer, 20)}
    assert {"films", "filmsq", "booke"} <= everything  # none of them is unknown then


def test_a_masked_lm_with_its_head_and_byte_level_words(home: Path, tmp_path: Path) -> None:
    report = start(
        home, tmp_path / "run", "roberta", settings=AdaptSettings(new_words=2, validation_share=0.1)
    )
    assert (report["head"], report["new_words"]["added"]) == ("own", 2)
    after = report["held_out"]["after"]["masked_lm_loss"]
    assert after < report["held_out"]["before"]["masked_lm_loss"] - 0.3
    folder = tmp_path / "run" / "encoder"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    word = report["new_words"]["words"][0]
    (number,) = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    assert number >= num_ids(load_tokenizer(home / "roberta"))
    assert tokenizer.model_max_length == 63  # positions begin behind that of padding
    AutoModel.from_pretrained(folder)(**tokenizer("a film", return_tensors="pt"))
    AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "pretraining" / "masked_lm")


def test_a_pair_goes_on_by_replaced_tokens(home: Path, tmp_path: Path) -> None:
    report = start(home, tmp_path / "run", "pair", settings=AdaptSettings(new_words=2))
    assert report["objective"] == "replaced_token_detection"
    before, after = report["held_out"]["before"], report["held_out"]["after"]
    assert after["masked_lm_loss"] < before["masked_lm_loss"] - 0.3
    assert {"discriminator_auc", "discriminator_loss"} <= before.keys() & after.keys()
    assert (tmp_path / "run" / "pretraining" / "generator").is_dir()
    trained = load_file(tmp_path / "run" / "pretraining" / "encoder" / "model.safetensors")
    saved = load_file(tmp_path / "run" / "encoder" / "model.safetensors")
    assert trained.keys() == saved.keys()
    assert all(torch.equal(trained[name], saved[name]) for name in saved)
    assert report["head"] == "own"
    # one of the parts alone, or another objective: by masked LM
    point = open_starting_point(str(home / "pair"), objective="masked_lm")
    assert point.generator is None
    apart = open_starting_point(
        str(home / "pair" / "discriminator"), str(home / "pair" / "generator")
    )
    assert apart.objective == "replaced_token_detection"
    assert not has_fresh_head(apart)
    bare, generator = str(home / "bare"), str(home / "pair" / "generator")
    AutoModel.from_pretrained(home / "pair" / "discriminator").save_pretrained(bare)
    make_tokenizer(home / "bare")
    assert has_fresh_head(open_starting_point(bare, generator)), "no head that tells"
    assert start(home, tmp_path / "bare", bare, generator=generator)["head"] == "fresh"


def weights(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.glob("*.safetensors"))}


def test_stopped_anywhere_it_goes_on_to_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = AdaptSettings(new_words=2)
    whole = start(home, tmp_path / "whole", settings=settings)

    def gone(*_: object, **__: object) -> None:
        raise MemoryError

    def again(patched: object, name: str, stand_in: Callable[..., Any], error: type) -> None:
        resume = "auto" if (tmp_path / "stopped").exists() else "never"
        with monkeypatch.context() as patch:
            patch.setattr(patched, name, stand_in)
            with pytest.raises(error) as caught:
                start(home, tmp_path / "stopped", settings=settings, resume=resume)
        if error is Interrupted:
            assert "the same electra adapt command with --resume auto" in str(caught.value)

    real = pretrain_module.probe

    def interrupting(*given: Any, **more: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return real(*given, **more)

    again(module, "save_with_words", gone, MemoryError)
    again(module, "held_out_metrics", gone, MemoryError)
    again(pretrain_module, "probe", interrupting, Interrupted)
    assert (tmp_path / "stopped" / "pretraining" / "checkpoints").is_dir()
    again(module, "save_encoder", gone, MemoryError)
    with pytest.raises(OutputExistsError, match="already holds a run"):
        start(home, tmp_path / "stopped", settings=settings)
    with pytest.raises(ConfigError, match=r"was begun otherwise .*adapt.new_words 2 -> 0"):
        start(home, tmp_path / "stopped", resume="auto")
    report = start(home, tmp_path / "stopped", settings=settings, resume="auto")
    assert weights(tmp_path / "stopped" / "encoder") == weights(tmp_path / "whole" / "encoder")
    assert report["held_out"] == whole["held_out"]
    assert not list((tmp_path / "stopped").glob(".*partial"))
    said = Console(file=io.StringIO(), width=200)
    again_said = start(home, tmp_path / "stopped", settings=settings, resume="auto", progress=said)
    assert again_said == report
    assert "is finished: nothing to do" in cast(io.StringIO, said.file).getvalue()
    start(home, tmp_path / "stopped", settings=settings, overwrite=True)
    assert (tmp_path / "stopped.old-1" / "report.json").is_file()


def test_what_is_refused(home: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"

    def refused(match: str, error: type = ConfigError, **more: Any) -> None:
        with pytest.raises(error, match=match) as caught:
            start(home, output, **more)
        assert "\n" not in str(caught.value)
        assert not output.exists()

    refused("no budget: give --minutes", overrides={})
    refused("--minutes and --training.max-steps are both budgets", minutes=1.0)
    refused("--minutes is 0; allowed: above 0", minutes=0, overrides={})
    refused("no text given", text=[])
    refused("nothing.txt does not exist", error=UserError, text=[str(tmp_path / "nothing.txt")])
    refused(
        'section "training" has no field "max_stepz"',
        overrides={"training": {"max_stepz": 1, "max_steps": 1}},
    )
    refused("nowhere does not exist", model="../nowhere")
    (home / "empty").mkdir(exist_ok=True)
    refused("empty holds no config.json, neither itself nor in encoder, masked_lm", model="empty")
    (home / "begun").mkdir(exist_ok=True)
    (home / "begun" / "config.toml").touch()
    refused("generator; its run is not finished: go on with it by --resume auto", model="begun")
    shutil.copytree(home / "bert", home / "of_a_task", dirs_exist_ok=True)
    (home / "of_a_task" / "task.json").write_text("{}", encoding="utf-8")
    refused(
        "of_a_task is a model of a task .*give the one it was fine-tuned from", model="of_a_task"
    )
    shutil.copytree(home / "bert", home / "gpt", dirs_exist_ok=True)
    config = json.loads((home / "gpt" / "config.json").read_text("utf-8"))
    (home / "gpt" / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    refused(
        "--model .*gpt is a gpt2; pretraining continues from ELECTRA or ModernBERT", model="gpt"
    )
    shutil.copytree(home / "bert", home / "silent", dirs_exist_ok=True)
    for name in ("tokenizer.json", "vocab.txt"):
        (home / "silent" / name).unlink(missing_ok=True)
    refused("silent holds no tokenizer.json", error=DataError, model="silent")
    refused(
        "is a bert, which goes on by masked LM alone",
        overrides={**QUICK, "objective": {"name": "replaced_token_detection"}},
    )
    refused(
        "--generator .* is for replaced token detection",
        model="pair",
        generator="x",
        overrides={**QUICK, "objective": {"name": "masked_lm"}},
    )
    strange = tmp_path / "strange.txt"
    strange.write_text("\n\n".join(f"漢字 仮名 {n} " * 9 for n in range(200)), encoding="utf-8")
    refused("of the tokens of the text are unknown to the model's tokenizer", text=[str(strange)])
    words = AdaptSettings(new_words=2)
    refused("take a --model made for this language", text=[str(strange)], settings=words)
    electric = {**QUICK, "objective": {"name": "electric"}}
    refused(
        "the objective trains no generator .* or take another --objective.name",
        model="pair",
        overrides=electric,
    )
    long = {**QUICK, "data": {"max_length": 4096}}
    refused("4,?096", error=UserError, overrides=long)
    refused("there is no task|did you mean", labelled=Labelled("text-clasification", "x", "y"))
    missing = str(tmp_path / "no.tsv")
    refused(
        "--seeds is 0; allowed: 1 or more",
        labelled=Labelled("text-classification", "x", "y", seeds=0),
    )
    refused("no.tsv", error=DataError, labelled=Labelled("text-classification", missing, missing))
    with pytest.raises(ConfigError, match="--new-words is -1; allowed: 0 or more"):
        AdaptSettings(new_words=-1)


def test_new_words_of_a_tokenizer_with_scores_are_refused(home: Path, tmp_path: Path) -> None:
    make_encoder(tmp_path / "m", "bert")
    unigram = train_tokenizer(
        [domain(30)], kind="unigram", vocab_size=40, settings=language_settings("en")
    )
    save_tokenizer(unigram, tmp_path / "m", max_length=64, token_types=True)
    with pytest.raises(
        ConfigError, match=r"for WordPiece and byte-level BPE tokenizers; .* Unigram"
    ):
        start(home, tmp_path / "run", str(tmp_path / "m"), settings=AdaptSettings(new_words=1))
    plain = [" ".join(["the film was good here"] * n) for n in range(1, 9)]
    (tmp_path / "plain.txt").write_text("\n\n".join(plain), encoding="utf-8")
    with pytest.raises(ConfigError, match="no word of the text is cut into pieces and occurs 5"):
        start(
            home,
            tmp_path / "run",
            text=[str(tmp_path / "plain.txt")],
            settings=AdaptSettings(new_words=1),
        )


def test_the_command(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = tmp_path / "more.txt"
    second.write_text(domain(20, seed=5), encoding="utf-8")
    command = f"adapt --model {home}/bert --text {home}/text.txt {second} --output {tmp_path}/run"
    flags = "--training.max-steps 2 --training.global-batch-size 4 --data.max-length 16 --json"
    assert run([*command.split(), *flags.split()]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["training"]["steps"] == 2
    assert report["recipe"]["max_length"] == 16
    assert run([*command.split(), "--minutes", "1", "--task", "text-classification"]) == 2
    shown = capsys.readouterr().err
    assert "--task is for fine-tuning before and after, which wants --train and --valid" in shown


def test_a_mistake_here_leaves_the_folder_one_stands_in(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"4,?096"):
        start(home, Path("."), overrides={**QUICK, "data": {"max_length": 4096}})
    assert not list(tmp_path.iterdir())
