"""The permutohedral lattice: a Gaussian filter over millions of points in a few dimensions (Adams et al. 2010).

Axes: n points (the pixels of one or more pictures), d dimensions, V vertices of the lattice that any point touches,
C channels of values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Lattice:
    """Where each point lies in the lattice, and how the vertices are linked. Made by :func:`build_lattice`.

    Attributes:
        vertices: (n, d + 1) int64, the corners of the simplex around each point, 0..V-1.
        weights: (n, d + 1) float32, the point's barycentric coordinates, rows sum to 1.
        order: (n (d + 1),) int64, the corners sorted by vertex; with ``counts`` the rows of the splat.
        counts: (V,) int64, how many corners each vertex has.
        neighbours: (d + 1, 2, V) int64, the next and the last vertex along each axis; V where there is none.
    """

    vertices: Tensor
    weights: Tensor
    order: Tensor
    counts: Tensor
    neighbours: Tensor

    def filter(self, values: Tensor) -> Tensor:
        """Values (n, C) float32 to their Gaussian-weighted sums over all points of the same picture, (n, C).

        The kernel is exp(-|f - g|^2 / 2) for features f and g, approximately and up to a constant. Sums are taken in
        one fixed order, so that results repeat bit for bit on every device.
        """
        corners = self.vertices.shape[1]
        splat = values[self.order // corners] * self.weights.reshape(-1)[self.order, None]
        at_vertices = torch.segment_reduce(splat, "sum", lengths=self.counts, axis=0, unsafe=True)
        for after, before in self.neighbours:
            padded = torch.cat([at_vertices, at_vertices.new_zeros(1, at_vertices.shape[1])])
            at_vertices = at_vertices + 0.5 * (padded[after] + padded[before])
        sliced = torch.einsum("nk,nkc->nc", self.weights, at_vertices[self.vertices])
        return sliced / (1 + 2.0 ** (1 - corners))


def fits(reach: Sequence[float]) -> bool:
    """Whether a lattice can hold features from 0 to ``reach`` (d,): its coordinates exact in float32, with room for
    fractions, and 64-bit keys for the vertices of one picture. (Also the condition of ``crf.cpp``.)
    """
    d = len(reach)
    scaled = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) * most for i, most in enumerate(reach)]
    spread = [sum(scaled[i:]) + (i * scaled[i - 1] if i else 0) for i in range(d)]
    return max(spread) < 2**21 and math.prod(most + 6 * d + 8 for most in spread) < 2**63


def build_lattice(features: Tensor, picture: Tensor) -> Lattice:
    """The lattice of features (n, d) float32, in units of the kernel's standard deviation.

    ``picture`` (n,) int64, 0, 1, ... says which picture a point belongs to: those of different pictures do not meet.
    Each picture's features must be such as :func:`fits`. Raises ValueError where the pictures together have too many
    vertices for 64-bit keys.
    """
    remainder, rank, weights = _simplex(features)
    keys, moves = _keys(remainder, rank, picture)
    found, vertices = torch.unique(keys, return_inverse=True)
    neighbours = torch.stack([torch.stack([_find(found, found + step), _find(found, found - step)]) for step in moves])
    flat = vertices.reshape(-1)
    counts = torch.bincount(flat, minlength=len(found))
    return Lattice(vertices, weights, torch.argsort(flat, stable=True), counts, neighbours)


def _simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point: its zero-coloured corner and the rank of each coordinate (n, d + 1), both
    integer-valued float32, and the barycentric coordinates (n, d + 1). (Adams et al. 2010, section 3.1)
    """
    n, d = features.shape
    spread = float(np.float32(math.sqrt(2 / 3) * (d + 1)))  # rounded first, as in every other implementation
    scaled = features * torch.tensor([1 / math.sqrt((i + 1) * (i + 2)) * spread for i in range(d)]).to(features)
    elevated = features.new_empty(n, d + 1)
    total = features.new_zeros(n)
    for j in range(d, 0, -1):
        elevated[:, j] = total - j * scaled[:, j - 1]
        total = total + scaled[:, j - 1]
    elevated[:, 0] = total

    nearest = torch.round(elevated * (1 / (d + 1)))
    remainder = nearest * (d + 1)
    offset = elevated - remainder
    rank = torch.zeros_like(elevated)
    for i in range(d):
        for j in range(i + 1, d + 1):
            lower = (offset[:, i] < offset[:, j]).to(rank)
            rank[:, i] += lower
            rank[:, j] += 1 - lower
    rank += nearest.sum(1, keepdim=True)
    wrap = (d + 1) * ((rank < 0).to(rank) - (rank > d).to(rank))
    rank, remainder = rank + wrap, remainder + wrap

    # Sorted by rank, the offsets' differences are the barycentric coordinates.
    place = torch.scatter(features.new_empty(n, d + 1), 1, d - rank.long(), (elevated - remainder) * (1 / (d + 1)))
    weights = place - torch.cat([place[:, -1:] - 1, place[:, :-1]], 1)
    return remainder, rank, weights


def _keys(remainder: Tensor, rank: Tensor, picture: Tensor) -> tuple[Tensor, list[int]]:
    """Every corner's place in the lattice as one number, (n, d + 1) int64, and the step to the next along each axis.

    A corner has d independent coordinates. They are the digits of a number whose bases have room for a step to either
    side; the picture is the leading digit.
    """
    d = remainder.shape[1] - 1
    colour = torch.arange(d + 1, device=rank.device)[:, None]
    ranks = torch.arange(d + 1, device=rank.device)
    canonical = torch.where(ranks <= d - colour, colour, colour - (d + 1))  # (d + 1, d + 1): colour, rank
    first, corner = remainder[:, :d].long(), rank[:, :d].long()
    lowest = first.amin(0) - 2 * d - 1
    bases = (first.amax(0) + 2 * d + 2 - lowest).tolist()
    strides = [math.prod(bases[i + 1 :]) for i in range(d)]
    pictures = int(picture.max()) + 1
    if strides[0] * bases[0] * pictures >= 2**63:
        raise ValueError(f"the CRF's kernels are too narrow for {pictures} pictures together; give fewer at a time")
    base = ((first - lowest) * torch.tensor(strides, device=first.device)).sum(1) + picture * (strides[0] * bases[0])
    keys = base[:, None].repeat(1, d + 1)
    for i in range(d):  # (n, d + 1) at a time
        keys += canonical.T[corner[:, i]] * strides[i]
    moves = [(d + 1) * stride - sum(strides) for stride in strides]
    return keys, [*moves, -sum(strides)]


def _find(found: Tensor, wanted: Tensor) -> Tensor:
    """The places of ``wanted`` in the sorted ``found``; the number of those found where there is none."""
    place = torch.searchsorted(found, wanted)
    hit = found[place.clamp(max=len(found) - 1)] == wanted
    return torch.where(hit, place, len(found))
