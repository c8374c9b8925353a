"""From features to tensors: padding to the longest, and batches of like length in a pure order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from electra.corpus.order import shuffled_ids
from electra.training.loop import Batch

LARGEST_WINDOW = 50
"""Batches that are sorted by length together (as in transformers' LengthGroupedSampler)."""
LEAST_WINDOWS = 64
"""In an epoch. Rows of one length are alike: in few steps, batches of them teach less (lab log)."""


@dataclass(frozen=True, slots=True)
class Feature:
    """What the model reads at once: an example, or one window of a long one."""

    example: int
    """Index of the example it was made of."""
    input_ids: list[int]
    token_type_ids: list[int] | None = None
    target: Any = None
    """What the task's `targets` turns into a tensor; None where it is not known, which training
    leaves out."""
    origin: Any = None
    """Where the tokens come from in the example, as the task's `decode` wants to know it."""
    more_inputs: Mapping[str, Sequence[int]] | None = None
    """Further inputs of the model with a number for each token; padded by 0."""


@dataclass(frozen=True, slots=True)
class Choices(Feature):
    """Several inputs of one example, of which one is to be chosen."""

    rows: tuple[Feature, ...] = ()
    """The inputs; `input_ids` is the longest one's, for its length."""

    @classmethod
    def of(cls, rows: tuple[Feature, ...], target: Any = None) -> Choices:
        """From the inputs; there is at least one."""
        longest = max((row.input_ids for row in rows), key=len)
        return cls(rows[0].example, longest, target=target, rows=rows)


def pad(features: Sequence[Feature], pad_token_id: int) -> Batch:
    """`input_ids`, `attention_mask` and what else features have (`token_type_ids`), each [B, L].

    L is the length of the longest. Of `Choices` they are [B, C, L], C the largest number of inputs.
    """
    if isinstance(features[0], Choices):
        return _pad_choices(features, pad_token_id)
    length = max(len(f.input_ids) for f in features)
    input_ids = np.full((len(features), length), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros((len(features), length), dtype=np.int64)
    token_type_ids = np.zeros((len(features), length), dtype=np.int64)
    for row, feature in enumerate(features):
        size = len(feature.input_ids)
        input_ids[row, :size] = feature.input_ids
        attention_mask[row, :size] = 1
        if feature.token_type_ids is not None:
            token_type_ids[row, :size] = feature.token_type_ids
    batch = {
        "input_ids": torch.from_numpy(input_ids),  # [B, L]
        "attention_mask": torch.from_numpy(attention_mask),  # [B, L]
    }
    if features[0].token_type_ids is not None:
        batch["token_type_ids"] = torch.from_numpy(token_type_ids)  # [B, L]
    for name in features[0].more_inputs or ():
        rows = torch.zeros(len(features), length, dtype=torch.int64)  # [B, L]
        for row, feature in enumerate(features):
            assert feature.more_inputs is not None, "all features of a task have the same inputs"
            rows[row, : len(feature.input_ids)] = torch.as_tensor(feature.more_inputs[name])
        batch[name] = rows
    return batch


def _pad_choices(features: Sequence[Feature], pad_token_id: int) -> Batch:
    rows = [f.rows for f in features if isinstance(f, Choices)]
    count = max(map(len, rows))
    flat: list[Feature] = []
    for own in rows:
        # an input that is not there is one token long: of none at all networks make NaN
        types = own[0].token_type_ids
        absent = Feature(own[0].example, own[0].input_ids[:1], None if types is None else types[:1])
        flat += [*own, *[absent] * (count - len(own))]
    batch = pad(flat, pad_token_id)
    return {name: tensor.view(len(rows), count, -1) for name, tensor in batch.items()}


class LengthBatches:
    """The stream of labelled examples for `fit`, batches of random rows, sorted by length inside.

    Position i lies in epoch i // n, and each epoch holds every example once, in the order of
    `shuffled_ids`. A global batch is sorted by length, so that micro-batches of it pad little. In
    long epochs several global batches are sorted together, a `LEAST_WINDOWS`-th of the epoch and
    `LARGEST_WINDOW` at most, and their order shuffled; as those are whole global batches, neither
    micro-batches nor ranks change what a step reads. What is left at an epoch's ends, less than a
    global batch, is not sorted.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        targets: Callable[[Sequence[Feature], int], Tensor],
        *,
        pad_token_id: int,
        global_batch_size: int,
        seed: int,
    ) -> None:
        """`targets(features, L)` gives the tensor for the batch's `labels`."""
        assert features, "a stream needs examples"
        self._features = features
        self._targets = targets
        self._pad_token_id = pad_token_id
        self._size = global_batch_size
        self._seed = seed
        self._lengths = np.array([len(f.input_ids) for f in features])
        self._epoch = lru_cache(maxsize=2)(self._order)

    def batch(self, position: int, size: int) -> Batch:
        """Examples `position` to `position + size` of the stream; `labels` beside the inputs."""
        features = [self._features[i] for i in self.ids(position, size)]
        batch = pad(features, self._pad_token_id)
        batch["labels"] = self._targets(features, batch["input_ids"].shape[-1])
        return batch

    def ids(self, position: int, size: int) -> list[int]:
        """Which examples stand at those positions."""
        n = len(self._features)
        return [int(self._epoch(p // n)[p % n]) for p in range(position, position + size)]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        n, size = len(self._features), self._size
        start = epoch * n
        positions = np.arange(start, start + n, dtype=np.uint64)
        order = shuffled_ids(positions, num_examples=n, seed=self._seed).astype(np.int64)
        head = min(n, -start % size)  # examples up to the first whole global batch
        whole = (n - head) // size
        window = max(1, min(LARGEST_WINDOW, whole // LEAST_WINDOWS))
        random = np.random.default_rng((self._seed % 2**32, epoch))
        for first in range(0, whole, window):
            count = min(window, whole - first)
            part = order[head + first * size : head + (first + count) * size]
            by_length = part[np.argsort(self._lengths[part], kind="stable")]
            part[:] = random.permutation(by_length.reshape(count, size)).reshape(-1)
        return order
