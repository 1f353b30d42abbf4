"""Superpixels: every pixel is in one, and the same picture gives the same."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from clipes.config import FelzenszwalbConfig, SlicConfig
from clipes.regions import superpixels
from clipes.scenes import draw_scene

CONFIGS = [SlicConfig(), FelzenszwalbConfig()]
skimage = pytest.importorskip("skimage", reason="scikit-image, the extra `regions`, is not installed")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_superpixels_end_at_the_edges_of_the_picture(config):
    pixels = np.zeros((60, 80, 3), np.uint8)
    disc = np.hypot(*(np.indices((60, 80)) - np.array([27, 41])[:, None, None])) < 19
    pixels[..., 2] = 200
    pixels[disc] = 230, 40, 10
    ids = superpixels(pixels, config)
    assert ids.dtype == np.int32 and sorted(set(ids.ravel())) == list(range(1, ids.max() + 1))
    assert len(np.unique(np.stack([ids, disc], -1).reshape(-1, 2), axis=0)) == ids.max()  # none on both sides


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_the_same_picture_gives_the_same(config):
    image = draw_scene(seed=7).image
    ids = superpixels(image, config)
    np.testing.assert_array_equal(superpixels(Image.fromarray(image), config), ids)
    assert ids.max() > 20


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
@pytest.mark.parametrize("size", [(500, 1), (1, 500), (1, 1), (2, 3)])
def test_narrow_pictures(config, size):
    ids = superpixels(Image.new("RGB", size, "red"), config)
    assert ids.shape == size[::-1] and ids.min() == 1


def test_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"superpixels need scikit-image: pip install scikit-image, or in a clone"):
        superpixels(Image.new("RGB", (4, 4)), SlicConfig())
