"""Pixel-adaptive refinement against the loop over pixels and neighbours, and what it must keep."""

import numpy as np
import pytest
import reference
import torch
from PIL import Image

from clipes.config import CrfConfig, ParConfig
from clipes.refine.par import pixel_adaptive_refinement, refine_par_batch


def random_picture(size, rows, seed, levels=256):
    """A picture (H, W, 3) and scores (R, H, W) that sum to 1; few levels make flat neighbourhoods."""
    generator = np.random.default_rng(seed)
    image = (generator.integers(0, levels, (*size, 3)) * (255 // (levels - 1))).astype(np.uint8)
    scores = generator.random((rows, *size)) ** 2
    return image, scores / scores.sum(0)


def random_batch(count, size, rows, seed):
    pictures = [random_picture(size, rows, seed + index) for index in range(count)]
    images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in pictures])
    return images, torch.stack([torch.from_numpy(scores).float() for _, scores in pictures])


@pytest.mark.parametrize("resolution", ["full", "half"])
@pytest.mark.parametrize(
    ("size", "rows", "levels", "settings"),
    [
        ((7, 11), 4, 256, {}),
        ((13, 5), 3, 2, {}),
        ((1, 9), 2, 256, {"iterations": 3}),
        ((8, 1), 1, 256, {"iterations": 2}),
        ((6, 6), 21, 3, {"iterations": 15, "dilations": (3,), "colour_scale": 0.8}),
        ((9, 10), 3, 256, {"dilations": (2, 1, 5), "position_weight": 0.0, "colour_scale": 1.5}),
        ((5, 7), 3, 256, {"dilations": (1, 400), "position_weight": 2.5}),
        ((6, 4), 3, 256, {"position_weight": 1e6}),
    ],
)
def test_equals_the_loop(size, rows, levels, settings, resolution):
    image, scores = random_picture(size, rows, 1, levels)
    before = image.copy(), scores.copy()
    refined = pixel_adaptive_refinement(image, scores, ParConfig(resolution=resolution, **settings))
    slow = reference.pixel_adaptive_refinement(image, scores, half=resolution == "half", **settings)
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined, slow, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(scores, before[1])


def test_a_pixel_unlike_its_neighbours_is_exact_too():
    """Its colour terms are in the thousands, the two smallest nearly alike: in float32 the rounding would weigh."""
    image, scores = random_picture((11, 11), 3, 22)
    image //= 4
    image[..., 1], image[..., 2] = image[:, ::-1, 0], 0  # the left's colours come again on the right, red as green
    image[0, 0, 0] += 1
    image[5, 5, :2] = 255
    config = ParConfig(iterations=1, resolution="full")
    slow = reference.pixel_adaptive_refinement(image, scores, iterations=1, half=False)
    np.testing.assert_allclose(pixel_adaptive_refinement(image, scores, config), slow, rtol=0, atol=2e-6)


def test_the_defaults_are_those_of_the_loop():
    image, scores = random_picture((10, 9), 3, 2)
    slow = reference.pixel_adaptive_refinement(image, scores)
    np.testing.assert_allclose(pixel_adaptive_refinement(image, scores), slow, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 500), (33, 20)])
@pytest.mark.parametrize("levels", [2, 256])
@pytest.mark.parametrize("resolution", ["full", "half"])
def test_columns_sum_to_one(size, levels, resolution):
    image, scores = random_picture(size, 3, 3, levels)
    refined = pixel_adaptive_refinement(image, scores * 0.7, ParConfig(resolution=resolution))
    assert refined.shape == scores.shape
    assert refined.min() >= 0
    np.testing.assert_allclose(refined.sum(0), 1, rtol=0, atol=1e-6)


def test_one_pixel_keeps_its_scores():
    image, scores = random_picture((1, 1), 5, 4)
    np.testing.assert_allclose(pixel_adaptive_refinement(image, scores), scores, rtol=0, atol=1e-6)


def test_a_picture_of_one_colour_blurs_evenly():
    """No colour differs, so that every neighbour weighs the same but for its distance: one round by hand."""
    scores = np.zeros((2, 3, 3))
    scores[0] = 1
    scores[:, 1, 1] = 0, 1
    config = ParConfig(iterations=1, dilations=(1,), position_weight=0.0, resolution="full")
    refined = pixel_adaptive_refinement(np.full((3, 3, 3), 77, np.uint8), scores, config)
    expected = np.full((3, 3), 1 / 8)
    expected[1, 1] = 0
    np.testing.assert_allclose(refined[1], expected, rtol=0, atol=1e-6)


