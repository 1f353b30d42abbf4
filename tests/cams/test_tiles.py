"""Tiles: windows of a picture encoded alone, weighted by their label's probability, averaged where they overlap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import make_clip, text_encoder
from PIL import Image
from torch.nn import functional as F

import clipes
from clipes.cams import compute
from clipes.cams.compute import encode_images
from clipes.cams.tiles import Window, join_windows, tiles_of, windows
from clipes.clip.open_clip_vision import vision_encoder
from clipes.clip.weights import CLIP
from clipes.comparison.masks import MaskMaker
from clipes.config import (
    CommitteeConfig,
    GivenRegionsConfig,
    ImageConfig,
    ScopeConfig,
    TileConfig,
    ViewsConfig,
)
from clipes.explain.stages import trace_stages
from clipes.runs.generation import batch_memory
from clipes.scenes import draw_scene
from clipes.vocabulary import load_vocabulary

PLAIN = replace(clipes.VOC12, refine=None)
TILE = TileConfig(40, 24)  # 5 and 3 patches of 8 pixels
TILED = replace(PLAIN, views=ViewsConfig(tile=TILE))
LABELS = ["dog", "cat"]
TENT = torch.tensor([1, 2, 3, 2, 1])[:, None] * torch.tensor([1, 2, 3, 2, 1]) / 9  # of 5 x 5 patches


@pytest.fixture(scope="module")
def generator():
    clip = CLIP(vision_encoder(make_clip(seed=5, layers=6)), text_encoder(24))
    vocabulary = load_vocabulary(["dog", "cat", "boat"], ["sky", "sea"])
    return lambda config: clipes.MaskGenerator(clip, vocabulary, config)


def picture(size: tuple[int, int] = (60, 92)) -> Image.Image:
    return Image.fromarray(draw_scene(3, size).image)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 15), st.integers(1, 15))
def test_windows_have_the_full_size_and_cover_everything(height: int, width: int, size: int, stride: int) -> None:
    stride = min(size, stride)
    covered = np.zeros((height, width), int)
    found = windows((height, width), size, stride)
    for top, left, high, wide in found:
        assert (high, wide) == (min(size, height), min(size, width))
        assert 0 <= top <= height - high and 0 <= left <= width - wide
        covered[top : top + high, left : left + wide] += 1
    assert covered.min() == 1 or stride < size
    assert covered.min() > 0 and len(set(found)) == len(found)
    for starts, length in (({w.top for w in found}, height), ({w.left for w in found}, width)):
        assert len(starts) == 1 + max(0, -(-(length - size) // stride))


def test_windows_by_hand() -> None:
    """Two columns, the second shifted inside; a picture that is lower than a window."""
    assert windows((3, 7), 5, 4) == [Window(0, 0, 3, 5), Window(0, 2, 3, 5)]
    assert windows((5, 5), 5, 2) == [Window(0, 0, 5, 5)]


def test_windows_are_averaged_where_they_overlap() -> None:
    maps = [torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)]
    joined = join_windows(maps, [Window(0, 0, 2, 2), Window(0, 1, 2, 2)], (2, 3))
    assert joined.tolist() == [[[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]]
    weight = torch.tensor([[1.0, 3.0], [1.0, 1.0]])
    joined = join_windows(maps, [Window(0, 0, 2, 2), Window(0, 1, 2, 2)], (2, 3), weight)
    assert joined.tolist() == [[[1.0, 1.5, 3.0], [1.0, 2.0, 3.0]]]


def min_max(maps: torch.Tensor) -> torch.Tensor:
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - lowest) / (highest - lowest + 1e-7)


def probability(generator: clipes.MaskGenerator, part: Image.Image) -> torch.Tensor:
    """Of each of LABELS in the part, among them and the words."""
    vision, text = generator.clip.vision, generator._text_features[:, 0]
    ((_, encoded),) = encode_images(vision, [part], PLAIN)
    tokens = vision.head.ln_post(encoded.last_block.output[0, 1:]).mean(0) @ vision.head.projection
    logits = vision.head.logit_scale * F.normalize(tokens, dim=-1) @ text.T
    dog, cat, _, *words = logits.tolist()
    return torch.tensor([dog, cat, *words]).softmax(0)[:2]


def by_hand(generator, config: clipes.Config, image: Image.Image, mirrored: bool) -> torch.Tensor:
    """The maps of a mirrored or plain view: each window cut, its maps asked for, weighted and added."""
    single = generator(replace(config, views=ViewsConfig()))
    h, w = (-(-side // 8) for side in (image.height, image.width))
    resized = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
    resized = resized.resize((8 * w, 8 * h), Image.Resampling.BICUBIC)
    total, times = torch.zeros(2, h, w), torch.zeros(h, w)
    for top in (0, 3):
        for left in (0, 3, 6, 7):
            part = resized.crop((8 * left, 8 * top, 8 * left + 40, 8 * top + 40))
            maps = torch.from_numpy(single(part, LABELS).patch_cams)
            place = slice(top, top + 5), slice(left, left + 5)
            total[:, place[0], place[1]] += TENT * maps * probability(single, part)[:, None, None]
            times[place] += TENT
    maps = min_max(total / times)
    return maps.flip(-1) if mirrored else maps


@pytest.mark.parametrize("config", [PLAIN, replace(PLAIN, map=CommitteeConfig())], ids=["gradcam", "committee"])
@pytest.mark.parametrize("flip", [False, True])
def test_each_window_is_encoded_alone_with_its_own_affinity(generator, config: clipes.Config, flip: bool) -> None:
    image = picture((64, 92))  # 8 x 12 patches
    result = generator(replace(config, views=ViewsConfig(flip=flip, tile=TILE)))(image, LABELS)
    want = by_hand(generator, config, image, False)
    if flip:
        want = min_max(want + by_hand(generator, config, image, True))
    assert result.patch_cams.shape == (2, 8, 12) and result.mask.shape == (64, 92)
    np.testing.assert_allclose(result.patch_cams, want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [(40, 40), (33, 17), (8, 40)])
def test_a_picture_no_larger_than_a_tile_is_encoded_as_it_is(generator, size: tuple[int, int]) -> None:
    image = picture(size)
    got, want = (generator(config)(image, LABELS) for config in (TILED, PLAIN))
    assert np.array_equal(got.patch_cams, want.patch_cams) and np.array_equal(got.mask, want.mask)


def test_a_large_picture_is_not_shrunk(generator) -> None:
    few = ImageConfig(max_patches=30)
    shrunk, tiled = (generator(replace(config, image=few))(picture(), LABELS) for config in (PLAIN, TILED))
    assert shrunk.patch_cams[0].size <= 30 and tiled.patch_cams.shape[1:] == (8, 12)


def test_windows_together_are_as_alone(generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: those of two pictures, one of them a window's size, and one without labels, in one batch."""
    images, labels = [picture(), picture((40, 33)), picture((20, 60))], [LABELS, ["cat"], []]
    alone = list(generator(TILED).generate(images, labels))
    monkeypatch.setattr(compute, "_batches_by_size", lambda patches, vision: [list(range(len(patches)))[::-1]])
    together = list(generator(TILED).generate(images, labels, batch_size=3))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.patch_cams, other.patch_cams, rtol=0, atol=2e-5)


