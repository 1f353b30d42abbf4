"""Class-aware attention-based affinity, CAA (CLIP-ES section 3.4, equations 5-8).

The mean attention W of an image is made doubly stochastic by Sinkhorn scaling, D = diag(r) W diag(c), and
symmetrised, A = (D + D^T) / 2. Neither D nor A is ever formed: A x = (r * W(c * x) + c * W^T(r * x)) / 2.

Axes: B images, P pairs of an image and a label, N = h * w patches, padded to the most of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.config import AffinityConfig, Boxes
from clipes.kernels import usable

from .gradcam import min_max_of


def refine_cams(
    cams: Tensor, attention: Tensor, pairs: Pairs, grids: Sequence[tuple[int, int]], config: AffinityConfig
) -> Tensor:
    """Spread each map along the attention affinity of its image, from inside the map's boxes (equation 8).

    Args:
        cams: (P, N) in [0, 1].
        attention: (B, N, N) mean patch-to-patch attention, non-negative, 0 on padding.
        pairs: which image a map belongs to.
        grids: (h, w) of each image; the first h * w of its N patches are no padding.

    Returns:
        (P, N) in [0, 1], min-max scaled, of the maps' dtype; all zero where no region is above the threshold.
    """
    # In float64: the affinity flattens maps, and the min-max scaling magnifies what rounding leaves of them.
    attention = attention.double()
    rows, columns = (factor[:, None] for factor in sinkhorn_scaling(attention, config.sinkhorn_rounds))
    refined = pairs.by_image((cams * _all_box_masks(cams, pairs, grids, config)).double())  # (B, C, N)
    for _ in range(config.steps):
        refined = _spread(refined, attention, rows, columns)
    patches = torch.tensor([h * w for h, w in grids]).to(cams.device)
    real = torch.arange(cams.shape[1], device=cams.device) < patches[pairs.image, None]
    return min_max_of(pairs.of_pairs(refined), real).to(cams)


def _spread(maps: Tensor, attention: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A x for maps x (B, C, N), by the attention (B, N, N) and its factors (B, 1, N)."""
    forward = rows * ((columns * maps) @ attention.mT)
    backward = columns * ((rows * maps) @ attention)
    return (forward + backward) / 2


def affinity_matrix(attention: Tensor, rounds: int) -> Tensor:
    """The affinity A (B, N, N) float64 of the attention (B, N, N), which :func:`refine_cams` applies and never forms.

    Symmetric; its rows sum to 1, about, after ``rounds`` of Sinkhorn scaling.
    """
    attention = attention.double()
    rows, columns = (factor[:, None] for factor in sinkhorn_scaling(attention, rounds))
    return _spread(torch.eye(attention.shape[-1]).to(attention), attention, rows, columns)


