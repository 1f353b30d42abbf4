"""What is let in at the doors of the refinements, and what is refused with which words."""

import numpy as np
import pytest
from PIL import Image

from clipes.refine.validate import check_picture, check_scores

PICTURE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
SCORES = np.random.default_rng(1).random((3, 4, 6)).astype(np.float32)


def test_pictures_pass_as_they_are():
    assert check_picture(PICTURE) is PICTURE
    np.testing.assert_array_equal(check_picture(Image.fromarray(PICTURE)), PICTURE)
    np.testing.assert_array_equal(check_picture(PICTURE[::-1, ::2]), PICTURE[::-1, ::2])


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (PICTURE / 255, "float64"),
        (PICTURE.astype(np.int64), "int64"),
        (PICTURE > 100, "bool"),
        (PICTURE.astype(np.int8), "int8"),
        (None, "object"),
        ("photo.jpg", "<U9"),
        (Image.new("F", (6, 4)), "float32"),
    ],
)
def test_pictures_of_another_kind_are_refused(image, kind):
    with pytest.raises(TypeError, match=rf"^image holds {kind}, not uint8; pass an RGB picture with values 0\.\.255$"):
        check_picture(image)


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (PICTURE[..., 0], "4, 6"),
        (PICTURE[..., :2], "4, 6, 2"),
        (PICTURE[:0], "0, 6, 3"),
        (PICTURE[:, :0], "4, 0, 3"),
        (PICTURE[None], "1, 4, 6, 3"),
        (Image.new("L", (6, 4)), "4, 6"),
        (Image.new("RGBA", (6, 4)), "4, 6, 4"),
    ],
)
def test_pictures_of_another_shape_are_refused(image, shape):
    words = rf"^image is \({shape}\), not \(H, W, 3\); pass an RGB picture, such as image\.convert\('RGB'\)$"
    with pytest.raises(ValueError, match=words):
        check_picture(image)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
def test_scores_of_any_float_become_a_float32_array_of_their_own(dtype):
    given = SCORES.astype(dtype)
    single = check_scores(given, (4, 6))
    assert single.dtype == np.float32 and single.dtype.isnative and single.flags.c_contiguous and single.flags.writeable
    assert not np.shares_memory(single, given)
    np.testing.assert_array_equal(single, given.astype(np.float32))


def test_scores_of_any_layout_pass():
    np.testing.assert_array_equal(check_scores(SCORES.tolist(), (4, 6)), SCORES)
    turned = check_scores(SCORES[::-1].transpose(0, 2, 1), (6, 4))
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, SCORES[::-1].transpose(0, 2, 1))


@pytest.mark.parametrize("scores", [[[[1.0]]], [[[0.0]], [[1e-30]]], [[[3.0]], [[0.0]]]])
def test_one_score_above_0_is_enough(scores):
    np.testing.assert_array_equal(check_scores(scores, (1, 1)), np.float32(scores))


@pytest.mark.parametrize(("scores", "kind"), [(SCORES > 0, "bool"), (SCORES.astype(int), "int64"), (None, "object")])
def test_scores_of_another_kind_are_refused(scores, kind):
    words = rf"^scores hold {kind}, not floats; pass shares in \[0, 1\], such as PseudoMask\.scores$"
    with pytest.raises(TypeError, match=words):
        check_scores(scores, (4, 6))


@pytest.mark.parametrize(
    ("scores", "shape"), [(SCORES[0], "4, 6"), (SCORES[:0], "0, 4, 6"), (SCORES[None], "1, 3, 4, 6")]
)
def test_scores_of_another_shape_are_refused(scores, shape):
    with pytest.raises(ValueError, match=rf"^scores are \({shape}\), not \(C \+ 1, H, W\); row 0 is the background$"):
        check_scores(scores, (4, 6))


def test_scores_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"^scores have \(4, 6\) pixels, the image \(6, 4\); resize the scores to the"):
        check_scores(SCORES, (6, 4))


@pytest.mark.parametrize(
    ("wrong", "words"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e300, r"1e\+300"), (-1e-3, "-0.001")]
)
@pytest.mark.parametrize("place", [(0, 0, 0), (2, 3, 5), (1, 2, 0)])
def test_a_wrong_score_is_named(wrong, words, place):
    scores = SCORES.astype(np.float64)
    scores[place] = wrong
    with pytest.raises(ValueError, match=rf"^scores hold {words}; they must be shares in \[0, 1\]$"):
        check_scores(scores, (4, 6))


@pytest.mark.parametrize("tiny", [0, 1e-60, -0.0])
def test_a_pixel_without_a_score_is_named(tiny):
    scores = SCORES.astype(np.float64)
    scores[:, 2, 5] = scores[:, 3, 0] = tiny
    with pytest.raises(ValueError, match=r"^scores are all 0 at row 2, column 5; every pixel needs one above 0$"):
        check_scores(scores, (4, 6))
