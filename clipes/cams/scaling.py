"""Min-max scaling of maps, as the code of CLIP-ES does it."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_min_max(maps: Tensor, patch_mask: Tensor, epsilon: float = 1e-7) -> Tensor:
    """:func:`min_max` of maps (..., N) over the patches where ``patch_mask`` (..., N) is True; the others become 0.

    The first patch of each map must be in the mask.
    """
    return min_max(torch.where(patch_mask, maps, maps[..., :1]), epsilon) * patch_mask


def min_max(maps: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Scale each map (..., N) to [0, 1] as the original code does: ``(x - min) / (epsilon + max(x - min))``."""
    shifted = maps - maps.amin(-1, keepdim=True)
    return shifted / (epsilon + shifted.amax(-1, keepdim=True))
