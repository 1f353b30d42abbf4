"""The dense CRF: both executions against all pairs, the reference's lattice, each other and pydensecrf."""

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipes.config import CrfConfig, ParConfig
from clipes.refine import crf
from clipes.refine.compiled import compiled_mean_field, library
from clipes.refine.crf import dense_crf, mean_field, refine_crf
from clipes.scenes import draw_scene

PAPER = CrfConfig()
needs_compiled = pytest.mark.skipif(library() is None, reason="this installation has no compiled CRF")


def by_torch(image, scores, config=PAPER):
    return mean_field([torch.from_numpy(image)], [torch.from_numpy(scores)], config)[0].numpy()


def by_compiled(image, scores, config=PAPER):
    return compiled_mean_field(library(), image, scores, config)


each = pytest.mark.parametrize(
    "execution", [pytest.param(by_torch, id="torch"), pytest.param(by_compiled, id="compiled", marks=needs_compiled)]
)


@pytest.fixture(params=["torch", pytest.param("compiled", marks=needs_compiled)])
def door(request, monkeypatch):
    """The public doors, by one execution and by the other."""
    if request.param == "torch":
        monkeypatch.setattr("clipes.refine.crf.library", lambda: None)


def picture(kind, size, seed):
    """(H, W, 3): a drawn scene, noise, two colours, one colour, a slow gradient, or a few dark levels."""
    generator = np.random.default_rng(seed)
    row, column = np.mgrid[: size[0], : size[1]][..., None]
    if kind == "scene":
        return draw_scene(seed, size).image
    if kind == "noise":
        return generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    if kind == "edge":
        side = row * generator.normal() + column * generator.normal()
        return np.where(side > np.median(side), *generator.integers(0, 256, (2, 3), dtype=np.uint8))
    if kind == "flat":
        return np.full((*size, 3), generator.integers(0, 256, 3), np.uint8)
    if kind == "gradient":
        return (
            (generator.integers(60, 180, 3) + (row + column) * generator.uniform(-2, 2, 3))
            .clip(0, 255)
            .astype(np.uint8)
        )
    return generator.integers(0, 5, (*size, 3), dtype=np.uint8)


def random_scores(labels, size, seed):
    """(labels + 1, H, W) float32, sums 1, unlike from pixel to pixel: many are near a tie."""
    scores = np.random.default_rng(seed + 1000).random((labels + 1, *size)) ** 2
    return (scores / scores.sum(0)).astype(np.float32)


def smooth_scores(labels, size, seed):
    coarse = np.random.default_rng(seed + 2000).random((labels + 1, 3, 3), dtype=np.float32)
    scores = np.stack([Image.fromarray(row).resize(size[::-1], Image.Resampling.BILINEAR) for row in coarse]) + 1e-3
    return scores / scores.sum(0)


# --- against all pairs: the lattice is an approximation


