"""clipes.io.coco_rle: pycocotools reads what it writes, and writes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from clipes.io.coco_rle import coco_rle, decode_rle


def _decoded(rle: dict[str, Any]) -> np.ndarray:
    """The mask of an RLE, after the description of the format in pycocotools' maskApi.h."""
    numbers, value, shift = [], 0, 0
    for character in rle["counts"]:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            numbers.append(value - (1 << shift) if bits & 16 else value)
            value = shift = 0
    for place in range(3, len(numbers)):
        numbers[place] += numbers[place - 2]
    flat = np.repeat(np.arange(len(numbers)) % 2 == 1, numbers)
    return flat.reshape(rle["size"], order="F")


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_what_is_written_is_read(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(_decoded(coco_rle(mask)), mask)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**16))
def test_pycocotools_writes_the_same(height: int, width: int, seed: int) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    mask = np.zeros((height, width), bool)
    rng = np.random.default_rng(seed)
    for top, left, bottom, right in rng.integers(0, (height, width, height + 1, width + 1), (4, 4)):
        mask[top:bottom, left:right] ^= True
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert coco_rle(mask) == {"size": theirs["size"], "counts": theirs["counts"].decode()}


def test_long_runs_and_none() -> None:
    mask = np.zeros((2000, 3000), bool)
    mask[:, 1500:] = True
    for one in (mask, ~mask, np.zeros((5, 7), bool), np.ones((5, 7), bool)):
        np.testing.assert_array_equal(_decoded(coco_rle(one)), one)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_decoding_is_the_inverse(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_rle(coco_rle(mask)), mask)


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=8))
def test_counts_in_a_list_and_of_large_runs(runs: list[int]) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    runs[-1] += 1
    rle = {"size": [sum(runs), 1], "counts": runs}
    np.testing.assert_array_equal(decode_rle(rle), coco.decode(coco.frPyObjects(rle, sum(runs), 1)))


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [2, 2]}, "no RLE"),
        ([[1, 2, 3]], "no RLE"),
        ({"size": [2, 2], "counts": "1"}, "must fill 2 x 2 pixels"),
        ({"size": [2, 2], "counts": [5, -1]}, "must fill 2 x 2 pixels"),
        ({"size": [2, 2], "counts": [1.5, 2]}, "whole numbers"),
        ({"size": [2, 2], "counts": 4}, "a text or a list, not int"),
        ({"size": [2, 2], "counts": "é"}, "which COCO's have not"),
        ({"size": [2, 2], "counts": "P"}, "end within a number"),
        ({"size": [2, 2], "counts": "o" * 40}, "which COCO's have not"),
        ({"size": [2, 0], "counts": ""}, r"is \[H, W\] in pixels"),
        ({"size": [2.0, 2], "counts": ""}, r"is \[H, W\] in pixels"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "at most 178956970"),
    ],
)
def test_broken(rle: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"here: .*{message}"):
        decode_rle(rle, "here")
