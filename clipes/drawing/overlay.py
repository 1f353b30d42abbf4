"""A picture with its mask drawn over it, and a legend below."""

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
"""Small pictures are enlarged by the largest whole factor that keeps the longer side at or below this."""

LONGEST_NAME = 60
IGNORED = 255
"""The palette index of ignored pixels, for any number of classes."""


def draw_overlay(
    image: Image.Image,
    mask: NDArray[Any],
    class_ids: Sequence[int],
    names: Sequence[str],
    classes: int,
    alpha: float = 0.5,
    outline: bool = True,
    legend: bool = True,
) -> Image.Image:
    """The RGB ``image`` tinted by ``mask`` (H, W) with strength ``alpha``, regions outlined, and a legend below.

    Colours are the mask file's palette; ids beyond 254 take the colour of ``id % 254 + 1``. Ignored pixels are striped.
    Each outline is a line of the region's colour inside the border, a white and a dark line outside, so that it is
    visible on any picture. Of two regions that touch, the smaller lies on top and keeps its pixels. Pictures below 97
    pixels are enlarged. The legend is as high as necessary, and wider than the picture only if a name is.

    Raises ValueError for an ``alpha`` outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha!r}; it must be in [0, 1]")
    zoom = max(1, SMALL // max(mask.shape))
    ids, z_order = (array.repeat(zoom, 0).repeat(zoom, 1) for array in (mask.astype(np.int32), _z_order(mask)))
    picture = np.array(image.resize((ids.shape[1], ids.shape[0]), Image.Resampling.NEAREST))
    ignored = ids == ignore_index(classes)
    line = max(2 if zoom > 4 else 1, round(min(ids.shape) / 200))
    colours = voc_palette()[np.where(ignored, IGNORED, palette_index(ids))]
    _tint(picture, ids, colours, ignored, alpha, line)
    if outline:
        _outline(picture, z_order, colours, line)
    body = Image.fromarray(picture)
    if not legend:
        return body
    entries = [(int(palette_index(np.int64(i))), name) for i, name in zip(class_ids, names, strict=True)]
    return _with_legend(body, [*entries, (IGNORED, "ignored")] if ignored.any() else entries)


def overlay_png(overlay: Image.Image, software: str) -> bytes:
    """``overlay`` as the bytes of a PNG file, whose text chunk names ``software`` as its maker."""
    info, file = PngInfo(), BytesIO()
    info.add_text("Software", software)
    overlay.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def draw_mask(mask: NDArray[Any]) -> Image.Image:
    """The mask (H, W) alone, in the palette's colours."""
    ids = mask.astype(np.int64)
    ignored = ids == (255 if mask.dtype == np.uint8 else 65535)
    return Image.fromarray(voc_palette()[np.where(ignored, IGNORED, palette_index(ids))])


