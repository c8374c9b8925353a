"""Fast-ELECTRA: a generator that stays as it is, samples that cool down, replacements on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from electra.config import PretrainConfig
from electra.corpus.folder import Corpus
from electra.corpus.tokenizer import load_tokenizer
from electra.errors import ConfigError, DataError
from electra.model.frozen_generator import FrozenGenerator
from electra.objectives.fast_electra import FastElectra
from electra.objectives.objective import RunFacts, build_objective
from electra.objectives.replacement_store import ReplacementStore
from electra.pretrain import pretrain
from electra.training.checkpoint import module_tensors
from electra.training.optimizer import build_optimizer
from tests.objectives.build import SPECIAL, noise
from tests.shapes import tiny_config
from tests.test_pretrain import StopAt, rows_of


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of masked LM long enough to know frequent from rare tokens."""
    run = tmp_path_factory.mktemp("generator") / "run"
    config = tiny_config(
        "modern",
        model={"initialization": "scaled"},
        objective={"name": "masked_lm", "discriminator_weight": 50.0},
        optimizer={"learning_rate": 1e-2},
        training={"max_steps": 150, "global_batch_size": 16},
    )
    pretrain(data=corpus, output=run, config=config)
    return run


def recipe(generator: Path, **sections: Any) -> PretrainConfig:
    given = sections.pop("objective", {})
    objective = {"name": "fast_electra", "generator_folder": str(generator), "temperature": 2.0}
    return tiny_config("modern", objective=objective | given, **sections)


def make(generator: Path, corpus: Path, **sections: Any) -> FastElectra:
    torch.manual_seed(0)
    vocab_size = len(load_tokenizer(corpus).get_vocab())
    objective = build_objective(recipe(generator, **sections), vocab_size, SPECIAL)
    assert isinstance(objective, FastElectra)
    return objective


def facts(config: PretrainConfig, corpus: Path, told: list[str] | None = None) -> RunFacts:
    told = [] if told is None else told
    fingerprint = str(Corpus(corpus).manifest["fingerprint"])
    return RunFacts(config, load_tokenizer(corpus), fingerprint, told.append)


def text(rows: int = 64, length: int = 16) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 100, (rows, length), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    return {"input_ids": ids}


