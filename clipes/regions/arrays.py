"""Regions from arrays, masks and run-length encodings, as one map of ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipes.io.coco_rle import decode_rle
from clipes.io.masks import check_size

Masks: TypeAlias = Sequence[NDArray[np.bool_]] | Sequence[Mapping[str, Any]]
RegionsLike: TypeAlias = NDArray[Any] | Masks | str | os.PathLike[str] | Callable[[Image.Image], "NDArray[Any] | Masks"]
"""What the regions of a picture are given as: ids, masks, COCO's encodings, a file, or a function of the picture."""


def region_ids(
    regions: NDArray[Any] | Masks, size: tuple[int, int], unsegmented: int = 0, name: str = "regions"
) -> NDArray[np.int32]:
    """Regions as ids (H, W) int32: 1..n in the order of the ids given, 0 where there is no region.

    Args:
        regions: ids (H, W) of integers of up to 32 bits; or bool masks, (n, H, W) or a list of (H, W); or a list of
            COCO's annotations or RLEs. A single bool mask (H, W) is one region. Where masks overlap, the smaller one
            counts, and of equal ones the later.
        size: (H, W) of the picture.
        unsegmented: the id that means: in no region. Masks have none.
        name: what messages call them.

    Raises:
        TypeError: arrays of other kinds, such as floats or colours.
        ValueError: another size than the picture's, broken encodings.

    >>> region_ids(np.array([[7, 7, 0], [9, 0, 0]]), (2, 3)).tolist()
    [[1, 1, 0], [2, 0, 0]]
    """
    if isinstance(regions, np.ndarray) and regions.dtype == np.bool_ and regions.ndim == 2:
        regions = regions[None]
    if isinstance(regions, np.ndarray) and regions.ndim == 2:
        return _compact(_checked_ids(regions, size, name), unsegmented)
    if isinstance(regions, np.ndarray) and not (regions.dtype == np.bool_ and regions.ndim == 3):
        raise TypeError(
            f"{name}: an array {regions.shape} of {regions.dtype}; give ids (H, W) of integers, or bool masks (n, H, W)"
        )
    if isinstance(regions, str | bytes | Mapping) or not isinstance(regions, Iterable):
        raise TypeError(f"{name}: {type(regions).__name__} is no array of ids and no list of masks")
    return join_masks((_mask_of(one, f"{name}, mask {index}") for index, one in enumerate(regions)), size, name)


def _checked_ids(ids: NDArray[Any], size: tuple[int, int], name: str) -> NDArray[Any]:
    if ids.dtype.kind not in "iu" or ids.dtype.itemsize > 8:
        raise TypeError(f"{name} holds {ids.dtype}, not ids; give integers of up to 32 bits")
    check_size(ids.shape, name, size, "the picture")
    if ids.dtype.itemsize == 8 and ids.size and not (ids.min() >= -(2**31) and ids.max() < 2**32):
        raise ValueError(f"{name} holds ids from {ids.min()} to {ids.max()}; they must fit in 32 bits")
    return ids


def _compact(ids: NDArray[Any], unsegmented: int) -> NDArray[np.int32]:
    """Ids numbered 1..n in their order; ``unsegmented`` becomes 0."""
    found, index = np.unique(ids, return_inverse=True)
    number = np.cumsum(found != unsegmented, dtype=np.int32)
    number[found == unsegmented] = 0
    return np.asarray(number[index.reshape(ids.shape)])


def _mask_of(one: object, name: str) -> NDArray[np.bool_]:
    if isinstance(one, Mapping):
        return decode_rle(one.get("segmentation", one), name)
    mask = np.asarray(one)
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise TypeError(f"{name} is {mask.shape} of {mask.dtype}; give bool masks (H, W), or COCO's RLEs")
    return mask


def join_masks(masks: Iterable[NDArray[np.bool_]], size: tuple[int, int], name: str = "regions") -> NDArray[np.int32]:
    """Masks (H, W) bool, one in memory at a time, as ids (H, W): the smaller one counts, of equal ones the later.

    Masks that others cover wholly, and empty ones, have no id. ValueError for a mask of another size.
    """
    ids, least = np.zeros(size, dtype=np.int32), np.full(size, np.iinfo(np.int64).max)
    for index, mask in enumerate(masks):
        check_size(mask.shape, f"{name}, mask {index}", size, "the picture")
        area = np.count_nonzero(mask)
        above = mask & (area <= least)
        ids[above], least[above] = index + 1, area
    return _compact(ids, 0)
