"""clipes.evaluation.metrics: what is counted, what is left out, what is refused."""

import math

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from clipes.evaluation import class_iou, confusion_matrix, mean_iou
from clipes.evaluation.metrics import ClassCounts, boundary_counts, class_counts, mean_over_occurring
from clipes.ids import ignore_index


def test_ignore_index_changes_where_uint8_ends():
    assert [ignore_index(classes) for classes in (1, 20, 254, 255, 65534)] == [255, 255, 255, 65535, 65535]


@pytest.mark.parametrize("classes", [0, -1, 65535])
def test_ignore_index_refuses_impossible_counts(classes):
    with pytest.raises(ValueError, match=f"1 to 65534 classes.*not {classes}"):
        ignore_index(classes)


def test_rows_are_truth_and_columns_prediction():
    truth = np.array([[0, 0, 0], [2, 2, 1]], dtype=np.uint8)
    mask = np.array([[0, 1, 2], [2, 0, 1]], dtype=np.uint8)
    confusion = confusion_matrix(mask, truth, classes=2)
    assert confusion.tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 1]]
    assert confusion.dtype == np.int64


def test_ignore_is_left_out_on_either_side():
    truth = np.array([255, 255, 1, 1], dtype=np.uint8)
    mask = np.array([1, 255, 255, 1], dtype=np.uint8)
    assert confusion_matrix(mask, truth, classes=1).tolist() == [[0, 0], [0, 1]]


def test_255_is_a_class_of_a_large_data_set():
    truth = np.array([255, 65535], dtype=np.uint16)
    confusion = confusion_matrix(np.array([255, 3], dtype=np.uint16), truth, classes=300)
    assert confusion.shape == (301, 301)
    assert confusion[255, 255] == confusion.sum() == 1


def test_narrow_masks_of_a_large_data_set():
    mask = np.array([0, 255], dtype=np.uint8)
    assert confusion_matrix(mask, mask, classes=300)[[0, 255], [0, 255]].tolist() == [1, 1]


