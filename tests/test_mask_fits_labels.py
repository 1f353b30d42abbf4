"""Masks against the labels of their image."""

import numpy as np
import pytest

from clipes.label_rules import foreground_share, missing_ids, trusted_mask

MASK = np.array([[0, 0, 300, 7], [65535, 7, 7, 7]], np.uint16)


def test_what_a_mask_shows():
    assert foreground_share(MASK, 65535) == 5 / 8
    assert foreground_share(np.zeros((3, 4), np.uint8)) == 0
    assert missing_ids(MASK, [9, 7, 300, 2]) == [9, 2] and missing_ids(MASK, []) == []


def test_sixteen_bit_masks():
    found = trusted_mask(MASK, [300, 9], ignore=65535)
    assert found.dtype == np.uint16 and found.tolist() == [[65535, 65535, 300, 65535], [65535] * 4]
    assert MASK[0, 0] == 0, "the mask that was given stays"


def test_an_older_mask_counts_for_several_labels_only():
    mask, older = np.array([[0, 0, 1]], np.uint8), np.array([[2, 0, 0]], np.uint8)
    assert trusted_mask(mask, [1, 2], older).tolist() == [[2, 0, 1]]
    assert trusted_mask(mask, [1], older).tolist() == [[0, 0, 1]]


def test_the_least_foreground_is_a_choice():
    mask = np.zeros((10, 10), np.uint8)
    mask[0, 0] = 4
    assert trusted_mask(mask, [4]).tolist() == mask.tolist(), "1 % is enough"
    assert (trusted_mask(mask, [4], least_foreground=0.02) == 255).all()


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"the older mask is \(1, 2\), the mask \(1, 3\); give masks of one image"):
        trusted_mask(np.zeros((1, 3), np.uint8), [1], np.zeros((1, 2), np.uint8))
