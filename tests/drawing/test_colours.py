"""clipes.drawing.colours: classes that can be told apart, each with one colour in every picture."""

from __future__ import annotations

import numpy as np
import pytest

from clipes.drawing.colours import IGNORED, clear_palette, colours_of
from clipes.ids import voc_palette

# Oklab (B. Ottosson, 2020), from linear sRGB
TO_CONES = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
TO_LAB = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Colours (n, 3) in 0..255 as lightness in [0, 1] and two axes of hue."""
    part = rgb / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T


@pytest.mark.parametrize(("count", "least"), [(8, 0.14), (20, 0.08)])
def test_the_first_classes_are_far_apart(count: int, least: float) -> None:
    lab = oklab(clear_palette()[1 : count + 1])
    distance = np.linalg.norm(lab[:, None] - lab, axis=-1) + np.eye(count)
    assert distance.min() >= least, np.unravel_index(distance.argmin(), distance.shape)
    file = oklab(voc_palette()[1 : count + 1])
    assert distance.min() > (np.linalg.norm(file[:, None] - file, axis=-1) + np.eye(count)).min()


def test_neighbours_in_the_table_are_farther() -> None:
    lab = oklab(clear_palette()[1:21])
    assert np.linalg.norm(np.diff(lab, axis=0), axis=-1).min() > 0.17


def test_they_are_neither_dark_nor_grey() -> None:
    lab = oklab(clear_palette()[1:21])
    assert lab[:, 0].min() > 0.45 and np.hypot(lab[:, 1], lab[:, 2]).min() > 0.08


def test_a_hundred_classes_differ() -> None:
    palette = clear_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert len(np.unique(palette[:101], axis=0)) == 101
    assert (palette[101:201] == palette[1:101]).all()
    assert palette[0].tolist() == [0, 0, 0] and palette[IGNORED].tolist() == [128] * 3


def test_the_files_colours_are_those_of_voc() -> None:
    assert colours_of([1, 15, 300]).tolist() == voc_palette()[[1, 15, 300 % 254 + 1]].tolist()
