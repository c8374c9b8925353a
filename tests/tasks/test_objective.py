"""Fine-tuning as the one loop sees it: the loss, and settings that exclude each other."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from electra.config import FinetuneConfig, FinetuneTrainingConfig, HeadConfig
from electra.errors import ConfigError
from electra.tasks.labelled_data import Columns
from electra.tasks.objective import FinetuneObjective
from electra.tasks.text_classification import CLASSIFICATION, TextClassification
from electra.training.loop import Batch, StepOutput
from electra.training.noise import Noise

TASK = TextClassification(CLASSIFICATION, ("bad", "good", "so"), Columns("text", None, "label"), 32)


def build(encoder: Path) -> Any:
    torch.manual_seed(3)
    model: Any = TASK.build_model(str(encoder), HeadConfig())
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


def test_the_loss_is_that_of_one_pass_to_the_bit(encoders: dict[str, Path]) -> None:
    model, batch = build(encoders["electra"]), make_batch()
    objective = FinetuneObjective(TASK, model)
    objective.train()
    output = step(objective, batch)
    torch.manual_seed(11)
    expected, _ = by_hand(model, batch)
    assert torch.equal(output.losses["task_loss"], expected)
    assert set(output.metrics) == {"accuracy"}


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"lora-r is 4, which is for --model\.adapter lora alone"):
        HeadConfig(lora_r=4)
    with pytest.raises(ConfigError, match="an adapter is how the encoder learns, so give one"):
        FinetuneConfig(
            model=HeadConfig(adapter="lora"), training=FinetuneTrainingConfig(train_encoder=False)
        )