def test_the_generator_is_frozen(trained: Path, corpus: Path) -> None:
    objective = make(trained, corpus).train()
    before = {n: p.clone() for n, p in objective.generator.state_dict().items()}
    optimizer = build_optimizer(objective, recipe(trained).optimizer)
    batch, _ = objective.prepare(text(8), noise())
    objective.forward(batch, noise()).losses["discriminator_loss"].backward()
    optimizer.step()
    for name, tensor in objective.generator.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(p.requires_grad or p.grad is not None for p in objective.generator.parameters())
    assert not any(module.training for module in objective.generator.network.modules())
    own = {id(p) for p in objective.generator.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert held
    assert not own & {id(p) for p in held}
    assert not any("generator" in name for name in module_tensors(objective))


def test_it_moves_with_the_objective(trained: Path, corpus: Path) -> None:
    objective = make(trained, corpus).to("meta")
    assert {p.device.type for p in objective.generator.parameters()} == {"meta"}
    assert {p.device.type for p in objective.parameters()} == {"meta"}


def test_samples_cool_down(trained: Path, corpus: Path) -> None:
    objective = make(trained, corpus, objective={"temperature": 4.0, "final_temperature": 0.25})
    found = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        objective.begin_step(progress)
        found.append(objective.temperature)
    assert found == pytest.approx([4.0, 2.0, 1.0, 0.25])


def test_hot_samples_are_wrong_more_often(trained: Path, corpus: Path) -> None:
    objective = make(trained, corpus, objective={"mask_prob": 0.3})
    split = Corpus(corpus).split("train")
    rows = [split.tokens(0, i * 14, 14).tolist() for i in range(200)]
    batch = {"input_ids": torch.tensor([[SPECIAL.cls, *row, SPECIAL.sep] for row in rows])}
    shares = []
    for temperature in (0.05, 1.0, 8.0):
        objective.temperature = temperature
        prepared, _ = objective.prepare(batch, noise())
        total, count = objective.forward(prepared, noise(1)).metrics["replaced_share"]
        shares.append(float(total) / float(count))
    assert shares[0] + 0.01 < shares[1] < shares[2] - 0.03, shares


class Counted:
    """Counts the calls of the generator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, whole = 0, FrozenGenerator.logits

        def logits(*args: Any) -> torch.Tensor:
            self.calls += 1
            return whole(*args)

        monkeypatch.setattr(FrozenGenerator, "logits", logits)


@pytest.mark.parametrize(
    "budget", [{"max_steps": 6, "micro_batch_size": 4}, {"max_tokens": 700, "eval_steps": 2}]
)
@pytest.mark.parametrize(
    ("family", "examples"), [("classic", "two_segments"), ("modern", "packed")]
)
def test_kept_replacements_are_those_drawn(
    trained: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budget: dict[str, int],
    family: str,
    examples: str,
) -> None:
    """A run without a store, one that fills it and one that reads it learn the same bits."""

    def config(store: Path | None) -> PretrainConfig:
        given = {"name": "fast_electra", "generator_folder": str(trained), "temperature": 2.0}
        kept = {"replacements": str(store)} if store else {}
        return tiny_config(
            family,
            objective={**given, **kept},
            model={"hidden_dropout_prob": 0.1},
            training=budget,
            data={"examples": examples},
        )

    count = Counted(monkeypatch)
    pretrain(data=corpus, output=tmp_path / "plain", config=config(None))
    drawn = count.calls
    pretrain(data=corpus, output=tmp_path / "first", config=config(tmp_path / "kept"))
    first, count.calls = count.calls - drawn, 0
    assert 0 < first <= drawn  # held-out text is drawn once
    pretrain(data=corpus, output=tmp_path / "second", config=config(tmp_path / "kept"))
    assert count.calls == 0
    rows = rows_of(tmp_path / "plain")
    assert rows_of(tmp_path / "first") == rows
    assert rows_of(tmp_path / "second") == rows
    assert rows[0]["replaced_share"] > 0
    header = json.loads((tmp_path / "kept" / "replacements.json").read_text("utf-8"))
    assert header["temperature"] == 2.0
    assert header["token_bytes"] == 2
    environment = json.loads((tmp_path / "second" / "environment.json").read_text("utf-8"))
    generator = environment["inputs"]["objective.generator-folder"]
    assert generator == {"name": str(trained), "sha256": header["generator_sha256"]}


def test_another_discriminator_may_read_them(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"replacements": str(tmp_path / "kept")}
    pretrain(data=corpus, output=tmp_path / "one", config=recipe(trained, objective=kept))
    count = Counted(monkeypatch)
    other = recipe(
        trained,
        model={"num_hidden_layers": 3},
        objective=kept | {"discriminator_weight": 1.0},
        training={"micro_batch_size": 2},
        optimizer={"learning_rate": 1e-4},
    )
    pretrain(data=corpus, output=tmp_path / "two", config=other)
    assert count.calls == 0
    rows = [[r for r in rows_of(tmp_path / name) if "loss" in r] for name in ("one", "two")]
    shares = [[row["replaced_share"] for row in of_run] for of_run in rows]
    assert shares[0] == pytest.approx(shares[1])


def test_a_torn_record_is_drawn_again(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    config = recipe(trained, objective={"replacements": str(kept)})
    pretrain(data=corpus, output=tmp_path / "whole", config=config)
    whole = (kept / "train-00000.bin").read_bytes()
    (kept / "train-00000.bin").write_bytes(whole[:-7])
    count = Counted(monkeypatch)
    pretrain(data=corpus, output=tmp_path / "again", config=config)
    assert count.calls == 1
    assert (kept / "train-00000.bin").read_bytes() == whole
    assert rows_of(tmp_path / "again") == rows_of(tmp_path / "whole")


def test_resumed_equals_undisturbed(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(name: str) -> PretrainConfig:
        return recipe(
            trained,
            objective={"replacements": str(tmp_path / name)},
            training={"max_steps": 9, "save_steps": 3, "eval_steps": 3},
        )

    pretrain(data=corpus, output=tmp_path / "whole", config=config("a"))
    from electra.training import loop

    monkeypatch.setattr(loop, "clip_gradients", StopAt(loop.clip_gradients, 6))
    with pytest.raises(MemoryError):
        pretrain(data=corpus, output=tmp_path / "run", config=config("b"))
    monkeypatch.undo()
    pretrain(data=corpus, output=tmp_path / "run", config=config("b"), resume="auto")
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    files = [(tmp_path / name / "train-00000.bin").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_runs_that_differ_are_refused(trained: Path, corpus: Path, tmp_path: Path) -> None:
    kept = {"replacements": str(tmp_path / "kept")}

    def begin(**sections: Any) -> None:
        sections["objective"] = {**kept, **sections.get("objective", {})}
        objective = make(trained, corpus, **sections)
        objective.begin_run(facts(recipe(trained, **sections), corpus))

    begin()
    begin(model={"num_hidden_layers": 3}, training={"eval_steps": 3})
    for message, sections in {
        r"temperature 2\.0 there, 3\.0 here": {"objective": {"temperature": 3.0}},
        "final temperature 1.0 there, 0.5": {"objective": {"final_temperature": 0.5}},
        r"mask prob 0\.15 there, 0\.3 here; slots 2 there": {"objective": {"mask_prob": 0.3}},
        "seed 0 there, 1 here": {"training": {"seed": 1}},
        "global batch size 8 there, 4": {"training": {"global_batch_size": 4}},
        "max steps 8 there, 9 here": {"training": {"max_steps": 9}},
        "max length 16 there, 20 here": {"data": {"max_length": 20}},
        "examples packed there, documents here": {"data": {"examples": "documents"}},
    }.items():
        with pytest.raises(ConfigError, match=message) as refused:
            begin(**sections)
        assert "give another folder, or what it was drawn with" in str(refused.value)
    with pytest.raises(ConfigError, match=r"needs a budget of --training\.max-steps or"):
        begin(training={"max_steps": None, "minutes": 1.0})
    header = tmp_path / "kept" / "replacements.json"
    changed = json.loads(header.read_text("utf-8")) | {"generator_sha256": "0" * 64}
    header.write_text(json.dumps(changed))
    with pytest.raises(ConfigError, match=r"\(generator sha256 0000000000000000 there"):
        begin()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    kept["replacements"] = str(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"holds other files and no replacements\.json"):
        begin()


def test_generators_that_do_not_fit_are_refused(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    def begin(folder: Path, told: list[str] | None = None, **sections: Any) -> FastElectra:
        objective = make(folder, corpus, **sections)
        objective.begin_run(facts(recipe(folder, **sections), corpus, told))
        return objective

    with pytest.raises(ConfigError, match=r"needs --objective\.generator-folder, a trained"):
        build_objective(tiny_config("modern", objective={"name": "fast_electra"}), 50, SPECIAL)
    with pytest.raises(ConfigError, match=r"gone does not exist \(a folder or a Hub id"):
        make(tmp_path / "gone", corpus)
    with pytest.raises(ConfigError, match=r"holds no config\.json, neither itself nor in gen"):
        make(tmp_path, corpus)
    with pytest.raises(ConfigError, match="is no masked LM: it lacks"):
        make(trained / "encoder", corpus)
    longer = {"model": {"max_position_embeddings": 64}, "data": {"max_length": 40}}
    with pytest.raises(ConfigError, match=r"reads at most 32 tokens: lower --data\.max-length 40"):
        begin(trained, **longer)
    # a BERT, without a tokenizer: by its size
    told: list[str] = []
    vocab_size = len(load_tokenizer(corpus).get_vocab())
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = BertConfig(vocab_size=vocab_size, intermediate_size=16, **shape)
    BertForMaskedLM(bert).save_pretrained(tmp_path / "bert")
    objective = begin(tmp_path / "bert", told)
    assert "holds no tokenizer: that its 120 ids are the 120 word pieces of the corpus" in told[0]
    batch, _ = objective.prepare(text(4), noise())
    assert torch.isfinite(objective.forward(batch, noise()).losses["discriminator_loss"])
    larger = BertConfig(vocab_size=vocab_size + 1, intermediate_size=16, **shape)
    BertForMaskedLM(larger).save_pretrained(tmp_path / "larger")
    with pytest.raises(ConfigError, match="has 121 ids, the corpus 120 word pieces"):
        begin(tmp_path / "larger")
    # another tokenizer: by the hashes
    tokenizer = (trained / "masked_lm" / "tokenizer.json").read_text("utf-8")
    (tmp_path / "bert" / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    begin(tmp_path / "bert")
    swapped = json.loads(tokenizer)
    vocabulary = swapped["model"]["vocab"]
    one, other = [piece for piece in vocabulary if piece.isalpha()][:2]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (tmp_path / "bert" / "tokenizer.json").write_text(json.dumps(swapped), encoding="utf-8")
    hashes = r"another vocabulary \(sha256 [0-9a-f]{16}\) than the corpus \([0-9a-f]{16}\)"
    with pytest.raises(ConfigError, match=hashes):
        begin(tmp_path / "bert")


@torch.no_grad()
def test_any_masked_lm_gives_what_its_class_gives(trained: Path) -> None:
    generator = FrozenGenerator.open(str(trained), flag="--generator")
    batch, positions = text(4), torch.tensor([[1, 5, 0]] * 4)
    mask = torch.ones_like(batch["input_ids"])
    mask[1, 9:] = 0
    expected = generator.network(input_ids=batch["input_ids"], attention_mask=mask).logits
    found = generator.logits(batch["input_ids"], {"attention_mask": mask}, positions)
    for row in range(4):
        assert torch.allclose(found[row], expected[row, positions[row]], atol=1e-4)


def drawn(first: int, rows: int) -> tuple[Any, Any]:
    positions = np.arange(first, first + rows)[:, None] + np.array([1, 2])
    return positions, positions + 70_000


def test_the_store(tmp_path: Path) -> None:
    def store(**facts: object) -> ReplacementStore:
        return ReplacementStore(tmp_path / "s", {"seed": 0} | facts, slots=2, vocab_size=80_000)

    one = store()
    one.append("train", 0, 0, drawn(0, 4))
    one.append("train", 1, 4, drawn(4, 4))  # of another process
    one.append("train", 0, 8, drawn(8, 2))
    for again in (one, store()):
        for first, rows in ((0, 4), (2, 8), (9, 1)):
            found = again.read("train", first, rows)
            assert found is not None
            assert all(np.array_equal(a, b) for a, b in zip(found, drawn(first, rows), strict=True))
        assert again.read("train", 9, 2) is None
        assert again.read("validation", 0, 1) is None
    # two writers at once
    other = store()
    other.append("train", 0, 10, drawn(10, 1))
    with pytest.raises(ConfigError, match=r"another run writes train-00000.bin, too; wait for it"):
        one.append("train", 0, 10, drawn(10, 1))
    path = tmp_path / "s" / "train-00000.bin"
    damaged = bytearray(path.read_bytes())
    damaged[20] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match=r"train-00000.bin is damaged at byte 0; delete the folder"):
        store().read("train", 0, 1)
    damaged[-1] ^= 1  # the last record is passed over
    path.write_bytes(bytes(damaged))
    assert store().read("train", 10, 1) is None
