"""MCTformer V1, V2 and +: class-token attention times maps, patch affinity, views, by the numbers of their codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import arrays, close, softmax

from clipes.cams.affinity import spread_cams
from clipes.cams.committee import times_attention
from clipes.cams.views import fuse_views, scale_min_max
from clipes.clip.pairs import Pairs
from clipes.config import AttentionAffinityConfig

GOLDEN = arrays("before", "mctformer")
PATCH_AFFINITY = AttentionAffinityConfig(sinkhorn_iterations=0, symmetric=False, boxes="none", hops=1)


def refined(maps, attention):
    """Maps (C, h, w) after MCTformer's patch affinity, the sum over the blocks of attention (L, N, N)."""
    flat, total = torch.as_tensor(maps).flatten(1), torch.from_numpy(attention.sum(0))[None]
    spread = spread_cams(flat, total, Pairs([range(len(flat))]), [maps.shape[1:]], PATCH_AFFINITY)
    return spread.reshape(maps.shape)


def fused(maps, attention, exponent):
    """Maps (C, h, w) without their negative parts, times attention (N,) or (C, N)."""
    maps = torch.from_numpy(np.maximum(maps, 0))
    return times_attention(maps.flatten(1), torch.from_numpy(attention), exponent).reshape(maps.shape)


@pytest.mark.parametrize("blocks", [3, 12])
@pytest.mark.parametrize(("name", "exponent"), [("product", 1), ("root", 0.5)])
def test_one_class_token(name, exponent, blocks):
    query, key = GOLDEN["one_query"], GOLDEN["one_key"]
    attention = softmax(query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1])).mean(1)
    rows = attention[-blocks:, 0, 1:]
    maps = fused(GOLDEN["one_maps"], rows.sum(0) if name == "product" else rows.mean(0), exponent)
    close(f"one_{name}_k{blocks}", maps, GOLDEN[f"one_{name}_k{blocks}"])
    close(f"one_{name}_k{blocks}_refined", refined(maps, attention[:, 1:, 1:]), GOLDEN[f"one_{name}_k{blocks}_refined"])


@pytest.mark.parametrize(
    ("key", "count", "blocks", "exponent", "refine"),
    [
        ("v1_flip", 2, 3, None, True),
        ("v2_flip", 2, 3, 1, True),
        ("v2_flip_unrefined", 2, 3, 1, False),
        ("v2_six", 6, 3, 1, True),
        ("plus_six", 6, 12, 0.5, True),
        ("plus_six_unrefined", 6, 12, 0.5, False),
    ],
)
def test_views(key, count, blocks, exponent, refine):
    classes, size = len(GOLDEN["present"]), tuple(int(side) for side in GOLDEN["view_sizes"][0])
    views = []
    for i in range(count):
        attention, maps = GOLDEN[f"view{i}_attention"].mean(1), GOLDEN[f"view{i}_maps"]
        rows = attention[-blocks:, :classes, classes:]
        rows = rows.mean(0) if exponent == 0.5 else rows.sum(0)
        maps = torch.from_numpy(rows).reshape(maps.shape) if exponent is None else fused(maps, rows, exponent)
        maps = refined(maps, attention[:, classes:, classes:]) if refine else maps
        views.append(maps[GOLDEN["present"]])
    fused_views = fuse_views(list(zip(views[::2], views[1::2], strict=True)), size)
    close(key, scale_min_max(fused_views, 1e-8), GOLDEN[key])
