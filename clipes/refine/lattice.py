"""The permutohedral lattice: a Gaussian filter over millions of points in a few dimensions (Adams et al. 2010).

Axes: n points (the pixels of one or more pictures, one picture after the other), d dimensions, K = d + 1 corners of a
simplex, V vertices of the lattice, C channels of values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from clipes import kernels


@dataclass(frozen=True)
class Lattice:
    """Where each point lies in the lattice, and how the vertices are linked. Made by :func:`build_lattice`.

    The last vertex of a picture is none: no point's corner, and its own neighbour, so that it stays 0. It stands where
    a neighbour is missing. Indices are int32, or int64 where n K is 2^31 or more.

    Attributes:
        vertices: (n, K), the corners of the simplex around each point, 0..V-1.
        weights: (n, K) float32, the point's barycentric coordinates, rows sum to 1.
        starts: (V + 1,), where the row of each vertex starts in ``points`` and ``shares``; the last is their length.
        points: (n K,), the points that have a vertex as their corner, vertex by vertex.
        shares: (n K,) float32, their weights there.
        neighbours: (K, V, 2), the next and the last vertex along each axis.
    """

    vertices: Tensor
    weights: Tensor
    starts: Tensor
    points: Tensor
    shares: Tensor
    neighbours: Tensor

    def filter(self, values: Tensor) -> Tensor:
        """Values (n, C) float32 to their Gaussian-weighted sums over all points of the same picture, (n, C).

        The kernel is exp(-|f - g|^2 / 2) for features f and g, approximately and up to a constant. Sums are taken in
        one fixed order, so that results repeat bit for bit on every device.
        """
        if kernels.usable(values):
            from clipes.kernels.lattice import filter_values

            return filter_values(self, values)
        at_vertices = embedding_bag(
            self.points, values, self.starts, mode="sum", per_sample_weights=self.shares, include_last_offset=True
        )
        for pairs in self.neighbours:
            at_vertices.add_(embedding_bag(pairs, at_vertices, mode="sum"), alpha=0.5)
        sliced = embedding_bag(self.vertices, at_vertices, mode="sum", per_sample_weights=self.weights)
        return sliced * self.factor

    @property
    def factor(self) -> float:
        """What the values of the vertices count for: blurring adds to a constant's, and this takes it away."""
        return 1 / (1 + 2.0 ** (1 - self.vertices.shape[1]))

    def scaled(self, factors: Tensor) -> Lattice:
        """The lattice whose filter is ``factors * filter(factors * values)``, for factors (n, 1)."""
        return replace(
            self, weights=self.weights * factors, shares=self.shares * factors[:, 0].index_select(0, self.points)
        )


def fits(reach: Sequence[float]) -> bool:
    """Whether a lattice can hold features from 0 to ``reach`` (d,): its coordinates exact in float32, with room for
    fractions, and 64-bit keys for the vertices of one picture. (Also the condition of ``crf.cpp``.)
    """
    d = len(reach)
    scaled = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) * most for i, most in enumerate(reach)]
    spread = [sum(scaled[i:]) + (i * scaled[i - 1] if i else 0) for i in range(d)]
    return max(spread) < 2**21 and math.prod(most + 6 * d + 8 for most in spread) < 2**63


def join(lattices: Sequence[Lattice]) -> Lattice:
    """The lattice of the points of all, in that order; those of different lattices do not meet."""
    if len(lattices) == 1:
        return lattices[0]
    whole = _index_type(sum(one.points.numel() for one in lattices))
    parts, point, vertex, entry = [], 0, 0, 0
    for one in lattices:
        starts = (one.starts[:-1].to(whole) + entry, one.points.to(whole) + point)
        parts.append((one.vertices.to(whole) + vertex, *starts, one.neighbours.to(whole) + vertex))
        point, vertex = point + len(one.vertices), vertex + one.neighbours.shape[1]
        entry += len(one.points)
    vertices, starts, points, neighbours = zip(*parts, strict=True)
    return Lattice(
        torch.cat(vertices),
        torch.cat([one.weights for one in lattices]),
        torch.cat([*starts, starts[0].new_full((1,), entry)]),
        torch.cat(points),
        torch.cat([one.shares for one in lattices]),
        torch.cat(neighbours, 1),
    )


def build_lattice(features: Tensor, counts: Sequence[int]) -> Lattice:
    """The lattice of features (d, n) float32, in units of the kernel's standard deviation.

    ``counts`` are the numbers of points of each picture: those of different pictures do not meet. Each picture's
    features must be such as :func:`fits`. Raises ValueError where the pictures together have too many vertices for
    64-bit keys.
    """
    keys, moves, weights = _corners(features, counts)
    ordered, order = torch.sort(keys.reshape(-1), stable=True)
    del keys  # of the largest tensors here
    n, size, whole = len(weights[0]), len(order), _index_type(len(order))
    fresh = torch.cat([ordered.new_ones(1, dtype=torch.bool), ordered[1:] != ordered[:-1]])
    first = fresh.nonzero()[:, 0]  # on a GPU the host waits here, for the number of vertices
    found = ordered[first]
    del ordered
    vertices = torch.empty_like(order, dtype=whole).scatter_(0, order, fresh.cumsum(0, dtype=whole) - 1)
    return Lattice(
        vertices.reshape(weights.shape).T.contiguous(),
        weights.T.contiguous(),
        torch.cat([first, first.new_full((2,), size)]).to(whole),
        (order % n).to(whole),
        weights.reshape(-1).index_select(0, order),
        _link(found, moves).to(whole),
    )


