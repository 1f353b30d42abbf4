"""clipes.metrics: what is counted, what is left out, what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clipes.metrics import class_iou, confusion_matrix, ignore_index, mean_iou


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
