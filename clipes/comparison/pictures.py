"""The pictures that a comparison's page shows: those on which the presets agree least, each as small JPEG files."""

from __future__ import annotations

import base64
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

from numpy.typing import NDArray
from PIL import Image

from clipes.report.thumbnails import fitted, overlay_tile

SIDE = 400
"""The longer side of a picture on the page, in pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture on the page.

    Attributes:
        id: its name.
        labels, class_ids: its classes.
        agreement: of the presets on it, the mean over all pairs; None for one preset.
        miou: of each preset's mask; empty without truth.
    """

    id: str
    labels: tuple[str, ...]
    class_ids: tuple[int, ...]
    agreement: float | None
    miou: Sequence[float]


class Shown(NamedTuple):
    """A picture with its tiles as data URIs: the picture, the truth if there is any, each preset's overlay."""

    picture: Picture
    ratio: float
    tiles: list[str]


class Pictures:
    """Keeps at most ``limit`` pictures, those that were offered with the lowest order; of equals the first."""

    def __init__(self, limit: int, classes: int) -> None:
        self._limit, self._classes, self._offered = limit, classes, 0
        self._heap: list[tuple[float, int, Shown]] = []

    def offer(
        self,
        order: float,
        picture: Picture,
        image: Image.Image,
        truth: NDArray[Any] | None,
        masks: Sequence[NDArray[Any]],
    ) -> None:
        """Keep the picture if it is among the lowest so far; only then its tiles are drawn."""
        key = (-order, -self._offered)
        self._offered += 1
        if self._limit == 0 or (len(self._heap) == self._limit and key < self._heap[0][:2]):
            return
        layers = ([] if truth is None else [truth]) + list(masks)
        size = fitted(image.width, image.height, SIDE)
        tile = image.resize(size, Image.Resampling.LANCZOS)
        tiles = [tile, *(overlay_tile(image, tile, ids, self._classes) for ids in layers)]
        shown = Shown(picture, size[0] / size[1], [_data_uri(tile) for tile in tiles])
        if len(self._heap) == self._limit:
            heapq.heapreplace(self._heap, (*key, shown))
        else:
            heapq.heappush(self._heap, (*key, shown))

    def lowest_first(self) -> list[Shown]:
        """The pictures that were kept."""
        return [shown for *_, shown in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def _data_uri(picture: Image.Image) -> str:
    file = BytesIO()
    picture.save(file, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
