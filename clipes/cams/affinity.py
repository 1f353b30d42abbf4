"""Class-aware attention-based affinity, CAA (CLIP-ES section 3.4, equations 5-8).

The mean attention W of an image is made doubly stochastic by Sinkhorn scaling, D = diag(r) W diag(c), and
symmetrised, A = (D + D^T) / 2. Neither D nor A is ever formed: A x = (r * W(c * x) + c * W^T(r * x)) / 2.

Axes: B images, P pairs of an image and a label, N = h * w patches, padded to the largest N of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.config import AttentionAffinityConfig, Boxes
from clipes.kernels import usable

from .scaling import masked_min_max


def propagate_cams(
    cams: Tensor, attention: Tensor, pairs: Pairs, grids: Sequence[tuple[int, int]], config: AttentionAffinityConfig
) -> Tensor:
    """Propagate each map along the attention affinity of its image, from inside the map's boxes (equation 8).

    Args:
        cams: (P, N) in [0, 1].
        attention: (B, N, N) mean patch-to-patch attention, non-negative, 0 on padding.
        pairs: which image a map belongs to.
        grids: (h, w) of each image; the first h * w of its N patches are not padding.

    Returns:
        (P, N) in [0, 1], min-max scaled, of the maps' dtype; all zero if no region is above the threshold.
    """
    # In float64, because the affinity flattens maps and the min-max scaling then magnifies rounding errors.
    attention = attention.double()
    rows, columns = (factor[:, None] for factor in sinkhorn_scaling(attention, config.sinkhorn_iterations))
    propagated = pairs.pad_per_image((cams * _all_box_masks(cams, pairs, grids, config)).double())  # (B, C, N)
    for _ in range(config.hops):
        propagated = _apply_affinity(propagated, attention, rows, columns)
    patches = torch.tensor([h * w for h, w in grids]).to(cams.device)
    patch_mask = torch.arange(cams.shape[1], device=cams.device) < patches[pairs.image, None]
    return masked_min_max(pairs.unpad(propagated), patch_mask).to(cams)


def _apply_affinity(maps: Tensor, attention: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A x for maps x (B, C, N), from the attention (B, N, N) and its Sinkhorn factors (B, 1, N)."""
    forward = rows * ((columns * maps) @ attention.mT)
    backward = columns * ((rows * maps) @ attention)
    return (forward + backward) / 2


def affinity_matrix(attention: Tensor, iterations: int) -> Tensor:
    """The affinity A (B, N, N) float64 of the attention (B, N, N), which :func:`propagate_cams` applies unformed.

    Symmetric. Its rows sum to approximately 1 after one or more Sinkhorn ``iterations``.
    """
    attention = attention.double()
    rows, columns = (factor[:, None] for factor in sinkhorn_scaling(attention, iterations))
    return _apply_affinity(torch.eye(attention.shape[-1]).to(attention), attention, rows, columns)


