"""A picture with its mask on it, and a legend beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from clipes.metrics import ignore_index
from clipes.writer import voc_palette


def draw_overlay(
    image: Image.Image, mask: NDArray[Any], class_ids: Sequence[int], names: Sequence[str], classes: int
) -> Image.Image:
    """The RGB ``image`` tinted by ``mask`` (H, W), every region outlined, and a legend below the picture.

    Colours are the mask file's palette; ids beyond 254 take the colour of ``id % 254 + 1``. The result is as wide
    as the picture (at least 96 pixels) and as much higher as the legend needs.
    """
    palette = voc_palette()
    shown = mask.astype(np.int64)
    ignored = shown == ignore_index(classes)
    colours = palette[np.where(ignored, 255, _palette_index(shown))]
    picture = np.asarray(image, dtype=np.float32)
    tinted = np.where((shown > 0)[..., None], 0.55 * picture + 0.45 * colours, picture)
    thickness = max(1, round(min(mask.shape) / 200))
    edge, halo = _outline(shown, thickness), _outline(shown, 2 * thickness)
    tinted[halo] = 255
    tinted[edge & (shown > 0)] = colours[edge & (shown > 0)]
    body = Image.fromarray(tinted.round().astype(np.uint8))
    entries = [(palette[int(_palette_index(np.asarray(i)))], name) for i, name in zip(class_ids, names, strict=True)]
    if ignored.any():
        entries.append((palette[255], "ignored"))
    return _with_legend(body, entries)


def draw_mask(mask: NDArray[Any]) -> Image.Image:
    """The mask (H, W) alone, in the palette's colours."""
    return Image.fromarray(voc_palette()[_palette_index(mask.astype(np.int64))])


def draw_maps(cams: NDArray[np.float32], class_ids: Sequence[int]) -> Image.Image:
    """Maps (C, H, W) in [0, 1] as one picture: black where all are 0, each label's colour where it is strong."""
    colours = voc_palette()[_palette_index(np.asarray(class_ids, dtype=np.int64))].astype(np.float32)
    light = np.einsum("chw,cd->hwd", cams, colours)
    return Image.fromarray(light.clip(0, 255).round().astype(np.uint8))


def _palette_index(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(ids > 254, ids % 254 + 1, ids)


def _outline(ids: NDArray[np.int64], thickness: int) -> NDArray[np.bool_]:
    """Pixels within ``thickness`` of a border between two ids."""
    border = np.zeros(ids.shape, dtype=bool)
    border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    border[1:] |= ids[1:] != ids[:-1]
    grown: NDArray[np.bool_] = ndimage.binary_dilation(border, iterations=thickness) if border.any() else border
    return grown


def _with_legend(picture: Image.Image, entries: Sequence[tuple[NDArray[np.uint8], str]]) -> Image.Image:
    if not entries:
        return picture
    size = max(11, min(24, picture.height // 22))
    font = ImageFont.load_default(size)
    pad, row = size // 2, round(size * 1.6)
    width = max(picture.width, 96)
    places, x, y = [], pad, pad
    for colour, name in entries:
        needed = round(size * 1.4 + font.getlength(name))
        if x > pad and x + needed > width - pad:
            x, y = pad, y + row
        places.append((x, y, colour, name))
        x += needed + 2 * pad
    canvas = Image.new("RGB", (width, picture.height + y + row), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for x, y, colour, name in places:
        top = picture.height + y
        draw.rectangle((x, top, x + size, top + size), fill=tuple(colour.tolist()), outline="black")
        draw.text((x + round(size * 1.4), top + size / 2), name, fill="black", font=font, anchor="lm")
    return canvas
