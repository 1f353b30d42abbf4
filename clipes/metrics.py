"""How well masks agree with the truth: confusion matrix, intersection over union.

Masks hold data-set ids: 0 background, 1..K classes, and the ignore value of :func:`ignore_index`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WIDEST = 65534  # 0..65534 are ids in a 16-bit mask; 65535 is its ignore value


def ignore_index(classes: int) -> int:
    """Return the mask value that means "not decided" in a data set of `classes` classes.

    255 for up to 254 classes (masks are uint8), 65535 above (masks are uint16).
    Raises ValueError for less than 1 class or more than 65534.

    >>> ignore_index(20), ignore_index(254), ignore_index(255)
    (255, 255, 65535)
    """
    if not 1 <= classes <= _WIDEST:
        raise ValueError(f"a mask has 1 to {_WIDEST} classes (background not counted), not {classes}")
    return 255 if classes <= 254 else 65535


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
    ignore = ignore_index(classes)
    mask, truth = np.asarray(mask), np.asarray(truth)
    if mask.shape != truth.shape:
        raise ValueError(f"mask {mask.shape} and truth {truth.shape} differ in shape; resize the mask, nearest")
    counted = _known(mask, "mask", classes, ignore) & _known(truth, "truth", classes, ignore)
    side = classes + 1
    cell = truth[counted].astype(np.int64) * side + mask[counted].astype(np.int64)
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
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - both
    iou = np.full(both.shape, np.nan)
    np.divide(both, either, out=iou, where=either > 0)
    return iou


def mean_iou(confusion: NDArray[Any]) -> float:
    """Return the mean :func:`class_iou` of the classes that occur, background among them; nan if none does.

    >>> round(mean_iou(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]])), 4)
    0.5833
    """
    iou = class_iou(confusion)
    occurs = ~np.isnan(iou)
    return float(iou[occurs].mean()) if occurs.any() else float("nan")


def _known(array: NDArray[Any], name: str, classes: int, ignore: int) -> NDArray[np.bool_]:
    """Return where `array` holds a class; ValueError for what is neither a class nor ignore."""
    if array.dtype.kind not in "ui":
        raise TypeError(f"{name} holds {array.dtype}, not class ids; pass an integer array such as uint8")
    known: NDArray[np.bool_] = array != ignore
    wrong = known & ((array < 0) | (array > classes))
    if wrong.any():
        raise ValueError(
            f"{name} holds {array[wrong][0]}, but {classes} classes allow 0..{classes} and {ignore} (ignore)"
            "; map its values or pass the right number of classes"
        )
    return known
