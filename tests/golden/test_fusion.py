"""Scales and flips fused as in AFA, IRN and PSA, by the numbers of their codes."""

from __future__ import annotations

import pytest
import torch
from golden import arrays, close

from clipes.cams.views import fuse_views, resize_maps, scale_max, scale_min_max

GOLDEN = arrays("before", "fusion")
SIZE = tuple(int(side) for side in GOLDEN["size"])


def views(name):
    """The maps of each scale, as they are and mirrored."""
    count = sum(key.startswith(f"{name}_view") for key in GOLDEN)
    maps = [torch.from_numpy(GOLDEN[f"{name}_view{i}"]) for i in range(count)]
    return list(zip(maps[::2], maps[1::2], strict=True))


def test_afa():
    resized = [tuple(resize_maps(one, SIZE).clamp_min(0) for one in pair) for pair in views("afa")]
    close("afa_fused", scale_min_max(fuse_views(resized, SIZE, "max"), 1e-5), GOLDEN["afa_fused"])


@pytest.mark.parametrize("key", ["irn_strided", "irn_full", "psa_fused"])
def test_irn_and_psa(key):
    shown, want = GOLDEN["present"], GOLDEN[key]
    want = want[shown] if len(want) == len(shown) else want
    positive = [tuple(one[shown].clamp_min(0) for one in pair) for pair in views("irn")]
    padded = tuple(side + -side % 16 for side in SIZE) if key == "irn_full" else None
    close(key, scale_max(fuse_views(positive, want.shape[1:], padded=padded), 1e-5), want)