def _corners(features: Tensor, counts: Sequence[int]) -> tuple[Tensor, list[int], Tensor]:
    """Keys of the corners of the simplices, the steps between keys, and the weights of the corners."""
    remainder, rank, weights = _simplex(features)
    return *_keys(remainder, rank, counts), weights


def _index_type(count: int) -> torch.dtype:
    return torch.int32 if count < 2**31 else torch.int64


def _simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point: its zero-coloured corner, integer-valued float32, the rank of each coordinate,
    int8, and the barycentric coordinates, float32: (d + 1, n) each. (Adams et al. 2010, section 3.1)
    """
    d, n = features.shape
    spread = float(np.float32(math.sqrt(2 / 3) * (d + 1)))  # rounded first, as in every other implementation
    elevated = features.new_empty(d + 1, n)
    total = features.new_zeros(n)
    for j in range(d, 0, -1):
        scaled = features[j - 1] * (1 / math.sqrt(j * (j + 1)) * spread)
        elevated[j] = total - j * scaled
        total += scaled
    elevated[0] = total

    nearest = torch.round(elevated * (1 / (d + 1)))
    remainder = nearest * (d + 1)
    offset = elevated - remainder
    rank = nearest.sum(0).to(torch.int8).repeat(d + 1, 1)
    for i in range(d):
        for j in range(i + 1, d + 1):
            lower = offset[i] < offset[j]
            rank[i] += lower
            rank[j] += ~lower
    wrap = (d + 1) * ((rank < 0).to(rank) - (rank > d).to(rank))
    rank += wrap
    remainder += wrap

    # Sorted by rank, the offsets' differences are the barycentric coordinates.
    place = torch.empty_like(elevated).scatter_(0, (d - rank).long(), (elevated - remainder) * (1 / (d + 1)))
    weights = place - torch.cat([place[-1:] - 1, place[:-1]])
    return remainder, rank, weights


def _keys(remainder: Tensor, rank: Tensor, counts: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Every corner's place in the lattice as one number, (d + 1, n) int64, and the step to the next along each axis.

    A corner has d independent coordinates. They are the digits of a number whose bases have room for a step to either
    side; the picture is the leading digit.
    """
    d = len(remainder) - 1
    low, high = torch.stack([remainder[:d].amin(1), remainder[:d].amax(1)]).long().tolist()
    bases = [most - least + 4 * d + 3 for least, most in zip(low, high, strict=True)]
    strides = [math.prod(bases[i + 1 :]) for i in range(d)]
    every = strides[0] * bases[0]
    if every * len(counts) >= 2**63:
        raise ValueError(f"the CRF's kernels are too narrow for {len(counts)} pictures together; give fewer at a time")
    keys = rank.new_zeros(rank.shape, dtype=torch.int64)
    for number, part in enumerate(torch.split(keys[0], list(counts))):
        part += number * every
    for coordinate, least, stride in zip(remainder, low, strides, strict=False):
        keys[0] += (coordinate.long() - least) * stride
    # From one colour to the next each coordinate is one higher, but that of the highest rank left d + 1 lower.
    drops = torch.empty_like(keys)
    for stride, place in zip([*strides, 0], rank, strict=True):
        drops.scatter_(0, place.long()[None], (d + 1) * stride)
    for colour in range(d):
        torch.sub(keys[colour], drops[d - colour], out=keys[colour + 1])
        keys[colour + 1] += sum(strides)
    moves = [(d + 1) * stride - sum(strides) for stride in strides]
    return keys, [*moves, -sum(strides)]


def _link(found: Tensor, moves: Sequence[int]) -> Tensor:
    """The neighbours (K, V, 2) among the vertices of the sorted keys ``found`` (V - 1,), for the steps of each axis.

    Found from one side, linked from both.
    """
    if kernels.usable(found) and len(found) < 2**29:  # the hash table has 32-bit places
        from clipes.kernels.links import link

        return link(found, moves)
    none = len(found)
    here = torch.arange(none + 1, device=found.device)
    axes = []
    for move in moves:
        place = torch.searchsorted(found, found + move)
        hit = found[place.clamp(max=none - 1)] == found + move
        after = torch.cat([torch.where(hit, place, none), here[-1:]])
        before = torch.full_like(after, none).scatter_(0, after, here)
        before[none] = none  # on a GPU, which of all that wrote there came last is left to chance
        axes.append(torch.stack([after, before], 1))
    return torch.stack(axes)
