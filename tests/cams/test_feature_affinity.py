"""Affinities of features, alone and as contrast of seeds, against their statements by loops."""

from __future__ import annotations

import numpy as np
import pytest
import reference_affinities as reference
import torch

from clipes.cams.contrast_affinity import propagate_by_contrast
from clipes.cams.feature_affinity import propagate_by_features
from clipes.clip.pairs import Pairs
from clipes.config import ContrastAffinityConfig, FeatureAffinityConfig

COUNTS = [23, 35, 1]
LABELS = [3, 1, 20]


def padded_batch(blocks, seed, dtype):
    """Maps (P, N), features (B, N, D) of each block with a common direction, patch mask (B, N), pairs."""
    generator = torch.Generator().manual_seed(seed)
    patch_mask = torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[:, None]
    pairs = Pairs([range(number) for number in LABELS])
    cams = torch.rand(len(pairs), max(COUNTS), generator=generator, dtype=dtype) ** 3 * patch_mask[pairs.image]
    shape = (len(COUNTS), max(COUNTS), 9)
    return cams, [torch.randn(shape, generator=generator, dtype=dtype) + 0.6 for _ in range(blocks)], patch_mask, pairs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "config",
    [
        FeatureAffinityConfig(),
        FeatureAffinityConfig(blocks=2, threshold=0.3),
        FeatureAffinityConfig(centred=False, power=4.0, hops=3),
    ],
    ids=str,
)
def test_features(config, dtype):
    cams, features, patch_mask, pairs = padded_batch(config.blocks, 1, dtype)
    got = propagate_by_features(cams, features, patch_mask, pairs, config)
    assert got.dtype == dtype
    for cam, image, found in zip(cams, pairs.image_indices, got, strict=True):
        own = slice(0, COUNTS[image])
        blocks = [reference.pixel_correlation(cam[own].numpy(), f[image, own].numpy(), config) for f in features]
        mean = np.mean([reference.range_scaled(one, 1e-7) for one in blocks], 0)
        np.testing.assert_allclose(found[own], reference.range_scaled(mean, 1e-7), rtol=0, atol=1e-5)
        assert found[COUNTS[image] :].abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "config",
    [
        ContrastAffinityConfig(),
        ContrastAffinityConfig(blocks=1, threshold=0.2, higher_threshold=0.2, higher_weight=1.0, centred=False),
        ContrastAffinityConfig(blocks=1, order=3, foreground=0.3, background=0.02),
        ContrastAffinityConfig(higher_weight=0.0),
    ],
    ids=str,
)
def test_contrast(config, dtype):
    cams, features, patch_mask, pairs = padded_batch(config.blocks, 2, dtype)
    got = propagate_by_contrast(cams, features, patch_mask, pairs, config)
    assert got.dtype == dtype
    for cam, image, found in zip(cams, pairs.image_indices, got, strict=True):
        own = slice(0, COUNTS[image])
        want = reference.seed_contrast(cam[own].numpy(), [f[image, own].numpy() for f in features], config)
        np.testing.assert_allclose(found[own], want, rtol=0, atol=1e-5)
        assert found[COUNTS[image] :].abs().sum() == 0
