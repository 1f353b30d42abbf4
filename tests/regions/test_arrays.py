"""Regions from arrays: one map of ids, whatever they are given as."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipes.io.coco_rle import coco_rle
from clipes.regions import region_ids

IDS = np.array([[7, 7, 0, 9], [9, 0, 3, 3]])
COMPACT = [[2, 2, 0, 3], [3, 0, 1, 1]]


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "u4", "i8"])
def test_ids_are_numbered_in_their_order(dtype):
    found = region_ids(IDS.astype(dtype), (2, 4))
    assert found.dtype == np.int32 and found.tolist() == COMPACT


def test_the_declared_value_is_no_region():
    assert region_ids(IDS, (2, 4), unsegmented=9).tolist() == [[3, 3, 1, 0], [0, 1, 2, 2]]
    assert region_ids(IDS - 1, (2, 4), unsegmented=-1).tolist() == COMPACT
    assert region_ids(IDS.astype("u1"), (2, 4), unsegmented=-1).max() == 4


def test_the_smaller_mask_counts_and_of_equal_ones_the_later():
    masks = np.zeros((4, 1, 6), bool)
    masks[0, 0, 0] = masks[1, 0, :5] = masks[2, 0, 1:3] = masks[3, 0, 2:4] = True
    assert region_ids(masks, (1, 6)).tolist() == [[1, 3, 4, 4, 2, 0]]
    assert region_ids(list(masks[::-1]), (1, 6)).tolist() == [[4, 2, 2, 1, 3, 0]]


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_masks_and_their_encodings_and_annotations_give_the_same(seed, count):
    masks = np.random.default_rng(seed).random((count, 5, 7)) < 0.5
    whole = region_ids(masks, (5, 7))
    rles = [coco_rle(mask) for mask in masks]
    np.testing.assert_array_equal(region_ids(rles, (5, 7)), whole)
    np.testing.assert_array_equal(region_ids([{"segmentation": rle, "area": 3} for rle in rles], (5, 7)), whole)
    owners = np.zeros((5, 7), int)
    for index in sorted(range(count), key=lambda index: (-masks[index].sum(), index)):
        owners[masks[index]] = index + 1
    np.testing.assert_array_equal(whole, np.unique([0, *owners.ravel()], return_inverse=True)[1][1:].reshape(5, 7))


def test_many_one_and_no_region():
    many = np.arange(1, 65536, dtype=np.uint16).reshape(255, 257)
    assert region_ids(many, many.shape).max() == 65535 and (np.diff(region_ids(many, many.shape).ravel()) == 1).all()
    assert region_ids(np.full((1, 500), 2**32 - 1), (1, 500)).tolist() == [[1] * 500]
    assert not region_ids(np.zeros((3, 2), int), (3, 2)).any() and not region_ids([], (3, 2)).any()


@pytest.mark.parametrize(
    ("regions", "error", "message"),
    [
        (np.zeros((2, 5), int), ValueError, "2 x 5 pixels.*but the picture has 2 x 4"),
        ([np.zeros((4, 2), bool)], ValueError, "mask 0: 4 x 2 pixels"),
        ([{"size": [1, 1], "counts": [1]}], ValueError, "mask 0: 1 x 1 pixels"),
        (np.zeros((2, 4)), TypeError, "holds float64, not ids"),
        (np.zeros((2, 4, 3), np.uint8), TypeError, r"an array \(2, 4, 3\) of uint8"),
        (np.full((2, 4), 2**40), ValueError, "must fit in 32 bits"),
        ([np.zeros((2, 4))], TypeError, "mask 0 is .* of float64"),
        ("a.png", TypeError, "str is no array"),
        (7, TypeError, "int is no array"),
    ],
)
def test_refused(regions, error, message):
    with pytest.raises(error, match=message):
        region_ids(regions, (2, 4))
