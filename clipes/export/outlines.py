"""Regions as polygons along the pixels' edges, which lose nothing: a polygon's interior is exactly its pixels.

A region is 4-connected. Each of its holes is joined to the outline by a cut of no width, straight up from the hole's
top left corner, so that one polygon says it all; the cut is walked there and back.
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

    Points are (x, y), whole numbers in 0..W and 0..H: corners of pixels, (0, 0) the image's top left one. They go
    clockwise on the screen, around holes the other way; by either rule, even-odd or non-zero, a pixel's centre is
    inside if and only if the pixel is the region's.

    >>> outlines(np.array([[0, 1, 1], [0, 1, 0]], bool))
    [[(1, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2)]]
    """
    regions, count = ndimage.label(mask)
    if not count:
        return []
    loops, owners = _loops(regions)
    outer: dict[int, int] = {}  # region to its first loop, the only one that reaches its top
    holes: list[int] = []
    for index, owner in enumerate(owners):
        if outer.setdefault(owner, index) != index:
            holes.append(index)
            loops[index] = loops[index][:1] + loops[index][:0:-1]
    cuts = _cuts(mask, loops, holes)
    inner = set(holes)
    return [_joined(outer[region], loops, cuts, inner) for region in range(1, count + 1)]


def _loops(regions: NDArray[Any]) -> tuple[list[Points], list[int]]:
    """The closed boundaries of all regions, each from its top left corner rightwards, and whose each is."""
    y, x, owner, row_order, column_order = _corners(regions)
    # Along a row of corners, every other gap is a boundary; so it is along a column.
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
    """Where boundaries turn: y, x, the region, and which of two corners at one point comes first, by row and column.

    Where two pixels touch by a corner alone, each has its own.
    """
    padded = np.pad(regions, 1)
    top_left, top_right, bottom_left, bottom_right = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    four = np.stack([top_left, top_right, bottom_left, bottom_right])
    inside = four > 0
    odd = inside.sum(0) % 2 == 1
    falling = inside[0] & inside[3] & ~inside[1] & ~inside[2]
    rising = inside[1] & inside[2] & ~inside[0] & ~inside[3]
    kinds = (  # where, whose, whether its boundary goes right rather than left, down rather than up
        (odd, four.max(0), 0, 0),
        (falling, top_left, 0, 0),
        (falling, bottom_right, 1, 1),
        (rising, top_right, 1, 0),
        (rising, bottom_left, 0, 1),
    )
    found = []
    for where, owner, goes_right, goes_down in kinds:
        y, x = np.nonzero(where)
        found.append((y, x, owner[where], np.full(y.shape, goes_right), np.full(y.shape, goes_down)))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def _cuts(mask: NDArray[np.bool_], loops: list[Points], holes: list[int]) -> dict[int, dict[int, Points]]:
    """Where each hole is joined: loop to edge to the (x, hole) upon it."""
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
    run_top = np.maximum.accumulate(np.where(mask, 0, rows + 1), axis=0)  # of the pixels above each other
    x, y = np.array([loops[hole][0] for hole in holes]).T
    target = run_top[y - 1, x] * wide + x
    places = np.searchsorted(table[:, 0] * wide + table[:, 1], target, side="right") - 1
    for hole, left, (loop, edge) in zip(holes, x.tolist(), table[places, 2:].tolist(), strict=True):
        cuts.setdefault(loop, {}).setdefault(edge, []).append((left, hole))
    return cuts


def _joined(start: int, loops: list[Points], cuts: dict[int, dict[int, Points]], holes: set[int]) -> Points:
    """One polygon of a loop and of all the holes that hang on it, and on them."""

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
    stack = [steps(start)]  # no recursion: holes may hang on holes by the thousand
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
        elif isinstance(step, int):
            stack.append(steps(step))
        elif not joined or joined[-1] != step:
            joined.append(step)
    return joined
