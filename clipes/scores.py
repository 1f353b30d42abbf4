"""From class activation maps to scores, decisions and confidence (CLIP-ES section 3.4).

Axes: C labels of one image, H x W pixels, (h, w) patches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (C, h, w) to the image's ``size`` (H, W), bilinearly with half-pixel centres, like OpenCV."""
    if not len(maps):
        return maps.new_zeros((0, *size))
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def score_maps(cams: Tensor, background_power: float = 1.0) -> Tensor:
    """Scores (C + 1, H, W) from maps (C, H, W) in [0, 1]: row 0 is the background; each pixel's scores sum to 1.

    Before the division by the sum, the background's score is ``(1 - max_c cam_c) ** background_power``. The division
    changes neither the class of the highest score nor, apart from the clipping of scores, the mean field of a CRF.
    """
    strongest = cams.amax(0) if len(cams) else cams.new_zeros(cams.shape[1:])
    return _shares((1 - strongest).clamp(min=0).pow(background_power), cams)


def score_maps_constant(cams: Tensor, background: float) -> Tensor:
    """Scores (C + 1, H, W) as :func:`score_maps` gives, the background's score being the same at every pixel."""
    return _shares(cams.new_full(cams.shape[1:], background), cams)


def _shares(background: Tensor, cams: Tensor) -> Tensor:
    scores = torch.cat([background[None], cams])
    return scores / scores.sum(0)


def ids_of_rows(rows: Tensor, class_ids: Tensor) -> Tensor:
    """The ids (H, W) int64 of rows (H, W) of scores: 0 for row 0, the background, else the label's of ``class_ids``."""
    return F.pad(class_ids, (1, 0))[rows]


def score_of_rows(scores: Tensor, rows: Tensor) -> Tensor:
    """The scores (H, W) that ``rows`` (H, W) int64 pick of (C + 1, H, W)."""
    return scores.gather(0, rows[None])[0]
