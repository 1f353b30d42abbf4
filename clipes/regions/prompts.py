"""Prompts for promptable segmenters such as SAM, from a coarse mask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clipes.io.masks import check_size

Point = tuple[int, int]


class Prompt(NamedTuple):
    """Where an object is, in whole pixels: x from the left, y from the top, the first is 0.

    Attributes:
        box: left, top, right, bottom: its first and last column and row.
        inside: (x, y) of a pixel of it.
        outside: (x, y) of a pixel in its box that is not of it; None where there is none.
    """

    box: tuple[int, int, int, int]
    inside: Point
    outside: Point | None


def prompt(mask: NDArray[np.bool_], ignored: NDArray[np.bool_] | None = None) -> Prompt:
    """The prompt of a coarse mask, as SAMRefiner makes it (Lin et al., ICLR 2025; its code).

    ``inside`` is the pixel of the mask that is farthest from all pixels outside of it, ``outside`` the pixel of the
    tight box, not of the mask, that is farthest from all others in the box; of equals the first in the order of rows.
    The picture's edge is not outside, but for a mask of the whole picture.

    Args:
        mask: (H, W) bool, at least one pixel of which is set.
        ignored: (H, W) bool, pixels of which it is not known whether they are of the object: ``outside`` is none of
            them, and far from them, too.

    Raises ValueError for an empty mask, and for ``ignored`` of another size.

    >>> prompt(np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 0]], dtype=bool))
    Prompt(box=(1, 1, 3, 2), inside=(1, 1), outside=(2, 2))
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not rows.size:
        raise ValueError(f"the mask {mask.shape} has no pixel; there is nothing to point at")
    (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    box = slice(top, bottom + 1), slice(left, right + 1)
    above, before = max(top - 1, 0), max(left - 1, 0)
    inside = _farthest(mask[above : bottom + 2, before : right + 2], before, above)  # no outer pixel is nearer
    free = ~mask[box]
    if ignored is not None:
        check_size(ignored.shape, "the ignored pixels", mask.shape, "the mask")
        free &= ~ignored[box]
    outside = _farthest(free, left, top) if free.any() else None
    return Prompt((left, top, right, bottom), inside, outside)


def _farthest(pixels: NDArray[np.bool_], left: int, top: int) -> Point:
    """The pixel that is farthest from those that are not of ``pixels``, a part of a picture that begins there."""
    distance = ndimage.distance_transform_edt(np.pad(pixels, 1) if pixels.all() else pixels)
    y, x = divmod(int(distance.argmax()), distance.shape[1])
    padding = (distance.shape[0] - pixels.shape[0]) // 2
    return x + left - padding, y + top - padding
