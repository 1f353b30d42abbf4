"""Scales and mirror images of a picture: each encoded by itself, brought to the grid of its own size, joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import make_clip, text_encoder
from PIL import Image
from torch.nn import functional as F

import clipes
from clipes.cams.compute import join_views
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.weights import CLIP
from clipes.config import CommitteeConfig, ImageConfig, View, ViewsConfig
from clipes.runs.generation import batch_memory
from clipes.scenes import draw_scene
from clipes.vocabulary import load_vocabulary

PLAIN = replace(clipes.VOC12, refine=None)
ALL = ViewsConfig(scales=(1.0, 1.5), flip=True)
LABELS = [["dog"], ["boat", "dog", "cat"], [], ["cat"]]


def pictures() -> list[Image.Image]:
    return [Image.fromarray(draw_scene(3, size).image) for size in ((45, 70), (64, 33), (24, 24), (20, 20))]


@pytest.fixture(scope="module")
def generator():
    clip = CLIP(vision_encoder(make_clip(seed=5, layers=6)), text_encoder(24))
    vocabulary = load_vocabulary(["dog", "cat", "boat"], ["sky", "sea"])
    return lambda config: clipes.MaskGenerator(clip, vocabulary, config)


def min_max(maps: torch.Tensor) -> torch.Tensor:
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - lowest) / (highest - lowest + 1e-7)


@pytest.mark.parametrize("config", [PLAIN, replace(PLAIN, map=CommitteeConfig())], ids=["gradcam", "committee"])
def test_views_are_encoded_alone_and_joined(generator, config) -> None:
    """By hand: resize and mirror, ask for the maps, mirror back, resize to the first grid, sum, scale."""
    results = list(generator(replace(config, views=ALL)).generate(pictures(), LABELS))
    single = generator(config)
    for image, labels, result in zip(pictures(), LABELS, results, strict=True):
        grid = -(-image.height // 8), -(-image.width // 8)
        assert result.patch_cams.shape == (len(labels), *grid)
        if not labels:
            continue
        total = torch.zeros(len(labels), *grid)
        for scale in ALL.scales:
            size = round(scale * image.height), round(scale * image.width)
            h, w = (-(-side // 8) for side in size)
            for mirrored in (False, True):
                view = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
                resized = view.resize((8 * w, 8 * h), Image.Resampling.BICUBIC)
                maps = torch.from_numpy(single(resized, labels).patch_cams)
                maps = maps.flip(-1) if mirrored else maps
                total += F.interpolate(maps[None], grid, mode="bilinear", align_corners=False)[0]
        np.testing.assert_allclose(result.patch_cams, min_max(total), rtol=0, atol=2e-5)


def test_one_view_of_the_own_size_changes_no_bit(generator) -> None:
    for got, want in zip(
        generator(replace(PLAIN, views=ViewsConfig((1.0,)))).generate(pictures(), LABELS),
        generator(PLAIN).generate(pictures(), LABELS),
        strict=True,
    ):
        assert np.array_equal(got.patch_cams, want.patch_cams) and np.array_equal(got.mask, want.mask)
    maps = torch.rand(2, 3, 4)
    assert join_views([maps], (3, 4), ViewsConfig()) is maps


def test_a_picture_encoded_once_serves_all_labels(generator) -> None:
    chosen = generator(replace(PLAIN, views=ALL))
    image = pictures()[0]
    features = chosen.encode(image)
    for labels in LABELS[:2]:
        assert np.array_equal(chosen.decide(features, labels).patch_cams, chosen(image, labels).patch_cams)


def test_a_mirrored_picture_has_mirrored_maps(generator) -> None:
    """With a flip the maps do not depend on which side is left."""
    chosen = generator(replace(PLAIN, views=ViewsConfig(flip=True)))
    image = pictures()[1]
    image = image.resize((32, 64))  # whole patches: both sides are cut alike
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    maps, others = (chosen(one, ["dog", "cat"]).patch_cams for one in (image, mirrored))
    np.testing.assert_allclose(maps, others[..., ::-1], rtol=0, atol=1e-4)


def test_the_order_of_views() -> None:
    assert ALL.all == (View(1.0, False), View(1.0, True), View(1.5, False), View(1.5, True))
    assert ViewsConfig().all == (View(1.0, False),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": ()}, r"scales is \(\); it must be a tuple of factors"),
        ({"scales": (1.0, 1.0)}, "without repeats"),
        ({"scales": (0.01,)}, r"scales is 0\.01; it must be in \[0\.1, 8\]"),
        ({"flip": 1}, "flip is 1; it must be True or False"),
    ],
)
def test_wrong_views(change, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ViewsConfig(**change)


def test_the_largest_view_counts_for_memory(generator) -> None:
    images = [Image.new("RGB", (320, 240))]
    plain, large = (
        batch_memory(generator(replace(PLAIN, views=views)), images, [2])
        for views in (ViewsConfig(), ViewsConfig((1.0, 2.0)))
    )
    assert large > 2 * plain


@pytest.mark.parametrize("antialias", [True, False])
def test_a_square_is_what_the_encoder_sees(generator, antialias: bool) -> None:
    """Every picture has the grid of the square; the mask keeps the picture's size."""
    image = Image.fromarray(draw_scene(3, (45, 70)).image)
    config = replace(PLAIN, image=ImageConfig(square=64, normalisation="imagenet", antialias=antialias))
    result = generator(config)(image, ["dog"])
    assert result.patch_cams.shape == (1, 8, 8) and result.mask.shape == (45, 70)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    if antialias:
        resized = torch.from_numpy(np.array(image.resize((64, 64), Image.Resampling.BICUBIC))).permute(2, 0, 1)[None]
    else:
        resized = F.interpolate(pixels, (64, 64), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    chosen = generator(config)
    maps = chosen.compute_cams((resized / 255 - mean) / std, [[1]])[0]
    np.testing.assert_allclose(result.patch_cams, maps, rtol=0, atol=1e-5)
