"""How well masks agree with the truth: confusion matrix, intersection over union, boundary IoU.

Masks hold data-set ids: 0 background, 1..K classes, and the ignore value of :func:`ignore_index`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.ids import valid_mask

BOUNDARY_WIDTH = 0.02
"""How far the boundary of a region reaches into it, in image diagonals (Cheng et al. 2021)."""


def confusion_matrix(mask: NDArray[Any], truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count the pixels of each true class (rows) by the class that the mask gives them (columns).

    `mask` and `truth` are integer arrays of one shape, any number of axes. Returns (K+1, K+1) int64, K =
    `classes`, background first. A pixel that is ignore in *either* array is left out, so a mask that
    ignores more is judged on fewer pixels: state the ignore share beside any figure made from this.
    Matrices of many images add up.

    Raises TypeError for arrays that are not of integers; ValueError for shapes that differ, and for values
    that are neither 0..K nor :func:`ignore_index`.

    >>> truth = np.array([[0, 0, 1], [1, 2, 255]])
    >>> mask = np.array([[0, 1, 1], [1, 255, 2]])
    >>> confusion_matrix(mask, truth, classes=2)
    array([[1, 1, 0],
           [0, 2, 0],
           [0, 0, 0]])
    """
    mask, truth, mask_valid, truth_valid = _validated(mask, truth, classes)
    valid = truth_valid & mask_valid
    side = classes + 1
    cell = truth[valid].astype(np.int64) * side + mask[valid].astype(np.int64)
    return np.bincount(cell, minlength=side * side).reshape(side, side).astype(np.int64, copy=False)


def class_iou(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Return the intersection over union of each class: (K+1,) float64 in [0, 1], background first.

    nan for a class that occurs neither in the truth nor in the mask. ValueError when `confusion` is not
    square.

    >>> class_iou(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])).round(3)
    array([0.5  , 0.667,   nan])
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"a confusion matrix is square, (K+1, K+1), not {confusion.shape}")
    both = np.diag(confusion)
    return intersection_over_union(both, confusion.sum(axis=0) + confusion.sum(axis=1) - both)


def mean_iou(confusion: NDArray[Any]) -> float:
    """Return the mean :func:`class_iou` of the classes that occur, background among them; nan if none does.

    >>> round(mean_iou(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])), 4)
    0.5833
    """
    return mean_over_occurring(class_iou(confusion))


class ClassCounts(NamedTuple):
    """The pixels of each class, four (K+1,) int64 arrays, background first; of many images they add up.

    Pixels that the truth ignores are in none of them. A pixel that the mask ignores is a pixel of its true
    class, in `truth`, that no class got: `miou` counts it as missed, `miou_decided` leaves it out.
    """

    truth: NDArray[np.int64]  # pixels of the class in the truth, whatever the mask says
    mask: NDArray[np.int64]  # pixels that the mask gives the class
    both: NDArray[np.int64]  # pixels of the class in the truth and in the mask
    ignored: NDArray[np.int64]  # pixels of the class in the truth that the mask ignores

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K+1,) float64 in [0, 1], ignored pixels missed; nan for a class that does not occur."""
        return intersection_over_union(self.both, self.truth + self.mask - self.both)

    @property
    def miou(self) -> float:
        """The mean of `iou` over the classes that occur."""
        return mean_over_occurring(self.iou)

    @property
    def miou_decided(self) -> float:
        """The mean IoU on the pixels that the mask does not ignore: the :func:`mean_iou` of a confusion matrix."""
        decided = self.truth - self.ignored
        return mean_over_occurring(intersection_over_union(self.both, decided + self.mask - self.both))

    @property
    def pixel_accuracy(self) -> float:
        """The share of the pixels whose class is right, ignored ones missed; nan without pixels."""
        return float(intersection_over_union(self.both.sum(), self.truth.sum()))

    @property
    def ignored_share(self) -> float:
        """The share of the pixels that the mask ignores; nan without pixels."""
        return float(intersection_over_union(self.ignored.sum(), self.truth.sum()))


def class_counts(mask: NDArray[Any], truth: NDArray[Any], classes: int) -> ClassCounts:
    """Count the pixels of each class in `mask`, in `truth` and in both; arguments and errors as in
    :func:`confusion_matrix`.

    >>> truth = np.array([[0, 0, 1], [1, 2, 255]])
    >>> counts = class_counts(np.array([[0, 1, 1], [1, 255, 2]]), truth, classes=2)
    >>> [row.tolist() for row in counts]
    [[2, 2, 1], [1, 3, 0], [1, 2, 0], [0, 0, 1]]
    >>> round(counts.miou, 4), round(counts.miou_decided, 4)
    (0.3889, 0.5833)
    """
    mask, truth, mask_valid, truth_valid = _validated(mask, truth, classes)
    both = truth_valid & (mask == truth)  # where they agree and the truth does not ignore, the mask does not either
    parts = truth[truth_valid], mask[truth_valid & mask_valid], truth[both], truth[truth_valid & ~mask_valid]
    return ClassCounts(*(_count_classes(part, classes) for part in parts))


def boundary_counts(mask: NDArray[Any], truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count the intersection and the union of each class's boundaries in mask and truth (Cheng et al. 2021, Eq. 2).

    `mask` and `truth` are (H, W). Returns (2, K+1) int64: intersection, union; of many images they add up.
    The boundary of a class are its pixels at most d away, in rows and in columns, from a pixel that is not of
    the class or lies outside the image: the pixels that d erosions by 3 x 3 take away. d is 2 % of the diagonal,
    rounded, at least 1, as in the authors' code.

    Pixels that the truth ignores are not counted and end no class, neither in the truth nor in the mask: a mask that
    agrees with the truth elsewhere scores 1, whatever its ids there. Pixels that the mask ignores belong to no class.

    Errors as in :func:`confusion_matrix`, and ValueError for arrays that are not (H, W).

    >>> truth = np.zeros((40, 40), np.uint8)
    >>> truth[10:30, 10:30] = 1
    >>> boundary_counts(np.roll(truth, 1, axis=0), truth, classes=1)
    array([[198,  38],
           [282, 114]])
    """
    mask, truth, mask_valid, truth_valid = _validated(mask, truth, classes)
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"boundaries are those of one mask (H, W), not {mask.shape}")
    distance = max(1, round(BOUNDARY_WIDTH * math.hypot(*mask.shape)))
    valid = truth_valid & mask_valid
    in_truth = truth_valid & _boundary_mask(truth, truth_valid, ~truth_valid, classes, distance)
    in_mask = valid & _boundary_mask(mask, valid, ~truth_valid, classes, distance)
    parts = truth[in_truth & in_mask & (truth == mask)], truth[in_truth], mask[in_mask]
    both, of_truth, of_mask = (_count_classes(part, classes) for part in parts)
    return np.stack([both, of_truth + of_mask - both])


