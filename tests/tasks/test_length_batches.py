from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from electra.tasks.batches import Feature, LengthBatches, pad


def features(n: int, seed: int = 0) -> list[Feature]:
    lengths = np.random.default_rng(seed).integers(3, 60, n)
    return [Feature(i, [5] * int(length), target=i % 2) for i, length in enumerate(lengths)]


def targets(rows: Sequence[Feature], length: int) -> Tensor:
    return torch.tensor([row.target for row in rows])


def stream(n: int, size: int, seed: int = 0) -> LengthBatches:
    return LengthBatches(features(n), targets, pad_token_id=0, global_batch_size=size, seed=seed)


@pytest.mark.parametrize(("n", "size"), [(1000, 32), (96, 32), (33, 32), (7, 32), (1, 8), (50, 1)])
def test_an_epoch_holds_every_example_once(n: int, size: int) -> None:
    source = stream(n, size)
    for epoch in range(3):
        assert sorted(source.ids(epoch * n, n)) == list(range(n))


def test_epochs_and_seeds_have_other_orders() -> None:
    source = stream(200, 8)
    assert source.ids(0, 200) != source.ids(200, 200)
    assert source.ids(0, 200) != stream(200, 8, seed=1).ids(0, 200)


def test_a_batch_is_a_function_of_its_position() -> None:
    walked, jumped = stream(300, 16), stream(300, 16)
    batches = [walked.batch(p, 16) for p in range(0, 1600, 16)]
    for name, tensor in jumped.batch(1584, 16).items():
        assert torch.equal(tensor, batches[-1][name])


def test_micro_batches_and_ranks_read_the_same_examples() -> None:
    source = stream(300, 16)
    parts = [i for p in range(320, 336, 4) for i in source.ids(p, 4)]
    assert parts == source.ids(320, 16)


def test_little_is_padded() -> None:
    source = stream(2000, 20)
    masks = [source.batch(p, 20)["attention_mask"] for p in range(0, 2000, 20)]
    padded = 1 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)
    assert padded < 0.05
    widths = [m.shape[1] for m in masks]
    assert widths != sorted(widths)


def test_pad() -> None:
    batch = pad([Feature(0, [1, 2, 3], [0, 0, 1]), Feature(1, [4], [0])], pad_token_id=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert "token_type_ids" not in pad([Feature(0, [1])], pad_token_id=9)
