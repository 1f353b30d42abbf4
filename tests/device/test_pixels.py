"""Pictures brought to whole patches and normalised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipes.device.pixels import prepare, resize
from clipes.scenes import draw_scenes

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def test_prepare_equals_the_reference_transform():
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    prepared = prepare(Image.fromarray(noise), (4, 5), 16, MEAN, STD)
    assert prepared.shape == (3, 64, 80) and prepared.dtype == torch.float32 and prepared.is_contiguous()
    resized = np.asarray(Image.fromarray(noise).resize((80, 64), Image.Resampling.BICUBIC), dtype=np.float64)
    np.testing.assert_allclose(prepared.permute(1, 2, 0), (resized / 255 - MEAN) / STD, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 80), (16, 16), (51, 71), (40, 56)])  # rounded up, or shrunk, as for the encoder
def test_a_device_resizes_as_pillow_does(size):
    scene = next(draw_scenes(1, 3_000_700, (50, 70))).image
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for picture in (scene, noise):
        found = resize(torch.from_numpy(picture.copy()), size)
        expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))
        far = np.abs(found.permute(1, 2, 0).numpy() - expected)
        assert found.dtype == torch.float32 and far.max() <= 1 and (far > 0).mean() < 5e-3


def test_prepare_downscales_with_antialiasing():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    prepared = prepare(Image.fromarray(stripes), (1, 1), 16, (0, 0, 0), (1, 1, 1))
    np.testing.assert_allclose(prepared[:, :, 1:-1], 0.5, atol=0.03)


def test_prepare_wants_rgb():
    with pytest.raises(ValueError, match="not mode 'L'; use open_image first"):
        prepare(Image.new("L", (4, 4)), (1, 1), 16, MEAN, STD)
