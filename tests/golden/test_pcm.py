"""SEAM's pixel correlation module, and its scales and flips, by the numbers of its code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import arrays, close

from clipes.cams.feature_affinity import feature_affinity
from clipes.cams.propagation import propagate
from clipes.cams.views import fuse_views, resize_maps, scale_above_min

GOLDEN = arrays("before", "pcm")


def spread(maps, features, centred=False):
    maps, features = torch.as_tensor(maps), torch.as_tensor(features)
    patches = features.flatten(1).T[None]
    matrix = feature_affinity(patches, torch.ones(patches.shape[:2], dtype=torch.bool), centred)
    return propagate(maps.flatten(1)[None].double(), matrix).reshape(maps.shape)


@pytest.mark.parametrize(
    ("key", "features", "centred"),
    [
        ("refined", "features", False),
        ("refined_centred", "features", True),
        ("refined_centred", "centred_features", False),
    ],
)
def test_spread(key, features, centred):
    close(key, spread(GOLDEN["maps"], GOLDEN[features], centred), GOLDEN[key])


def test_of_a_coarser_grid():
    features = GOLDEN["centred_features"]
    maps = resize_maps(torch.from_numpy(GOLDEN["coarse_maps"]), features.shape[1:], align_corners=True)
    close("refined_coarse", spread(maps, features), GOLDEN["refined_coarse"])


def test_of_a_networks_features():
    image = resize_maps(torch.from_numpy(GOLDEN["net_image"]), GOLDEN["net_conv4"].shape[1:], align_corners=True)
    convolved = [
        np.maximum(np.einsum("od,dhw->ohw", GOLDEN[weights], GOLDEN[layer]), 0)
        for weights, layer in (("net_f8_3", "net_conv4"), ("net_f8_4", "net_conv5"))
    ]
    features = np.einsum("od,dhw->ohw", GOLDEN["net_f9"], np.concatenate([image, *convolved]))
    close("net_refined_grid", spread(GOLDEN["net_input_map"], features), GOLDEN["net_refined_grid"])


def test_views():
    shown, size = GOLDEN["present"], tuple(int(side) for side in GOLDEN["fused_size"])
    count = sum(key.startswith("view") for key in GOLDEN)
    views = [torch.from_numpy(GOLDEN[f"view{i}"][shown]) for i in range(count)]
    fused = fuse_views(list(zip(views[::2], views[1::2], strict=True)), size)
    close("fused", scale_above_min(fused, 1e-5), GOLDEN["fused"][shown])
