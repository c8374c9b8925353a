from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from electra.corpus.order import shuffled_ids
from electra.tasks.batches import LEAST_WINDOWS, Feature, LengthBatches, pad


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


def padded(source: LengthBatches, n: int, size: int) -> float:
    masks = [source.batch(p, size)["attention_mask"] for p in range(0, n, size)]
    return 1 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


def test_little_is_padded_of_parts() -> None:
    source = stream(1920, 32)
    whole, quarters = padded(source, 1920, 32), padded(source, 1920, 8)
    assert quarters < 0.4 * whole
    assert quarters < 0.2
    assert [len(set(source.ids(p, 32))) for p in range(0, 1920, 32)] == [32] * 60


def test_batches_of_short_epochs_are_random_rows() -> None:
    source, lengths = stream(1920, 32), np.array([len(f.input_ids) for f in features(1920)])
    order = shuffled_ids(np.arange(1920, dtype=np.uint64), num_examples=1920, seed=0)
    for first in range(0, 1920, 32):
        ids = source.ids(first, 32)
        assert sorted(ids) == sorted(order[first : first + 32].tolist())
        assert lengths[ids].tolist() == sorted(lengths[ids])


def test_batches_of_long_epochs_are_of_like_length() -> None:
    n, size = LEAST_WINDOWS * 10 * 4, 4
    source = stream(n, size)
    assert padded(source, n, size) < 0.1
    widths = [source.batch(p, size)["input_ids"].shape[1] for p in range(0, n, size)]
    assert widths != sorted(widths)


def test_pad() -> None:
    batch = pad([Feature(0, [1, 2, 3], [0, 0, 1]), Feature(1, [4], [0])], pad_token_id=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert "token_type_ids" not in pad([Feature(0, [1])], pad_token_id=9)
