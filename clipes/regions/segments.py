"""The parts of a mask as a result gives them: one for each label, or for each instance of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.io.coco_rle import coco_rle

from .instances import Instances


class Segment(NamedTuple):
    """The pixels that a label won, or an instance of them.

    Attributes:
        label: the class name.
        confidence: the mean of ``map_confidence`` over those pixels, in [0, 1].
        mask: (H, W) bool, those pixels.
        class_id: the label's id in the mask, 1..K.
    """

    label: str
    confidence: float
    mask: NDArray[np.bool_]
    class_id: int

    def __repr__(self) -> str:
        return f"Segment({self.label!r}: {self.area} pixels, confidence {self.confidence:.2f})"

    @property
    def area(self) -> int:
        """The number of its pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """The box around its pixels as COCO has it: (left, top, width, height) in pixels."""
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        left, top = int(columns[0]), int(rows[0])
        return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1

    @property
    def rle(self) -> dict[str, Any]:
        """Its mask as COCO's RLE, which JSON can hold: ``{"size": [H, W], "counts": text}``."""
        return coco_rle(self.mask)


def segments_of(
    mask: NDArray[Any],
    labels: Sequence[str],
    class_ids: Sequence[int],
    confidence: NDArray[np.float32],
    found: Instances | None = None,
) -> list[Segment]:
    """The segment of each label that has a pixel of ``mask``, in the labels' order, or of each of its instances.

    ``class_ids`` are the labels' ids, ``confidence`` (H, W) is that of a segment's pixels; ``found`` are the mask's
    instances.
    """
    parts: list[tuple[str, int, NDArray[np.bool_]]] = []
    for label, index in zip(labels, class_ids, strict=True):
        if found is None:
            parts.append((label, index, mask == index))
        else:
            numbers = np.flatnonzero(found.class_ids == index) + 1
            parts += [(label, index, found.ids == number) for number in numbers]
    return [
        Segment(label, float(confidence[pixels].mean(dtype=np.float64)), pixels, index)
        for label, index, pixels in parts
        if pixels.any()
    ]
