import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from electra.config import HeadConfig, OptimizerConfig
from electra.errors import ConfigError
from electra.tasks.labelled_data import Columns
from electra.tasks.lora import add_lora, has_lora, merged_state_dict, target_layers
from electra.tasks.model_folder import add_special_tokens, load_tokenizer, save_model_folder
from electra.tasks.objective import FinetuneObjective
from electra.tasks.text_classification import CLASSIFICATION, TextClassification
from electra.training.checkpoint import CheckpointStore
from electra.training.noise import Noise
from electra.training.optimizer import build_optimizer, parameter_groups
from electra.training.schedule import TrainState
from tests.tiny import make_encoder

peft = pytest.importorskip("peft", reason='no peft; pip install "electra[lora]"')

TASK = TextClassification(CLASSIFICATION, ("bad", "good"), Columns("text", None, "label"), 32)
LORA = HeadConfig(adapter="lora", lora_r=3, lora_alpha=9)
ALL = HeadConfig(adapter="lora", lora_r=3, lora_alpha=9, lora_targets="all")
FAMILIES = ["bert", "electra", "roberta", "deberta-v2", "modernbert"]
WIDE, FEED = 16, 32
ATTENTION = {  # in + out of the linear layers, for each layer
    "modernbert": [WIDE + 3 * WIDE, 2 * WIDE],  # Wqkv is one matrix
}
FEED_FORWARD = {"modernbert": [WIDE + 2 * FEED, WIDE + FEED]}  # gated


@pytest.fixture(scope="module")
def families(encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    deberta = make_encoder(tmp_path_factory.mktemp("deberta"), "deberta-v2")
    return {**encoders, "deberta-v2": deberta}


def adapted(encoder: Path, head: HeadConfig = LORA, tokens: tuple[int, ...] = ()) -> Any:
    torch.manual_seed(1)
    model: Any = TASK.build_model(str(encoder), head)
    add_lora(model, head, tokens)
    return model


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 30, (4, 7), generator=torch.Generator().manual_seed(seed))
    labels = torch.tensor([0, 1, 1, 0])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def train(objective: FinetuneObjective, steps: int = 3) -> torch.optim.Optimizer:
    optimizer = build_optimizer(objective, OptimizerConfig(learning_rate=0.05), num_layers=2)
    objective.train()
    for seed in range(steps):
        optimizer.zero_grad()
        loss = objective(batch(seed), Noise(0)).losses["task_loss"]
        loss.backward()
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", [LORA, ALL], ids=["attention", "all"])
def test_the_saved_folder_answers_as_the_adapted_model(
    families: dict[str, Path], family: str, head: HeadConfig, tmp_path: Path
) -> None:
    plain: Any = TASK.build_model(str(families[family]), HeadConfig())
    model = adapted(families[family], head)
    assert type(model) is type(plain)
    assert has_lora(model)
    assert not has_lora(plain)
    sums = ATTENTION.get(family, [2 * WIDE] * 4)
    if head is ALL:
        sums = sums + FEED_FORWARD.get(family, [WIDE + FEED] * 2)
    encoder = model.base_model
    of_adapters = [p.numel() for n, p in encoder.named_parameters() if ".lora_" in n]
    assert sum(of_adapters) == 2 * head.lora_r * sum(sums)
    of_rest = {n for n, p in model.named_parameters() if p.requires_grad and ".lora_" not in n}
    heads = {n for n, _ in plain.named_parameters() if not n.startswith(plain.base_model_prefix)}
    assert of_rest == heads | {n for n, _ in plain.named_parameters() if ".pooler." in n}

    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    train(FinetuneObjective(TASK, model))
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], old) for name, old in frozen.items())

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_model_folder(tmp_path, TASK, model, load_tokenizer(str(families[family])))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert not list(tmp_path.glob("*adapter*"))
    opened = TASK.load_model(tmp_path)
    assert not has_lora(opened)
    shapes = {name: t.shape for name, t in merged_state_dict(model).items()}
    assert shapes == {name: t.shape for name, t in plain.state_dict().items()}
    inputs = {name: t for name, t in batch(9).items() if name != "labels"}
    model.eval(), opened.eval()
    with torch.no_grad():
        logits, answer = model(**inputs).logits, opened(**inputs).logits
        for module in model.modules():
            if hasattr(module, "lora_B"):
                module.enable_adapters(False)
        without = model(**inputs).logits
    torch.testing.assert_close(answer, logits, atol=1e-5, rtol=1e-5)
    assert (without - logits).abs().max() > 1e-3


