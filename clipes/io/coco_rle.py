"""Run-length encoding of COCO, as pycocotools reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .images import MAX_PIXELS


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


def decode_rle(rle: Any, name: str = "RLE") -> NDArray[np.bool_]:
    """The mask (H, W) of COCO's RLE, whose ``counts`` are a text, bytes, or a list of runs.

    ValueError, beginning with ``name``, for anything else, and for runs that do not fill the size.

    >>> decode_rle({"size": [2, 2], "counts": [1, 1, 0, 2]}).tolist()
    [[False, True], [True, True]]
    """
    if not isinstance(rle, Mapping) or not {"size", "counts"} <= set(rle):
        raise ValueError(f"{name}: no RLE, which is {{'size': [H, W], 'counts': ...}}")
    size, counts = rle["size"], rle["counts"]
    whole = isinstance(size, list | tuple) and len(size) == 2 and all(type(side) is int for side in size)
    if not whole or min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{name}: the size of an RLE is [H, W] in pixels, at most {MAX_PIXELS} of them, not {size!r}")
    runs = _runs(counts, name)
    if any(run < 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError(f"{name}: the runs of an RLE must fill {size[0]} x {size[1]} pixels, and do not; it is broken")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size, order="F")


def _runs(counts: object, name: str) -> list[int]:
    if isinstance(counts, list | tuple):
        if not all(type(run) is int for run in counts):
            raise ValueError(f"{name}: the counts of an RLE are whole numbers, or a text")
        return list(counts)
    if isinstance(counts, str | bytes):
        codes = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
        return _numbers(codes, name)
    raise ValueError(f"{name}: the counts of an RLE are a text or a list, not {type(counts).__name__}")


def _numbers(codes: bytes, name: str) -> list[int]:
    """The runs of a text, the inverse of :func:`coco_rle`: from the fourth on as differences to that two before."""
    runs: list[int] = []
    number = shift = 0
    for code in codes:
        bits = code - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"{name}: the counts of an RLE hold {chr(code)!r}, which COCO's have not; it is broken")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= bool(bits & 16) << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError(f"{name}: the counts of an RLE end within a number; it is broken")
    return runs
