"""Losses and class weights beside torch's and scikit-learn's own."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from electra.config import FinetuneConfig, FinetuneTrainingConfig, HeadConfig
from electra.errors import ConfigError
from electra.tasks.batches import Feature
from electra.tasks.label_losses import balanced_weights, positive_weights
from electra.tasks.labelled_data import Columns
from electra.tasks.labels import CLASSIFICATION, MULTI_LABEL
from electra.tasks.objective import FinetuneObjective
from electra.tasks.relation_extraction import RelationExtraction
from electra.tasks.task import load_task, save_task
from electra.tasks.text_classification import TextClassification
from electra.training.noise import Noise

BALANCED = FinetuneConfig(training=FinetuneTrainingConfig(class_weights="balanced"))
GIVEN = ["a"] * 7 + ["b"] * 2 + ["c"]
LABELS = ("a", "b", "c")
WEIGHTS = balanced_weights(GIVEN, LABELS)
WEIGHED = TextClassification(
    CLASSIFICATION, LABELS, Columns("text", None, "label"), 32, class_weights=WEIGHTS
)
torch.manual_seed(0)
LOGITS = torch.randn(10, 3)
TARGETS = torch.tensor([LABELS.index(name) for name in GIVEN])


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_balanced_is_scikit_learns() -> None:
    theirs = compute_class_weight("balanced", classes=np.array(LABELS), y=GIVEN)
    assert balanced_weights(GIVEN, LABELS) == pytest.approx(theirs)
    # a label without a row is in no count and has the weight 1
    assert balanced_weights(GIVEN, ("a", "x", "b", "c"))[1] == 1.0
    assert balanced_weights(GIVEN, ("a", "x", "b", "c"))[2] == pytest.approx(WEIGHTS[1])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_cross_entropy_is_torchs_mean(weights: tuple[float, ...], smoothing: float) -> None:
    task = dataclasses.replace(WEIGHED, class_weights=weights)
    theirs = torch.nn.CrossEntropyLoss(
        weight=torch.tensor(weights) if weights else None, label_smoothing=smoothing
    )
    ours = LOGITS.clone().requires_grad_()
    loss = task.loss(ours, TARGETS, label_smoothing=smoothing).total / task.num_targets(TARGETS)
    other = LOGITS.clone().requires_grad_()
    expected = theirs(other, TARGETS)
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, other.grad)


def test_the_weighted_loss_by_hand() -> None:
    """Each class counts for a third of the loss, however many rows it has."""
    total = WEIGHED.loss(LOGITS, TARGETS).total / WEIGHED.num_targets(TARGETS)
    each = -LOGITS.log_softmax(-1)[torch.arange(10), TARGETS]
    means = [each[TARGETS.eq(k)].mean() for k in range(3)]
    assert total.item() == pytest.approx((sum(means) / 3).item())


def test_counts_add_up_over_micro_batches() -> None:
    whole = WEIGHED.loss(LOGITS, TARGETS).total / WEIGHED.num_targets(TARGETS)
    parts = [(LOGITS[:3], TARGETS[:3]), (LOGITS[3:], TARGETS[3:])]
    divisor = sum(WEIGHED.num_targets(t) for _, t in parts)
    split = sum(WEIGHED.loss(x, t).total / divisor for x, t in parts)
    assert float(split) == pytest.approx(whole.item())


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_is_torchs_mean(weighted: bool) -> None:
    sets = [["a"], ["a", "b"], ["a"], [], ["c"], ["a", "c"]]
    weights = positive_weights(sets, LABELS) if weighted else ()
    task = TextClassification(
        MULTI_LABEL, LABELS, Columns("text", None, "label"), 32, class_weights=weights
    )
    features = [Feature(i, [1], target=[LABELS.index(n) for n in s]) for i, s in enumerate(sets)]
    targets = task.targets(features, 1)
    assert targets.tolist()[1] == [1.0, 1.0, 0.0]
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weights) if weighted else None)
    loss = task.loss(LOGITS[:6], targets)
    assert (loss.total / task.num_targets(targets)).item() == pytest.approx(
        theirs(LOGITS[:6], targets).item()
    )
    smoothed = task.loss(LOGITS[:6], targets, label_smoothing=0.2).total / task.num_targets(targets)
    assert smoothed.item() == pytest.approx(theirs(LOGITS[:6], targets * 0.8 + 0.1).item())
    right, count = loss.metrics["subset_accuracy"]
    assert (int(right), count) == (int(((LOGITS[:6] > 0) == targets.bool()).all(1).sum()), 6)


def test_positives_count_as_much_as_negatives() -> None:
    assert positive_weights([["a"], ["a", "b"], ["a"], []], LABELS[:2]) == (pytest.approx(1 / 3), 3)
    many = [["a", "b"]] + [["b"]] * 999
    assert positive_weights(many, LABELS[:2]) == (100.0, 0.01)


def test_weights_come_from_training_and_do_not_stay(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "x", "label": name} for name in GIVEN]
    task, _ = TextClassification.from_training(write(tmp_path / "a.jsonl", rows), BALANCED)
    assert task.class_weights == pytest.approx(WEIGHTS)
    save_task(task, tmp_path)
    loaded = load_task(tmp_path)
    assert loaded == dataclasses.replace(task, class_weights=())
    sets = [{"text": "x", "label": ["a"]}, {"text": "y", "label": []}, {"text": "z", "label": []}]
    task, _ = TextClassification.from_training(write(tmp_path / "b.jsonl", sets), BALANCED)
    assert task.class_weights == (2.0,)
    relations = [
        {"text": "<e1>a</e1> <e2>b</e2>", "label": name} for name in ("R(e1,e2)", "S", "S", "S")
    ]
    found, _ = RelationExtraction.from_training(write(tmp_path / "c.jsonl", relations), BALANCED)
    assert dict(zip(found.labels, found.class_weights, strict=True)) == {
        "R(e1,e2)": pytest.approx(2),
        "R(e2,e1)": 1.0,
        "S": pytest.approx(2 / 3),
    }


def test_numbers_have_no_classes(tmp_path: Path) -> None:
    scores = [{"text": "x", "label": x} for x in (1.5, 2.5, 3)]
    with pytest.raises(
        ConfigError, match=r"class-weights is balanced, which is for labels; .* has"
    ):
        TextClassification.from_training(write(tmp_path / "a.jsonl", scores), BALANCED)
    smooth = FinetuneConfig(training=FinetuneTrainingConfig(label_smoothing=0.1))
    with pytest.raises(
        ConfigError, match=r"^--training\.label-smoothing is 0\.1, which is for labels; .* has numb"
    ):
        TextClassification.from_training(write(tmp_path / "a.jsonl", scores), smooth)


def test_the_objective_divides_by_the_weights(encoders: dict[str, Path]) -> None:
    model = WEIGHED.build_model(str(encoders["bert"]), HeadConfig()).eval()
    objective = FinetuneObjective(WEIGHED, model)
    batch = {"input_ids": torch.tensor([[2, 5, 3], [2, 6, 3]]), "labels": torch.tensor([0, 2])}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    prepared, counts = objective.prepare(batch, Noise(0))
    assert counts["task_loss"].item() == pytest.approx(WEIGHTS[0] + WEIGHTS[2])
    loss = objective(prepared, Noise(0)).losses["task_loss"] / counts["task_loss"]
    inputs = {name: t for name, t in batch.items() if name != "labels"}
    expected = torch.nn.functional.cross_entropy(
        model(**inputs).logits, batch["labels"], torch.tensor(WEIGHTS)
    )
    assert loss.item() == pytest.approx(expected.item())
