"""A picture with its mask on it, and a legend beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from clipes.ids import ignore_index, voc_palette

SMALL = 192
"""A picture is enlarged by the whole number that brings its longer side nearest to this, from below."""

LONGEST_NAME = 60
IGNORED = 255
"""Its place in the palette, for any number of classes."""


def draw_overlay(
    image: Image.Image, mask: NDArray[Any], class_ids: Sequence[int], names: Sequence[str], classes: int
) -> Image.Image:
    """The RGB ``image`` tinted by ``mask`` (H, W), every region outlined, and a legend below the picture.

    Colours are the mask file's palette; ids beyond 254 take the colour of ``id % 254 + 1``. Ignored pixels
    are striped. A line of the region's colour runs inside every border, a white and a dark one outside, so
    that it shows on any picture; of two regions that touch, the smaller lies above and keeps its pixels. Pictures
    below 97 pixels are enlarged; the legend is as high as it needs, and wider than the picture only where a name is.
    """
    zoom = max(1, SMALL // max(mask.shape))
    ids, heights = (array.repeat(zoom, 0).repeat(zoom, 1) for array in (mask.astype(np.int32), _heights(mask)))
    picture = np.array(image.resize((ids.shape[1], ids.shape[0]), Image.Resampling.NEAREST))
    ignored = ids == ignore_index(classes)
    line = max(2 if zoom > 4 else 1, round(min(ids.shape) / 200))
    body = Image.fromarray(_painted(picture, ids, heights, ignored, line))
    entries = [(int(palette_places(np.int64(i))), name) for i, name in zip(class_ids, names, strict=True)]
    return _with_legend(body, [*entries, (IGNORED, "ignored")] if ignored.any() else entries)


def overlay_png(overlay: Image.Image, software: str) -> bytes:
    """A PNG file of a picture, ``software`` being what its text says made it."""
    info, file = PngInfo(), BytesIO()
    info.add_text("Software", software)
    overlay.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def draw_mask(mask: NDArray[Any]) -> Image.Image:
    """The mask (H, W) alone, in the palette's colours."""
    ids = mask.astype(np.int64)
    ignored = ids == (255 if mask.dtype == np.uint8 else 65535)
    return Image.fromarray(voc_palette()[np.where(ignored, IGNORED, palette_places(ids))])


