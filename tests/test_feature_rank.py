"""The effective rank where it is known."""

import pytest
import torch

from benchmarks.feature_rank import effective_rank, mean_cosine


def test_rank_of_known_clouds() -> None:
    generator = torch.Generator().manual_seed(0)
    round_cloud = torch.randn(20_000, 16, generator=generator)
    assert effective_rank(round_cloud) == pytest.approx(16, rel=0.01)
    line = torch.randn(500, 1, generator=generator) @ torch.ones(1, 16)
    assert effective_rank(line) == pytest.approx(1, abs=1e-6)
    plane = torch.randn(20_000, 2, generator=generator) @ torch.eye(16)[:2]
    assert effective_rank(plane + 5.0) == pytest.approx(2, rel=0.01)


def test_cosine_of_known_clouds() -> None:
    generator = torch.Generator().manual_seed(0)
    cloud = torch.randn(4_000, 16, generator=generator)
    assert mean_cosine(cloud) == pytest.approx(0.0, abs=0.02)
    assert mean_cosine(cloud + 100.0) == pytest.approx(1.0, abs=1e-3)
