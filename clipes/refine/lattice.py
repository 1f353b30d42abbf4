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
    """The position of each point in the lattice, and the links between vertices. Made by :func:`build_lattice`.

    The last vertex is a dummy for missing neighbours: it is no point's corner and its own neighbour, so that it always
    stays 0. Indices are int32, or int64 if n K is 2^31 or more.

    Attributes:
        vertices: (n, K), the corners of the simplex around each point, 0..V-1.
        weights: (n, K) float32, the point's barycentric coordinates, rows sum to 1.
        starts: (V + 1,), where the row of each vertex starts in ``points`` and ``shares``; the last is their length.
        points: (n K,), the points that have the vertex as a corner, vertex by vertex.
        shares: (n K,) float32, the weights of those points.
        neighbours: (K, V, 2), the next and the previous vertex along each axis.
    """

    vertices: Tensor
    weights: Tensor
    starts: Tensor
    points: Tensor
    shares: Tensor
    neighbours: Tensor

    def filter(self, values: Tensor) -> Tensor:
        """Gaussian-weighted sums of values (n, C) float32 over all points of the same picture: (n, C).

        The kernel is approximately exp(-|f - g|^2 / 2) for features f and g, up to a constant. Sums are in a fixed
        order, so that results repeat bit for bit on every device.
        """
        if kernels.usable(values, "lattice"):
            with kernels.fallback("lattice"):
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
        """The constant that undoes the gain of blurring: a constant map keeps its value."""
        return 1 / (1 + 2.0 ** (1 - self.vertices.shape[1]))

    def scaled(self, factors: Tensor) -> Lattice:
        """A lattice whose filter is ``factors * filter(factors * values)``, for factors (n, 1)."""
        return replace(
            self, weights=self.weights * factors, shares=self.shares * factors[:, 0].index_select(0, self.points)
        )


def fits(reach: Sequence[float]) -> bool:
    """Whether a lattice can hold features from 0 to ``reach`` (d,): coordinates exact in float32, keys in 64 bits.

    ``crf.cpp`` has the same condition.
    """
    d = len(reach)
    scaled = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) * most for i, most in enumerate(reach)]
    spread = [sum(scaled[i:]) + (i * scaled[i - 1] if i else 0) for i in range(d)]
    return max(spread) < 2**21 and math.prod(most + 6 * d + 8 for most in spread) < 2**63


def join(lattices: Sequence[Lattice]) -> Lattice:
    """One lattice of the points of all ``lattices``, in order. Points of different lattices are not connected."""
    if len(lattices) == 1:
        return lattices[0]
    index_type = _index_type(sum(one.points.numel() for one in lattices))
    parts, point, vertex, entry = [], 0, 0, 0
    for one in lattices:
        starts = (one.starts[:-1].to(index_type) + entry, one.points.to(index_type) + point)
        parts.append((one.vertices.to(index_type) + vertex, *starts, one.neighbours.to(index_type) + vertex))
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

    ``counts`` are the numbers of points of each picture; points of different pictures are not connected. Each picture's
    features must satisfy :func:`fits`. Raises ValueError if the pictures together have too many vertices for 64-bit
    keys.
    """
    keys, moves, weights = _corners(features, counts)
    ordered, order = torch.sort(keys.reshape(-1), stable=True)
    del keys  # one of the largest tensors here
    n, size, index_type = len(weights[0]), len(order), _index_type(len(order))
    is_first = torch.cat([ordered.new_ones(1, dtype=torch.bool), ordered[1:] != ordered[:-1]])
    first = is_first.nonzero()[:, 0]  # a GPU synchronises here, because the number of vertices is needed
    vertex_keys = ordered[first]
    del ordered
    vertices = torch.empty_like(order, dtype=index_type).scatter_(0, order, is_first.cumsum(0, dtype=index_type) - 1)
    return Lattice(
        vertices.reshape(weights.shape).T.contiguous(),
        weights.T.contiguous(),
        torch.cat([first, first.new_full((2,), size)]).to(index_type),
        (order % n).to(index_type),
        weights.reshape(-1).index_select(0, order),
        _link(vertex_keys, moves).to(index_type),
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
    """Every corner's position in the lattice as one key, (d + 1, n) int64, and each axis's key step to the next vertex.

    A corner has d independent coordinates. They are the digits of the key, whose bases leave room for a step to either
    side. The picture's number is the leading digit.
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
    # From one corner to the next each coordinate rises by 1, except that of the highest remaining rank: it drops by d.
    drops = torch.empty_like(keys)
    for stride, place in zip([*strides, 0], rank, strict=True):
        drops.scatter_(0, place.long()[None], (d + 1) * stride)
    for colour in range(d):
        torch.sub(keys[colour], drops[d - colour], out=keys[colour + 1])
        keys[colour + 1] += sum(strides)
    moves = [(d + 1) * stride - sum(strides) for stride in strides]
    return keys, [*moves, -sum(strides)]


def _link(vertex_keys: Tensor, moves: Sequence[int]) -> Tensor:
    """The neighbours (K, V, 2) of the vertices with the sorted keys (V - 1,), for the key steps of each axis.

    Each pair is searched from one side and linked in both directions.
    """
    if kernels.usable(vertex_keys, "links") and len(vertex_keys) < 2**29:  # the hash table has 32-bit slots
        with kernels.fallback("links"):
            from clipes.kernels.links import link

            return link(vertex_keys, moves)
    dummy = len(vertex_keys)
    here = torch.arange(dummy + 1, device=vertex_keys.device)
    axes = []
    for move in moves:
        place = torch.searchsorted(vertex_keys, vertex_keys + move)
        hit = vertex_keys[place.clamp(max=dummy - 1)] == vertex_keys + move
        after = torch.cat([torch.where(hit, place, dummy), here[-1:]])
        before = torch.full_like(after, dummy).scatter_(0, after, here)
        before[dummy] = dummy  # many writes went here, in an arbitrary order on a GPU
        axes.append(torch.stack([after, before], 1))
    return torch.stack(axes)
