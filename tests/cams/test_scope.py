"""Scope: patches exchange within regions only, against the slow statement and by what must not change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_regions
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import make_clip
from PIL import Image

import clipes
from clipes.cams.affinities import scoped_attention
from clipes.cams.compute import compute_cams, encode_images, encode_pixels, image_maps
from clipes.cams.dense import dense_features
from clipes.cams.scope import in_scope, joined_regions, patch_regions, scoped
from clipes.clip.open_clip_vision import vision_encoder
from clipes.config import (
    AttentionAffinityConfig,
    ContrastAffinityConfig,
    DenseConfig,
    FeatureAffinityConfig,
    GivenRegionsConfig,
    ScopeConfig,
    ViewsConfig,
)
from clipes.scenes import draw_scene

BASE = replace(clipes.VOC12, regions=GivenRegionsConfig(), scope=ScopeConfig())
CONFIGS = [
    replace(BASE, affinity=AttentionAffinityConfig(last_blocks=2)),
    replace(BASE, affinity=FeatureAffinityConfig()),
    replace(BASE, affinity=FeatureAffinityConfig(), scope=ScopeConfig(join=0.3)),
    replace(BASE, affinity=None, map=DenseConfig(attention="qq+kk")),
    replace(BASE, affinity=None, map=DenseConfig(attention="kk+distance", residual=False)),
    replace(BASE, affinity=None, map=DenseConfig(attention="qk")),
]
GRIDS = ((5, 7), (7, 5), (3, 4))


def inputs(grids=GRIDS):
    """Pixels of the grids, their labels, text features of 5 classes and 3 words, regions with unsegmented patches."""
    generator, random = torch.Generator().manual_seed(3), np.random.default_rng(4)
    pixels = [torch.randn(3, 8 * h, 8 * w, generator=generator) for h, w in grids]
    text = torch.nn.functional.normalize(torch.randn(8, 1, 24, generator=generator), dim=-1)
    regions = [random.integers(0, 4, grid).repeat(8, 0).repeat(8, 1).astype(np.int32) for grid in grids]
    return pixels, [[1, 2, 3, 4, 5], [4], [2, 5]][: len(grids)], text, regions


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_the_region_of_most_pixels(seed, h, w, down, across):
    regions = np.random.default_rng(seed).integers(0, 3, (h * down, w * across)).astype(np.int32)
    assert patch_regions(regions, (h, w)).tolist() == reference_regions.patch_regions(regions, (h, w))


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (3, 2), (37, 61)])
def test_pictures_that_the_grid_does_not_divide(size):
    regions = (np.arange(size[1]) * 3 // size[1] + 1)[None].repeat(size[0], 0).astype(np.int32)
    found = patch_regions(regions, (5, 6)).reshape(5, 6)
    assert (found == found[0]).all() and (np.diff(found[0]) >= 0).all() and found[0, 0] == 1
    assert set(found[0].tolist()) == set(regions[0].tolist())


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(0, 3))
def test_pairs_that_exchange(seed, count, padding):
    random = np.random.default_rng(seed)
    similarity = random.random((count + padding, count + padding))
    regions, mask = random.integers(0, 3, count + padding), np.arange(count + padding) < count
    given = torch.from_numpy(similarity)[None], torch.from_numpy(regions)[None], torch.from_numpy(mask)[None]
    allowed = in_scope(*given)[0].numpy()
    want = reference_regions.in_scope(similarity[:count, :count], regions[:count])
    np.testing.assert_array_equal(allowed[:count, :count], want)
    assert not allowed[count:].any() and not allowed[:, count:].any()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.affinity}-{config.map}"[:60])
def test_pictures_together_are_as_alone_and_the_scope_counts(config):
    encoder = vision_encoder(make_clip(seed=1, layers=3))
    pixels, ids, text, regions = inputs()
    together = compute_cams(encoder, encode_pixels(encoder, pixels, config), text, ids, 5, config, regions)
    free = compute_cams(encoder, encode_pixels(encoder, pixels, config), text, ids, 5, replace(config, scope=None))
    for image, maps in enumerate(together):
        one = slice(image, image + 1)
        encoded = encode_pixels(encoder, pixels[image][None], config)
        (alone,) = compute_cams(encoder, encoded, text, ids[one], 5, config, regions[one])
        torch.testing.assert_close(maps, alone, rtol=0, atol=2e-5)
        assert not torch.equal(maps, free[image])


def test_nothing_leaves_a_region_by_attention():
    """Where every patch is in a region, attention between two regions is 0; each row has the sum that it had."""
    encoder, config = vision_encoder(make_clip(seed=1, layers=3)), CONFIGS[0]
    pixels, _, _, regions = inputs()
    whole = [own + 1 for own in regions]
    encoded = encode_pixels(encoder, pixels, config)
    kept = scoped_attention(scoped(encoder, encoded, whole, config.scope), config.affinity)
    before = scoped_attention(encoded, config.affinity)
    for image, grid in enumerate(GRIDS):
        ids = torch.from_numpy(patch_regions(whole[image], grid))
        count, one = len(ids), ids[:, None] == ids
        rows, inside = before[image, :count].sum(-1, keepdim=True), before[image, :count, :count] * one
        torch.testing.assert_close(kept[image, :count, :count], inside / inside.sum(-1, keepdim=True) * rows)


@pytest.mark.parametrize("attention", ["qq", "kk", "qq+kk", "kk+distance", "qk"])
def test_dense_features_of_a_region_depend_on_its_patches_alone(attention):
    encoder = vision_encoder(make_clip(seed=1, layers=3)).to(dtype=torch.float64)
    block, head, generator = encoder.blocks[-1], encoder.head, torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 13, 32, generator=generator, dtype=torch.float64)
    regions = torch.tensor([[1] * 5 + [2] * 7])
    other = tokens.clone()
    other[:, 6:] = torch.randn(1, 7, 32, generator=generator, dtype=torch.float64)
    other[:, 0] += 1
    first, second = (
        dense_features(block, head, one, [(3, 4)], attention, True, regions=regions) for one in (tokens, other)
    )
    torch.testing.assert_close(first[:, :5], second[:, :5], rtol=0, atol=1e-12)
    assert (first[:, 5:] - second[:, 5:]).abs().min() > 1e-6
    free = dense_features(block, head, tokens, [(3, 4)], attention, True)
    assert (free - first).abs().max() > 1e-4


def test_regions_of_like_features_are_joined():
    features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [1, 0.2], [5, 5]]), dim=-1)
    regions = torch.tensor([7, 7, 3, 5, 0])
    assert joined_regions(features, regions, 0.1).tolist() == [2, 2, 1, 2, 0]
    assert joined_regions(features, regions, 0.0).tolist() == [3, 3, 1, 2, 0]
    assert joined_regions(features, torch.tensor([4, 4, 4, 0, 0]), 0.1).tolist() == [4, 4, 4, 0, 0]
    assert joined_regions(features, torch.zeros(5, dtype=torch.long), 0.1).tolist() == [0] * 5


def test_a_mirrored_view_has_mirrored_regions():
    encoder, config = vision_encoder(make_clip(seed=1, layers=3)), replace(CONFIGS[1], views=ViewsConfig(flip=True))
    _, _, text, _ = inputs()
    image = Image.fromarray(draw_scene(3, (40, 48)).image)
    regions = np.random.default_rng(0).integers(1, 4, (5, 6)).repeat(8, 0).repeat(8, 1).astype(np.int32)
    pictures = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    first, second = (
        image_maps(encoder, encode_images(encoder, [one], config), [one], text, [[1, 3]], 5, config, [own])[0]
        for one, own in zip(pictures, (regions, np.fliplr(regions)), strict=True)
    )
    torch.testing.assert_close(first, second.flip(-1), rtol=0, atol=1e-5)


def test_a_scope_without_regions_or_without_a_place():
    encoder, (pixels, ids, text, regions) = vision_encoder(make_clip(seed=1, layers=3)), inputs()
    encoded = encode_pixels(encoder, pixels, CONFIGS[0])
    for some in (None, [*regions[:2], None]):
        with pytest.raises(ValueError, match="a scope needs the regions of each picture"):
            compute_cams(encoder, encoded, text, ids, 5, CONFIGS[0], some)
    for config in (replace(BASE, affinity=None), replace(BASE, affinity=ContrastAffinityConfig(), map=DenseConfig())):
        with pytest.raises(ValueError, match="scope counts in the affinities 'attention' and 'features'"):
            config.check_scope()


def test_a_generator_gives_its_maps_the_regions(tiny):
    scene = draw_scene(seed=7)
    config = replace(tiny.config, regions=GivenRegionsConfig(), scope=ScopeConfig(), vote=None)
    generator = clipes.MaskGenerator(tiny.clip, tiny.vocabulary, config)
    result = generator(scene.image, scene.labels, scene.mask)
    free = tiny(scene.image, scene.labels)
    assert not np.array_equal(result.patch_cams, free.patch_cams)
    features = generator.encode(scene.image)
    np.testing.assert_array_equal(generator.decide(features, scene.labels, scene.mask).patch_cams, result.patch_cams)
    with pytest.raises(ValueError, match="give regions"):
        generator(scene.image, scene.labels)