def sinkhorn_scaling(attention: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Row and column factors (B, N), (B, N) after ``rounds`` of dividing by column sums, then by row sums.

    The factor of a row or column that is all 0, as that of padding, is 0.
    """
    rows = attention.new_ones(attention.shape[:-1])
    columns = torch.ones_like(rows)
    for _ in range(rounds):
        columns = _inverse((attention.mT @ rows[..., None])[..., 0])
        rows = _inverse((attention @ columns[..., None])[..., 0])
    return rows, columns


def _inverse(sums: Tensor) -> Tensor:
    return torch.where(sums == 0, 0, 1 / sums)


def _all_box_masks(cams: Tensor, pairs: Pairs, grids: Sequence[tuple[int, int]], config: AffinityConfig) -> Tensor:
    """:func:`box_masks` of maps (P, N) of images of several grids, those of one grid together: (P, N)."""
    masks = torch.zeros_like(cams)
    for grid in set(grids):
        of_grid = torch.tensor([grids[image] == grid for image in pairs.owners], dtype=torch.bool).nonzero()[:, 0]
        of_grid, count = of_grid.to(cams.device), grid[0] * grid[1]
        found = box_masks(cams[of_grid, :count].reshape(-1, *grid), config.box_threshold, config.boxes)
        masks[of_grid, :count] = found.flatten(1)
    return masks


def box_masks(cams: Tensor, threshold: float, boxes: Boxes = "reference") -> Tensor:
    """Union of the bounding boxes of each map's 8-connected regions above ``threshold`` of its maximum.

    Takes maps (P, h, w) in [0, 1]; returns masks (P, h, w) of 0 and 1 in the maps' dtype. Maps are compared at
    256 levels, truncated. ``"reference"`` clips the boxes' exclusive ends to h - 1, w - 1 as the original code
    does, so the last row and column are never inside (where there is more than one); ``"full"`` keeps them.
    """
    masks = _boxes_of(_regions(above_threshold(cams, threshold))).to(cams)
    height, width = _covered(masks.shape[1], masks.shape[2], boxes)
    masks[:, height:] = 0
    masks[:, :, width:] = 0
    return masks


def region_boxes(cams: Tensor, threshold: float, boxes: Boxes = "reference") -> list[list[tuple[int, int, int, int]]]:
    """The boxes of which :func:`box_masks` makes the union, for each map: (top, left, bottom, right) in patches,
    bottom and right exclusive. Boxes that ``"reference"`` leaves without a patch are not among them.
    """
    height, width = _covered(cams.shape[1], cams.shape[2], boxes)
    found = []
    for ends in torch.stack(_ends(_regions(above_threshold(cams, threshold))), -1).tolist():
        clipped = [(top, left, min(bottom + 1, height), min(right + 1, width)) for top, bottom, left, right in ends]
        found.append([box for box in clipped if box[0] < box[2] and box[1] < box[3]])
    return found


def above_threshold(cams: Tensor, threshold: float) -> Tensor:
    """Which patches of maps (P, h, w) in [0, 1] are above ``threshold`` of the map's maximum, at 256 levels: bool."""
    levels = (cams * 255).to(torch.uint8)
    least = (threshold * levels.flatten(1).amax(1).double()).floor() if len(cams) else levels.new_zeros(0)
    return levels > least[:, None, None]


def _covered(height: int, width: int, boxes: Boxes) -> tuple[int, int]:
    """The rows and columns of a grid that boxes may cover."""
    if boxes == "full":
        return height, width
    # An axis of one patch is left alone: the original never met one, and would lose the whole map.
    return max(1, height - 1), max(1, width - 1)


def _regions(foreground: Tensor) -> Tensor:
    """Label the 8-connected regions of each (h, w) of (P, h, w) bool: int64 below h * w, equal within a region, -1
    outside. On a GPU nothing waits for the host.
    """
    if usable(foreground):
        from clipes.kernels.regions import label_regions

        return label_regions(foreground).long()
    maps, connected = foreground.cpu().numpy(), np.ones((3, 3))
    labels = [ndimage.label(one, structure=connected)[0].astype(np.int64) - 1 for one in maps]
    return torch.from_numpy(np.stack(labels)).to(foreground.device) if labels else foreground.long()


def _ends(regions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First and last row, first and last column (P, h * w) of the regions of each map, by label as :func:`_regions`
    gives it; a last row or column of -1 for labels that no region has.
    """
    maps, h, w = regions.shape
    flat, inside = regions.flatten(1), regions.flatten(1) >= 0
    ends = []
    for axis, most in ((0, h), (1, w)):
        place = (
            torch.arange(h * w, device=flat.device) // w if axis == 0 else torch.arange(h * w, device=flat.device) % w
        )
        place, label = place.expand(maps, -1), flat.clamp_min(0)
        first = torch.full_like(flat, most).scatter_reduce(1, label, torch.where(inside, place, most), "amin")
        last = torch.full_like(flat, -1).scatter_reduce(1, label, torch.where(inside, place, -1), "amax")
        ends += [first, last]
    top, bottom, left, right = ends
    return top, bottom, left, right


def _boxes_of(regions: Tensor) -> Tensor:
    """Which pixels lie in a region's bounding box: (P, h, w) bool, for labels as :func:`_regions` gives them."""
    maps, h, w = regions.shape
    top, bottom, left, right = _ends(regions)
    # Boxes that cover a pixel, as sums over those that begin above and left of it less those that end there.
    covers, there = regions.new_zeros(maps, (h + 1) * (w + 1)), (bottom >= 0).long()
    for row, column, sign in ((top, left, 1), (bottom + 1, left, -1), (top, right + 1, -1), (bottom + 1, right + 1, 1)):
        covers.scatter_add_(1, torch.where(there > 0, row * (w + 1) + column, 0), sign * there)
    return covers.reshape(maps, h + 1, w + 1).cumsum(1).cumsum(2)[:, :h, :w] > 0
