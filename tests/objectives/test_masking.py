"""Properties of masking that would fail if it were wrong."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from electra.corpus.tokenizer import SpecialIds
from electra.objectives.masking import choose_and_mask, max_masked
from electra.training.noise import Noise

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


def make_batch(lengths: list[int], width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows [CLS] ... [SEP] ... [SEP] of the given lengths, some [MASK] and [UNK] in them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (len(lengths), width), generator=generator)
    ids[torch.rand(ids.shape, generator=generator) < 0.05] = SPECIAL.mask
    ids[torch.rand(ids.shape, generator=generator) < 0.05] = SPECIAL.unk
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, 0] = SPECIAL.cls
        ids[row, length // 2] = SPECIAL.sep
        ids[row, length - 1] = SPECIAL.sep
        ids[row, length:] = SPECIAL.pad
        mask[row, :length] = 1
    return ids, mask


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(4, 40), min_size=1, max_size=6),
    prob=st.floats(0.05, 0.5),
    mask_token_prob=st.sampled_from([0.0, 0.85, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_choice(lengths: list[int], prob: float, mask_token_prob: float, seed: int) -> None:
    ids, mask = make_batch(lengths, 40, seed)
    masked = choose_and_mask(
        ids,
        mask,
        SPECIAL,
        mask_prob=prob,
        mask_token_prob=mask_token_prob,
        noise=Noise(seed),
    )
    slots = max_masked(40, prob)
    assert masked.masked_positions.shape == (len(lengths), slots)
    for row, length in enumerate(lengths):
        used = masked.masked_weights[row] > 0
        positions = masked.masked_positions[row][used].tolist()
        candidates = sum(int(t) not in SPECIAL.never_masked for t in ids[row, :length])
        # round half to even, as torch and the reference do
        wanted = min(max(1, round(length * torch.tensor(prob).item())), slots, candidates)
        assert abs(len(positions) - wanted) <= (abs(length * prob % 1 - 0.5) < 1e-5)
        assert len(set(positions)) == len(positions)
        assert all(int(ids[row, p]) not in SPECIAL.never_masked for p in positions)
        assert all(p < length for p in positions)
        assert masked.original_ids[row][used].tolist() == [int(ids[row, p]) for p in positions]
        assert (masked.masked_positions[row][~used] == 0).all()
        changed = (masked.masked_input_ids[row] != ids[row]).nonzero().flatten().tolist()
        assert set(changed) <= set(positions)
        assert all(int(masked.masked_input_ids[row, p]) == SPECIAL.mask for p in changed)
        if mask_token_prob == 1.0:
            assert set(changed) == set(positions)
        if mask_token_prob == 0.0:
            assert not changed


def test_slots_of_the_paper() -> None:
    assert max_masked(128, 0.15) == 19
    assert max_masked(512, 0.15) == 79
    assert max_masked(512, 0.25) == 130


def test_shares_and_uniformity() -> None:
    rows, width = 4000, 40
    ids = torch.full((rows, width), 7)
    ids[:, 0], ids[:, -1] = SPECIAL.cls, SPECIAL.sep
    masked = choose_and_mask(
        ids,
        None,
        SPECIAL,
        mask_prob=0.15,
        mask_token_prob=0.85,
        noise=Noise(1),
    )
    assert masked.masked_weights.sum(1).unique().tolist() == [6.0]
    hidden = (masked.masked_input_ids == SPECIAL.mask).sum() / masked.masked_weights.sum()
    assert abs(float(hidden) - 0.85) < 0.01
    counts = masked.masked_positions.flatten().bincount(minlength=width)[1:-1].float()
    expected = rows * 6 / (width - 2)
    assert counts.min() > 0.85 * expected
    assert counts.max() < 1.15 * expected


def test_a_row_of_special_tokens_chooses_nothing() -> None:
    ids = torch.tensor([[2, 3, 0, 0, 0, 0, 0, 0]])
    masked = choose_and_mask(
        ids,
        (ids != 0).long(),
        SPECIAL,
        mask_prob=0.3,
        mask_token_prob=1.0,
        noise=Noise(0),
    )
    assert masked.masked_weights.sum() == 0
    assert (masked.masked_input_ids == ids).all()
