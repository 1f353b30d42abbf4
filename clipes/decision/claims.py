"""Labels by thresholds of each map: of other methods' code, for maps that no refinement needs."""

from __future__ import annotations

import torch
from torch import Tensor


def label_with_band(
    maps: Tensor, threshold: float, band: tuple[float, float] | None = None, ignore: int = 255
) -> Tensor:
    """Rows (H, W) int64 of the highest maps (C, H, W): 1..C, and 0 where the highest is not above ``threshold``.

    With ``band=(low, high)`` only the band counts: 0 where the highest is not above low, and ``ignore`` where it is but
    is not above high (Ru et al., AFA, CVPR 2022; rulixiang/afa, ``cam_to_label``). Maps of classes that the image does
    not have are left out before.
    """
    highest, row = maps.max(0)
    row = row + 1
    if band is None:
        return row.masked_fill(highest <= threshold, 0)
    low, high = band
    return row.masked_fill(highest <= high, ignore).masked_fill(highest <= low, 0)


def claims(scores: Tensor, class_share: float, background_share: float, least: float, ignore: int = 255) -> Tensor:
    """Rows (H, W) int64 that alone claim a pixel; ``ignore`` where none does, or several do.

    Takes scores (C + 1, H, W), row 0 the background. A row claims the pixels above ``class_share`` of its highest
    score, the background those above ``background_share``, and all above ``least`` only (Araslanov & Roth, CVPR 2020,
    section 4.3; visinf/1-stage-wseg, ``pseudo_gtmask``: 0.6, 0.7 and 0.2).
    """
    share = torch.full_like(scores[:, :1, :1], class_share)
    share[0] = background_share
    claimed = scores > (scores.amax((1, 2), keepdim=True) * share).clamp(min=least)
    return claimed.int().argmax(0).masked_fill(claimed.sum(0) != 1, ignore)
