"""clipes.export.outlines: polygons that hold exactly their region's pixels."""

from __future__ import annotations

import numpy as np
import pytest
from exporting import drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from clipes.export.outlines import Points, outlines


def inside(polygon: Points, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels' centres are inside, by the even-odd and by the non-zero rule: a ray to the right of each."""
    height, width = size
    crossings, turns = np.zeros(size, int), np.zeros(size, int)
    edges = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
    for y in range(height):
        for x in range(width):
            for (start_x, start_y), (end_x, end_y) in edges:
                if min(start_y, end_y) < y + 0.5 < max(start_y, end_y):
                    cut = start_x + (y + 0.5 - start_y) / (end_y - start_y) * (end_x - start_x)
                    if cut > x + 0.5:
                        crossings[y, x] += 1
                        turns[y, x] += 1 if end_y > start_y else -1
    return crossings % 2 == 1, turns != 0


def check(mask: np.ndarray) -> None:
    regions, count = ndimage.label(mask)
    polygons = outlines(mask)
    assert len(polygons) == count
    for number, polygon in enumerate(polygons, start=1):
        for found in inside(polygon, mask.shape):
            np.testing.assert_array_equal(found, regions == number)
        for (x, y), (next_x, next_y) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            assert (x == next_x) != (y == next_y)


@settings(max_examples=150, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_any_mask(mask: np.ndarray) -> None:
    check(mask)


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "1111 1..1 1..1 1111",
        "11111 1.1.1 11111 1.1.1 11111",
        "11111 1...1 1.1.1 1...1 11111",
        "11111 1.1.1 11.11 1.1.1 11111",
        "1111111 1.....1 1.111.1 1.1.1.1 1.111.1 1.....1 1111111",
        "111 1.1 11.",
        "11. 1.1 111",
        "1.1 .1. 1.1",
        ".1. 111 .1.",
    ],
)
def test_shapes(text: str) -> None:
    check(drawn(text) == 1)


@pytest.mark.parametrize("filled", [0.5, 0.7, 0.8, 0.9])
def test_ragged_holes(filled: float) -> None:
    random = np.random.default_rng(3_101_002)
    for _ in range(12):
        check(random.random((11, 12)) < filled)


def test_a_hole_is_cut_open_upwards() -> None:
    ring = drawn("111 1.1 111") == 1
    assert outlines(ring) == [[(0, 0), (1, 0), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1), (1, 0), (3, 0), (3, 3), (0, 3)]]


def test_two_cuts_from_one_edge_are_walked_in_its_order() -> None:
    (polygon,) = outlines(drawn("11111 1.1.1 11111") == 1)
    assert polygon[:9] == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1), (1, 0), (3, 0)]


def test_holes_by_the_thousand_hang_on_each_other() -> None:
    mask = np.ones((4001, 3), bool)
    mask[1::2, 1] = False
    (polygon,) = outlines(mask)
    area = sum(
        x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(polygon, polygon[1:] + polygon[:1], strict=True)
    )
    assert abs(area) == 2 * mask.sum()


def test_nothing() -> None:
    assert outlines(np.zeros((3, 4), bool)) == []
