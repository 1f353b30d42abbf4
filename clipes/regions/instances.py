"""The instances of a finished mask: connected parts of each class, split or joined by regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clipes.io.masks import check_size

from .arrays import Masks, region_ids
from .vote import modes

Place = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Instances:
    """The n instances of a mask, those of a class together, by the class's id and then by their first pixels.

    Attributes:
        ids: (H, W) int32, 1..n, 0 for the background and ignored pixels.
        class_ids: (n,) int64, their classes.
        boxes: (n, 4) int64, the boxes around them as COCO has them: left, top, width, height.
        areas: (n,) int64, their pixels.
        scores: (n,) float64, the mean confidence of their pixels; None where none was given.
    """

    ids: NDArray[np.int32]
    class_ids: NDArray[np.int64]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]
    scores: NDArray[np.float64] | None

    def __len__(self) -> int:
        """n."""
        return len(self.class_ids)

    def crop(self, index: int) -> tuple[Place, NDArray[np.bool_]]:
        """Where the box of the instance ``index``, from 0, lies in (H, W), and its pixels in that box."""
        left, top, wide, tall = self.boxes[index].tolist()
        place = slice(top, top + tall), slice(left, left + wide)
        return place, self.ids[place] == index + 1


def instances(
    mask: NDArray[Any],
    regions: NDArray[Any] | Masks | None = None,
    confidence: NDArray[Any] | None = None,
    ignore: int = 255,
) -> Instances:
    """The instances of a mask. A mask of labels does not tell two dogs that touch from each other; regions may.

    Without regions, each connected part of a class, whose pixels are neighbours by a side, is an instance. With them:

    1. A region belongs to the id with most of its pixels, the smallest of equals; ignored pixels do not count.
    2. All pixels of a class in a region that belongs to it are one instance, connected or not.
    3. The other pixels of a class, in no region or in one of another id, fall into connected parts. Each joins the
       instance of its class that it has the longest border with, the earlier region of equals; one that touches none
       is an instance itself.

    So regions should be of whole objects: superpixels cut everything into pieces.

    Args:
        mask: ids (H, W) of integers, 0 for the background.
        regions: as :func:`clipes.regions.region_ids` takes them.
        confidence: (H, W), of which the scores are means.
        ignore: the id of ignored pixels, which are in no instance.

    Raises TypeError for a mask of another kind, ValueError for regions or a confidence of another size than the mask.

    >>> instances(np.array([[1, 0, 1, 1, 2]])).ids.tolist()
    [[1, 0, 2, 2, 3]]
    >>> instances(np.array([[1, 0, 1, 1, 2]]), np.array([[1, 0, 1, 2, 2]])).ids.tolist()
    [[1, 0, 1, 2, 3]]
    """
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise TypeError(f"the mask is {mask.shape} of {mask.dtype}; give ids (H, W) of integers")
    shown = (mask != 0) & (mask != ignore)
    groups = _connected(mask, shown) if regions is None else _by_regions(mask, shown, regions, ignore)
    ids, class_ids = _numbered(groups, mask, shown)
    places = ndimage.find_objects(ids)
    boxes = [(x.start, y.start, x.stop - x.start, y.stop - y.start) for y, x in places]
    areas = np.bincount(ids[shown], minlength=len(class_ids) + 1)[1:]
    scores = None
    if confidence is not None:
        check_size(confidence.shape, "the confidence", mask.shape, "the mask")
        scores = np.bincount(ids[shown], confidence[shown], len(class_ids) + 1)[1:] / areas
    return Instances(ids, class_ids, np.array(boxes, dtype=np.int64).reshape(-1, 4), areas, scores)


def _connected(mask: NDArray[Any], shown: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The connected parts of each class among the pixels of ``shown``: numbers from 1 on, 0 elsewhere."""
    parts, count = np.zeros(mask.shape, dtype=np.int64), 0
    for index in np.unique(mask[shown]):
        own = shown & (mask == index)
        labelled, found = ndimage.label(own)
        parts[own] = labelled[own] + count
        count += found
    return parts


def _by_regions(
    mask: NDArray[Any], shown: NDArray[np.bool_], regions: NDArray[Any] | Masks, ignore: int
) -> NDArray[np.int64]:
    """Numbers of the instances, those of regions first, 0 where there is none."""
    region = region_ids(regions, (mask.shape[0], mask.shape[1]))
    taken = shown & (region > 0) & (modes(mask, region, ignore)[region] == mask)
    count = int(region.max(initial=0))
    parts = _connected(mask, shown & ~taken)
    groups = np.where(taken, region, np.where(parts > 0, parts + count, 0))
    joined = np.arange(int(groups.max(initial=0)) + 1)
    part, neighbour = _longest_borders(groups, mask, count)
    joined[part] = neighbour
    return np.asarray(joined[groups])


def _longest_borders(
    groups: NDArray[np.int64], mask: NDArray[Any], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The groups above ``count`` that touch one up to it of their class, and which of these they touch most."""
    pairs = []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        same = (mask[first] == mask[second]) & (groups[first] > 0) & (groups[second] > 0)
        both = np.stack([groups[first][same], groups[second][same]])
        pairs.append(both[:, (both.max(0) > count) & (both.min(0) <= count)])
    found, length = np.unique(np.sort(np.concatenate(pairs, axis=1), axis=0), axis=1, return_counts=True)
    region, part = found
    order = np.lexsort((region, -length, part))
    touching, first_of = np.unique(part[order], return_index=True)
    return touching, region[order][first_of]


def _numbered(
    groups: NDArray[np.int64], mask: NDArray[Any], shown: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Ids 1..n by class and then by first pixel, and the classes."""
    _, first, index = np.unique(groups[shown], return_index=True, return_inverse=True)
    classes = mask[shown][first].astype(np.int64)
    order = np.lexsort((first, classes))
    number = np.empty(len(order), dtype=np.int32)
    number[order] = np.arange(1, len(order) + 1)
    ids = np.zeros(mask.shape, dtype=np.int32)
    ids[shown] = number[index.reshape(-1)]
    return ids, classes[order]
