"""Steps from an affinity of patches to propagated maps that several affinities share.

Axes: B images, C maps of each, N = h * w patches, padded to the largest N of the batch. Row i of a matrix (B, N, N)
holds the weights by which patch i gathers from all patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def propagate(maps: Tensor, matrix: Tensor, hops: int = 1) -> Tensor:
    """Maps (..., C, N) after ``hops`` times ``m_i = sum_j matrix_ij m_j`` with the matrix (..., N, N)."""
    for _ in range(hops):
        maps = maps @ matrix.mT
    return maps


def normalise_rows(matrix: Tensor, epsilon: float = 0.0) -> Tensor:
    """Each row of a matrix (..., N, N) divided by (its sum + ``epsilon``); a row without a sum becomes 0."""
    sums = matrix.sum(-1, keepdim=True) + epsilon
    return torch.where(sums == 0, 0, matrix / sums)


def normalise_columns(matrix: Tensor, epsilon: float = 0.0) -> Tensor:
    """As :func:`normalise_rows`, the columns."""
    return normalise_rows(matrix.mT, epsilon).mT


def near_patches(grid: tuple[int, int], radius: int) -> Tensor:
    """Which pairs of patches of a grid differ by at most ``radius`` rows and columns: (N, N) bool.

    A square around each patch, as in the code of AFA (Ru et al., CVPR 2022).

    >>> near_patches((1, 3), 1).int().tolist()
    [[1, 1, 0], [1, 1, 1], [0, 1, 1]]
    """
    row, column = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, grid), indexing="ij"))
    near: Tensor = ((row[:, None] - row).abs() <= radius) & ((column[:, None] - column).abs() <= radius)
    return near


def near_patches_of(grids: Sequence[tuple[int, int]], radius: int, patches: int, device: torch.device) -> Tensor:
    """:func:`near_patches` of several images' grids, padded with False: (B, ``patches``, ``patches``) bool."""
    masks = torch.zeros(len(grids), patches, patches, dtype=torch.bool)
    for grid in set(grids):
        of_grid = [image for image, other in enumerate(grids) if other == grid]
        count = grid[0] * grid[1]
        masks[of_grid, :count, :count] = near_patches(grid, radius)
    return masks.to(device)


def background_shares(maps: Tensor, background: float) -> Tensor:
    """Softmax of maps (C, ...) and a constant ``background`` at each position, background first: (1 + C, ...).

    AFA propagates these shares, and not the maps (section 3.3, with 0.35 and 0.55).
    """
    return torch.cat([torch.full_like(maps[:1], background), maps]).softmax(0)
