"""Refinement of scores by the colours of the picture: dense CRF and pixel-adaptive refinement.

Arrays in, arrays out: nothing here knows CLIP, labels or files. The affinity is not here: it propagates maps
between patches, see :mod:`clipes.cams`."""

from .crf import dense_crf
from .par import pixel_adaptive_refinement

__all__ = ["dense_crf", "pixel_adaptive_refinement"]