@pytest.mark.parametrize("antialias", [True, False])
def test_pixels_of_windows_are_those_of_the_picture(generator, antialias: bool) -> None:
    vision, image = generator(PLAIN).clip.vision, picture()
    config = replace(TILED, image=ImageConfig(antialias=antialias))
    ((_, whole),) = encode_images(vision, [image], replace(config, views=ViewsConfig()), [])
    pixels: list[torch.Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "encode_pixels", lambda vision, given, *rest: pixels.extend(given))
        list(encode_images(vision, [image], config))
        list(encode_images(vision, [image], replace(config, views=ViewsConfig())))
    for tile, part in zip(tiles_of([image], 8, config), pixels[:-1], strict=True):
        top, left, height, width = (8 * length for length in tile.window)
        assert torch.equal(part, pixels[-1][:, top : top + height, left : left + width])
    assert whole.grids == ((8, 12),)


def test_a_picture_encoded_once_serves_all_labels_and_presets(generator) -> None:
    chosen, image = generator(TILED), picture()
    features = chosen.encode(image)
    want = chosen(image, LABELS)
    assert np.array_equal(chosen.decide(features, LABELS).patch_cams, want.patch_cams)
    no_affinity = replace(TILED, affinity=None)
    masks = MaskMaker(chosen, {"tiled": TILED, "plain": PLAIN, "maps": no_affinity}).masks(image, want.class_ids)
    for name, config in (("tiled", TILED), ("plain", PLAIN), ("maps", no_affinity)):
        assert np.mean(masks[name] == generator(config)(image, LABELS).mask) > 0.99


