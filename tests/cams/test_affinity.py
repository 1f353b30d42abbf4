"""CAA by scaling vectors and matrix-vector products against the N x N x N statement."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipes.cams.affinity import box_masks, propagate_cams, sinkhorn_scaling
from clipes.clip.pairs import Pairs
from clipes.config import AttentionAffinityConfig


def random_attention(images: int, count: int, seed: int) -> torch.Tensor:
    """Softmax rows less the class token's column, as an encoder gives them."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, count, count + 1, generator=generator, dtype=torch.float64)
    return logits.softmax(-1)[..., 1:]


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (7, 5), (4, 12)])
@pytest.mark.parametrize(
    ("boxes", "rounds", "steps"), [("paper", 3, 2), ("exact", 3, 2), ("exact", 0, 1), ("exact", 1, 3)]
)
def test_equals_the_matrix_statement(grid, boxes, rounds, steps):
    generator = torch.Generator().manual_seed(1)
    count = grid[0] * grid[1]
    attention = random_attention(3, count, 2)
    cams = torch.rand(5, count, generator=generator, dtype=torch.float64) ** 3
    config = AttentionAffinityConfig(boxes=boxes, box_threshold=0.6, sinkhorn_iterations=rounds, hops=steps)
    fast = propagate_cams(cams, attention, Pairs([[0, 1], [0], [0, 1]]), [grid] * 3, config)
    pairs = zip(cams, [0, 0, 1, 2, 2], strict=True)
    slow = [reference.refine(cam, attention[i], grid, 0.6, boxes, rounds, steps) for cam, i in pairs]
    torch.testing.assert_close(fast, torch.stack(slow), rtol=0, atol=1e-9)


def test_float32_maps_are_spread_in_float64():
    """Flat attention leaves maps of tiny range, which the min-max scaling magnifies: 1e-4 from the exact ones."""
    attention = random_attention(1, 48, 3) * 0.02 + 1 / 49
    cams = torch.rand(2, 48, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    pairs = Pairs([[0, 1]])
    exact = propagate_cams(cams, attention, pairs, [(6, 8)], AttentionAffinityConfig())
    narrow = propagate_cams(cams.float(), attention.float(), pairs, [(6, 8)], AttentionAffinityConfig())
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), exact, rtol=0, atol=1e-4)


def test_scaled_attention_is_nearly_doubly_stochastic():
    attention = random_attention(2, 30, 5)
    rows, columns = sinkhorn_scaling(attention, 3)
    scaled = rows[:, :, None] * attention * columns[:, None, :]
    torch.testing.assert_close(scaled.sum(2), torch.ones(2, 30, dtype=torch.float64))
    assert (scaled.sum(1) - 1).abs().max() < 0.15
    assert (attention.sum(1) - 1).abs().max() > 0.5, "the input must not be scaled already"


def test_no_region_gives_a_zero_map():
    attention = random_attention(1, 12, 6)
    cams = torch.zeros(1, 12)
    assert propagate_cams(cams, attention.float(), Pairs([[0]]), [(3, 4)], AttentionAffinityConfig()).abs().sum() == 0


def test_no_pairs():
    empty = propagate_cams(
        torch.zeros(0, 12), random_attention(1, 12, 6), Pairs([[]]), [(3, 4)], AttentionAffinityConfig()
    )
    assert empty.shape == (0, 12)


@settings(max_examples=60, deadline=None)
@given(
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.0, 0.3, 0.4, 0.7, 0.95]),
    boxes=st.sampled_from(["paper", "exact"]),
)
def test_boxes_equal_a_flood_fill(h, w, seed, threshold, boxes):
    cam = np.random.default_rng(seed).random((h, w)) ** 4
    found = box_masks(torch.from_numpy(cam)[None], threshold, boxes)[0].numpy()
    np.testing.assert_array_equal(found, reference.box_mask(cam, threshold, boxes))


def test_reference_boxes_lose_the_last_row_and_column():
    cam = torch.zeros(1, 4, 5)
    cam[0, 1:, 2:] = 1
    assert box_masks(cam, 0.4, "exact")[0].tolist() == cam[0].tolist()
    expected = torch.zeros(4, 5)
    expected[1:3, 2:4] = 1
    assert box_masks(cam, 0.4, "paper")[0].tolist() == expected.tolist()


def test_diagonal_neighbours_are_one_region():
    cam = torch.eye(4)[None] * torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert box_masks(cam, 0.4, "exact")[0, :3, :3].sum() == 9
