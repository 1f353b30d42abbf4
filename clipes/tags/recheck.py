"""TagCLIP's second look: the region of a class is cut out and shown to CLIP again (CWR in its code).

Axes: N = h * w patches, K classes, M background words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.cams.scaling import min_max
from clipes.clip.visible import visible_features
from clipes.clip.vision import VisionEncoder
from clipes.config import Positions, TagClipConfig

from .dense_scores import all_shares

_CROPS = 16
"""Crops that are encoded together."""

_OF_MAXIMUM = 0.5
"""A class's region is where its min-max scaled scores are above it."""


class Region(NamedTuple):
    """What is shown of a class: the box (top, left, bottom, right) in patches, ends exclusive, and the patches of the
    crop (g, k) bool that the class token may see.
    """

    label: int
    box: tuple[int, int, int, int]
    visible: Tensor


def rechecked(
    vision: VisionEncoder,
    pixels: Tensor,
    dense: Tensor,
    text: Tensor,
    num_classes: int,
    config: TagClipConfig,
    positions: Positions = "bilinear",
) -> Tensor:
    """The scores (K,) of one image: the highest of its patches', and for the best classes its mean with a second look.

    Args:
        vision: the encoder.
        pixels: (3, h * p, w * p), what ``dense`` was made from.
        dense: (N, K + M), the scores of the patches.
        text: unit text features (K + M, V, E).
        num_classes: K.
        config: the settings; without ``recheck`` no class is looked at again.
        positions: as in :meth:`clipes.clip.vision.VisionEncoder.encode`.
    """
    scores = dense[:, :num_classes].amax(0)
    if config.recheck is None:
        return scores
    height, width = (size // vision.patch_size for size in pixels.shape[1:])
    found = list(regions(dense, (height, width), num_classes, vision.native_grid, config))
    for start in range(0, len(found), _CROPS):
        part = found[start : start + _CROPS]
        crops = torch.cat([_crop(pixels, region.box, vision.patch_size, vision.native_grid) for region in part])
        visible = torch.stack([region.visible.flatten() for region in part])
        shares = all_shares(visible_features(vision, crops, visible, positions), text, vision.head.logit_scale)
        labels = torch.tensor([region.label for region in part], device=scores.device)
        again = shares.to(scores.dtype)[torch.arange(len(part), device=scores.device), labels]
        scores[labels] = (scores[labels] + again) / 2
    return scores


def regions(
    dense: Tensor, grid: tuple[int, int], num_classes: int, shown: tuple[int, int], config: TagClipConfig
) -> Iterator[Region]:
    """What is shown of each class whose best patch is above the threshold, in the order of the classes.

    The threshold is ``min + recheck (max - min)`` of the scores (N, K + M) that ``config.recheck_over`` names.
    """
    ranged = dense if config.recheck_over == "all" else dense[:, :num_classes].amax(0)
    least, most = ranged.amin(), ranged.amax()
    above = dense[:, :num_classes].amax(0) > least + (config.recheck or 0) * (most - least)
    rows, columns = (max(1, length - 1) if config.boxes == "paper" else length for length in grid)
    for label in above.nonzero()[:, 0].tolist():
        region = min_max(dense[:, label]).reshape(grid) > _OF_MAXIMUM
        top, left, bottom, right = _bounds(region)
        bottom, right = min(bottom, rows), min(right, columns)
        if top >= bottom or left >= right:
            if config.stop_at_empty:
                return
            continue
        inside = region[top:bottom, left:right].float()[None, None]
        visible = F.interpolate(inside, shown, mode="nearest")[0, 0] > 0
        yield Region(label, (top, left, bottom, right), visible)


def _bounds(region: Tensor) -> tuple[int, int, int, int]:
    """The box of all True patches (h, w); empty where there is none."""
    if not region.any():
        return 0, 0, 0, 0
    rows, columns = (region.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def _crop(pixels: Tensor, box: tuple[int, int, int, int], patch: int, grid: tuple[int, int]) -> Tensor:
    """The pixels of a box of patches at the model's own size: (1, 3, g * p, k * p)."""
    top, left, bottom, right = (patch * place for place in box)
    size = (grid[0] * patch, grid[1] * patch)
    return F.interpolate(pixels[None, :, top:bottom, left:right], size, mode="bilinear", align_corners=False)
