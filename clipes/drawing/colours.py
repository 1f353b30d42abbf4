"""The colours of classes: those of a mask file's palette, and those of an overlay."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipes.ids import voc_palette

IGNORED = 255
"""The palette index of ignored pixels, for any number of classes."""

_CLEAR = (
    "1e90ff ff8c1a 22c55e f032e6 ffd60a e8353c 22d3ee 8b5cf6 a3e635 0d9488 "
    "3f3fdc b45309 c4a5ff 4d8b2a ff7eb0 86efac b4a500 c026d3 ffb59e d6247a"
)
_SHADES = ((0.0, 0), (0.4, 0), (0.5, 255), (0.6, 0), (0.25, 255))
"""Share and grey value of what is mixed into the colours, for each further round of them."""


def palette_index(ids: Any) -> Any:
    """The palette indices of class ids; ids beyond 254 wrap around."""
    return np.where(ids > 254, ids % 254 + 1, ids)


def colours_of(class_ids: ArrayLike) -> NDArray[np.uint8]:
    """The file palette's colours of class ids, with 3 channels as a last axis."""
    colours: NDArray[np.uint8] = voc_palette()[palette_index(np.asarray(class_ids, dtype=np.int64))]
    return colours


@lru_cache(maxsize=1)
def clear_palette() -> NDArray[np.uint8]:
    """The colours of an overlay, (256, 3) uint8 RGB, at the indices of the file's palette; they cannot be written to.

    The file's palette gives many classes dark or similar colours. Here the 20 colours of 1..20 are vivid and far from
    each other (at least 0.08 in Oklab, the first eight 0.14); 21..100 are their shades, and the rest repeats these.
    A class has one colour in every picture. 0 is black, 255 grey.

    >>> clear_palette()[[0, 1, 2, 255]].tolist()
    [[0, 0, 0], [30, 144, 255], [255, 140, 26], [128, 128, 128]]
    """
    base = np.frombuffer(bytes.fromhex(_CLEAR), np.uint8).reshape(-1, 3).astype(float)
    rounds = np.concatenate([(1 - share) * base + share * grey for share, grey in _SHADES])
    palette = np.resize(rounds.round(), (256, 3)).astype(np.uint8)
    palette[1:] = palette[:-1].copy()
    palette[0], palette[IGNORED] = 0, 128
    palette.flags.writeable = False
    return palette
