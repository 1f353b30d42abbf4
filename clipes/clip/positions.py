"""Positional embeddings at another size than their own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.config import Positions


def resample_positions(
    embedding: Tensor, native: tuple[int, int], grid: tuple[int, int], method: Positions = "bilinear"
) -> Tensor:
    """Positional embeddings (R + g * k, D) of a ``native`` grid (g, k) for another one: (R + h * w, D).

    The rows of the R tokens before the patches are kept. ``"bilinear"`` has half-pixel centres and no antialiasing, as
    in CLIP-ES; ``"bicubic"`` samples at steps of g / (n + 0.1), as SCLIP, ClearCLIP and NACLIP do; ``"antialiased"`` is
    the bicubic, antialiased resize of open_clip and timm.
    """
    if native == grid:
        return embedding
    prefix = len(embedding) - native[0] * native[1]
    own = embedding[prefix:].T.reshape(1, -1, *native)
    own = own.to(torch.promote_types(own.dtype, torch.float32))
    if method == "bilinear":
        resampled = F.interpolate(own, grid, mode="bilinear", align_corners=False)
    elif method == "antialiased":
        resampled = F.interpolate(own, grid, mode="bicubic", align_corners=False, antialias=True)
    else:
        factors = tuple((length + 0.1) / side for length, side in zip(grid, native, strict=True))
        resampled = F.interpolate(own, scale_factor=factors, mode="bicubic", align_corners=False)
    return torch.cat([embedding[:prefix], resampled.flatten(2)[0].T.to(embedding.dtype)])
