"""Whether a mask fits the labels of its image: rules for masks that are not to be trusted.

From the label refinement of I2CRC (Chen et al., "Saliency Guided Inter- and Intra-Class Relation Constraints for Weakly
Supervised Semantic Segmentation", 2022; NUST-Machine-Intelligence-Laboratory/I2CRC, ``label_refinement.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_FOREGROUND = 0.01
"""A mask of a smaller share of foreground is not to be trusted."""


def foreground_share(mask: NDArray[Any], ignore: int = 255) -> float:
    """The share of all pixels of a mask (H, W) that show a class: neither 0 nor ``ignore``."""
    return float(np.count_nonzero((mask > 0) & (mask != ignore)) / mask.size)


def missing_ids(mask: NDArray[Any], class_ids: Sequence[int]) -> list[int]:
    """Those of an image's ``class_ids`` that no pixel of its mask (H, W) has, in their order."""
    shown = set(np.unique(mask).tolist())
    return [index for index in class_ids if index not in shown]


def trusted_mask(
    mask: NDArray[Any],
    class_ids: Sequence[int],
    older: NDArray[Any] | None = None,
    least_foreground: float = LEAST_FOREGROUND,
    ignore: int = 255,
) -> NDArray[Any]:
    """A copy of a mask (H, W) with ``ignore`` where it is not to be trusted, given the image's labels.

    In this order, as in I2CRC:

    1. ids that are not in ``class_ids`` are ignored;
    2. of an image with several labels, background becomes what an ``older`` mask (H, W) of it has there;
    3. if a label has no pixel, all background is ignored: the label's thing may be there;
    4. if less than ``least_foreground`` of all pixels show a class, all pixels are ignored.

    Raises ValueError for an older mask of another size.

    >>> mask = np.array([[0, 0, 2, 9]], np.uint8)
    >>> trusted_mask(mask, [2]).tolist(), trusted_mask(mask, [2, 3]).tolist()
    ([[0, 0, 2, 255]], [[255, 255, 2, 255]])
    """
    trusted = np.where((mask == 0) | np.isin(mask, class_ids), mask, ignore).astype(mask.dtype)
    if older is not None:
        if older.shape != mask.shape:
            raise ValueError(f"the older mask is {older.shape}, the mask {mask.shape}; give masks of one image")
        if len(set(class_ids)) >= 2:
            trusted = np.where(trusted == 0, older, trusted).astype(mask.dtype)
    if missing_ids(trusted, class_ids):
        trusted[trusted == 0] = ignore
    if foreground_share(trusted, ignore) < least_foreground:
        trusted[:] = ignore
    return trusted
