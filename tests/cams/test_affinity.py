"""CAA by scaling vectors and matrix-vector products against the N x N x N statement."""

import numpy as np
import pytest
import reference
import reference_affinities
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipes.cams.affinity import affinity_matrix, propagate_cams, sinkhorn_scaling, spread_cams
from clipes.cams.boxes import box_masks, region_boxes
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


RELATIVES = [
    AttentionAffinityConfig(boxes="none"),
    AttentionAffinityConfig(boxes="none", sinkhorn_iterations=0, symmetric=False, hops=1),
    AttentionAffinityConfig(symmetric=False, box_threshold=0.6),
    AttentionAffinityConfig(boxes="none", power=2.0, radius=2, row_epsilon=0.1, sinkhorn_iterations=0, hops=1),
    AttentionAffinityConfig(boxes="none", power=8, row_epsilon=0, sinkhorn_iterations=0, hops=16),
    AttentionAffinityConfig(votes=4, boxes="none", sinkhorn_iterations=0, symmetric=False, hops=1),
    AttentionAffinityConfig(votes=6, radius=1, boxes="exact", sinkhorn_iterations=1),
    AttentionAffinityConfig(votes=3, power=0.5, row_epsilon=1e-4, hops=3),
]
GRIDS = [(5, 7), (6, 4), (1, 3)]


def padded_batch(grids, labels, seed, dtype=torch.float64):
    """Maps (P, N), attention and votes (B, N, N) of images with so many labels, 0 on padding; and the pairs."""
    generator = torch.Generator().manual_seed(seed)
    count = max(h * w for h, w in grids)
    attention, votes = (torch.zeros(len(grids), count, count, dtype=dtype) for _ in range(2))
    cams = torch.zeros(sum(labels), count, dtype=dtype)
    pairs = Pairs([range(number) for number in labels])
    for image, (h, w) in enumerate(grids):
        attention[image, : h * w, : h * w] = random_attention(1, h * w, seed + image)[0].to(dtype)
        votes[image, : h * w, : h * w] = torch.randint(0, 13, (h * w, h * w), generator=generator)
        maps = torch.rand(labels[image], h * w, generator=generator, dtype=dtype) ** 3
        cams[pairs.image == image, : h * w] = maps
    return cams, attention, votes.to(torch.uint8), pairs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("config", RELATIVES, ids=str)
def test_relatives_equal_their_matrix_statement(config, dtype):
    """In a batch with padding, for 1 to 20 labels."""
    cams, attention, votes, pairs = padded_batch(GRIDS, [20, 1, 3], 7, dtype)
    spread = spread_cams(cams, attention, pairs, GRIDS, config, votes)
    scaled = propagate_cams(cams, attention, pairs, GRIDS, config, votes)
    assert spread.dtype == torch.float64 and scaled.dtype == dtype
    matrices = affinity_matrix(attention, GRIDS, config, votes)
    for image, grid in enumerate(GRIDS):
        count = grid[0] * grid[1]
        own = slice(0, count)
        a = reference_affinities.attention_affinity(
            attention[image, own, own],
            grid,
            votes=votes[image],
            least=config.votes,
            rounds=config.sinkhorn_iterations,
            symmetric=config.symmetric,
            power=config.power,
            radius=config.radius,
            epsilon=config.row_epsilon,
        )
        torch.testing.assert_close(matrices[image, own, own], a, rtol=1e-9, atol=0)
        assert matrices[image, count:].abs().sum() == matrices[image, :, count:].abs().sum() == 0
        for cam, got, unit in zip(*(maps[pairs.image == image] for maps in (cams, spread, scaled)), strict=True):
            want = cam[own].double()
            if config.boxes != "none":
                inside = reference.box_mask(want.reshape(grid).numpy(), config.box_threshold, config.boxes)
                want = want * torch.from_numpy(inside).flatten()
            want = torch.linalg.matrix_power(a, config.hops) @ want
            torch.testing.assert_close(got[own], want, rtol=1e-9, atol=1e-12)
            assert got[count:].abs().sum() == unit[count:].abs().sum() == 0
            torch.testing.assert_close(unit[own].double(), reference.min_max(want), rtol=0, atol=1e-6)


def test_without_the_votes_that_are_asked_for():
    cams, attention, _, pairs = padded_batch([(3, 4)], [2], 8)
    config = AttentionAffinityConfig(votes=4)
    with pytest.raises(ValueError, match="votes is 4 and no votes are given; encode with votes, or set votes=0"):
        spread_cams(cams, attention, pairs, [(3, 4)], config)


def test_no_boxes_are_one_of_everything():
    cam = torch.zeros(2, 3, 4)
    assert box_masks(cam, 0.4, "none").min() == 1
    assert region_boxes(cam, 0.4, "none") == [[(0, 0, 3, 4)]] * 2
