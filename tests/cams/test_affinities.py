"""Each affinity from a picture to its maps: what it reads of the encoder, and batches with padding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import reference
import torch
from models import make_clip

from clipes.cams.compute import compute_cams, encode_pixels
from clipes.cams.feature_affinity import block_features
from clipes.clip.open_clip_vision import vision_encoder
from clipes.config import VOC12, AttentionAffinityConfig, ContrastAffinityConfig, FeatureAffinityConfig

LAYERS = 4
CONFIGS = [
    AttentionAffinityConfig(boxes="none", symmetric=False, hops=1),
    AttentionAffinityConfig(last_blocks=3, skip_last=True, votes=2, sinkhorn_iterations=0, boxes="none"),
    AttentionAffinityConfig(oldest_block="per-head", power=2.0, radius=2, row_epsilon=0.1),
    FeatureAffinityConfig(),
    FeatureAffinityConfig(features="keys", blocks=3, power=2.0),
    FeatureAffinityConfig(features="values", blocks=9, hops=2),
    ContrastAffinityConfig(),
    ContrastAffinityConfig(features="keys", blocks=1),
]


def inputs():
    """Pixels of three grids, their labels, text features of 5 classes and 3 words."""
    generator = torch.Generator().manual_seed(3)
    pixels = [torch.randn(3, 8 * h, 8 * w, generator=generator) for h, w in ((5, 7), (7, 5), (3, 4))]
    text = torch.nn.functional.normalize(torch.randn(8, 1, 24, generator=generator), dim=-1)
    return pixels, [[1, 2, 3, 4, 5], [4], [2, 5]], text


@pytest.mark.parametrize("affinity", CONFIGS, ids=str)
def test_pictures_together_are_as_alone(affinity):
    encoder, (pixels, ids, text) = vision_encoder(make_clip(seed=1, layers=LAYERS)), inputs()
    config = replace(VOC12, affinity=affinity)
    together = compute_cams(encoder, encode_pixels(encoder, pixels, config), text, ids, 5, config)
    initial = replace(config, affinity=None)
    before = compute_cams(encoder, encode_pixels(encoder, pixels, config), text, ids, 5, initial)
    for image, maps in enumerate(together):
        encoded = encode_pixels(encoder, pixels[image][None], config)
        (alone,) = compute_cams(encoder, encoded, text, ids[image : image + 1], 5, config)
        torch.testing.assert_close(maps, alone, rtol=0, atol=2e-5)
        assert maps.min() >= 0 and maps.max() <= 1 and not torch.equal(maps, before[image])


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float16, 0.02), (torch.bfloat16, 0.06)])
@pytest.mark.parametrize("affinity", CONFIGS, ids=str)
def test_lower_precisions_agree_with_float64(affinity, dtype, most):
    """By their mean difference, because thresholds decide votes, boxes and seeds, and single patches may flip."""
    encoder, (pixels, ids, text) = vision_encoder(make_clip(seed=1, layers=LAYERS)), inputs()
    config = replace(VOC12, affinity=affinity)

    def maps_in(precision):
        converted = encoder.to(dtype=precision)
        wide = text.to(torch.promote_types(precision, torch.float32))
        encoded = encode_pixels(converted, [image.to(precision) for image in pixels], config)
        return compute_cams(converted, encoded, wide, ids, 5, config)

    for maps, exact in zip(maps_in(dtype), maps_in(torch.float64), strict=True):
        assert (maps.double() - exact.double()).abs().mean() <= most


@pytest.mark.parametrize("affinity", CONFIGS, ids=str)
def test_only_what_is_asked_for_is_kept(affinity):
    encoder, (pixels, _, _) = vision_encoder(make_clip(seed=1, layers=LAYERS)), inputs()
    encoded = encode_pixels(encoder, pixels, replace(VOC12, affinity=affinity))
    of_attention = isinstance(affinity, AttentionAffinityConfig)
    assert len(encoded.attention) == of_attention
    assert (encoded.votes is not None) == (of_attention and affinity.votes > 0)
    assert len(encoded.tokens) == (0 if of_attention else min(affinity.blocks, LAYERS))


@pytest.mark.parametrize(("features", "third"), [("tokens", None), ("keys", 1), ("values", 2)])
def test_features_are_those_of_the_block(features, third):
    clip = make_clip(seed=4)
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(3, 24, 40, generator=generator, dtype=torch.float64)
    last, x = clip.visual.transformer.resblocks[-1], reference.encode(clip.visual, pixels)[0]
    want = x
    if third is not None:
        attention, rows = last.attn, slice(third * x.shape[1], (third + 1) * x.shape[1])
        normed = reference.layer_norm(x, last.ln_1)
        want = normed @ attention.in_proj_weight.to(x)[rows].T + attention.in_proj_bias.to(x)[rows]
    block = vision_encoder(clip).to(dtype=torch.float64).blocks[-1]
    torch.testing.assert_close(block_features(block, x[None], features)[0], want[1:], rtol=1e-9, atol=1e-9)


def test_lower_precision_is_widened():
    block = vision_encoder(make_clip()).to(dtype=torch.bfloat16).blocks[0]
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(6)).bfloat16()
    for features in ("tokens", "keys"):
        assert block_features(block, x, features).dtype == torch.float32
