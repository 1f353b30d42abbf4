"""Scales and mirror images of maps fused, against bilinear resizing by loops."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch

from clipes.cams.views import fuse_views, scale_above_min, scale_max, scale_min_max

SIZES, SIZE = [(5, 8), (3, 4), (7, 13)], (10, 15)


def random_views(seed, flip):
    generator = torch.Generator().manual_seed(seed)
    return [
        tuple(torch.rand(3, *size, generator=generator, dtype=torch.float64) for _ in range(1 + flip)) for size in SIZES
    ]


def statement(views, size, join):
    """The sum over the scales of each class's resized map, joined with that of the mirrored picture, mirrored back."""
    total = np.zeros((3, *size))
    for scale in views:
        for label in range(3):
            resized = [reference.upsample(view[label].numpy(), size) for view in scale]
            total[label] += join(resized[0], resized[1][:, ::-1]) if len(resized) == 2 else resized[0]
    return total


@pytest.mark.parametrize(("flips", "join"), [("sum", np.add), ("max", np.maximum)])
@pytest.mark.parametrize("flip", [False, True])
def test_fused(flip, flips, join):
    views = random_views(1, flip)
    np.testing.assert_allclose(fuse_views(views, SIZE, flips), statement(views, SIZE, join), rtol=1e-12)


def test_resized_beyond_the_size_and_cut():
    views = random_views(2, True)
    cut = fuse_views(views, SIZE, padded=(12, 16))
    np.testing.assert_allclose(cut, statement(views, (12, 16), np.add)[:, :10, :15], rtol=1e-12)


def test_no_views():
    with pytest.raises(ValueError, match="no views to fuse; give the maps of one scale at least"):
        fuse_views([], SIZE)


def test_scaling():
    maps = torch.tensor([[[-1.0, 1.0], [3.0, 0.5]], [[2.0, 2.0], [2.0, 2.0]]], dtype=torch.float64)
    assert scale_min_max(maps, 1.0).tolist() == [[[0.0, 0.4], [0.8, 0.3]], [[0.0, 0.0], [0.0, 0.0]]]
    assert scale_max(maps, 1.0).tolist() == [[[-0.25, 0.25], [0.75, 0.125]], [[2 / 3, 2 / 3], [2 / 3, 2 / 3]]]
    above = [[[-1 / 4, 0.0], [2 / 4, -1 / 4]], [[-3.0, -3.0], [-3.0, -3.0]]]
    np.testing.assert_allclose(scale_above_min(maps, 1.0), above)
