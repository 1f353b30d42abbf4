"""Bounding boxes of a map's regions, from inside which CAA propagates it (CLIP-ES section 3.4, equation 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from clipes import kernels
from clipes.clip.pairs import Pairs
from clipes.config import Boxes


def all_box_masks(
    cams: Tensor, pairs: Pairs, grids: Sequence[tuple[int, int]], threshold: float, boxes: Boxes = "paper"
) -> Tensor:
    """:func:`box_masks` of maps (P, N) from images of several grids, computed grid by grid: (P, N), 0 on padding."""
    masks = torch.zeros_like(cams)
    for grid in set(grids):
        of_grid = torch.tensor([grids[image] == grid for image in pairs.image_indices], dtype=torch.bool).nonzero()[
            :, 0
        ]
        of_grid, count = of_grid.to(cams.device), grid[0] * grid[1]
        inside = box_masks(cams[of_grid, :count].reshape(-1, *grid), threshold, boxes)
        masks[of_grid, :count] = inside.flatten(1)
    return masks


def box_masks(cams: Tensor, threshold: float, boxes: Boxes = "paper") -> Tensor:
    """Union of the bounding boxes of each map's 8-connected regions above ``threshold`` of its maximum.

    Takes maps (P, h, w) in [0, 1]; returns masks (P, h, w) of 0 and 1 in the maps' dtype. Maps are compared at 256
    levels, truncated. ``"paper"`` clips the boxes' exclusive ends to h - 1 and w - 1, as the original code does, so
    that the last row and column are outside all boxes (unless there is only one). ``"exact"`` does not clip.
    ``"none"``: every patch is inside.
    """
    return boxed(above_threshold(cams, threshold), boxes).to(cams)


def boxed(foreground: Tensor, boxes: Boxes = "paper") -> Tensor:
    """Union of the bounding boxes of the 8-connected regions of each map: (P, h, w) bool to (P, h, w) bool.

    ``boxes`` as in :func:`box_masks`.
    """
    if boxes == "none":
        return torch.ones_like(foreground)
    masks = _rasterise_boxes(_regions(foreground))
    height, width = _box_limits(masks.shape[1], masks.shape[2], boxes)
    masks[:, height:] = False
    masks[:, :, width:] = False
    return masks


def region_boxes(cams: Tensor, threshold: float, boxes: Boxes = "paper") -> list[list[tuple[int, int, int, int]]]:
    """The boxes whose union :func:`box_masks` returns, for each map: (top, left, bottom, right) in patches.

    Bottom and right are exclusive. Boxes that clipping makes empty are left out. ``"none"``: one box of the whole grid.
    """
    if boxes == "none":
        return [[(0, 0, cams.shape[1], cams.shape[2])] for _ in cams]
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
    if kernels.usable(foreground, "regions"):
        with kernels.fallback("regions"):
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
