"""A picture with its mask drawn over it, and a legend below if it is wanted."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage, special

from clipes.ids import ignore_index

from .colours import IGNORED, clear_palette, palette_index

SMALL = 384
"""Small pictures are enlarged by the largest whole factor that keeps the longer side at or below this."""

LEAST = 20
"""Regions of fewer pixels have no outline."""

LONGEST_NAME = 60
_SMOOTH = 4  # pixels enlarged by more than this keep their corners
_LINE = 1.3  # pixels of an outline's width, in pictures with sides of up to 650
_HATCH, _HATCH_ALPHA = 6, 0.3  # distance of the lines over ignored pixels, for each pixel of an outline; their strength
_EDGE_ALPHA, _EDGE_SHADE = 0.95, 0.6  # of an outline: its strength; how far its colour is mixed with white or black
_ALL_AROUND = np.ones((3, 3), np.bool_)  # the neighbours of a pixel
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def draw_overlay(
    image: Image.Image,
    mask: NDArray[Any],
    class_ids: Sequence[int],
    names: Sequence[str],
    classes: int,
    alpha: float = 0.5,
    outline: bool = True,
    legend: bool = False,
) -> Image.Image:
    """The RGB ``image`` tinted by ``mask`` (H, W) with strength ``alpha``, each region in one fine line.

    The colours are those of :func:`clipes.drawing.colours.clear_palette`, not the mask file's. The picture's own
    colour fades below a tint, so that a class has the same hue on any picture. A region's line is a
    lighter or a darker shade of its colour, whichever differs more from the pixels beside it. Regions below
    :data:`LEAST` pixels have no line. Ignored pixels keep the picture, finely hatched; the background is unchanged.

    Pictures of up to half of :data:`SMALL` pixels are enlarged. ``legend`` adds a row of the class names below.

    Raises ValueError for an ``alpha`` outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha!r}; it must be in [0, 1]")
    zoom = max(1, SMALL // max(mask.shape))
    ids = _enlarged(np.where(mask == ignore_index(classes), -1, mask.astype(np.int32)), zoom)
    width = max(_LINE, zoom * max(mask.shape) / 500)
    resample = Image.Resampling.BICUBIC if zoom <= _SMOOTH else Image.Resampling.NEAREST
    picture = np.array(image.resize((zoom * mask.shape[1], zoom * mask.shape[0]), resample))
    _tint(picture, ids, alpha)
    _hatch(picture, ids < 0, width)
    if outline:
        _outline(picture, ids, LEAST * zoom**2, width)
    body = Image.fromarray(picture)
    if not legend:
        return body
    entries = [(int(palette_index(np.int64(i))), name) for i, name in zip(class_ids, names, strict=True)]
    return _with_legend(body, [*entries, (IGNORED, "ignored")] if (ids < 0).any() else entries)


def overlay_png(overlay: Image.Image, software: str) -> bytes:
    """``overlay`` as the bytes of a PNG file, whose text chunk names ``software`` as its maker."""
    info, file = PngInfo(), BytesIO()
    info.add_text("Software", software)
    overlay.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def _enlarged(ids: NDArray[np.int32], zoom: int) -> NDArray[np.int32]:
    """The ids (H, W) enlarged ``zoom`` times; up to 4 times with smooth borders."""
    large = ids.repeat(zoom, 0).repeat(zoom, 1)
    if not 1 < zoom <= _SMOOTH:
        return large
    sharp, most = large, np.zeros(large.shape, np.float32)
    for value in np.unique(ids).tolist():
        share = ndimage.gaussian_filter((sharp == value).astype(np.float32), zoom / 2, mode="nearest")
        large = np.where(share > most, value, large)
        most = np.maximum(most, share)
    return large


def _tint(picture: NDArray[np.uint8], ids: NDArray[np.int32], alpha: float) -> None:
    """Tint the pixels of classes in the picture (H, W, 3), in place."""
    tinted, flat = np.flatnonzero(ids > 0), picture.reshape(-1, 3)
    pixels = flat[tinted].astype(np.float32)
    grey = (pixels @ _LUMINANCE)[:, None]
    faded = grey + (1 - alpha) ** 2 * (pixels - grey)
    colours = alpha * clear_palette()
    flat[tinted] = ((1 - alpha) * faded + colours[palette_index(ids.ravel()[tinted])]).round().clip(0, 255)


def _hatch(picture: NDArray[np.uint8], ignored: NDArray[np.bool_], width: float) -> None:
    """Hatch the ignored pixels in place: thin diagonal lines, light on dark pixels and dark on light ones."""
    down, right = np.nonzero(ignored)
    line = max(1, round(width))
    on = (down + right) % (_HATCH * line) < line
    down, right = down[on], right[on]
    pixels = picture[down, right].astype(np.float32)
    towards = np.where(pixels @ _LUMINANCE < 128, 255, 0)[:, None]
    picture[down, right] = (pixels + _HATCH_ALPHA * (towards - pixels)).round()


def _regions(ids: NDArray[np.int32], least: int) -> tuple[NDArray[np.int32], list[int]]:
    """The connected regions of one id each, numbered from 1, (H, W), and the id of each number.

    The pixels of regions below ``least`` pixels join the region that is nearest.
    """
    regions, id_of = np.zeros(ids.shape, np.int32), [0]
    for value, box in enumerate(ndimage.find_objects(ids + 2), start=-1):  # -1 is the least id
        if box is not None:
            labels, added = ndimage.label(ids[box] == value)
            regions[box] += np.where(labels > 0, labels + len(id_of) - 1, 0)
            id_of += [value] * added
    small = (np.bincount(regions.ravel(), minlength=len(id_of)) < least)[regions]
    return regions if small.all() else _filled(regions, small), id_of


def _filled(regions: NDArray[np.int32], small: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The regions (H, W) with each of the ``small`` pixels (H, W), which are not all, in the region that is nearest.

    The pixel that is nearest to one of a patch of small pixels touches the patch: all that are nearer are small. So a
    patch with a border of one pixel holds all that decides.
    """
    filled = regions.copy()
    patches, _ = ndimage.label(small, _ALL_AROUND)
    for number, place in enumerate(ndimage.find_objects(patches), start=1):
        box = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in place)
        nearest = ndimage.distance_transform_edt(small[box], return_distances=False, return_indices=True)
        inside = patches[box] == number
        filled[box][inside] = regions[box][tuple(nearest)][inside]
    return filled


def _outline(picture: NDArray[np.uint8], ids: NDArray[np.int32], least: int, width: float) -> None:
    """Draw the border of each region of a class of ``least`` pixels or more, in place, the smallest region on top."""
    regions, id_of = _regions(ids, least)
    areas, boxes = np.bincount(regions.ravel()), ndimage.find_objects(regions)
    margin = int(2 * width) + 3
    for region in np.argsort(-areas, kind="stable").tolist():
        if areas[region] == 0 or id_of[region] <= 0 or areas[region] == ids.size:
            continue
        box = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in boxes[region - 1])
        _line(picture[box], regions[box] == region, clear_palette()[palette_index(id_of[region])], width)


def _line(picture: NDArray[np.uint8], inside: NDArray[np.bool_], colour: NDArray[np.uint8], width: float) -> None:
    """Draw the border of ``inside`` (H, W) on the picture (H, W, 3) in place, as a smooth line.

    A Gaussian blur makes each straight border an error function, whose inverse is the distance from the border.
    """
    sigma = max(0.7, width / 2)
    blurred = ndimage.gaussian_filter(inside.astype(np.float32), sigma, mode="nearest")
    down, right = np.nonzero((blurred > 0.02) & (blurred < 0.98))
    distance = sigma * special.ndtri(blurred[down, right])
    cover = (width / 2 + 0.5 - np.abs(distance - 0.5)).clip(0, 1)  # centred on the pixels inside the border
    pixels = picture[down, right].astype(np.float32)
    beside = [np.median(pixels[part] @ _LUMINANCE) for part in (distance > 0, distance < 0) if part.any()]
    shades = [(1 - _EDGE_SHADE) * colour + _EDGE_SHADE * grey for grey in (255.0, 0.0)]
    contrasts = [min((abs(shade @ _LUMINANCE - light) for light in beside), default=0) for shade in shades]
    shade = shades[int(contrasts[1] > contrasts[0])]
    picture[down, right] = (pixels + (_EDGE_ALPHA * cover)[:, None] * (shade - pixels)).round().clip(0, 255)


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
    palette = clear_palette()
    for position, ((colour, _), name) in enumerate(zip(entries, names, strict=True)):
        one_row = rows == 1
        x = pad + (sum(widths[:position]) if one_row else position % columns * max(widths))
        y = picture.height + pad + position // columns * row
        box = (x, y, x + size, y + size)
        if colour == IGNORED:
            draw.rectangle(box, outline=(128, 128, 128))
            for step in (0.5, 1, 1.5):
                near, far = round(size * max(0, step - 1)), round(size * min(1, step))
                draw.line((x + near, y + far, x + far, y + near), fill=(128, 128, 128))
        else:
            draw.rectangle(box, fill=tuple(palette[colour].tolist()))
        draw.text((x + round(size * 1.4), y + size / 2), name, fill="black", font=font, anchor="lm")
    return canvas