def test_constant_scores_stay():
    image, _ = random_picture((19, 24), 1, 5)
    scores = np.broadcast_to(np.array([0.5, 0.2, 0.3])[:, None, None], (3, 19, 24))
    np.testing.assert_allclose(pixel_adaptive_refinement(image, scores), scores, rtol=0, atol=1e-6)


def test_rows_are_refined_alike():
    image, scores = random_picture((15, 12), 5, 6)
    order = [3, 0, 4, 2, 1]
    refined = pixel_adaptive_refinement(image, scores)
    np.testing.assert_allclose(pixel_adaptive_refinement(image, scores[order]), refined[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 13), (11, 18)])
def test_a_mirrored_or_turned_picture_gives_the_same(size):
    image, scores = random_picture(size, 3, 7)
    refined = pixel_adaptive_refinement(image, scores)
    mirrored = pixel_adaptive_refinement(image[:, ::-1], scores[..., ::-1])
    np.testing.assert_allclose(mirrored[..., ::-1], refined, rtol=0, atol=2e-6)
    turned = pixel_adaptive_refinement(image.transpose(1, 0, 2), scores.transpose(0, 2, 1))
    np.testing.assert_allclose(turned.transpose(0, 2, 1), refined, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(20, 30), (21, 31), (51, 27), (75, 101)])
def test_only_differences_of_colour_count(size):
    """One colour but for one pixel: a neighbourhood of no spread, where the rounding of a resize must not decide."""
    _, scores = random_picture(size, 3, 8)
    image = np.zeros((*size, 3), np.uint8)
    image[2, 2] = 70
    refined = pixel_adaptive_refinement(image, scores)
    for other in (image + 113, image + 100, image * 2, 255 - image):
        np.testing.assert_allclose(pixel_adaptive_refinement(other, scores), refined, rtol=0, atol=1e-6)


@pytest.mark.parametrize("resolution", ["full", "half"])
def test_noisy_scores_of_two_flat_halves_get_clean(resolution):
    truth = np.zeros((40, 60), np.int64)
    truth[:, 30:] = 1
    image = np.where(truth[..., None] == 1, [200, 60, 30], [20, 90, 160]).astype(np.uint8)
    likely = np.stack([truth == 0, truth == 1]) * 0.2 + 0.4
    noise = np.random.default_rng(9).normal(0, 0.15, truth.shape)
    scores = np.clip(likely + np.stack([noise, -noise]), 0.01, 0.99)
    assert (scores.argmax(0) != truth).mean() > 0.2, "the input must be noisy"
    refined = pixel_adaptive_refinement(image, scores, ParConfig(resolution=resolution))
    assert (refined.argmax(0) != truth).mean() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (12, 1), (16, 15), (41, 67)])
