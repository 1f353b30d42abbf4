"""AFA's propagation within a radius and PSA's random walk, by the numbers of their codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import arrays, close, same

from clipes.cams.propagation import background_shares, near_patches, normalise_rows, propagate
from clipes.cams.views import resize_maps

GOLDEN, CHAIN = arrays("before", "propagation"), arrays("before", "affinity_chain")


def propagated(maps, affinity, power, radius, epsilon, hops=1):
    """(C, h, w) maps times the matrix ``affinity ** power`` within ``radius``, columns normalised, ``hops`` times."""
    gathered = torch.from_numpy(affinity).mT.double() ** power
    if radius is not None:
        gathered = gathered * near_patches(maps.shape[1:], radius)
    return propagate(maps.double().flatten(1), normalise_rows(gathered, epsilon), hops).reshape(maps.shape)


@pytest.mark.parametrize("radius", [8, 3])
def test_the_square_within_a_radius(radius):
    near = near_patches(GOLDEN["maps"].shape[1:], radius)
    same(f"mask_radius{radius}", near, GOLDEN[f"mask_radius{radius}"])


@pytest.mark.parametrize("radius", [8, 3, None])
def test_afa_without_background(radius):
    key = f"plain_radius{radius or 'all'}"
    close(key, propagated(torch.from_numpy(GOLDEN["maps"]), GOLDEN["affinity"], 2, radius, 1e-4), GOLDEN[key])


@pytest.mark.parametrize("background", [35, 55])
@pytest.mark.parametrize("radius", [8, 3, None])
def test_afa_with_background(radius, background):
    key, shown = f"background{background}_radius{radius or 'all'}", GOLDEN["present"]
    shares = background_shares(torch.from_numpy(GOLDEN["maps"][shown]), background / 100)
    got, rows = propagated(shares, GOLDEN["affinity"], 2, radius, 0.1), np.flatnonzero([True, *shown])
    close(key, got, GOLDEN[key][rows])
    if f"{key}_label" in GOLDEN:
        same(f"{key}_label", rows[got.argmax(0)], GOLDEN[f"{key}_label"], 1)


@pytest.mark.parametrize(("logarithm", "tolerance"), [(0, 1e-4), (1, 1e-4), (2, 1e-4), (6, 5e-4), (8, 2e-3)])
def test_psa(logarithm, tolerance):
    key, maps = f"walk_beta8_logt{logarithm}", torch.from_numpy(GOLDEN["walk_maps"])
    close(key, propagated(maps, GOLDEN["psa_affinity"], 8, None, 0, 2**logarithm), GOLDEN[key], tolerance)


@pytest.mark.parametrize(("name", "background"), [("low", 0.35), ("high", 0.55)])
def test_from_full_size_to_the_grid_and_back(name, background):
    maps, (count, *_) = torch.from_numpy(CHAIN["maps"][CHAIN["present"]]), CHAIN["affinity"].shape
    height, width = maps.shape[1:]
    rows = round((count * height / width) ** 0.5)
    shares = background_shares(resize_maps(maps, (rows, count // rows)), background)
    got = resize_maps(propagated(shares, CHAIN["affinity"], 2, 4, 0.1), (height, width))
    close(name, got, CHAIN[name][[True, *CHAIN["present"]]])