def outline_mask(mask: NDArray[Any], size: tuple[int, int]) -> Image.Image:
    """The mask (H, W) as :func:`draw_mask` has it, at a whole multiple of ``size`` (width, height) of 600 pixels or
    more on the longer side, with a thin white line around each region, for some colours are nearly black.
    """
    ids = np.asarray(Image.fromarray(mask.astype(np.int32)).resize(size, Image.Resampling.NEAREST)).astype(mask.dtype)
    zoom = -(-600 // max(size))
    drawn, ids, heights = (
        array.repeat(zoom, 0).repeat(zoom, 1) for array in (np.asarray(draw_mask(ids)), ids, _heights(ids))
    )
    ignored = ids == np.iinfo(ids.dtype).max
    line = max(1, min(round(max(ids.shape) / 400), min(ids.shape) // 40))
    around = ndimage.maximum_filter(np.where(ignored, 0, heights), 2 * line + 1) > heights
    drawn[around & ~ignored] = 255
    return Image.fromarray(drawn)


def draw_maps(cams: NDArray[np.float32], class_ids: Sequence[int]) -> Image.Image:
    """Maps (C, H, W) in [0, 1] as one picture: black where all are 0, each label's colour where it is strong.

    Colours are brightened, for shades of the palette's dark ones could not be told from black.
    """
    colours = colours_of(class_ids).astype(np.float32)
    brightest = colours.max(-1, keepdims=True, initial=1)
    colours *= (brightest / 2 + 128) / brightest
    light = np.einsum("chw,cd->hwd", cams, colours.reshape(-1, 3))
    return Image.fromarray(light.clip(0, 255).round().astype(np.uint8))


def colours_of(class_ids: ArrayLike) -> NDArray[np.uint8]:
    """The palette's colours of class ids, with 3 channels as a last axis."""
    colours: NDArray[np.uint8] = voc_palette()[palette_places(np.asarray(class_ids, dtype=np.int64))]
    return colours


def palette_places(ids: Any) -> Any:
    """Where in the palette the colours of class ids are: those beyond 254 go round."""
    return np.where(ids > 254, ids % 254 + 1, ids)


def _heights(mask: NDArray[Any]) -> NDArray[np.int32]:
    """How the regions (H, W) lie on each other: 0 the background, then each connected one, from large to small."""
    places = np.unique(mask, return_inverse=True)[1].reshape(mask.shape) + 1
    parts, count = np.zeros(mask.shape, np.int32), 0
    for place, box in enumerate(ndimage.find_objects(places), start=1):
        part, found = ndimage.label((places[box] == place) & (mask[box] > 0))
        parts[box] += np.where(part > 0, part + count, 0)
        count += found
    order = np.zeros(count + 1, np.int32)
    order[1 + np.argsort(-np.bincount(parts.ravel(), minlength=count + 1)[1:], kind="stable")] = 1 + np.arange(count)
    return order[parts]


def _painted(
    picture: NDArray[np.uint8],
    ids: NDArray[np.int32],
    heights: NDArray[np.int32],
    ignored: NDArray[np.bool_],
    line: int,
) -> NDArray[np.uint8]:
    """The picture (H, W, 3), in its place, tinted, striped and outlined with lines of ``line`` pixels."""
    colours = voc_palette()[np.where(ignored, IGNORED, palette_places(ids))]
    height, width = ids.shape
    slanted = np.arange(height, dtype=np.int32)[:, None] + np.arange(width, dtype=np.int32)
    colours[ignored & (slanted // (4 * line) % 2 == 0)] = 64
    tinted = ids > 0
    picture[tinted] = (0.5 * picture[tinted] + 0.5 * colours[tinted]).round()
    near, far = 2 * line + 1, 4 * line + 1
    picture[ndimage.maximum_filter(heights, far) > heights] = 32
    picture[ndimage.maximum_filter(heights, near) > heights] = 255
    inside = ndimage.minimum_filter(heights, near) < heights
    picture[inside] = colours[inside]
    return picture


def _with_legend(picture: Image.Image, entries: Sequence[tuple[int, str]]) -> Image.Image:
    """The picture with a coloured square and a name below it for each (place in the palette, name)."""
    if not entries:
        return picture
    side = min(picture.size)
    size = max(12, min(24, side // 22), side // 50)
    font = ImageFont.load_default(size)
    names = [textwrap.shorten(name, LONGEST_NAME, placeholder="…") or name[:LONGEST_NAME] for _, name in entries]
    pad, row = size // 2, round(size * 1.6)
    widths = [round(size * 1.4 + font.getlength(name)) + 2 * pad for name in names]
    width = max(picture.width, max(widths))
    columns = len(widths) if sum(widths) <= width else max(1, width // max(widths))
    rows = -(-len(widths) // columns)
    canvas = Image.new("RGB", (width, picture.height + rows * row + pad), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    palette = voc_palette()
    for place, ((colour, _), name) in enumerate(zip(entries, names, strict=True)):
        one_row = rows == 1
        x = pad + (sum(widths[:place]) if one_row else place % columns * max(widths))
        y = picture.height + pad + place // columns * row
        box = (x, y, x + size, y + size)
        draw.rectangle(box, fill=tuple(palette[colour].tolist()), outline="black")
        if colour == IGNORED:
            draw.line((x, y + size, x + size, y), fill="black", width=max(1, size // 5))
        draw.text((x + round(size * 1.4), y + size / 2), name, fill="black", font=font, anchor="lm")
    return canvas
