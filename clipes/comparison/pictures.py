"""The pictures that a comparison's page shows: those on which the presets agree least, each as small JPEG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray
from PIL import Image

from clipes.report.lowest import Lowest
from clipes.report.single import data_uri
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
        self._classes = classes
        self._lowest: Lowest[Shown] = Lowest(limit)

    def offer(
        self,
        order: float,
        picture: Picture,
        image: Image.Image,
        truth: NDArray[Any] | None,
        masks: Sequence[NDArray[Any]],
    ) -> None:
        """Keep the picture if it is among the lowest so far; only then its tiles are drawn."""

        def draw() -> Shown:
            layers = ([] if truth is None else [truth]) + list(masks)
            size = fitted(image.width, image.height, SIDE)
            tile = image.resize(size, Image.Resampling.LANCZOS)
            tiles = [tile, *(overlay_tile(image, tile, ids, self._classes) for ids in layers)]
            return Shown(picture, size[0] / size[1], [data_uri(tile) for tile in tiles])

        self._lowest.offer(order, draw)

    def lowest_first(self) -> list[Shown]:
        """The pictures that were kept."""
        return self._lowest.lowest_first()