def clear_picture(labels, seed):
    """Three bands of unlike colours, slightly noisy; scores that favour the right label, now and then another."""
    generator = np.random.default_rng(seed)
    band = np.broadcast_to(np.arange(9) // 3, (12, 9)) % (labels + 1)
    truth = generator.permutation(labels + 1)[band]
    colours = np.array([[10, 20, 30], [200, 30, 60], [90, 220, 20], [40, 60, 240], [250, 240, 230]])
    scores = generator.random((labels + 1, 12, 9)) * 1.2 + (np.arange(labels + 1)[:, None, None] == truth)
    image = (colours[truth] + generator.integers(-1, 2, (12, 9, 3))).astype(np.uint8)
    return image, (scores / scores.sum(0)).astype(np.float32)


@each
@pytest.mark.parametrize("labels", [1, 2, 3, 4])
def test_clear_pictures_agree_with_all_pairs_to_a_hundredth(execution, labels):
    for seed in range(5):
        image, scores = clear_picture(labels, seed)
        exact = reference.mean_field(image, scores, PAPER)
        refined = execution(image, scores)
        np.testing.assert_allclose(refined, exact, rtol=0, atol=1e-2)
        np.testing.assert_array_equal(refined.argmax(0), exact.argmax(0))


@pytest.mark.parametrize(
    ("kind", "make", "after_one", "after_ten"),
    [
        ("flat", smooth_scores, 0.99, 0.99),
        ("edge", smooth_scores, 0.99, 0.99),
        ("noise", smooth_scores, 0.98, 0.98),
        ("gradient", smooth_scores, 0.90, 0.78),
        ("edge", random_scores, 0.82, 0.88),
        ("noise", random_scores, 0.92, 0.97),
        ("gradient", random_scores, 0.75, 0.68),
    ],
)
def test_others_agree_with_all_pairs_at_most_pixels(kind, make, after_one, after_ten):
    """Shares of pixels within 1e-2 after one and after ten iterations.

    After one, none is further off than 0.1. Then a pixel near a tie may fall to the other side and take others along;
    a gradient, with few pixels to a vertex, is the lattice's hardest picture. pydensecrf errs alike, as is shown below.
    """
    for iterations, enough, alike in ((1, after_one, 0.98), (10, after_ten, 0.95)):
        errors, same = [], []
        for seed, labels in enumerate((1, 1, 2, 2, 3, 3, 4, 4)):
            image, scores = picture(kind, (12, 9), seed), make(labels, (12, 9), seed)
            exact = reference.mean_field(image, scores, CrfConfig(iterations=iterations))
            refined = by_torch(image, scores, CrfConfig(iterations=iterations))
            errors.append(abs(refined - exact).max(0))
            same.append(refined.argmax(0) == exact.argmax(0))
        assert np.mean(np.array(errors) < 1e-2) >= enough
        assert np.mean(same) >= alike
        assert iterations == 10 or np.max(errors) < 0.1


@each
@pytest.mark.parametrize("rows", [(0.7, 0.3), (0.5, 0.5), (1.0, 0.0), (0.2, 0.5, 0.3)])
def test_one_pixel_by_hand(execution, rows):
    """It is tied to itself alone, with the two weights together."""
    logs = [math.log(max(row, 1e-5)) for row in rows]
    marginals = reference.softmax(np.array(logs))
    for _ in range(10):
        marginals = reference.softmax(np.array([log + 7 * share for log, share in zip(logs, marginals, strict=True)]))
    refined = execution(picture("noise", (1, 1), 0), np.float32(rows)[:, None, None])
    np.testing.assert_allclose(refined[:, 0, 0], marginals, rtol=0, atol=1e-5)


# --- against the reference's own lattice: the same approximation, in float64


@each
@pytest.mark.parametrize("kind", ["flat", "edge", "scene", "noise", "dark", "gradient"])
@pytest.mark.parametrize("size", [(12, 9), (1, 17), (33, 1)])
def test_equals_the_literal_lattice(execution, kind, size):
    if kind == "scene" and min(size) < 8:
        size = (9, 11)
    for labels, iterations, tolerance in ((1, 2, 2e-5), (3, 2, 2e-5), (5, 10, 1e-3)):
        image, scores = picture(kind, size, labels), random_scores(labels, size, labels)
        slow = reference.mean_field(image, scores, CrfConfig(iterations=iterations), reference.lattice_kernel)
        refined = execution(image, scores, CrfConfig(iterations=iterations))
        assert refined.dtype == np.float32
        np.testing.assert_allclose(refined, slow, rtol=0, atol=tolerance)


CONFIGS = [
    CrfConfig(iterations=1),
    CrfConfig(iterations=3, smooth_weight=0.0),
    CrfConfig(iterations=3, bilateral_weight=0),
    CrfConfig(iterations=2, smooth_weight=0, bilateral_weight=0),
    CrfConfig(iterations=3, smooth_sigma=2.5, smooth_weight=1.5),
    CrfConfig(iterations=3, bilateral_sigma=5.0, colour_sigma=40, bilateral_weight=10.0),
    CrfConfig(iterations=2, smooth_sigma=1e-3, bilateral_sigma=0.2, colour_sigma=1e30),
    CrfConfig(iterations=2, smooth_sigma=1e300, bilateral_sigma=1e300, colour_sigma=0.4),
]


@each
@pytest.mark.parametrize("config", CONFIGS)
def test_equals_the_literal_lattice_with_other_settings(execution, config):
    image, scores = picture("scene", (11, 10), 1), random_scores(3, (11, 10), 1)
    slow = reference.mean_field(image, scores, config, reference.lattice_kernel)
    np.testing.assert_allclose(execution(image, scores, config), slow, rtol=0, atol=1e-4)


@each
def test_without_weights_the_scores_stay(execution):
    image, scores = picture("noise", (5, 6), 1), random_scores(3, (5, 6), 1)
    config = CrfConfig(iterations=4, smooth_weight=0.0, bilateral_weight=0.0)
    np.testing.assert_allclose(execution(image, scores, config), scores, rtol=0, atol=1e-5)


# --- one execution against the other

SHAPES = [
    ("scene", (64, 80), 1),
    ("scene", (51, 67), 3),
    ("scene", (112, 112), 2),
    ("noise", (45, 53), 4),
    ("noise", (31, 17), 21),
    ("noise", (1, 500), 2),
    ("noise", (500, 1), 7),
    ("edge", (40, 33), 12),
    ("flat", (61, 47), 1),
    ("flat", (29, 31), 20),
    ("dark", (40, 30), 3),
    ("gradient", (48, 48), 5),
    ("noise", (1, 1), 1),
    ("noise", (1, 1), 20),
    ("noise", (16, 16), 8),
    ("noise", (3, 5), 16),
    ("flat", (1, 15), 3),
]


@needs_compiled
@pytest.mark.parametrize(("kind", "size", "labels"), [*SHAPES, ("noise", (9, 8), 0), ("flat", (1, 1), 0)])
def test_both_executions_give_the_same(kind, size, labels):
    image, scores = picture(kind, size, 5), random_scores(labels, size, 5)
    torchs, compiled = by_torch(image, scores), by_compiled(image, scores)
    np.testing.assert_allclose(compiled, torchs, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(compiled.argmax(0), torchs.argmax(0))
    assert labels or ((torchs == 1).all() and (compiled == 1).all())


@needs_compiled
@pytest.mark.parametrize("config", CONFIGS)
def test_both_executions_give_the_same_with_other_settings(config):
    image, scores = picture("scene", (45, 38), 6), random_scores(3, (45, 38), 6)
    np.testing.assert_allclose(by_compiled(image, scores, config), by_torch(image, scores, config), rtol=0, atol=1e-4)


@each
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["noise", "edge", "flat", "gradient", "dark"]),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.integers(0, 21),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_any_picture(execution, kind, size, labels, iterations, seed):
    image, scores = picture(kind, size, seed), random_scores(labels, size, seed)
    refined = execution(image, scores, CrfConfig(iterations=iterations))
    assert refined.shape == scores.shape and refined.dtype == np.float32
    assert refined.min() >= 0 and refined.max() <= 1 + 1e-6
    np.testing.assert_allclose(refined.sum(0), 1, rtol=0, atol=1e-5)
    if execution is by_compiled:
        torchs = by_torch(image, scores, CrfConfig(iterations=iterations))
        np.testing.assert_allclose(refined, torchs, rtol=0, atol=1e-3)


# --- against pydensecrf


def by_pydensecrf(image, scores, config=PAPER):
    reason = "pydensecrf2, an oracle of these tests, is not installed"
    crf = pytest.importorskip("pydensecrf.densecrf", reason=reason).DenseCRF2D(*image.shape[1::-1], len(scores))
    crf.setUnaryEnergy(-np.log(np.clip(scores, 1e-5, 1)).reshape(len(scores), -1))
    crf.addPairwiseGaussian(sxy=config.smooth_sigma, compat=config.smooth_weight)
    crf.addPairwiseBilateral(
        sxy=config.bilateral_sigma, srgb=config.colour_sigma, rgbim=image, compat=config.bilateral_weight
    )
    return np.array(crf.inference(config.iterations)).reshape(scores.shape)


@each
@pytest.mark.parametrize(("kind", "size", "labels"), SHAPES)
def test_equals_pydensecrf(execution, kind, size, labels):
    image, scores = picture(kind, size, 7), random_scores(labels, size, 7)
    theirs, ours = by_pydensecrf(image, scores), execution(image, scores)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-3)
    assert (ours.argmax(0) == theirs.argmax(0)).mean() >= 0.999


