"""Checks of the public refinements' arguments: a picture and the scores of its labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_picture(image: Any) -> NDArray[np.uint8]:
    """The picture as an array (H, W, 3); TypeError if it is not uint8, ValueError for another shape."""
    picture: NDArray[np.uint8] = np.asarray(image)
    if picture.dtype != np.uint8:
        raise TypeError(f"image holds {picture.dtype}, not uint8; pass an RGB picture with values 0..255")
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ValueError(f"image is {picture.shape}, not (H, W, 3); pass an RGB picture, such as image.convert('RGB')")
    return picture


def check_scores(scores: Any, size: tuple[int, ...]) -> NDArray[np.float32]:
    """The scores as a float32 array (C + 1, H, W) of ``size`` = (H, W).

    Raises as :func:`check_rows`, and ValueError for a pixel at which all are 0.
    """
    single = check_rows(scores, size)
    empty = ~(single > 0).any(0)
    if empty.any():
        row, column = np.argwhere(empty)[0]
        raise ValueError(f"scores are all 0 at row {row}, column {column}; every pixel needs one above 0")
    return single


def check_rows(scores: Any, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Scores (R, H, W) of ``size`` = (H, W), of which all may be 0 at a pixel, as a float32 array.

    Raises TypeError if they are not floats; ValueError for another shape, and scores that are negative or not finite.
    """
    scores = np.asarray(scores)
    if scores.dtype.kind != "f":
        raise TypeError(f"scores hold {scores.dtype}, not floats; pass shares in [0, 1], such as PseudoMask.scores")
    if scores.ndim != 3 or len(scores) == 0:
        raise ValueError(f"scores are {scores.shape}, not (C + 1, H, W); row 0 is the background")
    if scores.shape[1:] != size:
        raise ValueError(f"scores have {scores.shape[1:]} pixels, the image {size}; resize the scores to the image")
    with np.errstate(over="ignore"):
        single: NDArray[np.float32] = scores.astype(np.float32, order="C")
    wrong = ~np.isfinite(single) | (single < 0)
    if wrong.any():
        raise ValueError(f"scores hold {scores[wrong][0]}; they must be shares in [0, 1]")
    return single