def test_adapters_begin_as_nothing(families: dict[str, Path]) -> None:
    torch.manual_seed(1)
    plain: Any = TASK.build_model(str(families["bert"]), HeadConfig())
    model = adapted(families["bert"])
    inputs = {name: t for name, t in batch().items() if name != "labels"}
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs).logits, plain.eval()(**inputs).logits)


def test_new_tokens_learn_and_the_old_ones_do_not(
    families: dict[str, Path], tmp_path: Path
) -> None:
    folder = families["electra"]
    tokenizer = load_tokenizer(str(folder))
    torch.manual_seed(1)
    model: Any = TASK.build_model(str(folder), LORA)
    add_special_tokens(model, tokenizer, ["[E1]", "[/E1]"])
    ids = tokenizer.convert_tokens_to_ids(["[E1]", "[/E1]"])
    assert isinstance(ids, list)
    before = model.get_input_embeddings().weight.clone()
    add_lora(model, LORA, ids)
    objective = FinetuneObjective(TASK, model)
    groups = parameter_groups(
        objective.named_parameters(), weight_decay=0.0, layerwise_lr_decay=0.5, num_layers=2
    )
    scales = {name: group["lr_scale"] for group in groups for name in group["names"]}
    assert [scale for name, scale in scales.items() if ".embeddings." in name] == [0.5**3]

    marked = batch()
    marked["input_ids"][:, 1], marked["input_ids"][:, 3] = ids
    optimizer = build_optimizer(objective, OptimizerConfig(learning_rate=0.05), num_layers=2)
    objective(marked, Noise(0)).losses["task_loss"].backward()
    optimizer.step()
    after = model.get_input_embeddings().weight
    assert torch.equal(after[: min(ids)], before[: min(ids)])
    assert (after[ids] != before[ids]).all(-1).all()
    save_model_folder(tmp_path, TASK, model, tokenizer)
    opened: Any = TASK.load_model(tmp_path)
    assert torch.equal(opened.get_input_embeddings().weight, after)


def test_layers_are_recognised_by_the_layerwise_rates(families: dict[str, Path]) -> None:
    for family in FAMILIES:
        objective = FinetuneObjective(TASK, adapted(families[family], ALL))
        groups = parameter_groups(
            objective.named_parameters(), weight_decay=0.0, layerwise_lr_decay=0.5, num_layers=2
        )
        for group in groups:
            for name in group["names"]:
                layer = next((int(p) for p in name.split(".") if p.isdecimal()), None)
                assert group["lr_scale"] == (1.0 if layer is None else 0.5 ** (2 - layer)), name


def test_a_checkpoint_brings_adapters_back(families: dict[str, Path], tmp_path: Path) -> None:
    first = FinetuneObjective(TASK, adapted(families["modernbert"], LORA, (7, 8)))
    optimizer = train(first)
    store = CheckpointStore(tmp_path)
    store.save(module=first, optimizer=optimizer, state=TrainState(), environment={})
    torch.manual_seed(2)
    model: Any = TASK.build_model(str(families["modernbert"]), LORA)
    add_lora(model, LORA, (7, 8))
    again = FinetuneObjective(TASK, model)
    other = build_optimizer(again, OptimizerConfig(learning_rate=0.05), num_layers=2)
    assert store.load_latest(module=again, optimizer=other) is not None
    for name, tensor in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_what_cannot_be_is_said_in_a_line(
    families: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = TASK.build_model(str(families["electra"]), HeadConfig())
    assert target_layers(nn.Linear(2, 2), "all") == []
    model.electra.encoder = nn.Identity()
    with pytest.raises(
        ConfigError,
        match=r"in the layers of electra no attention linear layer was found; leave it out, or try "
        r"--model\.lora-targets all",
    ):
        add_lora(model, LORA)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r'lora needs peft.*: pip install "electra\[lora\]"'):
        add_lora(model, LORA)
    before = dict(model.named_parameters())
    add_lora(model, HeadConfig())  # nothing is asked for
    assert all(p.requires_grad for p in before.values())