@each
@pytest.mark.parametrize("config", CONFIGS[:6])
def test_equals_pydensecrf_with_other_settings(execution, config):
    image, scores = picture("scene", (45, 38), 8), random_scores(3, (45, 38), 8)
    np.testing.assert_allclose(
        execution(image, scores, config), by_pydensecrf(image, scores, config), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize(("size", "seed"), [((2, 41), 0), ((1, 49), 1)])
def test_pydensecrf_adds_points_where_the_pixels_are_no_multiple_of_four(size, seed):
    """Up to three, at the origin, of black, without a value: their vertices pass on what others send, which dark pixels
    near the corner feel. With such a point the reference's lattice gives what pydensecrf does, without it what we do.
    """

    def with_a_point(features):
        return reference.lattice_kernel(np.vstack([features, np.zeros(features.shape[1])]))[:-1, :-1]

    image, scores = picture("dark", size, seed), random_scores(4, size, seed)
    theirs = by_pydensecrf(image, scores)
    np.testing.assert_allclose(reference.mean_field(image, scores, PAPER, with_a_point), theirs, rtol=0, atol=1e-4)
    ours = dense_crf(image, scores)
    np.testing.assert_allclose(
        reference.mean_field(image, scores, PAPER, reference.lattice_kernel), ours, rtol=0, atol=1e-4
    )
    assert abs(ours - theirs).max() > 1e-2


# --- several images together


def a_batch():
    shapes = [((30, 41), 3), ((17, 17), 1), ((1, 60), 9), ((20, 10), 20), ((25, 33), 3), ((1, 1), 2), ((9, 60), 0)]
    images = [picture("noise" if seed % 2 else "edge", size, seed) for seed, (size, _) in enumerate(shapes)]
    scores = [random_scores(labels, size, seed) for seed, (size, labels) in enumerate(shapes)]
    return [torch.from_numpy(image) for image in images], [torch.from_numpy(rows) for rows in scores]


def test_a_batch_of_the_torch_execution_equals_its_singles():
    """Not bit for bit: sums over the labels of the widest are taken in another order."""
    images, scores = a_batch()
    together = mean_field(images, scores, PAPER)
    for image, rows, refined in zip(images, scores, together, strict=True):
        assert refined.shape == rows.shape and refined.is_contiguous()
        torch.testing.assert_close(refined, mean_field([image], [rows], PAPER)[0], rtol=0, atol=1e-4)


@pytest.mark.usefixtures("door")
def test_on_a_cpu_a_batch_has_the_bits_of_its_singles_and_repeats_them():
    images, scores = a_batch()
    together, again = refine_crf(images, scores, PAPER), refine_crf(images, scores, PAPER)
    for image, rows, first, second in zip(images, scores, together, again, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, refine_crf([image], [rows], PAPER)[0])
        np.testing.assert_array_equal(dense_crf(image.numpy(), rows.numpy()), first.numpy())


@pytest.mark.usefixtures("door")
def test_no_images_give_none():
    assert refine_crf([], [], PAPER) == [] == mean_field([], [], PAPER)


def test_the_torch_execution_repeats_its_bits():
    images, scores = a_batch()
    for first, second in zip(mean_field(images, scores, PAPER), mean_field(images, scores, PAPER), strict=True):
        assert torch.equal(first, second)


@pytest.mark.usefixtures("door")
def test_as_many_images_as_scores():
    images, scores = a_batch()
    with pytest.raises(ValueError, match="zip"):
        refine_crf(images, scores[:-1], PAPER)


# --- what must hold


@each
@pytest.mark.parametrize("labels", [2, 7])
def test_rows_are_refined_alike(execution, labels):
    image, scores = picture("scene", (30, 28), 10), random_scores(labels, (30, 28), 10)
    order = np.random.default_rng(11).permutation(labels + 1)
    np.testing.assert_allclose(execution(image, scores[order]), execution(image, scores)[order], rtol=0, atol=1e-4)


@each
@pytest.mark.parametrize("kind", ["noise", "flat", "scene"])
@pytest.mark.parametrize("labels", [1, 2, 4])
def test_equal_scores_stay_equal(execution, kind, labels):
    """But for rounding, which an iteration multiplies by up to 3.5, half the weights: equality is not stable."""
    scores = np.full((labels + 1, 12, 21), 1 / (labels + 1), np.float32)
    refined = execution(picture(kind, (12, 21), 12), scores, CrfConfig(iterations=3))
    np.testing.assert_allclose(refined, scores, rtol=0, atol=2e-5)


@each
def test_scores_of_exactly_0_and_1_are_clipped(execution):
    image = picture("noise", (14, 9), 13)
    hard = (random_scores(3, (14, 9), 13) > 0.3).astype(np.float32)
    hard[0, ~hard.any(0)] = 1
    refined = execution(image, hard)
    assert np.isfinite(refined).all()
    np.testing.assert_allclose(refined.sum(0), 1, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(refined, execution(image, hard.clip(1e-5, 1)))
    np.testing.assert_array_equal(refined, execution(image, hard * 3 + 1e-7 * (hard == 0)))


@each
def test_huge_weights_give_numbers(execution):
    image, scores = picture("scene", (14, 9), 14), random_scores(3, (14, 9), 14)
    refined = execution(image, scores, CrfConfig(smooth_weight=1e6, bilateral_weight=1e6))
    assert np.isfinite(refined).all()
    np.testing.assert_allclose(refined.sum(0), 1, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("door")
def test_noisy_scores_follow_the_colours():
    truth = np.zeros((40, 60), np.int64)
    truth[:, 30:] = 1
    image = np.where(truth[..., None] == 1, [200, 60, 30], [20, 90, 160]).astype(np.uint8)
    noise = np.random.default_rng(15).normal(0, 0.15, truth.shape)
    scores = np.clip(np.stack([truth == 0, truth == 1]) * 0.2 + 0.4 + np.stack([noise, -noise]), 0.01, 0.99)
    assert (scores.argmax(0) != truth).mean() > 0.2, "the input must be noisy"
    refined = dense_crf(image, scores)
    np.testing.assert_array_equal(refined.argmax(0), truth)
    assert refined.max(0).min() > 0.95


# --- the door for arrays


@pytest.mark.usefixtures("door")
def test_arrays_of_any_layout_are_taken_and_left_as_they_are():
    image, scores = picture("scene", (20, 26), 16), random_scores(2, (20, 26), 16)
    expected = dense_crf(image, scores)
    wide = np.zeros((40, 52, 4), np.uint8)
    wide[::2, ::2, 2::-1] = image
    turned = np.ascontiguousarray(scores.transpose(2, 1, 0)).transpose(2, 1, 0)
    for laid, rows in (
        (wide[::2, ::2, 2::-1], turned),
        (np.asfortranarray(image), scores[:, ::-1][:, ::-1]),
        (Image.fromarray(image), scores.astype(np.float64)),
        (image, scores.astype(">f4")),
    ):
        np.testing.assert_array_equal(dense_crf(laid, rows), expected)
    kept = image.copy(), scores.copy()
    image.flags.writeable = scores.flags.writeable = False
    refined = dense_crf(image, scores)
    np.testing.assert_array_equal(refined, expected)
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(scores, kept[1])
    assert refined.dtype == np.float32 and refined.flags.writeable and refined.flags.c_contiguous


@pytest.mark.usefixtures("door")
def test_half_precision_scores_are_taken():
    image, scores = picture("scene", (20, 26), 17), random_scores(2, (20, 26), 17).astype(np.float16)
    np.testing.assert_array_equal(dense_crf(image, scores), dense_crf(image, scores.astype(np.float32)))


@pytest.mark.usefixtures("door")
def test_the_defaults_are_the_papers():
    image, scores = picture("scene", (12, 9), 18), random_scores(2, (12, 9), 18)
    np.testing.assert_array_equal(dense_crf(image, scores), dense_crf(image, scores, PAPER))
    paper = CrfConfig(10, 1, 3, 67, 3, 4)
    np.testing.assert_array_equal(dense_crf(image, scores), dense_crf(image, scores, paper))


def test_a_second_size_and_a_second_sigma_have_their_own_lattice():
    """The spatial ones are kept by size and sigma."""
    for size, sigma in (((6, 10), 1.0), ((10, 6), 1.0), ((6, 10), 2.0), ((6, 10), 1.0)):
        image, scores = picture("noise", size, 19), random_scores(2, size, 19)
        config = CrfConfig(iterations=2, smooth_sigma=sigma)
        slow = reference.mean_field(image, scores, config, reference.lattice_kernel)
        np.testing.assert_allclose(dense_crf(image, scores, config), slow, rtol=0, atol=1e-4)
        np.testing.assert_allclose(by_torch(image, scores, config), slow, rtol=0, atol=1e-4)


IMAGE, SCORES = picture("noise", (4, 6), 20), random_scores(2, (4, 6), 20)


@pytest.mark.parametrize(
    ("image", "scores", "error", "message"),
    [
        (IMAGE / 255, SCORES, TypeError, "image holds float64, not uint8; pass an RGB picture"),
        (IMAGE[..., 0], SCORES, ValueError, r"image is \(4, 6\), not \(H, W, 3\); pass an RGB picture"),
        (Image.new("L", (6, 4)), SCORES, ValueError, r"image is \(4, 6\), not \(H, W, 3\)"),
        (IMAGE[:0], SCORES[:, :0], ValueError, r"image is \(0, 6, 3\), not \(H, W, 3\)"),
        (IMAGE, SCORES > 0.5, TypeError, r"scores hold bool, not floats; pass shares in \[0, 1\]"),
        (IMAGE, SCORES[0], ValueError, r"scores are \(4, 6\), not \(C \+ 1, H, W\); row 0 is the background"),
        (IMAGE, SCORES[:, :3], ValueError, r"scores have \(3, 6\) pixels, the image \(4, 6\); resize the scores"),
        (IMAGE, -SCORES, ValueError, r"scores hold -0\.\d+; they must be shares in \[0, 1\]"),
        (IMAGE, SCORES * np.nan, ValueError, r"scores hold nan; they must be shares in \[0, 1\]"),
        (IMAGE, SCORES * 0, ValueError, "scores are all 0 at row 0, column 0; every pixel needs one above 0"),
    ],
)
def test_wrong_input_is_refused(image, scores, error, message):
    with pytest.raises(error, match=message):
        dense_crf(image, scores)


@pytest.mark.parametrize("config", [ParConfig(), {"iterations": 3}, 10, CrfConfig])
def test_another_config_is_refused(config):
    with pytest.raises(TypeError, match=r"config is .*; give a clipes\.config\.CrfConfig"):
        dense_crf(IMAGE, SCORES, config)


NARROW = [
    ({"smooth_sigma": 1e-6}, "smooth_sigma is 1e-06, too small for 4 x 6 pixels; use a larger one"),
    ({"smooth_sigma": 5e-324}, "smooth_sigma is 5e-324, too small for 4 x 6 pixels"),
    (
        {"bilateral_sigma": 1e-4},
        r"bilateral_sigma is 0\.0001 and colour_sigma 3\.0, together too small for 4 x 6 pixels; use larger ones",
    ),
    ({"bilateral_sigma": 1e-30, "colour_sigma": 1e30}, r"bilateral_sigma is 1e-30 and colour_sigma 1e\+30, together"),
    ({"colour_sigma": 0.01}, r"bilateral_sigma is 67\.0 and colour_sigma 0\.01, together too small"),
]


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize(("settings", "message"), NARROW)
def test_kernels_too_narrow_for_the_picture_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(IMAGE, SCORES, CrfConfig(**settings))


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("name", ["smooth_sigma", "bilateral_sigma", "colour_sigma"])
@pytest.mark.parametrize("size", [(40, 50), (1, 500)])
def test_the_narrowest_kernels_that_are_taken_are_right(name, size):
    """The limit is found from outside; there, pixels are tied to those of their own place or colour alone."""
    image, scores = picture("noise", size, 21), random_scores(2, size, 21)
    low, high = 1e-9, 1.0
    for _ in range(25):
        middle = math.sqrt(low * high)
        try:
            refine_crf(
                [torch.zeros(*size, 3, dtype=torch.uint8)], [torch.ones(1, *size)], CrfConfig(1, **{name: middle})
            )
            high = middle
        except ValueError:
            low = middle
    config = CrfConfig(iterations=2, **{name: high})
    torchs, refined = by_torch(image, scores, config), dense_crf(image, scores, config)
    np.testing.assert_allclose(refined, torchs, rtol=0, atol=1e-3)


def test_pictures_too_many_to_be_held_together_are_refined_in_parts(monkeypatch):
    monkeypatch.setattr(crf, "_MAX_BATCH_PIXELS", 1300)
    assert crf._batches([700, 600, 1, 1299, 5000, 3]) == [slice(0, 2), slice(2, 4), slice(4, 5), slice(5, 6)]
    assert crf._batches([5000]) == [slice(0, 1)] and crf._batches([]) == []
    images, scores = a_batch()
    in_parts = mean_field(images, scores, PAPER)
    monkeypatch.undo()
    for first, second in zip(in_parts, mean_field(images, scores, PAPER), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


def test_small_spatial_lattices_are_kept_by_size(monkeypatch):
    crf._cached_spatial.cache_clear()
    monkeypatch.setattr(crf, "_MAX_CACHED_PIXELS", 30)
    sizes = [(5, 6), (6, 5), (5, 6), (5, 7), (5, 7)]
    images = [torch.from_numpy(picture("noise", size, 22)) for size in sizes]
    scores = [torch.from_numpy(random_scores(1, size, 22)) for size in sizes]
    together = mean_field(images, scores, PAPER)
    found = crf._cached_spatial.cache_info()
    assert (found.misses, found.hits, found.currsize) == (2, 1, 2)
    assert torch.equal(mean_field(images[:1], scores[:1], PAPER)[0], mean_field(images[2:3], scores[2:3], PAPER)[0])
    torch.testing.assert_close(together[0], together[2], rtol=0, atol=1e-5)


def test_a_lattice_kept_in_inference_mode_serves_outside():
    image, scores = torch.from_numpy(picture("noise", (7, 8), 23)), torch.from_numpy(random_scores(2, (7, 8), 23))
    crf._cached_spatial.cache_clear()
    with torch.inference_mode():
        inside = mean_field([image], [scores], PAPER)[0].clone()
    outside = mean_field([image], [scores.requires_grad_()], PAPER)[0]
    assert torch.equal(inside, outside) and not outside.requires_grad


@each
def test_the_number_of_threads_changes_no_bit(execution):
    image, scores = picture("scene", (203, 211), 24), smooth_scores(2, (203, 211), 24)
    threads, refined = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            crf._cached_spatial.cache_clear()
            refined.append(execution(image, scores, CrfConfig(iterations=3)))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(refined[1], refined[0])
    np.testing.assert_array_equal(refined[2], refined[0])
