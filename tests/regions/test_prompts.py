"""Prompts of a coarse mask, against their slow statement and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import reference_regions
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from clipes.regions.prompts import prompt


@settings(max_examples=60)
@given(arrays(np.uint8, (5, 6), elements={"min_value": 0, "max_value": 4}))
def test_the_farthest_pixels(kinds):
    mask, ignored = np.isin(kinds, (0, 1, 2)), kinds == 3
    mask[2, 2] = True
    assert prompt(mask, ignored & ~mask) == reference_regions.prompt(mask, ignored)
    assert prompt(mask) == reference_regions.prompt(mask, np.zeros_like(mask))


@settings(max_examples=20)
@given(arrays(np.bool_, (4, 7)))
def test_points_are_where_they_say(mask):
    mask[0, 3] = True
    (left, top, right, bottom), (x, y), outside = prompt(mask)
    assert mask[y, x] and mask[top : bottom + 1, left : right + 1].sum() == mask.sum()
    assert outside is None or not mask[outside[1], outside[0]]


def test_a_ring_points_at_its_hole():
    mask = np.hypot(*(np.indices((41, 61)) - np.array([20, 30])[:, None, None])) < 18
    assert prompt(mask)[1] == (30, 20)
    hole = mask & (np.hypot(*(np.indices((41, 61)) - np.array([20, 30])[:, None, None])) > 9)
    assert prompt(hole).outside == (30, 20)
    ignored = mask & ~hole
    assert prompt(hole, ignored).outside not in {(30, 20), None}


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 9)])
def test_a_whole_picture_and_a_single_pixel(size):
    found = prompt(np.ones(size, bool))
    first = (min(size) - 1) // 2  # of the pixels that are farthest from the picture's edge
    assert found.box == (0, 0, size[1] - 1, size[0] - 1) and found.outside is None
    assert found.inside == (first, first)
    one = np.zeros(size, bool)
    one[-1, -1] = True
    last = size[1] - 1, size[0] - 1
    assert prompt(one) == ((*last, *last), last, None)


def test_refused():
    with pytest.raises(ValueError, match=r"the mask \(2, 3\) has no pixel"):
        prompt(np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match=r"the ignored pixels: 3 x 2 pixels .* but the mask has 2 x 3"):
        prompt(np.eye(2, 3, dtype=bool), np.zeros((3, 2), bool))