def outline_mask(mask: NDArray[Any], size: tuple[int, int]) -> Image.Image:
    """The mask (H, W) as by :func:`draw_mask`, with a thin white line around each region.

    It is drawn at a whole multiple of ``size`` (width, height) with at least 600 pixels on the longer side. The line is
    needed because some colours are nearly black.
    """
    ids = np.asarray(Image.fromarray(mask.astype(np.int32)).resize(size, Image.Resampling.NEAREST)).astype(mask.dtype)
    zoom = -(-600 // max(size))
    drawn, ids, z_order = (
        array.repeat(zoom, 0).repeat(zoom, 1) for array in (np.asarray(draw_mask(ids)), ids, _z_order(ids))
    )
    ignored = ids == np.iinfo(ids.dtype).max
    line = max(1, min(round(max(ids.shape) / 400), min(ids.shape) // 40))
    around = ndimage.maximum_filter(np.where(ignored, 0, z_order), 2 * line + 1) > z_order
    drawn[around & ~ignored] = 255
    return Image.fromarray(drawn)


def draw_maps(cams: NDArray[np.float32], class_ids: Sequence[int]) -> Image.Image:
    """Maps (C, H, W) in [0, 1] as one picture: black where all are 0, each label's colour where it is strong.

    Colours are brightened, because shades of the palette's dark colours look like black.
    """
    colours = colours_of(class_ids).astype(np.float32)
    brightest = colours.max(-1, keepdims=True, initial=1)
    colours *= (brightest / 2 + 128) / brightest
    light = np.einsum("chw,cd->hwd", cams, colours.reshape(-1, 3))
    return Image.fromarray(light.clip(0, 255).round().astype(np.uint8))


def colours_of(class_ids: ArrayLike) -> NDArray[np.uint8]:
    """The palette's colours of class ids, with 3 channels as a last axis."""
    colours: NDArray[np.uint8] = voc_palette()[palette_index(np.asarray(class_ids, dtype=np.int64))]
    return colours


def palette_index(ids: Any) -> Any:
    """The palette indices of class ids; ids beyond 254 wrap around."""
    return np.where(ids > 254, ids % 254 + 1, ids)


def _z_order(mask: NDArray[Any]) -> NDArray[np.int32]:
    """The drawing order of the regions, (H, W): 0 is the background, then the connected regions from large to small."""
    values = np.unique(mask, return_inverse=True)[1].reshape(mask.shape) + 1
    regions, count = np.zeros(mask.shape, np.int32), 0
    for value, box in enumerate(ndimage.find_objects(values), start=1):
        labels, added = ndimage.label((values[box] == value) & (mask[box] > 0))
        regions[box] += np.where(labels > 0, labels + count, 0)
        count += added
    order = np.zeros(count + 1, np.int32)
    order[1 + np.argsort(-np.bincount(regions.ravel(), minlength=count + 1)[1:], kind="stable")] = 1 + np.arange(count)
    return order[regions]


def _tint(
    picture: NDArray[np.uint8],
    ids: NDArray[np.int32],
    colours: NDArray[np.uint8],
    ignored: NDArray[np.bool_],
    alpha: float,
    line: int,
) -> None:
    """Tint the picture (H, W, 3) in place; ignored pixels get diagonal stripes, also in ``colours``."""
    height, width = ids.shape
    diagonal = np.arange(height, dtype=np.int32)[:, None] + np.arange(width, dtype=np.int32)
    colours[ignored & (diagonal // (4 * line) % 2 == 0)] = 64
    tinted = ids > 0
    picture[tinted] = ((1 - alpha) * picture[tinted] + alpha * colours[tinted]).round()


def _outline(picture: NDArray[np.uint8], z_order: NDArray[np.int32], colours: NDArray[np.uint8], line: int) -> None:
    """Draw the regions' outlines on the picture (H, W, 3) in place, with lines of ``line`` pixels."""
    near, far = 2 * line + 1, 4 * line + 1
    picture[ndimage.maximum_filter(z_order, far) > z_order] = 32
    picture[ndimage.maximum_filter(z_order, near) > z_order] = 255
    inside = ndimage.minimum_filter(z_order, near) < z_order
    picture[inside] = colours[inside]


def _with_legend(picture: Image.Image, entries: Sequence[tuple[int, str]]) -> Image.Image:
    """The picture with a coloured square and a name below it for each (palette index, name)."""
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
    for position, ((colour, _), name) in enumerate(zip(entries, names, strict=True)):
        one_row = rows == 1
        x = pad + (sum(widths[:position]) if one_row else position % columns * max(widths))
        y = picture.height + pad + position // columns * row
        box = (x, y, x + size, y + size)
        draw.rectangle(box, fill=tuple(palette[colour].tolist()), outline="black")
        if colour == IGNORED:
            draw.line((x, y + size, x + size, y), fill="black", width=max(1, size // 5))
        draw.text((x + round(size * 1.4), y + size / 2), name, fill="black", font=font, anchor="lm")
    return canvas
