"""The pictures of a report: for each image a strip of thumbnails, a large picture, and what is laid over that."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.drawing.overlay import SMALL, draw_overlay, palette_index
from clipes.ids import ignore_index, voc_palette
from clipes.io.images import TarMember, open_image
from clipes.io.masks import check_size

LARGEST = 800
"""The longest side of a large picture; smaller images keep their size."""

FLATTEST = 2.0
"""A thumbnail is at most this much wider than high, or higher than wide; the rest of it stays grey."""

_GREY = (128, 128, 128)
_STRIPE = 4
_HEAT = "081d58 253494 225ea8 1d91c0 41b6c4 7fcdbb c7e9b4 edf8b1 ffffd9"  # ColorBrewer's YlGnBu


def open_reduced(place: Path | TarMember, size: tuple[int, int]) -> Image.Image:
    """The image at ``place`` as :func:`clipes.io.images.open_image` gives it, a large JPEG already made smaller.

    Raises ImageError where it is not of ``size`` (H, W), that of its mask, and as that does.
    """
    image, (width, height) = _drafted(place) or _whole(place)
    check_size((height, width), place, size, "its mask")
    return image


def draw_thumbnails(
    stem: Path,
    image: Image.Image,
    ids: NDArray[Any],
    confidence: NDArray[np.uint8] | None,
    truth: NDArray[Any] | None,
    classes: int,
    panels: int,
) -> None:
    """Write ``STEM-strip.jpg`` (picture, overlay, then confidence and truth, ``panels`` in all), ``-large.jpg``,
    ``-mask.png`` and, where there are such, ``-confidence.jpg`` and ``-truth.png``, all three to lie over the large
    picture.

    ``image`` may be smaller than the mask ``ids`` (H, W), but has its shape.
    """
    height, width = ids.shape
    size = _fitted(width, height, min(LARGEST, max(width, height)))
    image.resize(size, Image.Resampling.LANCZOS).save(f"{stem}-large.jpg", quality=85)
    _tinted(sampled(ids, size), classes).save(f"{stem}-mask.png", transparency=0)
    small = _fitted(width, height, SMALL)
    picture = image.resize(small, Image.Resampling.LANCZOS)
    shown = [picture, _overlay(picture, sampled(ids, small), classes)]
    if confidence is not None:
        grey = Image.fromarray(confidence)
        _heat(grey.resize(size, Image.Resampling.BILINEAR)).save(f"{stem}-confidence.jpg", quality=80)
        shown.append(_heat(grey.resize(small, Image.Resampling.BOX)))
    if truth is not None:
        _tinted(sampled(truth, size), classes).save(f"{stem}-truth.png", transparency=0)
        shown.append(_overlay(picture, sampled(truth, small), classes))
    _strip(shown, panels).save(f"{stem}-strip.jpg", quality=80)


def sampled(ids: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The ids (H, W) at ``size`` (width, height): those nearest to each pixel's centre.

    >>> sampled(np.array([[1, 2, 3, 4]]), (2, 1))
    array([[2, 4]])
    """
    height, width = ids.shape[0], ids.shape[1]
    columns, rows = size
    down = (2 * np.arange(rows) + 1) * height // (2 * rows)
    right = (2 * np.arange(columns) + 1) * width // (2 * columns)
    found: NDArray[Any] = ids[down].take(right, axis=1)
    return found


def _whole(place: Path | TarMember) -> tuple[Image.Image, tuple[int, int]]:
    """The image and its size (width, height)."""
    image = open_image(place)
    return image, image.size


def _drafted(place: Path | TarMember) -> tuple[Image.Image, tuple[int, int]] | None:
    """A JPEG decoded at a half, a quarter or an eighth, and its full size; None for all else."""
    if isinstance(place, Path) and not place.is_file():  # a named pipe would wait for ever
        return None
    try:
        file = BytesIO(place.read()) if isinstance(place, TarMember) else place
        with Image.open(file, formats=("JPEG",)) as opened:
            width, height = opened.size
            opened.draft("RGB", (LARGEST, LARGEST))
            drafted = opened.size
            image = open_image(opened)
    except Exception:  # whatever is wrong with the file is told when it is opened as a whole
        return None
    if drafted[0] == drafted[1] and width != height:  # nothing tells whether it lay on its side
        return None
    return image, (width, height) if image.size == drafted else (height, width)  # upright by its EXIF


def _fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size with this longest side, of the same shape as far as whole pixels allow."""
    scale = longest / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _overlay(picture: Image.Image, ids: NDArray[Any], classes: int) -> Image.Image:
    """The picture with its mask: :func:`clipes.drawing.overlay.draw_overlay` without the legend below it."""
    return draw_overlay(picture, ids, (), (), classes).crop((0, 0, *picture.size))


def _tinted(ids: NDArray[Any], classes: int) -> Image.Image:
    """The mask in its palette, to be saved with place 0 transparent; what is ignored is striped."""
    places = palette_index(ids).astype(np.uint8)
    down, right = np.nonzero(ids == ignore_index(classes))
    places[down, right] = np.where((down + right) // _STRIPE % 2, 255, 0)
    tinted = Image.fromarray(places)
    tinted.putpalette(voc_palette().tobytes())
    return tinted


def _heat(grey: Image.Image) -> Image.Image:
    """Levels 0..255 as colours that grow lighter: what is sure stays pale, what is not stands out."""
    anchors = np.frombuffer(bytes.fromhex(_HEAT), np.uint8).reshape(-1, 3)
    steps = np.linspace(0, 255, len(anchors))
    table = np.stack([np.interp(np.arange(256), steps, anchors[:, channel]) for channel in range(3)], axis=1)
    grey.putpalette(table.round().astype(np.uint8).tobytes())
    return grey.convert("RGB")


def _strip(shown: list[Image.Image], panels: int) -> Image.Image:
    """Pictures of one size side by side; the panels that are left are grey."""
    width, height = shown[0].size
    slot = max(width, round(height / FLATTEST)), max(height, round(width / FLATTEST))
    strip = Image.new("RGB", (slot[0] * panels, slot[1]), _GREY)
    for place, panel in enumerate(shown):
        strip.paste(panel, (place * slot[0] + (slot[0] - width) // 2, (slot[1] - height) // 2))
    return strip
