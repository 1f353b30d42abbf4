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
    scores = torch.cat([(1 - strongest).clamp(min=0).pow(background_power)[None], cams])
    return scores / scores.sum(0)


def decide(scores: Tensor, class_ids: Tensor, ignore: int, ignore_below: float | None) -> tuple[Tensor, Tensor]:
    """The class id and the score of the highest-scoring class at every pixel.

    Takes scores (C + 1, H, W), background first, and the labels' ids (C,) int64. Returns the ids (H, W) int64 and the
    highest scores (H, W). An id is 0 for the background, and ``ignore`` where the score is below ``ignore_below``. If
    scores are equal, the first class is taken.
    """
    confidence, winner = scores.max(0)
    ids = F.pad(class_ids, (1, 0))[winner]
    if ignore_below is not None:
        ids = ids.masked_fill(confidence < ignore_below, ignore)
    return ids, confidence


def score_before(cams: Tensor, refined: Tensor, background_power: float = 1.0) -> Tensor:
    """The score (H, W) that maps (C, H, W) give, before any refinement, to the winners of ``refined`` (C + 1, H, W)."""
    return score_maps(cams, background_power).gather(0, refined.argmax(0, keepdim=True))[0]
