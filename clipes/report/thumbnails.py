"""The pictures of a report: for each image a strip of thumbnails, a large picture, and overlays for that picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.drawing.colours import clear_palette, palette_index
from clipes.drawing.overlay import draw_overlay
from clipes.ids import ignore_index
from clipes.io.images import TarMember, open_image
from clipes.io.masks import check_size

LARGEST = 800
"""The longest side of a large picture; smaller images keep their size."""

TILE = 320
"""The longer side of a thumbnail."""

FLATTEST = 2.0
"""The largest aspect ratio of a thumbnail's slot; a flatter picture is padded with grey."""

_GREY = (128, 128, 128)
_STRIPE = 4
_HEAT = "081d58 253494 225ea8 1d91c0 41b6c4 7fcdbb c7e9b4 edf8b1 ffffd9"  # ColorBrewer's YlGnBu


def open_reduced(place: Path | TarMember, size: tuple[int, int]) -> Image.Image:
    """Open an image like :func:`clipes.io.images.open_image`, but decode a large JPEG at a reduced size.

    Raises ImageError if the full image is not of ``size`` (H, W), its mask's size, and where ``open_image`` does.
    """
    image, (width, height) = _open_draft(place) or _open_full(place)
    check_size((height, width), place, size, "its mask")
    return image


def open_small(place: Path | TarMember, longest: int) -> Image.Image:
    """Open an image with its longer side at ``longest``, decoding a large JPEG at a reduced size. Errors as
    :func:`clipes.io.images.open_image`.
    """
    image, (width, height) = _open_draft(place) or _open_full(place)
    return image.resize(fitted(width, height, longest), Image.Resampling.LANCZOS)


def draw_thumbnails(
    stem: Path,
    image: Image.Image,
    ids: NDArray[Any],
    confidence: NDArray[np.uint8] | None,
    truth: NDArray[Any] | None,
    classes: int,
    panels: int,
) -> None:
    """Write the pictures of one image.

    These are ``STEM-strip.jpg`` (picture, overlay, confidence and truth; ``panels`` slots in all), ``STEM-large.jpg``,
    and, to be laid over the large picture, ``STEM-mask.png``, ``STEM-confidence.jpg`` and ``STEM-truth.png``. The last
    two are left out if the image has no confidence or truth.

    ``image`` may be smaller than the mask ``ids`` (H, W), but must have its aspect ratio.
    """
    height, width = ids.shape
    size = fitted(width, height, min(LARGEST, max(width, height)))
    image.resize(size, Image.Resampling.LANCZOS).save(f"{stem}-large.jpg", quality=85)
    _tinted(sampled(ids, size), classes).save(f"{stem}-mask.png", transparency=0)
    small = fitted(width, height, TILE)
    picture = image.resize(small, Image.Resampling.LANCZOS)
    shown = [picture, overlay_tile(image, picture, ids, classes)]
    if confidence is not None:
        grey = Image.fromarray(confidence)
        _heat(grey.resize(size, Image.Resampling.BILINEAR)).save(f"{stem}-confidence.jpg", quality=80)
        shown.append(_heat(grey.resize(small, Image.Resampling.BOX)))
    if truth is not None:
        _tinted(sampled(truth, size), classes).save(f"{stem}-truth.png", transparency=0)
        shown.append(overlay_tile(image, picture, truth, classes))
    _strip(shown, panels).save(f"{stem}-strip.jpg", quality=80)


def sampled(ids: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize the ids (H, W) to ``size`` (width, height): each pixel takes the id at its centre.

    >>> sampled(np.array([[1, 2, 3, 4]]), (2, 1))
    array([[2, 4]])
    """
    height, width = ids.shape[0], ids.shape[1]
    columns, rows = size
    down = (2 * np.arange(rows) + 1) * height // (2 * rows)
    right = (2 * np.arange(columns) + 1) * width // (2 * columns)
    resized: NDArray[Any] = ids[down].take(right, axis=1)
    return resized


def _open_full(place: Path | TarMember) -> tuple[Image.Image, tuple[int, int]]:
    """The image and its size (width, height)."""
    image = open_image(place)
    return image, image.size


def _open_draft(place: Path | TarMember) -> tuple[Image.Image, tuple[int, int]] | None:
    """A JPEG decoded at 1/1, 1/2, 1/4 or 1/8 of its size, and its full size (width, height); None for other files."""
    if isinstance(place, Path) and not place.is_file():  # opening a named pipe would block forever
        return None
    try:
        file = BytesIO(place.read()) if isinstance(place, TarMember) else place
        with Image.open(file, formats=("JPEG",)) as opened:
            width, height = opened.size
            opened.draft("RGB", (LARGEST, LARGEST))
            drafted = opened.size
            image = open_image(opened)
    except Exception:  # _open_full raises the error that names the cause
        return None
    if drafted[0] == drafted[1] and width != height:  # the comparison below cannot detect a rotation
        return None
    return image, (width, height) if image.size == drafted else (height, width)  # EXIF may rotate it by 90 degrees


def fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size whose longer side is ``longest``, with the same aspect ratio up to rounding."""
    scale = longest / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def overlay_tile(image: Image.Image, tile: Image.Image, ids: NDArray[Any], classes: int) -> Image.Image:
    """The overlay of ``tile``, which is ``image`` resized; that of a small image is drawn first and enlarged then, to
    be smooth.
    """
    own = (ids.shape[1], ids.shape[0])
    if max(own) < max(tile.size):
        return draw_overlay(image.resize(own), ids, (), (), classes).resize(tile.size, Image.Resampling.LANCZOS)
    return draw_overlay(tile, sampled(ids, tile.size), (), (), classes)


def _tinted(ids: NDArray[Any], classes: int) -> Image.Image:
    """The mask as a palette image, to be saved with index 0 transparent; ignored pixels are striped."""
    indices = palette_index(ids).astype(np.uint8)
    down, right = np.nonzero(ids == ignore_index(classes))
    indices[down, right] = np.where((down + right) // _STRIPE % 2, 255, 0)
    tinted = Image.fromarray(indices)
    tinted.putpalette(clear_palette().tobytes())
    return tinted


def _heat(grey: Image.Image) -> Image.Image:
    """Levels 0..255 as colours: the higher the confidence, the paler, so that uncertain regions stand out."""
    anchors = np.frombuffer(bytes.fromhex(_HEAT), np.uint8).reshape(-1, 3)
    steps = np.linspace(0, 255, len(anchors))
    table = np.stack([np.interp(np.arange(256), steps, anchors[:, channel]) for channel in range(3)], axis=1)
    grey.putpalette(table.round().astype(np.uint8).tobytes())
    return grey.convert("RGB")


def _strip(shown: list[Image.Image], panels: int) -> Image.Image:
    """Pictures of one size side by side; the remaining slots up to ``panels`` are grey."""
    width, height = shown[0].size
    slot = max(width, round(height / FLATTEST)), max(height, round(width / FLATTEST))
    strip = Image.new("RGB", (slot[0] * panels, slot[1]), _GREY)
    for index, panel in enumerate(shown):
        strip.paste(panel, (index * slot[0] + (slot[0] - width) // 2, (slot[1] - height) // 2))
    return strip