@pytest.mark.parametrize("resolution", ["full", "half"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_equals_its_singles_bit_for_bit(size, resolution, threads):
    config = ParConfig(resolution=resolution, iterations=2)
    images, scores = random_batch(3, size, 22, 10)
    scores[1, 6:] = scores[2, 2:] = 0  # as for images of fewer labels
    used = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        batch = refine_par_batch(images, scores, config)
        for index, rows in enumerate((22, 6, 2)):
            single = refine_par_batch(images[index, None], scores[index, None, :rows], config)
            assert torch.equal(batch[index, None, :rows], single)
            assert not batch[index, rows:].any()
    finally:
        torch.set_num_threads(used)


def test_one_picture_is_a_batch_of_one():
    image, scores = random_picture((14, 9), 3, 11)
    batch = refine_par_batch(
        torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(scores)[None], ParConfig()
    )
    np.testing.assert_array_equal(pixel_adaptive_refinement(image, scores), batch[0].numpy())


@pytest.mark.parametrize("resolution", ["full", "half"])
def test_float_pictures_and_memory_layouts_do_not_matter(resolution):
    config = ParConfig(resolution=resolution)
    images, scores = random_batch(2, (14, 9), 3, 12)
    refined = refine_par_batch(images, scores, config)
    images, scores = (given.float().contiguous(memory_format=torch.channels_last) for given in (images, scores))
    assert torch.equal(refine_par_batch(images, scores, config), refined)


def test_colours_in_0_to_1_give_the_same():
    images, scores = random_batch(1, (14, 9), 3, 13)
    scaled = refine_par_batch(images.double() / 255, scores, ParConfig())
    torch.testing.assert_close(scaled, refine_par_batch(images, scores, ParConfig()), rtol=0, atol=2e-6)


def test_a_picture_without_scores_stays_zero():
    images, scores = random_batch(2, (6, 7), 3, 14)
    scores[1] = 0
    refined = refine_par_batch(images, scores, ParConfig())
    assert refined[0].sum() > 0
    assert not refined[1].any()


def test_no_gradient_is_kept():
    images, scores = random_batch(1, (6, 7), 3, 15)
    assert not refine_par_batch(images, scores.requires_grad_(), ParConfig()).requires_grad


def test_a_pil_image_is_taken():
    image, scores = random_picture((9, 14), 3, 16)
    np.testing.assert_array_equal(
        pixel_adaptive_refinement(Image.fromarray(image), scores), pixel_adaptive_refinement(image, scores)
    )


IMAGE, SCORES = random_picture((4, 6), 3, 17)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE / 255, "image holds float64, not uint8; pass an RGB picture"),
        ([["a"]], "image holds <U1, not uint8"),
    ],
)
def test_images_of_another_kind_are_refused(image, message):
    with pytest.raises(TypeError, match=message):
        pixel_adaptive_refinement(image, SCORES)


@pytest.mark.parametrize("image", [IMAGE[..., 0], IMAGE[..., :2], IMAGE[None], IMAGE[:0]])
def test_images_of_another_shape_are_refused(image):
    with pytest.raises(ValueError, match=r"image is \(.*\), not \(H, W, 3\); pass an RGB picture"):
        pixel_adaptive_refinement(image, SCORES)


def test_scores_of_another_kind_are_refused():
    with pytest.raises(TypeError, match=r"scores hold int64, not floats; pass shares in \[0, 1\]"):
        pixel_adaptive_refinement(IMAGE, SCORES.astype(np.int64))


def put(value, *place):
    scores = SCORES.copy()
    scores[place] = value
    return scores


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (SCORES[0], r"scores are \(4, 6\), not \(C \+ 1, H, W\); row 0 is the background"),
        (SCORES[:0], r"scores are \(0, 4, 6\), not"),
        (SCORES.transpose(0, 2, 1), r"scores have \(6, 4\) pixels, the image \(4, 6\); resize the scores"),
        (put(np.nan, 0, 1, 2), r"scores hold nan; they must be shares in \[0, 1\]"),
        (put(np.inf, 2, 3, 5), "scores hold inf;"),
        (put(1e300, 2, 3, 5), r"scores hold 1e\+300;"),
        (put(-0.25, 1, 0, 0), "scores hold -0.25;"),
        (put(0, slice(None), 3, 1), "scores are all 0 at row 3, column 1; every pixel needs one above 0"),
    ],
)
def test_wrong_scores_are_named(scores, message):
    with pytest.raises(ValueError, match=message):
        pixel_adaptive_refinement(IMAGE, scores)


def test_another_config_is_refused():
    with pytest.raises(TypeError, match=r"config is CrfConfig\(.*; pass a ParConfig, or None"):
        pixel_adaptive_refinement(IMAGE, SCORES, CrfConfig())


@pytest.mark.parametrize(
    ("images", "scores"),
    [
        ((1, 3, 4, 6), (1, 2, 4, 5)),
        ((2, 3, 4, 6), (1, 2, 4, 6)),
        ((1, 1, 4, 6), (1, 2, 4, 6)),
        ((3, 4, 6), (1, 2, 4, 6)),
        ((1, 3, 4, 6), (2, 4, 6)),
    ],
)
def test_tensors_that_do_not_belong_together_are_refused(images, scores):
    with pytest.raises(ValueError, match=r"images \(.*\), scores \(.*\); not \(B, 3, H, W\), \(B, R, H, W\)"):
        refine_par_batch(torch.zeros(images), torch.ones(scores), ParConfig())
