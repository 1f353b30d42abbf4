"""Pixel-adaptive mask refinement against the loop over pixels and neighbours, and what it must keep."""

import numpy as np
import pytest
import reference
import torch
from PIL import Image

from clipes.config import PamrConfig, ParConfig
from clipes.refine import pixel_adaptive_mask_refinement
from clipes.refine.pamr import refine_pamr, refine_pamr_batch

ROUNDING = 8e-6  # of ten rounds in float32, each with 48 terms


def random_picture(size, rows, seed, levels=256):
    """A picture (H, W, 3) and maps (R, H, W) in [0, 1]; few levels make neighbourhoods of one colour."""
    generator = np.random.default_rng(seed)
    image = (generator.integers(0, levels, (*size, 3)) * (255 // (levels - 1))).astype(np.uint8)
    return image, generator.random((rows, *size)) ** 2


def random_batch(count, size, rows, seed):
    pictures = [random_picture(size, rows, seed + index) for index in range(count)]
    images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in pictures])
    return images, torch.stack([torch.from_numpy(maps) for _, maps in pictures])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("size", "rows", "levels", "settings"),
    [
        ((7, 11), 4, 256, {"iterations": 3}),
        ((13, 5), 3, 2, {"iterations": 3}),
        ((1, 9), 2, 256, {}),
        ((8, 1), 1, 256, {"iterations": 2}),
        ((1, 1), 2, 256, {"iterations": 1}),
        ((6, 6), 21, 3, {"iterations": 5, "dilations": (3,), "colour_scale": 0.8}),
        ((5, 7), 3, 256, {"iterations": 2, "dilations": (400, 1)}),
    ],
)
def test_equals_the_loop(size, rows, levels, settings, dtype):
    image, maps = random_picture(size, rows, 1, levels)
    maps = maps.astype(dtype)
    before = image.copy(), maps.copy()
    refined = pixel_adaptive_mask_refinement(image, maps, PamrConfig(**settings))
    assert refined.dtype == np.float32
    slow = reference.pixel_adaptive_mask_refinement(image, maps, **settings)
    np.testing.assert_allclose(refined, slow, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(maps, before[1])


def test_the_defaults_are_those_of_the_loop():
    image, maps = random_picture((5, 9), 2, 2)
    slow = reference.pixel_adaptive_mask_refinement(image, maps)
    np.testing.assert_allclose(pixel_adaptive_mask_refinement(image, maps), slow, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (33, 20)])
@pytest.mark.parametrize("levels", [2, 256])
def test_rows_that_sum_to_one_still_do(size, levels):
    image, maps = random_picture(size, 3, 3, levels)
    refined = pixel_adaptive_mask_refinement(image, (maps + 0.01) / (maps + 0.01).sum(0))
    assert refined.min() >= 0
    np.testing.assert_allclose(refined.sum(0), 1, rtol=0, atol=ROUNDING)


def test_a_row_is_refined_alone():
    image, maps = random_picture((15, 12), 5, 6)
    refined = pixel_adaptive_mask_refinement(image, maps)
    assert refined.max() <= maps.max() and refined.min() >= maps.min()
    np.testing.assert_array_equal(pixel_adaptive_mask_refinement(image, maps[3:4])[0], refined[3])


def test_a_mirrored_or_turned_picture_gives_the_same():
    image, maps = random_picture((16, 13), 3, 7)
    refined = pixel_adaptive_mask_refinement(image, maps)
    mirrored = pixel_adaptive_mask_refinement(image[:, ::-1], maps[..., ::-1])
    np.testing.assert_allclose(mirrored[..., ::-1], refined, rtol=0, atol=2e-6)
    turned = pixel_adaptive_mask_refinement(image.transpose(1, 0, 2), maps.transpose(0, 2, 1))
    np.testing.assert_allclose(turned.transpose(0, 2, 1), refined, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (12, 1), (41, 67)])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_equals_its_singles_bit_for_bit(size, threads):
    images, maps = random_batch(3, size, 22, 10)
    maps[1, 6:] = maps[2, 2:] = 0  # as for images of fewer labels
    used = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batch = refine_pamr_batch(images, maps, PamrConfig(iterations=2))
        for index, rows in enumerate((22, 6, 2)):
            single = refine_pamr_batch(images[index, None], maps[index, None, :rows], PamrConfig(iterations=2))
            assert torch.equal(batch[index, None, :rows], single)
            assert not batch[index, rows:].any()
    finally:
        torch.set_num_threads(used)


def test_pictures_of_several_sizes():
    pictures = [random_picture(size, rows, 11) for size, rows in (((9, 14), 3), ((4, 31), 2))]
    tensors = [[torch.from_numpy(one) for one in each] for each in zip(*pictures, strict=True)]
    for refined, (image, maps) in zip(refine_pamr(*tensors, PamrConfig()), pictures, strict=True):
        alone = pixel_adaptive_mask_refinement(Image.fromarray(image), maps)
        np.testing.assert_allclose(refined.numpy(), alone / alone.sum(0), rtol=0, atol=1e-6)


def test_no_gradient_is_kept():
    images, maps = random_batch(1, (6, 7), 3, 15)
    assert not refine_pamr_batch(images, maps.requires_grad_(), PamrConfig()).requires_grad


IMAGE, MAPS = random_picture((4, 6), 3, 17)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pixel_adaptive_mask_refinement(IMAGE / 255, MAPS), TypeError, "image holds float64, not uint8"),
        (lambda: pixel_adaptive_mask_refinement(IMAGE, MAPS[0]), ValueError, r"scores are \(4, 6\), not \(C \+ 1"),
        (lambda: pixel_adaptive_mask_refinement(IMAGE, MAPS - 5), ValueError, r"scores hold -\d"),
        (lambda: pixel_adaptive_mask_refinement(IMAGE, MAPS, ParConfig()), TypeError, "pass a PamrConfig, or None"),
        (
            lambda: refine_pamr_batch(torch.zeros(1, 3, 4, 6), torch.ones(1, 2, 4, 5), PamrConfig()),
            ValueError,
            r"images \(1, 3, 4, 6\), scores \(1, 2, 4, 5\); not \(B, 3, H, W\), \(B, R, H, W\)",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
