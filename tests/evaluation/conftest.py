"""Pretrained parts of a few thousand weights, saved as a run saves them."""

from pathlib import Path

import pytest
import torch

from electra.corpus.tokenizer import SpecialIds
from electra.model.pretraining_model import PretrainingModel
from tests.shapes import tiny_config
from tests.tiny import VOCABULARY, make_tokenizer

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


def make_run(folder: Path, family: str, *, masked_lm: bool = False) -> Path:
    """A folder of parts with random weights; dropout is on, so that leaving it on would show."""
    torch.manual_seed(3)
    shape = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    model = PretrainingModel(
        tiny_config(family, model=shape).model,
        vocab_size=len(VOCABULARY),
        special=SPECIAL,
        with_discriminator=not masked_lm,
        with_generator=not masked_lm,
        with_masked_lm=masked_lm,
    )
    with torch.no_grad():  # fresh weights score every token nearly alike
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    for part in model.save_parts(folder).values():
        make_tokenizer(part)
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> run folder of replaced token detection; `mlm` -> one of masked LM."""
    folder = tmp_path_factory.mktemp("runs")
    made = {family: make_run(folder / family, family) for family in ("classic", "modern")}
    return made | {"mlm": make_run(folder / "mlm", "modern", masked_lm=True)}
