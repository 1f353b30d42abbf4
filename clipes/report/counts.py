"""The numbers of a report: the counts of one image, their sums over all images, and the throughput."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipes.evaluation.metrics import ClassCounts, boundary_counts, class_counts
from clipes.evaluation.result import Evaluation, number
from clipes.ids import ignore_index
from clipes.label_rules import LEAST_FOREGROUND
from clipes.store.row import Row
from clipes.store.rows import Worker, active_spans

BINS = 60
"""The largest number of bars in the chart of throughput; a run of few images has fewer."""

PARTS = 20
"""The number of bars in the charts of the images' IoU and confidence."""

PAUSES_SHOWN = 100


class ImageCounts(NamedTuple):
    """The counts of one image's files.

    Attributes:
        pixels: (K+2,) int64, number of pixels of the background, of each class, and ignored.
        levels: (256,) int64, number of pixels of each confidence level, 255 standing for 1; None if the run saved no
            confidence.
        judged: (6, K+1) int64, the fields of :class:`clipes.evaluation.metrics.ClassCounts` and the boundaries'
            intersection and union; None without truth.
    """

    pixels: NDArray[np.int64]
    levels: NDArray[np.int64] | None = None
    judged: NDArray[np.int64] | None = None

    @property
    def area(self) -> float:
        """The share of the pixels that belong to a class."""
        return float(self.pixels[1:-1].sum() / self.pixels.sum())

    @property
    def ignored(self) -> float:
        """The share of the pixels that are ignored."""
        return float(self.pixels[-1] / self.pixels.sum())

    @property
    def miou(self) -> float | None:
        """The mean IoU of the classes that occur; None without truth, or if the truth ignores every pixel."""
        return None if self.judged is None else number(ClassCounts(*self.judged[:4]).miou)

    def shares(self, labels: Sequence[int]) -> list[int]:
        """The shares of the classes in ``labels`` and of all others with pixels: ``[id, millionths, id, ...]``.

        Shares are rounded up, so that 0 means no pixel.
        """
        present = [int(index) + 1 for index in np.flatnonzero(self.pixels[1:-1])]
        counts, total = self.pixels, int(self.pixels.sum())
        shares = ((index, int(counts[index])) for index in dict.fromkeys([*labels, *present]))
        return [value for index, count in shares for value in (index, -(-1_000_000 * count // total))]


def count_image(
    ids: NDArray[Any], confidence: NDArray[np.uint8] | None, truth: NDArray[Any] | None, classes: int
) -> ImageCounts:
    """Count the pixels of a mask (H, W) of ids, and of its confidence and truth (H, W) if they exist.

    >>> count_image(np.array([[0, 2, 2, 255]], np.uint8), None, None, classes=2).pixels
    array([1, 0, 2, 1])
    """
    ignore = ignore_index(classes)
    counts = np.bincount(ids.ravel(), minlength=ignore + 1)
    judged = None
    if truth is not None:
        judged = np.concatenate([class_counts(ids, truth, classes), boundary_counts(ids, truth, classes)])
    levels = None if confidence is None else np.bincount(confidence.ravel(), minlength=256)
    return ImageCounts(np.append(counts[: classes + 1], counts[ignore]), levels, judged)


class RunTotals:
    """The sums over all images of a run with K classes."""

    def __init__(self, class_names: Sequence[str], truth: bool) -> None:
        self.class_names = tuple(class_names)
        self.ids = {name: index for index, name in enumerate(self.class_names, start=1)}
        size = len(self.class_names) + 1
        self.images = 0
        self.judged = 0
        self.unjudged = 0
        self.lost = self.little = self.tagged = self.nothing = 0
        self.pixels = np.zeros(size + 1, np.int64)
        self.labelled, self.shown = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.levels: NDArray[np.int64] | None = None
        self._judged = np.zeros((6, size), np.int64) if truth else None
        self._mious = np.zeros(PARTS, np.int64)
        self._confidences = np.zeros(PARTS, np.int64)
        self._confidence = 0.0  # the sum of the images'

    def class_ids(self, row: Row) -> list[int]:
        """The ids of a row's labels, in its order; names that are not classes are left out."""
        return [self.ids[label] for label in row.labels if label in self.ids]

    def missing(self, row: Row, numbers: ImageCounts) -> list[str]:
        """The row's labels that no pixel of its mask has."""
        return [label for label in row.labels if label in self.ids and not numbers.pixels[self.ids[label]]]

    def tag_scores(self, row: Row) -> list[float] | None:
        """The scores of the labels that CLIP found, in the order of :meth:`class_ids`; None where they were given."""
        return None if row.scores is None else [row.scores.get(label, 0.0) for label in row.labels if label in self.ids]

    def add(self, row: Row, numbers: ImageCounts) -> None:
        """Add the counts of an image that has a mask."""
        labels = self.class_ids(row)
        self.tagged += row.scores is not None
        self.nothing += row.nothing_found
        self.images += 1
        self.pixels += numbers.pixels
        self.shown += numbers.pixels[:-1] > 0
        self.labelled[labels] += 1
        self.lost += bool(self.missing(row, numbers))
        self.little += bool(labels) and numbers.area < LEAST_FOREGROUND
        if row.confidence is not None:
            self._confidence += row.confidence
            self._confidences[_part(row.confidence)] += 1
        if numbers.levels is not None:
            self.levels = numbers.levels if self.levels is None else self.levels + numbers.levels
        if numbers.judged is not None and self._judged is not None:
            self.judged += 1
            self._judged += numbers.judged
            if (miou := numbers.miou) is not None:
                self._mious[_part(miou)] += 1

    def as_dict(self) -> dict[str, Any]:
        """The sums as a dict that JSON can hold.

        ``confidence`` is the mean of the images', ``confidences`` how many are in each part of [0, 1], ``levels`` the
        pixels of each saved score. ``classes`` has a row for each id: the number of images with the label, of images
        whose mask shows the class, of its pixels, and its IoU and boundary IoU.
        """
        table = [] if self._judged is None else self._evaluation(self._judged).table()
        ious = [(row["iou"], row["boundary_iou"]) for row in table] or [(None, None)] * (len(self.class_names) + 1)
        counts = zip(self.labelled.tolist(), self.shown.tolist(), self.pixels[:-1].tolist(), ious, strict=True)
        return {
            "names": ["background", *self.class_names],
            "classes": [[labelled, shown, pixels, *iou] for labelled, shown, pixels, iou in counts],
            "images": self.images,
            "lost": self.lost,
            "little": self.little,
            "tagged": self.tagged,
            "nothing": self.nothing,
            "least_foreground": LEAST_FOREGROUND,
            "pixels": int(self.pixels.sum()),
            "ignored": int(self.pixels[-1]),
            "levels": None if self.levels is None else self.levels.tolist(),
            "confidence": self._confidence / sure if (sure := int(self._confidences.sum())) else None,
            "confidences": self._confidences.tolist(),
            "truth": None if self._judged is None else self._figures(self._judged),
        }

    def _evaluation(self, judged: NDArray[np.int64]) -> Evaluation:
        return Evaluation(self.class_names, judged[None], self.judged)

    def _figures(self, judged: NDArray[np.int64]) -> dict[str, Any]:
        evaluation = self._evaluation(judged)
        figures = ("miou", "miou_decided", "boundary_iou", "pixel_accuracy", "ignored_share")
        return {
            "judged": self.judged,
            "unjudged": self.unjudged,
            "mious": self._mious.tolist(),
            **{name: number(getattr(evaluation, name)) for name in figures},
        }


def _part(value: float) -> int:
    """Which of the equal parts of [0, 1] has the value."""
    return min(int(value * PARTS), PARTS - 1)


class Throughput:
    """A histogram of the times at which images were finished, over the time in which any worker was active.

    The pauses in which no worker was active are cut out. ``seconds`` is the length of the rest.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        spans = active_spans(workers)
        self._starts = np.array([start for start, _ in spans])
        lengths = np.array([end - start for start, end in spans])
        self._before = np.concatenate([[0.0], np.cumsum(lengths)])
        self._pauses = self._starts[1:] - (self._starts + lengths)[:-1] if spans else np.zeros(0)
        self.seconds = float(self._before[-1])
        rows = sum(worker.rows for worker in workers)
        self._counts = np.zeros(max(1, min(BINS, rows // 10)), np.int64)

    def add(self, time: float) -> None:
        """Count an image that was finished at ``time``, in seconds since 1970."""
        if self.seconds > 0:
            span = max(int(np.searchsorted(self._starts, time, side="right")) - 1, 0)
            passed = min(self._before[span] + max(time - self._starts[span], 0), self._before[span + 1])
            self._counts[min(int(passed / self.seconds * len(self._counts)), len(self._counts) - 1)] += 1

    def as_dict(self) -> dict[str, Any]:
        """The histogram as a dict that JSON can hold.

        ``counts`` are the images finished in equal parts of ``seconds``; ``pauses`` are the longest, each with the
        active seconds before it and its length.
        """
        longest = sorted(np.argsort(-self._pauses, kind="stable")[:PAUSES_SHOWN].tolist())
        return {
            "seconds": self.seconds,
            "counts": self._counts.tolist() if self.seconds > 0 else [],
            "pauses": [[float(self._before[index + 1]), float(self._pauses[index])] for index in longest],
            "paused": float(self._pauses.sum()),
            "pause_count": len(self._pauses),
        }
