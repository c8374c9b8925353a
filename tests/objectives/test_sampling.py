"""Samples follow the softmax; a sample equal to the original is no replacement."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from electra.objectives.sampling import corrupt, sample_tokens
from electra.training.noise import Noise


def test_samples_follow_the_softmax() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0])
    noise = Noise(0)
    for temperature in (1.0, 2.0):
        drawn = sample_tokens(logits.expand(40_000, 4), temperature=temperature, noise=noise)
        shares = drawn.bincount(minlength=4) / 40_000
        assert torch.allclose(shares, (logits / temperature).softmax(0), atol=0.01)


def test_sampling_gives_no_gradient() -> None:
    logits = torch.randn(3, 5, requires_grad=True)
    drawn = sample_tokens(logits, temperature=1.0, noise=Noise(0))
    assert not drawn.requires_grad


@given(seed=st.integers(0, 2**31))
def test_corruption(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 9, (4, 12), generator=generator)
    positions = torch.stack([torch.randperm(11, generator=generator)[:5] + 1 for _ in range(4)])
    weights = (torch.rand(4, 5, generator=generator) < 0.7).float()
    positions = torch.where(weights > 0, positions, 0)
    sampled = torch.randint(5, 9, (4, 5), generator=generator)
    corrupted, is_replaced = corrupt(ids, positions, weights, sampled)
    for row in range(4):
        expected = ids[row].tolist()
        for slot in range(5):
            if weights[row, slot]:
                expected[int(positions[row, slot])] = int(sampled[row, slot])
        assert corrupted[row].tolist() == expected
        truth = [a != b for a, b in zip(expected, ids[row].tolist(), strict=True)]
        assert is_replaced[row].tolist() == truth


def test_a_position_drawn_twice_gets_the_floor_of_the_mean() -> None:
    ids = torch.tensor([[2, 10, 11, 12, 13, 3], [2, 20, 21, 22, 23, 3]])
    positions = torch.tensor([[1, 3, 1, 1], [2, 2, 4, 0]])
    weights = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    sampled = torch.tensor([[30, 40, 30, 32], [50, 61, 23, 99]])
    corrupted, is_replaced = corrupt(ids, positions, weights, sampled)
    # (30 + 30 + 32) // 3 = 30; (50 + 61) // 2 = 55; the last slot is not used
    assert corrupted.tolist() == [[2, 30, 11, 40, 13, 3], [2, 20, 55, 22, 23, 3]]
    assert is_replaced.tolist() == [
        [False, True, False, True, False, False],
        [False, False, True, False, False, False],
    ]
    # two wrong samples whose mean is the original leave it as it was
    corrupted, is_replaced = corrupt(
        ids[:1], torch.tensor([[2, 2]]), torch.ones(1, 2), torch.tensor([[9, 14]])
    )
    assert corrupted[0, 2] == 11
    assert not is_replaced.any()
