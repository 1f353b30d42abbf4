"""clipes.kernels.regions against scipy's labels."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

pytest.importorskip("triton")

from hopper import compiled

from clipes.kernels.regions import label_regions

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # "cpu": Triton's interpreter


def label(maps: np.ndarray) -> np.ndarray:
    labels = label_regions(torch.from_numpy(maps).to(DEVICE))
    assert labels.dtype == torch.int32 and labels.shape == maps.shape
    return labels.cpu().numpy()


def expected(one: np.ndarray) -> np.ndarray:
    """scipy's regions of a map (h, w), each called by its first pixel."""
    regions, count = ndimage.label(one, np.ones((3, 3)))
    labels = np.full(one.shape, -1)
    for region in range(1, count + 1):
        labels[regions == region] = np.flatnonzero(regions == region)[0]
    return labels


def check(*maps: np.ndarray) -> None:
    np.testing.assert_array_equal(label(np.stack(maps)), np.stack([expected(one) for one in maps]))


def snake(height: int, width: int) -> np.ndarray:
    """Every other row, joined at the right end and the left in turn: one region."""
    one = np.zeros((height, width), bool)
    one[::2] = True
    one[1:-1:4, -1] = True
    one[3:-1:4, 0] = True
    return one


def spiral(side: int) -> np.ndarray:
    """One path from a corner to the middle, with a free pixel between its turns."""
    one = np.zeros((side, side), bool)
    one[0] = True
    row, column, steps = 0, side - 1, side - 1
    turns = itertools.cycle([(1, 0), (0, -1), (-1, 0), (0, 1)])
    while steps > 0:
        for down, right in itertools.islice(turns, 2):
            one[row + down * np.arange(steps + 1), column + right * np.arange(steps + 1)] = True
            row, column = row + down * steps, column + right * steps
        steps -= 2
    return one


def test_two_regions_by_hand():
    one = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    assert label(one[None]).tolist() == [[[0, -1, -1, 3], [-1, 0, -1, -1], [-1, -1, -1, 11]]]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (5, 7), (8, 8), (24, 32)])
def test_empty_and_full_maps_and_single_pixels(size):
    single = np.zeros(size, bool)
    single[-1, -1] = True
    check(np.zeros(size, bool), np.ones(size, bool), single)


def test_no_map():
    assert label(np.zeros((0, 3, 4), bool)).shape == (0, 3, 4)


def test_corners_connect():
    board = np.indices((9, 10)).sum(0) % 2 == 0
    assert set(label(board[None]).flat) == {-1, 0}
    check(board, ~board)


def test_rows_do_not_wrap():
    one = np.zeros((4, 6), bool)
    one[[0, 1, 2], [5, 0, 5]] = True  # flat neighbours across a row's end
    check(one, ~one)


def test_long_ways_round():
    """Where the least label has far to go, along rows, columns and against both."""
    for one in (snake(31, 30), spiral(31)):  # a path: one region, and no 2x2 of it
        assert ndimage.label(one, np.ones((3, 3)))[1] == 1
        assert not ndimage.binary_erosion(one, np.ones((2, 2))).any() and one.sum() > 400
    for one in (snake(31, 30), spiral(31)):
        check(one, one[::-1], one[:, ::-1], one[::-1, ::-1])
        check(one.T, ~one.T)


def test_grids_of_one_row_or_column_up_to_the_largest():
    row = np.random.default_rng(0).random((1, 4096)) < 0.9
    check(row, np.ones_like(row))
    check(row.T, np.ones_like(row.T))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.integers(0, 2**32 - 1))
@example(2, 64, 64, 0.41, 0)  # near where regions begin to span the map: the most winding
def test_random_maps(count, height, width, density, seed):
    check(*(np.random.default_rng(seed).random((count, height, width)) < density))


def test_reads_any_layout():
    maps = np.random.default_rng(1).random((6, 9, 4)) < 0.5
    labels = label_regions(torch.from_numpy(maps).to(DEVICE).permute(2, 0, 1))
    np.testing.assert_array_equal(labels.cpu().numpy(), np.stack([expected(one) for one in maps.transpose(2, 0, 1)]))


@pytest.mark.parametrize(
    "sizes", ["(24, 32),", pytest.param("(64, 64), (63, 61)", marks=pytest.mark.slow)], ids=["small", "large"]
)
def test_compiles_for_hopper(sizes, tmp_path):
    """For grids of 768 and some 4,000 patches: nothing spilled; barriers and uncached reads where they must be."""
    calls = f"""
from clipes.kernels.regions import label_regions
for size in ({sizes}):
    label_regions(torch.zeros((2, *size), dtype=torch.bool))
"""
    kernels = compiled(calls, tmp_path)
    assert {kernel["name"] for kernel in kernels} == {"_label_regions"}
    for kernel in kernels:
        assert kernel["spilled"] == 0
        # An atomic minimum whose result is not read is `red.global`, from Triton 3.8 on also `atom.global`.
        steps = re.findall(r"ld\.global|ld\.volatile|st\.global|(?:red|atom)\.global|bar\.sync", kernel["ptx"])
        steps = ["atomic" if step in ("red.global", "atom.global") else step for step in steps]
        assert [step for step, _ in itertools.groupby(steps)][-10:] == [
            *("st.global", "bar.sync", "ld.volatile", "bar.sync", "atomic", "bar.sync"),
            *("ld.volatile", "bar.sync", "st.global", "bar.sync"),
        ]


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
def test_thousands_of_maps_of_the_largest_size_on_a_gpu():
    generator = np.random.default_rng(2)
    winding = [snake(64, 64), spiral(64), np.indices((64, 64)).sum(0) % 2 == 0]
    maps = np.concatenate([np.stack(winding * 20), generator.random((1000, 64, 64)) < generator.random((1000, 1, 1))])
    check(*maps)
    for _ in range(20):  # a race would show now and then
        np.testing.assert_array_equal(label(maps), label(maps))
