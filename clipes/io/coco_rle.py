"""Run-length encoding of COCO, as pycocotools reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def coco_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The RLE of a bool mask (H, W): ``{"size": [H, W], "counts": text}``, which JSON can hold.

    The runs go down the columns and begin with the zeros. Each run from the fourth on is given as its difference from
    the run two before; numbers are written in groups of 5 bits, as characters from ``0`` on (``rleToString`` of
    pycocotools).

    >>> coco_rle(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': '13'}
    """
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    ends = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]) if flat.size else flat)
    runs = np.diff(ends, prepend=0)
    runs[3:] -= runs[1:-2].copy()
    return {"size": list(mask.shape), "counts": "".join(map(_text, runs.tolist()))}


def _text(number: int) -> str:
    """A number in groups of 5 bits, the lowest first; the sixth bit of a character says that there are more."""
    characters = []
    while True:
        bits, number = number & 31, number >> 5
        more = number != (-1 if bits & 16 else 0)
        characters.append(chr(48 + bits + 32 * more))
        if not more:
            return "".join(characters)
