"""The permutohedral lattice on a GPU: splat, blur and slice, and the iterations of a mean field.

It computes the same as clipes/refine/lattice.py and ``_infer`` in clipes/refine/crf.py, in float32, with every sum in a
fixed order, so that results repeat bit for bit. An iteration is nine launches; the host does not wait in between.

Splatting is a gather: one lane sums the row of one vertex, that is, the entries of the points around it. Row lengths
differ widely: in a picture of one colour a few vertices have all the points. So a row of more than ``_TILE`` entries is
cut at the multiples of ``_TILE``. The vertex's lane sums the entries before the first cut, and a separate lane sums
each tile after it. A second launch adds up the tiles of a row.

Axes: n points, V vertices of all lattices, C channels, next to each other in memory. The kernels see a power of two of
channels, the last of which may be zeros: so a row is read in one piece, and few variants are compiled.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (the arguments of kernels have no type annotations, because Triton interprets annotations itself)

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 32

_FUSED = {"enable_fp_fusion": True}  # explicit, because Triton warns that its default will change

_Lattice = Any  # clipes.refine.lattice.Lattice; that module imports this one


def filter_values(lattice: _Lattice, values: Tensor) -> Tensor:
    """``lattice.filter(values)``: (n, C) float32 to (n, C)."""
    n, channels = values.shape
    wide, block = _tile(channels)
    with torch.cuda.device_of(values):
        stack, out = _Stack([(1.0, lattice)]), values.new_empty(n, wide)
        sums = stack.new_sums(wide)
        stack.splat_and_blur(_padded(values, wide), sums)
        _slice[(triton.cdiv(n, block),)](
            stack.corners, stack.weights, sums, out, n, len(stack.corners), wide, block, **_FUSED
        )
    return out[:, :channels].contiguous()


def iterate(
    unary: Tensor, total_message: Tensor, weighted: Sequence[tuple[float, _Lattice]], iterations: int
) -> Tensor:
    """Run mean-field iterations on the log scores ``unary`` (R, n), R at least 2; returns the marginals (R, n).

    ``total_message`` (n,) is the weighted sum of the lattices' responses to a map of ones.
    """
    rows, n = unary.shape
    wide, block = _tile(rows - 1)
    with torch.cuda.device_of(unary):
        stack = _Stack(weighted)
        sums = stack.new_sums(wide)
        values = _padded(unary.softmax(0)[1:].T, wide)
        marginals = torch.empty_like(unary)
        for left in reversed(range(iterations)):
            stack.splat_and_blur(values, sums)
            _update[(triton.cdiv(n, block),)](
                stack.corners, stack.weights, sums, unary, total_message, values if left else marginals, n, rows - 1,
                len(stack.corners), wide, block, left == 0, **_FUSED,
            )  # fmt: skip
    return marginals


def _tile(channels: int) -> tuple[int, int]:
    """The number of channels rounded up to a power of two, and the number of points or vertices per program."""
    wide: int = triton.next_power_of_2(channels)
    return wide, max(16, 256 // wide)


def _padded(values: Tensor, wide: int) -> Tensor:
    """The values (n, C) as (n, wide), contiguous, with zeros behind them."""
    return torch.nn.functional.pad(values, (0, wide - values.shape[1])).contiguous()


class _Stack:
    """Lattices over the same points, with one numbering of all vertices, ordered by decreasing number of corners.

    There are two buffers of the vertices' sums, in one tensor (2 V, C): each blur reads one half and writes the other.
    The result of a lattice with an odd number of axes is in the second half, so its ``corners`` point there.
    """

    def __init__(self, weighted: Sequence[tuple[float, _Lattice]]):
        ordered = sorted(weighted, key=lambda pair: -pair[1].vertices.shape[1])
        lattices = [lattice for _, lattice in ordered]
        bases = [0, *accumulate(lattice.neighbours.shape[1] for lattice in lattices)]
        entries = [0, *accumulate(len(lattice.points) for lattice in lattices)]
        # A multiple of 4 aligns both halves to 16 bytes, so that each kernel is compiled only once.
        self.height = triton.cdiv(bases[-1], 4) * 4
        index_type = torch.int32 if max(entries[-1], 2 * self.height) < 2**31 else torch.int64
        based = list(zip(bases, lattices, strict=False))
        starts = [item.starts[:-1].to(index_type) + entry for entry, item in zip(entries, lattices, strict=False)]
        self.starts = torch.cat([*starts, starts[0].new_full((self.height - bases[-1] + 1,), entries[-1])])
        self.points = torch.cat([item.points.to(index_type) for item in lattices])
        self.shares = torch.cat([item.shares for item in lattices])
        halves = [item.vertices.shape[1] % 2 * self.height for item in lattices]
        self.corners = torch.cat(
            [item.vertices.T.to(index_type) + (base + half) for (base, item), half in zip(based, halves, strict=True)]
        )
        self.weights = torch.cat([item.weights.T * (weight * item.factor) for weight, item in ordered])
        self.axes = [
            torch.cat(
                [item.neighbours[axis].to(index_type) + base for base, item in based if axis < len(item.neighbours)]
            )
            for axis in range(len(lattices[0].neighbours))
        ]
        cuts = torch.arange(0, entries[-1], _TILE, dtype=index_type, device=self.starts.device)
        self.tile_rows = torch.searchsorted(self.starts, cuts, right=True).to(index_type) - 1

    def new_sums(self, channels: int) -> Tensor:
        """An uninitialised buffer of the vertices' sums. Until the first blur its second half holds the tiles' sums."""
        return self.shares.new_empty(self.height + max(self.height, len(self.tile_rows)), channels)

    def splat_and_blur(self, values: Tensor, sums: Tensor) -> None:
        """Splat the values (n, C) and blur them, into ``sums``; C is a power of two."""
        channels, tiles, height = values.shape[1], len(self.tile_rows), self.height
        _, block = _tile(channels)
        # Few, because all lanes of a program wait for its longest row. Triton 3.6 and 3.7 do not compile 16.
        lanes = 128 // channels if channels <= 4 else 8
        _splat[(triton.cdiv(height + tiles, lanes),)](
            values, self.points, self.shares, self.starts, self.tile_rows, sums, height, tiles,
            channels, lanes, _TILE, num_warps=1, **_FUSED,
        )  # fmt: skip
        _add_tiles[(tiles,)](self.starts, self.tile_rows, sums, height, channels, block, _TILE, **_FUSED)
        for axis, pairs in enumerate(self.axes):
            source, target = sums[axis % 2 * height :], sums[(axis + 1) % 2 * height :]
            _blur[(triton.cdiv(len(pairs), block),)](source, target, pairs, len(pairs), channels, block, **_FUSED)


@triton.jit(do_not_specialize=["height", "tiles"])
def _splat(
    values, points, shares, starts, tile_rows, sums, height, tiles,
    C: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Write the sums (height + tiles, C): of every row, up to the first cut of a long row, then of long rows' tiles."""
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_row, is_tile = lane < height, (lane >= height) & (lane < height + tiles)
    tile = lane - height
    row = tl.where(is_tile, tl.load(tile_rows + tile, mask=is_tile, other=0).to(tl.int64), lane)
    begin = tl.load(starts + row, mask=is_row | is_tile, other=0).to(tl.int64)
    end = tl.load(starts + row + 1, mask=is_row | is_tile, other=0).to(tl.int64)
    is_long = end - begin > TILE
    cut = tl.minimum(end, (begin + TILE - 1) // TILE * TILE)
    entry = tl.where(is_tile, tile * TILE, begin)
    stop = tl.where(is_tile, tl.minimum(tile * TILE + TILE, end), cut)
    stop = tl.where(is_long, stop, tl.where(is_tile, entry, end))
    channel = tl.arange(0, C)
    total = tl.zeros([BLOCK, C], tl.float32)
    for _ in range(0, tl.max(stop - entry, 0)):
        more = entry < stop
        point = tl.load(points + entry, mask=more, other=0).to(tl.int64)
        share = tl.load(shares + entry, mask=more, other=0.0)
        value = tl.load(values + point[:, None] * C + channel[None, :], mask=more[:, None], other=0.0)
        total += share[:, None] * value
        entry += 1
    tl.store(sums + lane[:, None] * C + channel[None, :], total, mask=(is_row | is_tile)[:, None])


@triton.jit(do_not_specialize=["height"])
def _add_tiles(
    starts, tile_rows, sums, height,
    C: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Add the sums of a long row's tiles to the row's sum. The program of the row's first tile does the work."""
    tile = tl.program_id(0)
    row = tl.load(tile_rows + tile).to(tl.int64)
    earlier = tl.load(tile_rows + tile - 1, mask=tile > 0, other=-1).to(tl.int64)
    begin, end = tl.load(starts + row).to(tl.int64), tl.load(starts + row + 1).to(tl.int64)
    if (end - begin > TILE) & (row != earlier):
        channel = tl.arange(0, C)
        tiles = (end + TILE - 1) // TILE
        total = tl.zeros([BLOCK, C], tl.float32)
        for first in range(tile.to(tl.int64), tiles, BLOCK):
            here = first + tl.arange(0, BLOCK)
            at = sums + (height + here)[:, None] * C + channel[None, :]
            total += tl.load(at, mask=(here < tiles)[:, None], other=0.0)
        head = sums + row * C + channel
        tl.store(head, tl.load(head) + tl.sum(total, 0))


@triton.jit(do_not_specialize=["count"])
def _blur(source, target, pairs, count, C: tl.constexpr, BLOCK: tl.constexpr):
    """Blur along one axis: to each vertex (count, C) add half the sum of its two neighbours, given by (count, 2)."""
    vertex = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = vertex < count
    channel = tl.arange(0, C)
    inside = live[:, None]
    after = tl.load(pairs + 2 * vertex, mask=live, other=0).to(tl.int64)
    before = tl.load(pairs + 2 * vertex + 1, mask=live, other=0).to(tl.int64)
    own = tl.load(source + vertex[:, None] * C + channel[None, :], mask=inside, other=0.0)
    sides = tl.load(source + after[:, None] * C + channel[None, :], mask=inside, other=0.0)
    sides += tl.load(source + before[:, None] * C + channel[None, :], mask=inside, other=0.0)
    tl.store(target + vertex[:, None] * C + channel[None, :], own + 0.5 * sides, mask=inside)


@triton.jit
def _message(corners, weights, sums, n, pixel, channel, live, CORNERS: tl.constexpr, C: tl.constexpr):
    """The weighted sum, at each point, of the sums at its corners (CORNERS, n)."""
    total = tl.zeros([pixel.shape[0], C], tl.float32)
    for _ in tl.static_range(CORNERS):
        corner = tl.load(corners + pixel, mask=live, other=0).to(tl.int64)
        weight = tl.load(weights + pixel, mask=live, other=0.0)
        total += weight[:, None] * tl.load(sums + corner[:, None] * C + channel[None, :], mask=live[:, None], other=0.0)
        corners += n
        weights += n
    return total


@triton.jit(do_not_specialize=["n"])
def _slice(
    corners, weights, sums, out, n,
    CORNERS: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, C)
    live = pixel < n
    total = _message(corners, weights, sums, n, pixel, channel, live, CORNERS, C)
    tl.store(out + pixel[:, None] * C + channel[None, :], total, mask=live[:, None])


@triton.jit(do_not_specialize=["n", "labels"])
def _update(
    corners, weights, sums, unary, total_message, out, n, labels,
    CORNERS: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """Softmax of the unary (labels + 1, n) plus the messages.

    Writes the labels' rows as (n, C), with zeros behind them; in the last iteration all rows as (labels + 1, n).
    """
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, C)
    live = pixel < n
    inside = live[:, None] & (channel[None, :] < labels)
    message = _message(corners, weights, sums, n, pixel, channel, live, CORNERS, C)
    background = tl.load(unary + pixel, mask=live, other=0.0) + tl.load(total_message + pixel, mask=live, other=0.0)
    background -= tl.sum(message, 1)
    row = (channel[None, :].to(tl.int64) + 1) * n + pixel[:, None]
    logit = tl.load(unary + row, mask=inside, other=-float("inf")) + message
    most = tl.maximum(tl.max(logit, 1), background)
    background = tl.exp(background - most)
    share = tl.exp(logit - most[:, None])
    total = background + tl.sum(share, 1)
    if LAST:
        tl.store(out + pixel, background / total, mask=live)
        tl.store(out + row, share / total[:, None], mask=inside)
    else:
        tl.store(out + pixel[:, None] * C + channel[None, :], share / total[:, None], mask=live[:, None])
