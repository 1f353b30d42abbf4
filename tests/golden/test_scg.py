"""SPA's self-correlation by the numbers of its code."""

from __future__ import annotations

import pytest
import torch
from golden import arrays, close

from clipes.cams.contrast_affinity import first_correlation, higher_correlation, join_correlations, seed_contrast
from clipes.cams.feature_affinity import feature_cosines

GOLDEN = arrays("before", "scg")
PAPERS = {"cub": (0.1, 0.5, 2.0), "ilsvrc": (0.2, 0.2, 1.0)}


def correlations(features, threshold, higher_threshold, order=2):
    patches = torch.from_numpy(features).flatten(1).T[None]
    mask = torch.ones(patches.shape[:2], dtype=torch.bool)
    cosines = feature_cosines(patches, mask, False, threshold)
    return first_correlation(cosines), higher_correlation(cosines, mask, higher_threshold, order)


def contrast(maps, matrix, foreground, background):
    flat = torch.as_tensor(maps).flatten(1)[None].double()
    mask = torch.ones(1, flat.shape[-1], dtype=torch.bool)
    return seed_contrast(flat, matrix, mask, foreground, background).reshape(maps.shape)


@pytest.mark.parametrize("name", PAPERS)
def test_correlations_and_maps(name):
    *thresholds, weight = PAPERS[name]
    a, b = (correlations(GOLDEN[f"features_{part}"], *thresholds) for part in "ab")
    close(f"{name}_first_a", a[0][0], GOLDEN[f"{name}_first_a"])
    close(f"{name}_second_a", a[1][0], GOLDEN[f"{name}_second_a"])
    total = join_correlations(*a, weight) + join_correlations(*b, weight)
    close(f"{name}_both", total[0], GOLDEN[f"{name}_both"])
    for key, matrix, seeds in (
        ("map", total, (0.1, 0.05)),
        ("map_30_05", total, (0.3, 0.05)),
        ("map_first_order", b[0], (0.1, 0.05)),
    ):
        close(f"{name}_{key}", contrast(GOLDEN["maps_scaled"], matrix, *seeds), GOLDEN[f"{name}_{key}"], 1e-3)


def test_third_order():
    close("third_order_a", correlations(GOLDEN["features_a"], 0.1, 0.5, 3)[1][0], GOLDEN["third_order_a"])


def test_without_background_seeds():
    want, matrix = GOLDEN["no_background_seed_map"], torch.from_numpy(GOLDEN["cub_both"])[None].double()
    flat = torch.full((1, *want.shape), 0.5)
    close("no_background_seed_map", contrast(flat, matrix, 0.1, 0.05)[0], want, 1e-3)
