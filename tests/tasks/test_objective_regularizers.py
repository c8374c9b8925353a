from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax

from electra.config import FinetuneConfig, FinetuneTrainingConfig, HeadConfig
from electra.errors import ConfigError
from electra.tasks import regularizers
from electra.tasks.labelled_data import Columns
from electra.tasks.objective import FinetuneObjective
from electra.tasks.text_classification import CLASSIFICATION, REGRESSION, TextClassification
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise

TASK = TextClassification(CLASSIFICATION, ("bad", "good", "so"), Columns("text", None, "label"), 32)
SCORES = TextClassification(REGRESSION, (), Columns("text", None, "label"), 32)


def build(encoder: Path, task: TextClassification = TASK, dropout: float | None = None) -> Any:
    torch.manual_seed(3)
    model: Any = task.build_model(str(encoder), HeadConfig(dropout=dropout))
    for parameter in model.parameters():  # fresh weights are so small that all answers are alike
        parameter.data.mul_(3)
    return model


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, 30, (4, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 2, 1, 1])}


def step(objective: FinetuneObjective, batch: Batch, progress: float = 1.0) -> StepOutput:
    objective.begin_step(progress)
    torch.manual_seed(11)
    return objective(batch, Noise(0))  # type: ignore[no-any-return]


def by_hand(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return F.cross_entropy(logits, batch["labels"], reduction="sum"), logits


def test_without_it_the_loss_is_that_of_one_pass_to_the_bit(encoders: dict[str, Path]) -> None:
    model, batch = build(encoders["electra"]), make_batch()
    objective = FinetuneObjective(TASK, model)
    objective.train()
    output = step(objective, batch)
    torch.manual_seed(11)
    expected, _ = by_hand(model, batch)
    assert torch.equal(output.losses["task_loss"], expected)
    assert set(output.metrics) == {"accuracy"}


def test_r_drop_is_the_papers_loss_halved(encoders: dict[str, Path]) -> None:
    model, batch = build(encoders["electra"]), make_batch()
    objective = FinetuneObjective(TASK, model, r_drop=0.7)
    objective.train()
    output = step(objective, batch)
    torch.manual_seed(11)
    (ce1, first), (ce2, second) = by_hand(model, batch), by_hand(model, batch)
    p, q = (softmax(x.detach().double().numpy(), axis=-1) for x in (first, second))
    kl = (rel_entr(p, q).sum() + rel_entr(q, p).sum()) / 2
    assert kl > 1e-3
    assert output.losses["task_loss"].item() == pytest.approx(
        (ce1.item() + ce2.item() + 0.7 * kl) / 2, rel=1e-5
    )
    measured, over = output.metrics["divergence"]
    assert measured.item() == pytest.approx(kl, rel=1e-4)
    assert int(over) == 4
    # both passes learn: the gradient is that of the written formula, nothing detached
    log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
    kl_loss = F.kl_div(log_p, log_q, reduction="sum", log_target=True)
    kl_loss = (kl_loss + F.kl_div(log_q, log_p, reduction="sum", log_target=True)) / 2
    head = model.classifier.out_proj.weight
    (expected,) = torch.autograd.grad((ce1 + ce2 + 0.7 * kl_loss) / 2, [head])
    (found,) = torch.autograd.grad(output.losses["task_loss"], [head])
    torch.testing.assert_close(found, expected)


def test_r_drop_with_dropout_off_is_one_pass(encoders: dict[str, Path]) -> None:
    objective = FinetuneObjective(TASK, build(encoders["electra"]), r_drop=5.0)
    objective.eval()
    output = step(objective, make_batch())
    assert output.metrics["divergence"][0].item() == 0.0
    expected, _ = by_hand(objective.model, make_batch())
    torch.testing.assert_close(output.losses["task_loss"], expected)


def test_r_drop_is_refused_where_it_can_do_nothing(encoders: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"r-drop is 1\.0, but text-classification has no class"):
        FinetuneObjective(SCORES, build(encoders["electra"], SCORES), r_drop=1.0)
    with pytest.raises(ConfigError, match=r"modernbert has no dropout.*give --model\.dropout 0\.1"):
        FinetuneObjective(TASK, build(encoders["modernbert"]), r_drop=1.0)
    FinetuneObjective(TASK, build(encoders["modernbert"], dropout=0.1), r_drop=1.0)


def kl_rows(a: Any, b: Any) -> Any:
    p, q = softmax(a, axis=-1), softmax(b, axis=-1)
    return (rel_entr(p, q).sum(-1) + rel_entr(q, p).sum(-1)) / 2


def test_divergences_count_what_the_losses_count() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 3, 4)) * 2
    first, second = torch.tensor(a), torch.tensor(b)
    labels = regularizers.label_divergence(first, second, torch.zeros(3))
    two = [np.stack([x, np.zeros_like(x)], -1) for x in (a, b)]  # there or not: two classes
    assert labels.item() == pytest.approx(kl_rows(*two).sum())
    targets = torch.tensor([[1, 0, -1, -1], [0, 1, 0, -1], [0, 0, 0, 1]])
    options = regularizers.option_divergence(first, second, targets, absent=-1)
    rows = [kl_rows(a[i, :n], b[i, :n]) for i, n in enumerate((2, 3, 4))]
    assert options.item() == pytest.approx(sum(rows))


@pytest.mark.parametrize("intents", [0, 2])
def test_tags_diverge_at_words_alone_and_intents_once_a_word(intents: int) -> None:
    draw = np.random.default_rng(1)
    a, b = draw.normal(size=(2, 2, 5, 3 + intents)) * 2
    tags = np.array([[-100, 0, 2, -100, -100], [-100, 1, -100, 0, 1]])
    targets = torch.tensor(tags)
    if intents:
        targets = torch.cat([targets, torch.tensor([[1], [0]])], dim=1)
    found = regularizers.tag_divergence(
        torch.tensor(a), torch.tensor(b), targets, num_tags=3, ignored=-100
    )
    expected = kl_rows(a[..., :3], b[..., :3])[tags != -100].sum()
    for row, words in enumerate(tags != -100 if intents else ()):
        means = [x[row, words, 3:].mean(0) for x in (a, b)]
        expected += words.sum() * kl_rows(*means)
    assert found.item() == pytest.approx(expected)


def test_every_task_says_how_it_diverges() -> None:
    assert TASK.divergence() is regularizers.class_divergence
    assert SCORES.divergence() is None


@pytest.mark.parametrize("family", ["electra", "modernbert"])
def test_r_drop_in_bfloat16_gives_gradients_to_all(encoders: dict[str, Path], family: str) -> None:
    objective = FinetuneObjective(TASK, build(encoders[family], dropout=0.1), r_drop=1.0)
    objective.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = step(objective, make_batch())
    output.losses["task_loss"].backward()
    assert "divergence" in output.metrics
    parameters = [p for _, p in objective.named_parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    assert all(p.grad.any() for p in parameters if p.ndim == 2)  # type: ignore[union-attr]


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"training\.r-drop is -1; allowed: 0 or more"):
        FinetuneTrainingConfig(r_drop=-1)
    with pytest.raises(ConfigError, match=r"lora-r is 4, which is for --model\.adapter lora alone"):
        HeadConfig(lora_r=4)
    with pytest.raises(ConfigError, match="an adapter is how the encoder learns, so give one"):
        FinetuneConfig(
            model=HeadConfig(adapter="lora"), training=FinetuneTrainingConfig(train_encoder=False)
        )
