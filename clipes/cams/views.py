"""Maps of several views of a picture, its scales and mirror images, as maps of the picture.

Views are fused before they are scaled, as in all the published codes: a view in which a class is weak counts less.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .scaling import min_max

FlipRule = Literal["sum", "max"]


def resize_maps(maps: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Bilinear, without antialiasing: (C, h, w) to (C, *size). Pixels' centres are aligned, or the corners'."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=align_corners)[0]


def fuse_views(
    views: Sequence[tuple[Tensor, ...]],
    size: tuple[int, int],
    flips: FlipRule = "sum",
    padded: tuple[int, int] | None = None,
) -> Tensor:
    """The sum over the scales of a picture's maps.

    Args:
        views: for each scale the maps (C, h, w); or these and the maps (C, h, w) of the mirrored picture, mirrored.
        size: (H, W) of the result.
        flips: how the two of a scale are joined: ``"sum"`` (MCTformer, SEAM, PSA, IRN) or ``"max"`` (AFA).
        padded: the size that maps are resized to before they are cut to ``size`` (IRN: rounded up to 16); ``size`` if
            None.

    Returns:
        (C, H, W), not scaled.
    """
    join = torch.add if flips == "sum" else torch.maximum
    total = None
    for maps, *mirrored in views:
        resized = [resize_maps(one, padded or size) for one in (maps, *(view.flip(-1) for view in mirrored))]
        scale = reduce(join, resized)
        total = scale if total is None else total + scale
    if total is None:
        raise ValueError("no views to fuse; give the maps of one scale at least")
    return total[..., : size[0], : size[1]]


def scale_min_max(maps: Tensor, epsilon: float) -> Tensor:
    """Each map (C, H, W) to [0, 1] by its range: ``(x - min) / (max - min + epsilon)`` (MCTformer: 1e-8, AFA: 1e-5)."""
    return min_max(maps.flatten(1), epsilon).reshape(maps.shape)


def scale_max(maps: Tensor, epsilon: float) -> Tensor:
    """Each map (C, H, W) by its maximum: ``x / (max + epsilon)`` (PSA, IRN: 1e-5)."""
    return maps / (maps.amax((1, 2), keepdim=True) + epsilon)


def scale_above_min(maps: Tensor, epsilon: float) -> Tensor:
    """Each map (C, H, W) as SEAM does it, with 1e-5: negative values and values below min + epsilon become 0, then
    ``(x - min - epsilon) / (max - min + epsilon)``. The result is slightly below 0 in places.
    """
    maps = maps.clamp_min(0)
    least, most = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    maps = torch.where(maps < least + epsilon, 0, maps)
    return (maps - least - epsilon) / (most - least + epsilon)
