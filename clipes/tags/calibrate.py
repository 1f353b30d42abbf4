"""Thresholds fitted to a labelled part of the user's images, and what labels and scores are worth against true labels.

Axes: n images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Calibration:
    """Thresholds of each class, and how good they are on images that they were not fitted to.

    Attributes:
        thresholds: (K,) float64, those of the highest F1 on all images; ``shared`` for a class that no image shows.
        shared: the threshold of the highest F1 of all classes together.
        f1: (K,) float64, cross-validated: each image is judged by thresholds of the other folds' images. nan for a
            class that no image shows and no image was given.
        images: (K,) int64, how many images show the class.
        folds: the number of folds.
    """

    thresholds: NDArray[np.float64]
    shared: float
    f1: NDArray[np.float64]
    images: NDArray[np.int64]
    folds: int

    @property
    def mean_f1(self) -> float:
        """The mean of ``f1`` over the classes that it is known of."""
        return float(np.nanmean(self.f1)) if np.isfinite(self.f1).any() else float("nan")


def calibrate(scores: NDArray[np.floating], shown: NDArray[np.bool_], folds: int = FOLDS) -> Calibration:
    """Fit a threshold to each class by its scores (n, K) on images that ``shown`` (n, K) says it is on or not.

    Image i is in fold ``i % folds``, so that the result does not depend on chance. Raises ValueError for fewer images
    than folds, for no label at all, for scores that are not finite.
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(shown, bool)
    check_enough(len(values), int(truth.sum()), folds)
    if not np.isfinite(values).all():
        raise ValueError("a score is not finite; tag the images again")
    fold = np.arange(len(values)) % folds
    chosen = np.zeros_like(truth)
    for one in range(folds):
        fitted, _ = _fit(values[fold != one], truth[fold != one])
        chosen[fold == one] = values[fold == one] > fitted
    fitted, shared = _fit(values, truth)
    return Calibration(fitted, shared, f1_scores(chosen, truth), truth.sum(0), folds)


def check_enough(images: int, labels: int, folds: int = FOLDS) -> None:
    """Raise ValueError for fewer images of known labels than folds, and for no label at all."""
    if images < folds or not labels:
        have = f"{images} images of known labels, with {labels} labels"
        raise ValueError(f"{have}; thresholds need at least {folds} images and one label, and are good with far more")


def _fit(scores: NDArray[np.float64], shown: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """The best threshold (K,) of each class, and that of all classes together, for those that no image shows."""
    shared = best_threshold(scores.ravel(), shown.ravel())
    columns = zip(scores.T, shown.T, strict=True)
    return np.array([best_threshold(one, true) if true.any() else shared for one, true in columns]), shared


def best_threshold(scores: NDArray[np.float64], shown: NDArray[np.bool_]) -> float:
    """The threshold of the highest F1, for scores (n,) and which of them should be above it.

    It lies in the middle between two scores; of equally good ones it is the highest. 0 where all should be above it.
    """
    order = np.argsort(-scores, kind="stable")
    sorted_scores, hits = scores[order], np.cumsum(shown[order])
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + hits[-1])
    ends = sorted_scores > np.append(sorted_scores[1:], 0)  # a threshold is 0 or more, and cannot part equal scores
    best = int(np.argmax(np.where(ends, f1, -1)))
    following = sorted_scores[best + 1] if best + 1 < len(scores) else -sorted_scores[best]
    return float(max(0.0, (sorted_scores[best] + following) / 2))


def f1_scores(chosen: NDArray[np.bool_], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The F1 of each class (K,) of labels ``chosen`` (n, K) where ``shown`` (n, K) is true; nan where neither is."""
    sums = chosen.sum(0) + shown.sum(0)
    found = np.full(len(sums), np.nan)
    np.divide(2.0 * (chosen & shown).sum(0), sums, out=found, where=sums > 0)
    return found


def average_precisions(scores: NDArray[np.floating], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The average precision of each class (K,): of ranking the images by its scores (n, K); nan where none shows it.

    The mean over the images that show it of the precision down to that image.
    """
    found = np.full(shown.shape[1], np.nan)
    for label, (one, true) in enumerate(zip(scores.T, shown.T, strict=True)):
        hits = true[np.argsort(-one, kind="stable")]
        if hits.any():
            found[label] = (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()
    return found
