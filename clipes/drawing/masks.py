"""A mask alone in the colours of its file's palette, and maps alone in those of an overlay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from clipes.ids import voc_palette

from .colours import IGNORED, clear_palette, palette_index


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

    The colours are those of an overlay: shades of the file palette's dark colours would look like black.
    """
    colours = clear_palette()[palette_index(np.array(class_ids, dtype=np.int64))].astype(np.float32)
    light = np.einsum("chw,cd->hwd", cams, colours)
    return Image.fromarray(light.clip(0, 255).round().astype(np.uint8))


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
