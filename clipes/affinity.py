"""Class-aware attention-based affinity, CAA (CLIP-ES section 3.4, equations 5-8).

The mean attention W of an image is made doubly stochastic by Sinkhorn scaling, D = diag(r) W diag(c), and
symmetrised, A = (D + D^T) / 2. Neither D nor A is ever formed: A x = (r * W(c * x) + c * W^T(r * x)) / 2.

Axes: B images, P pairs of an image and a label, N = h * w patches.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from clipes.cam import min_max
from clipes.config import AffinityConfig, Boxes
from clipes.pairs import by_image, slots


def refine_cams(
    cams: Tensor, attention: Tensor, image: Tensor, grid: tuple[int, int], config: AffinityConfig
) -> Tensor:
    """Spread each map along the attention affinity of its image, from inside the map's boxes (equation 8).

    Args:
        cams: (P, N) in [0, 1].
        attention: (B, N, N) mean patch-to-patch attention, non-negative.
        image: (P,) int64, which image a map belongs to.
        grid: (h, w) with h * w = N.

    Returns:
        (P, N) in [0, 1], min-max scaled, of the maps' dtype; all zero where no region is above the threshold.
    """
    # In float64: the affinity flattens maps, and the min-max scaling magnifies what rounding leaves of them.
    attention = attention.double()
    rows, columns = (factor[:, None] for factor in sinkhorn_scaling(attention, config.sinkhorn_rounds))
    masks = box_masks(cams.reshape(-1, *grid), config.box_threshold, config.boxes).flatten(1)
    slot = slots(image)
    refined = by_image((cams * masks).double(), image, slot, len(attention))  # (B, C, N)
    for _ in range(config.steps):
        forward = rows * ((columns * refined) @ attention.mT)
        backward = columns * ((rows * refined) @ attention)
        refined = (forward + backward) / 2
    return min_max(refined[image, slot]).to(cams)


def sinkhorn_scaling(attention: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Row and column factors (B, N), (B, N) after ``rounds`` of dividing by column sums, then by row sums."""
    rows = attention.new_ones(attention.shape[:-1])
    columns = torch.ones_like(rows)
    for _ in range(rounds):
        columns = 1 / (attention.mT @ rows[..., None])[..., 0]
        rows = 1 / (attention @ columns[..., None])[..., 0]
    return rows, columns


def box_masks(cams: Tensor, threshold: float, boxes: Boxes = "reference") -> Tensor:
    """Union of the bounding boxes of each map's 8-connected regions above ``threshold`` of its maximum.

    Takes maps (P, h, w) in [0, 1]; returns masks (P, h, w) of 0 and 1 in the maps' dtype. Maps are compared at
    256 levels, truncated. ``"reference"`` clips the boxes' exclusive ends to h - 1, w - 1 as the original code
    does, so the last row and column are never inside (where there is more than one); ``"full"`` keeps them.
    """
    levels = (cams * 255).to(torch.uint8).cpu().numpy()
    masks = np.stack([_box_mask(level, threshold, boxes) for level in levels]) if len(levels) else levels
    return torch.from_numpy(masks).to(cams)


def _box_mask(levels: NDArray[np.uint8], threshold: float, boxes: Boxes) -> NDArray[np.uint8]:
    regions, _ = ndimage.label(levels > int(threshold * levels.max()), structure=np.ones((3, 3)))
    mask = np.zeros_like(levels)
    for box in ndimage.find_objects(regions):
        mask[box] = 1
    if boxes == "reference":
        # An axis of one patch is left alone: the original never met one, and would lose the whole map.
        mask[max(1, len(mask) - 1) :] = 0
        mask[:, max(1, mask.shape[1] - 1) :] = 0
    return mask