def intersection_over_union(both: NDArray[Any], either: NDArray[Any]) -> NDArray[np.float64]:
    """Return `both / either` as float64, nan where `either` is 0; arrays of one shape.

    >>> intersection_over_union(np.array([1, 0]), np.array([4, 0]))
    array([0.25,  nan])
    """
    iou = np.full(np.shape(both), np.nan)
    np.divide(both, either, out=iou, where=np.asarray(either) > 0)
    return iou


def mean_over_occurring(iou: NDArray[np.float64]) -> float:
    """Return the mean of the values that are not nan; nan if there are none."""
    occurs = ~np.isnan(iou)
    return float(iou[occurs].mean()) if occurs.any() else float("nan")


def _validated(
    mask: NDArray[Any], truth: NDArray[Any], classes: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return mask, truth, and for each where it holds a class rather than the ignore value."""
    mask, truth = np.asarray(mask), np.asarray(truth)
    if mask.shape != truth.shape:
        raise ValueError(f"mask {mask.shape} and truth {truth.shape} differ in shape; resize the mask, nearest")
    return mask, truth, valid_mask(mask, "mask", classes), valid_mask(truth, "truth", classes)


def _count_classes(ids: NDArray[Any], classes: int) -> NDArray[np.int64]:
    return np.bincount(ids, minlength=classes + 1).astype(np.int64, copy=False)


def _boundary_mask(
    ids: NDArray[Any], valid: NDArray[np.bool_], void: NDArray[np.bool_], classes: int, distance: int
) -> NDArray[np.bool_]:
    """Return where a valid pixel is within `distance` of another class, of an invalid pixel, or of the image's border.

    `void` pixels act as a wildcard: they equal every class. All classes are done at once: a pixel is inside its class
    where the lowest and the highest id around it are equal. The result means nothing on invalid pixels.
    """
    ids = np.where(valid, ids.astype(np.min_scalar_type(classes + 1)) + 1, 0)  # 0: invalid, or outside the image
    lowest = _window_extreme(np.minimum, np.where(void, classes + 1, ids), distance)
    boundary: NDArray[np.bool_] = lowest != _window_extreme(np.maximum, ids, distance)
    return boundary


def _window_extreme(extreme: np.ufunc, ids: NDArray[Any], distance: int) -> NDArray[Any]:
    """`extreme` (np.minimum, np.maximum) over the pixels at most `distance` away; outside the image is 0.

    The extremes of two windows that overlap or touch give that of their union, so the window's side doubles with
    every step. Seven times as fast as scipy's filters.
    """
    ids, size = np.pad(ids, distance), 2 * distance + 1
    for _ in range(2):  # columns, then rows
        reach = 1
        while reach < size:
            step = min(reach, size - reach)
            ids = extreme(ids[:-step], ids[step:])
            reach += step
        ids = ids.T
    return ids
