"""Min-max scaling of maps, as the code of CLIP-ES does it."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_min_max(maps: Tensor, patch_mask: Tensor) -> Tensor:
    """:func:`min_max` of maps (P, N) over the patches where ``patch_mask`` (P, N) is True; the others become 0.

    The first patch of each map must be in the mask.
    """
    return min_max(torch.where(patch_mask, maps, maps[:, :1])) * patch_mask


def min_max(maps: Tensor) -> Tensor:
    """Scale each map (..., N) to [0, 1] as the original code does: ``(x - min) / (1e-7 + max(x - min))``."""
    shifted = maps - maps.amin(-1, keepdim=True)
    return shifted / (1e-7 + shifted.amax(-1, keepdim=True))