def test_explained(generator) -> None:
    """The stages are those of the tiled maps; there is no single affinity to show."""
    stages = trace_stages(generator(TILED), picture(), LABELS)
    assert stages.affinity is None and stages.grid == (8, 12)
    assert np.array_equal(stages.result.patch_cams, generator(TILED)(picture(), LABELS).patch_cams)
    assert not np.array_equal(stages.initial.patch_cams, stages.result.patch_cams)


def test_memory_is_that_of_a_window_and_of_the_resized_picture(generator) -> None:
    large = [Image.new("RGB", (960, 640))]
    plain, tiled = (batch_memory(generator(config), large, [2]) for config in (PLAIN, TILED))
    window = batch_memory(generator(PLAIN), [Image.new("RGB", (40, 40))], [2])
    assert window < tiled < plain / 10
    twice = replace(TILED, views=ViewsConfig((1.0, 2.0), tile=TILE))
    assert tiled + 3 * 960 * 640 < batch_memory(generator(twice), large, [2]) < 3 * tiled


def test_settings_as_json() -> None:
    assert TILED.to_dict()["views"] == {"scales": [1.0], "flip": False, "tile": {"size": 40, "stride": 24}}
    assert clipes.Config.from_dict(TILED.to_dict()) == TILED
    assert clipes.Config.from_dict(PLAIN.to_dict()) == PLAIN
    with pytest.raises(ValueError, match="these settings do not fit"):
        clipes.Config.from_dict({"views": {"tile": {"side": 40}}})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TileConfig(40, 48), "tile stride is 48; it must be at most the size, 40"),
        (lambda: TileConfig(0, 1), "tile size is 0; it must be at least 1"),
        (lambda: TileConfig(40, 0), "tile stride is 0; it must be at least 1"),
        (lambda: TileConfig(40.0, 8), r"tile size is 40\.0; it must be a whole number"),
        (lambda: ViewsConfig(tile=448), r"tile is 448; it must be none, or a size and a stride such as TileConfig"),
    ],
)
def test_wrong_tiles(make, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (TileConfig(7, 7), "the tile 7/7 has a side or a stride below the model's patches of 8 pixels"),
        (TileConfig(64, 4), "the tile 64/4 has a side or a stride below the model's patches of 8 pixels"),
        (
            TileConfig(48, 48),
            "the tile 48/48 has 36 patches of 8 pixels, above max_patches 30; make it smaller than 48 or",
        ),
    ],
)
def test_tiles_that_do_not_suit_the_model(generator, tile: TileConfig, message: str) -> None:
    config = replace(PLAIN, image=ImageConfig(max_patches=30), views=ViewsConfig(tile=tile))
    with pytest.raises(ValueError, match=message):
        generator(config)


def test_each_tile_has_its_part_of_the_regions(generator) -> None:
    """Where the regions are the tiles' own, patches see the same as without a scope; where they are halves, not."""
    scoped = replace(TILED, regions=GivenRegionsConfig(), scope=ScopeConfig())
    plain = generator(TILED)(picture(), LABELS)
    whole, halves = np.ones((60, 92), np.uint8), np.ones((60, 92), np.uint8)
    halves[:, 46:] = 2
    one, two = (generator(scoped)(picture(), LABELS, regions=ids) for ids in (whole, halves))
    np.testing.assert_allclose(one.patch_cams, plain.patch_cams, atol=1e-5)
    assert np.abs(two.patch_cams - plain.patch_cams).max() > 1e-3
    mirrored = generator(scoped)(picture(), LABELS, regions=np.where(halves == 1, 2, 1))
    np.testing.assert_array_equal(mirrored.patch_cams, two.patch_cams)  # ids are names alone
