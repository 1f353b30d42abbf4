"""Converts regions to polygons along the edges of pixels. It is lossless: the interior is exactly the region's pixels.

A region is 4-connected. Each of its holes is joined to the outline by a cut of zero width, straight up from the hole's
top left corner, so that one polygon describes the region. The polygon passes along the cut once in each direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Points = list[tuple[int, int]]


def outlines(mask: NDArray[np.bool_]) -> list[Points]:
    """The polygon of each 4-connected region of ``mask`` (H, W), in the order of :func:`scipy.ndimage.label`.

    Points are (x, y), integers in 0..W and 0..H: corners of pixels, (0, 0) being the image's top left corner. Outlines
    run clockwise on the screen, holes anticlockwise. By both the even-odd and the non-zero rule, a pixel's centre is
    inside the polygon if and only if the pixel belongs to the region.

    >>> outlines(np.array([[0, 1, 1], [0, 1, 0]], bool))
    [[(1, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2)]]
    """
    regions, count = ndimage.label(mask)
    if not count:
        return []
    loops, owners = _loops(regions)
    outer: dict[int, int] = {}  # region to its first loop, which is its outline because it contains its top edge
    holes: list[int] = []
    for index, owner in enumerate(owners):
        if outer.setdefault(owner, index) != index:
            holes.append(index)
            loops[index] = loops[index][:1] + loops[index][:0:-1]
    cuts = _cuts(mask, loops, holes)
    inner = set(holes)
    return [_joined(outer[region], loops, cuts, inner) for region in range(1, count + 1)]


def _loops(regions: NDArray[Any]) -> tuple[list[Points], list[int]]:
    """The closed boundaries of all regions, each starting rightwards at its top left corner, and their regions."""
    y, x, owner, row_order, column_order = _corners(regions)
    # Between the corners of a row, every second gap is a boundary. The same holds for a column.
    along = np.lexsort((row_order, x, y))
    across, down = np.empty_like(along), np.empty_like(along)
    for partner, order in ((across, along), (down, np.lexsort((column_order, y, x)))):
        partner[order[::2]], partner[order[1::2]] = order[1::2], order[::2]
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    right, below, seen = across.tolist(), down.tolist(), bytearray(len(points))
    loops, owners = [], []
    for start in along.tolist():
        if seen[start]:
            continue
        loop, node = [], start
        while not seen[node]:
            other = right[node]
            seen[node] = seen[other] = 1
            loop += [points[node], points[other]]
            node = below[other]
        loops.append(loop)
        owners.append(int(owner[start]))
    return loops, owners


def _corners(regions: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The corners of the boundaries: y, x, region, and the order, by row and by column, of two corners at one point.

    Where two pixels touch only at a corner, each has its own corner there.
    """
    padded = np.pad(regions, 1)
    top_left, top_right, bottom_left, bottom_right = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    four = np.stack([top_left, top_right, bottom_left, bottom_right])
    inside = four > 0
    odd = inside.sum(0) % 2 == 1
    falling = inside[0] & inside[3] & ~inside[1] & ~inside[2]
    rising = inside[1] & inside[2] & ~inside[0] & ~inside[3]
    kinds = (  # positions, region, whether the boundary continues right (1) or left (0), down (1) or up (0)
        (odd, four.max(0), 0, 0),
        (falling, top_left, 0, 0),
        (falling, bottom_right, 1, 1),
        (rising, top_right, 1, 0),
        (rising, bottom_left, 0, 1),
    )
    corners = []
    for where, owner, goes_right, goes_down in kinds:
        y, x = np.nonzero(where)
        corners.append((y, x, owner[where], np.full(y.shape, goes_right), np.full(y.shape, goes_down)))
    return tuple(np.concatenate(column) for column in zip(*corners, strict=True))


def _cuts(mask: NDArray[np.bool_], loops: list[Points], holes: list[int]) -> dict[int, dict[int, Points]]:
    """Where the holes are joined: for each loop, for each of its edges, the (x, hole) of the cuts that end on it."""
    cuts: dict[int, dict[int, Points]] = {}
    if not holes:
        return cuts
    edges = [
        (y, min(x, end), loop, edge)
        for loop, points in enumerate(loops)
        for edge, ((x, y), (end, end_y)) in enumerate(zip(points, points[1:] + points[:1], strict=True))
        if y == end_y
    ]
    table = np.array(edges)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    wide = mask.shape[1] + 1
    rows = np.arange(len(mask))[:, None]
    run_top = np.maximum.accumulate(np.where(mask, 0, rows + 1), axis=0)  # top row of each pixel's vertical run
    x, y = np.array([loops[hole][0] for hole in holes]).T
    target = run_top[y - 1, x] * wide + x
    places = np.searchsorted(table[:, 0] * wide + table[:, 1], target, side="right") - 1
    for hole, left, (loop, edge) in zip(holes, x.tolist(), table[places, 2:].tolist(), strict=True):
        cuts.setdefault(loop, {}).setdefault(edge, []).append((left, hole))
    return cuts


def _joined(start: int, loops: list[Points], cuts: dict[int, dict[int, Points]], holes: set[int]) -> Points:
    """The polygon of an outline, of the holes joined to it, of the holes joined to these, and so on."""

    def steps(loop: int) -> Iterator[tuple[int, int] | int]:
        points = loops[loop]
        for edge, (x, y) in enumerate(points):
            yield x, y
            for left, hole in sorted(cuts.get(loop, {}).get(edge, ())):  # edges with pixels below them go right
                yield left, y
                yield hole
                yield left, y
        if loop in holes:
            yield points[0]

    joined: Points = []
    stack = [steps(start)]  # not recursive, because chains of thousands of holes are possible
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
        elif isinstance(step, int):
            stack.append(steps(step))
        elif not joined or joined[-1] != step:
            joined.append(step)
    return joined
