"""Refinement of scores by the colours of the picture: dense CRF and two pixel-adaptive refinements.

Arrays in, arrays out: nothing here knows CLIP, labels or files. The affinity is not here: it propagates maps
between patches, see :mod:`clipes.cams`."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from clipes.config import CrfConfig, PamrConfig, ParConfig

from .crf import dense_crf, refine_crf
from .pamr import pixel_adaptive_mask_refinement, refine_pamr
from .par import pixel_adaptive_refinement, refine_par

__all__ = ["REFINERS", "Refine", "dense_crf", "pixel_adaptive_mask_refinement", "pixel_adaptive_refinement"]

Refine = Callable[[Sequence[Tensor], Sequence[Tensor], Any], list[Tensor]]

REFINERS: dict[type, Refine] = {CrfConfig: refine_crf, ParConfig: refine_par, PamrConfig: refine_pamr}
"""The function of each refinement's settings.

All take pictures (H, W, 3) uint8, their scores (C + 1, H, W) float32 on one device, and the settings, and return
refined scores.
"""
