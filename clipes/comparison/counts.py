"""What is counted of the masks of all pictures: against the truth, among the presets, by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.evaluation.bootstrap import ImageCounts
from clipes.evaluation.metrics import ClassCounts, boundary_counts, class_counts, mean_over_occurring
from clipes.ids import ignore_index


class Counts:
    """Counts of P presets over all pictures. Axes: P presets, K classes.

    Attributes:
        pixels: (P, 3) int64: all pixels, those ignored, those of a class.
        truth: (P, 6, K+1) int64, the fields of :class:`clipes.evaluation.metrics.ClassCounts` and the intersection and
            union of the boundaries; zeros without truth.
        pairs: for each pair of presets (4, K+1) int64, the class counts of the second with the first as the truth.
        images: what each picture adds to the IoU, for a bootstrap.
    """

    def __init__(self, presets: int, classes: int) -> None:
        self.classes = classes
        self.pixels = np.zeros((presets, 3), np.int64)
        self.truth = np.zeros((presets, 6, classes + 1), np.int64)
        self.pairs = {pair: np.zeros((4, classes + 1), np.int64) for pair in combinations(range(presets), 2)}
        self.images: list[ImageCounts] = []

    def add(self, masks: Sequence[NDArray[Any]], truth: NDArray[Any] | None) -> tuple[float | None, list[float]]:
        """Count one picture's masks; returns the mean agreement of all pairs (None for one preset), and each mask's
        mIoU, none without truth.
        """
        ignore = ignore_index(self.classes)
        for row, mask in zip(self.pixels, masks, strict=True):
            ignored = int(np.count_nonzero(mask == ignore))
            row += np.array([mask.size, ignored, int(np.count_nonzero(mask)) - ignored])
        agreements = [self._pair(pair, masks) for pair in self.pairs]
        return float(np.mean(agreements)) if agreements else None, [] if truth is None else self._judge(masks, truth)

    def _pair(self, pair: tuple[int, int], masks: Sequence[NDArray[Any]]) -> float:
        counts = class_counts(masks[pair[1]], masks[pair[0]], self.classes)
        self.pairs[pair] += np.stack(counts)
        return agreement(counts)

    def _judge(self, masks: Sequence[NDArray[Any]], truth: NDArray[Any]) -> list[float]:
        counts = [class_counts(mask, truth, self.classes) for mask in masks]
        edges = [boundary_counts(mask, truth, self.classes) for mask in masks]
        self.truth += np.stack([np.concatenate(parts) for parts in zip(counts, edges, strict=True)])
        self.images.append(ImageCounts.of(np.stack([np.stack(one[:3]) for one in counts])))
        return [one.miou for one in counts]

    def agreements(self) -> NDArray[np.float64]:
        """(P, P): the agreement of each pair of presets over all pictures; 1 on the diagonal."""
        matrix = np.eye(len(self.pixels))
        for (first, second), counts in self.pairs.items():
            matrix[first, second] = matrix[second, first] = agreement(ClassCounts(*counts))
        return matrix


def agreement(counts: ClassCounts) -> float:
    """The mean IoU of two masks' classes, the background among them; pixels that either ignores are left out.

    1 where no pixel is left.
    """
    decided = counts._replace(truth=counts.truth - counts.ignored)
    mean = mean_over_occurring(decided.iou)
    return 1.0 if np.isnan(mean) else mean