@given(st.data(), st.integers(1, 5), hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
def test_confusion_equals_a_plain_count(data, classes, shape):
    ids = st.sampled_from([*range(classes + 1), 255])
    mask, truth = (data.draw(hnp.arrays(np.uint8, shape, elements=ids)) for _ in range(2))
    expected = [[0] * (classes + 1) for _ in range(classes + 1)]
    for predicted, true in zip(mask.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if 255 not in (predicted, true):
            expected[true][predicted] += 1
    assert confusion_matrix(mask, truth, classes).tolist() == expected


@pytest.mark.parametrize(
    ("mask", "truth", "message"),
    [
        ([0, 21], [0, 0], r"mask holds 21, but 20 classes allow 0\.\.20 and 255"),
        ([0, 0], [0, 254], r"truth holds 254, but 20 classes allow 0\.\.20"),
        ([0, -1], [0, 0], "mask holds -1"),
        ([0], [0, 0], r"mask \(1,\) and truth \(2,\) differ in shape"),
    ],
)
def test_wrong_values_are_named(mask, truth, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(mask), np.array(truth), classes=20)


def test_float_masks_are_refused():
    with pytest.raises(TypeError, match="mask holds float64, not class ids"):
        confusion_matrix(np.zeros(2), np.zeros(2, dtype=np.uint8), classes=20)


def test_iou_of_a_known_case():
    iou = class_iou(np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
    np.testing.assert_allclose(iou, [6 / 10, 3 / 6, np.nan, 0.0])
    assert mean_iou(np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])) == pytest.approx(1.1 / 3)


def test_a_class_found_where_it_is_not_counts_as_zero():
    assert class_iou(np.array([[3, 1], [0, 0]])).tolist() == [0.75, 0.0]


def test_mean_of_nothing_is_nan():
    assert math.isnan(mean_iou(np.zeros((3, 3))))


def test_matrix_must_be_square():
    with pytest.raises(ValueError, match=r"square, \(K\+1, K\+1\), not \(2, 3\)"):
        class_iou(np.zeros((2, 3)))


# --- counts with ignored pixels


@st.composite
def _pairs(draw, dims=(1, 2, 3), counts=(1, 2, 5, 253, 254, 255, 300)):
    """A mask and a truth of one shape with ignored pixels in both, and the number of classes."""
    classes = draw(st.sampled_from(counts))
    count = draw(st.sampled_from(dims))
    shape = draw(hnp.array_shapes(min_dims=count, max_dims=count, max_side=7))
    ignore = 255 if classes <= 254 else 65535
    ids = st.sampled_from([0, 1, classes // 2, classes, ignore])
    dtype = np.uint8 if ignore == 255 else np.uint16
    mask, truth = (draw(hnp.arrays(dtype, shape, elements=ids)) for _ in range(2))
    return mask, truth, classes, ignore


@given(_pairs())
def test_class_counts_equal_a_loop(pair):
    counts = class_counts(*pair[:3])
    assert [row.tolist() for row in counts] == reference.class_counts(*pair)
    assert {row.dtype for row in counts} == {np.dtype(np.int64)}


@given(_pairs())
def test_counts_and_confusion_matrix_agree_on_the_decided_pixels(pair):
    counts, confusion = class_counts(*pair[:3]), confusion_matrix(*pair[:3])
    np.testing.assert_equal(counts.miou_decided, mean_iou(confusion))
    assert (counts.truth - counts.ignored).tolist() == confusion.sum(axis=1).tolist()


@given(_pairs())
def test_ignoring_is_the_same_as_a_class_that_the_truth_lacks(pair):
    """The definition of the headline: ignored pixels are missed, and no class gets them as a false positive."""
    mask, truth, classes, ignore = pair
    other = np.where(mask == ignore, classes + 1, np.where(mask == 65535, 0, mask.astype(np.int64)))
    void = np.where(truth == ignore, ignore_index(classes + 1), truth.astype(np.int64))
    confusion = confusion_matrix(other, void, classes + 1)
    iou = class_iou(confusion)[: classes + 1]
    np.testing.assert_equal(class_counts(mask, truth, classes).miou, mean_over_occurring(iou))


def test_ignored_pixels_by_hand():
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1, 255, 255])
    mask = np.array([0, 0, 0, 1, 1, 1, 255, 255, 1, 255])
    counts = class_counts(mask, truth, classes=2)
    np.testing.assert_allclose(counts.iou, [3 / 4, 2 / 5, np.nan])
    assert counts.miou == pytest.approx((3 / 4 + 2 / 5) / 2)
    assert counts.miou_decided == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert counts.pixel_accuracy == 5 / 8
    assert counts.ignored_share == 2 / 8


def test_a_mask_that_ignores_all_scores_nothing():
    counts = class_counts(np.full((2, 3), 255), np.ones((2, 3), int), classes=1)
    assert (counts.miou, counts.pixel_accuracy, counts.ignored_share) == (0, 0, 1)
    assert math.isnan(counts.miou_decided)


def test_figures_of_no_pixel_are_nan():
    nothing = ClassCounts(*np.zeros((4, 3), np.int64))
    figures = (nothing.miou, nothing.miou_decided, nothing.pixel_accuracy, nothing.ignored_share)
    assert all(map(math.isnan, figures))


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_iou_equals_torchmetrics(classes):
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics, an oracle of its own, is not installed")
    import torch

    rng = np.random.default_rng(classes)
    mask, truth = rng.integers(0, classes + 1, (2, 3, 8, 9))
    truth[rng.random(truth.shape) < 0.2] = 255
    metric = torchmetrics.JaccardIndex(task="multiclass", num_classes=classes + 1, ignore_index=255, average="none")
    theirs = metric(torch.from_numpy(mask), torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(class_counts(mask, truth, classes).iou, theirs, atol=1e-6)  # theirs is float32


@pytest.mark.parametrize("count", [class_counts, boundary_counts])
def test_counts_refuse_what_the_matrix_refuses(count):
    grey = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="mask holds 21, but 20 classes allow"):
        count(grey + 21, grey, 20)
    with pytest.raises(ValueError, match=r"mask \(2, 3\) and truth \(2, 2\) differ"):
        count(np.zeros((2, 3), np.uint8), grey, 20)
    with pytest.raises(TypeError, match="truth holds float64"):
        count(grey, grey / 2, 20)


# --- boundaries


@given(_pairs((2,), (1, 2, 5)))
def test_boundary_counts_equal_erosion_by_loops(pair):
    counts = boundary_counts(*pair[:3])
    assert counts.tolist() == reference.boundary_counts(*pair)
    assert counts.dtype == np.int64


@pytest.mark.parametrize("shape", [(1, 60), (2, 160), (45, 66)])
def test_boundaries_beside_void_equal_erosion_by_loops(shape):
    """Blobs of 5 pixels with void between them, at distances of 1 to 3."""
    rng = np.random.default_rng(sum(shape))
    small = rng.choice([0, 1, 2, 255], size=(2, -(-shape[0] // 5), -(-shape[1] // 5)), p=[0.3, 0.3, 0.2, 0.2])
    mask, truth = small.repeat(5, axis=1).repeat(5, axis=2)[:, : shape[0], : shape[1]]
    mask[rng.random(shape) < 0.02] = 1
    assert boundary_counts(mask, truth, 2).tolist() == reference.boundary_counts(mask, truth, 2, 255)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (90, 120), (3, 200)])
@pytest.mark.parametrize("classes", [3, 254, 255, 65534])
def test_boundary_counts_equal_the_authors_erosion(shape, classes):
    """Their code with scipy in place of OpenCV; blobs, and diagonals that give a distance of 1 to 8."""
    rng = np.random.default_rng(0)
    dtype = np.uint8 if classes <= 254 else np.uint16
    small = rng.integers(0, 4, (2, -(-shape[0] // 20), -(-shape[1] // 20)))
    blobs = small.repeat(20, axis=1).repeat(20, axis=2)[:, : shape[0], : shape[1]]
    mask, truth = np.array([0, 1, classes - 1, classes])[blobs].astype(dtype)
    counts = boundary_counts(mask, truth, classes)
    distance = max(1, round(0.02 * np.hypot(*shape)))
    for index in {0, 1, classes - 1, classes}:
        rings = []
        for ids in (mask, truth):
            inside = ndimage.binary_erosion(np.pad(ids == index, 1), np.ones((3, 3)), iterations=distance)
            rings.append((ids == index) & ~inside[1:-1, 1:-1])
        assert counts[:, index].tolist() == [(rings[0] & rings[1]).sum(), (rings[0] | rings[1]).sum()]


def _disc(size=120, radius=30):
    y, x = np.mgrid[:size, :size] - size // 2
    return np.hypot(y, x), (np.hypot(y, x) < radius).astype(np.uint8)


def test_what_the_mask_says_on_void_changes_nothing_and_the_rest_can_be_perfect():
    """A rim of ignored pixels around the object, as in PASCAL VOC."""
    radius, truth = _disc()
    rim = abs(radius - 30) < 2
    expected = None
    for under_the_rim in (0, 1, 2, 255):
        mask = truth.copy()
        mask[rim] = under_the_rim
        counts = boundary_counts(mask, np.where(rim, 255, truth), classes=2)
        expected = counts if expected is None else expected
        assert counts.tolist() == expected.tolist()
        assert counts[0].tolist() == counts[1].tolist() and counts[0][:2].all()


def test_boundary_iou_of_a_mask_without_the_contour_is_low():
    radius, truth = _disc()
    void = np.where(abs(radius - 30) < 2, 255, truth)
    both, either = boundary_counts(np.ones_like(truth), void, classes=1)
    assert both[1] == 0 < either[1]


def test_ignoring_the_contour_misses_the_boundary():
    radius, truth = _disc()
    mask = np.where(abs(radius - 30) < 3, 255, truth)
    both, either = boundary_counts(mask, truth, classes=1)
    assert (both < either).all()
    assert boundary_counts(truth, truth, classes=1)[0].tolist() == boundary_counts(truth, truth, classes=1)[1].tolist()


def test_the_frame_is_a_boundary():
    ones = np.ones((5, 7), np.uint8)
    assert boundary_counts(ones, ones, classes=1).tolist() == [[0, 20], [0, 20]]


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 4)])
def test_boundaries_need_one_picture(shape):
    with pytest.raises(ValueError, match=r"one mask \(H, W\), not \("):
        boundary_counts(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), classes=1)