def sinkhorn_scaling(attention: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Row and column factors (B, N), (B, N); each iteration divides by the column sums, then by the row sums.

    A row or column of zeros, such as padding, has the factor 0.
    """
    rows = attention.new_ones(attention.shape[:-1])
    columns = torch.ones_like(rows)
    for _ in range(iterations):
        columns = _inverse((attention.mT @ rows[..., None])[..., 0])
        rows = _inverse((attention @ columns[..., None])[..., 0])
    return rows, columns


def _inverse(sums: Tensor) -> Tensor:
    return torch.where(sums == 0, 0, 1 / sums)


def _all_box_masks(
    cams: Tensor, pairs: Pairs, grids: Sequence[tuple[int, int]], config: AttentionAffinityConfig
) -> Tensor:
    """:func:`box_masks` of maps (P, N) from images of several grids, computed grid by grid: (P, N)."""
    masks = torch.zeros_like(cams)
    for grid in set(grids):
        of_grid = torch.tensor([grids[image] == grid for image in pairs.image_indices], dtype=torch.bool).nonzero()[
            :, 0
        ]
        of_grid, count = of_grid.to(cams.device), grid[0] * grid[1]
        inside = box_masks(cams[of_grid, :count].reshape(-1, *grid), config.box_threshold, config.boxes)
        masks[of_grid, :count] = inside.flatten(1)
    return masks


def box_masks(cams: Tensor, threshold: float, boxes: Boxes = "paper") -> Tensor:
    """Union of the bounding boxes of each map's 8-connected regions above ``threshold`` of its maximum.

    Takes maps (P, h, w) in [0, 1]; returns masks (P, h, w) of 0 and 1 in the maps' dtype. Maps are compared at 256
    levels, truncated. ``"paper"`` clips the boxes' exclusive ends to h - 1 and w - 1, as the original code does, so
    that the last row and column are outside all boxes (unless there is only one). ``"exact"`` does not clip.
    """
    masks = _rasterise_boxes(_regions(above_threshold(cams, threshold))).to(cams)
    height, width = _box_limits(masks.shape[1], masks.shape[2], boxes)
    masks[:, height:] = 0
    masks[:, :, width:] = 0
    return masks


def region_boxes(cams: Tensor, threshold: float, boxes: Boxes = "paper") -> list[list[tuple[int, int, int, int]]]:
    """The boxes whose union :func:`box_masks` returns, for each map: (top, left, bottom, right) in patches.

    Bottom and right are exclusive. Boxes that clipping makes empty are left out.
    """
    height, width = _box_limits(cams.shape[1], cams.shape[2], boxes)
    result = []
    for bounds in torch.stack(_bounding_boxes(_regions(above_threshold(cams, threshold))), -1).tolist():
        clipped = [(top, left, min(bottom + 1, height), min(right + 1, width)) for top, bottom, left, right in bounds]
        result.append([box for box in clipped if box[0] < box[2] and box[1] < box[3]])
    return result


def above_threshold(cams: Tensor, threshold: float) -> Tensor:
    """Which patches of maps (P, h, w) in [0, 1] are above ``threshold`` of the map's maximum, at 256 levels: bool."""
    levels = (cams * 255).to(torch.uint8)
    lowest = (threshold * levels.flatten(1).amax(1).double()).floor() if len(cams) else levels.new_zeros(0)
    return levels > lowest[:, None, None]


def _box_limits(height: int, width: int, boxes: Boxes) -> tuple[int, int]:
    """The number of rows and columns of a grid that boxes may cover."""
    if boxes == "exact":
        return height, width
    # A single row or column stays covered: clipping would delete the whole map.
    return max(1, height - 1), max(1, width - 1)


def _regions(foreground: Tensor) -> Tensor:
    """Label the 8-connected regions of each map (P, h, w) bool: int64 (P, h, w), one label below h * w per region.

    The label outside all regions is -1. On a GPU the host does not wait.
    """
    if usable(foreground):
        from clipes.kernels.regions import label_regions

        return label_regions(foreground).long()
    maps, connected = foreground.cpu().numpy(), np.ones((3, 3))
    labels = [ndimage.label(one_map, structure=connected)[0].astype(np.int64) - 1 for one_map in maps]
    return torch.from_numpy(np.stack(labels)).to(foreground.device) if labels else foreground.long()


def _bounding_boxes(regions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, bottom, left, right (P, h * w), all inclusive, of the regions of each map, indexed by label.

    Takes the labels of :func:`_regions`. Bottom and right are -1 for unused labels.
    """
    maps, h, w = regions.shape
    flat, inside = regions.flatten(1), regions.flatten(1) >= 0
    index, label = torch.arange(h * w, device=flat.device), flat.clamp_min(0)
    bounds = []
    for coordinate, limit in ((index // w, h), (index % w, w)):
        position = coordinate.expand(maps, -1)
        first = torch.full_like(flat, limit).scatter_reduce(1, label, torch.where(inside, position, limit), "amin")
        last = torch.full_like(flat, -1).scatter_reduce(1, label, torch.where(inside, position, -1), "amax")
        bounds += [first, last]
    top, bottom, left, right = bounds
    return top, bottom, left, right


def _rasterise_boxes(regions: Tensor) -> Tensor:
    """Which patches lie in a region's bounding box: (P, h, w) bool, for the labels of :func:`_regions`."""
    maps, h, w = regions.shape
    top, bottom, left, right = _bounding_boxes(regions)
    # Summed-area trick: +1 and -1 at each box's corners; cumulative sums count the boxes that cover a patch.
    corners, exists = regions.new_zeros(maps, (h + 1) * (w + 1)), (bottom >= 0).long()
    for row, column, sign in ((top, left, 1), (bottom + 1, left, -1), (top, right + 1, -1), (bottom + 1, right + 1, 1)):
        corners.scatter_add_(1, torch.where(exists > 0, row * (w + 1) + column, 0), sign * exists)
    return corners.reshape(maps, h + 1, w + 1).cumsum(1).cumsum(2)[:, :h, :w] > 0
