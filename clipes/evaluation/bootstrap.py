"""Bootstrap over images: how far a figure may be from that of other images drawn in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .metrics import intersection_over_union

DRAWS = 2000
"""Draws of a bootstrap."""

CONFIDENCE = 0.95
"""The share of the draws that an interval holds."""

_BLOCK = 1 << 22  # weights of the bootstrap that are in memory at a time: 32 MiB


class ImageCounts(NamedTuple):
    """What an image adds to the IoU of V masks of it: the ids that occur (n,), and (V, 3, n) int64 pixels of them.

    The pixels are those of the truth, of the mask, and of both, as in :class:`clipes.evaluation.metrics.ClassCounts`.
    """

    occurring: NDArray[np.intp]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> ImageCounts:
        """From the pixels (V, 3, K+1) of every class, whether it occurs or not."""
        occurring = np.flatnonzero(counts.any(axis=(0, 1)))
        return cls(occurring, counts[..., occurring])


def resamples(count: int, draws: int = DRAWS, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield blocks (block, count) of ``draws`` in all: how often each of ``count`` images is in a draw of as many.

    >>> [block.sum(axis=1).tolist() for block in resamples(5, draws=3)]
    [[5.0, 5.0, 5.0]]
    """
    rng = np.random.default_rng(seed)
    for start in range(0, draws, size := max(1, _BLOCK // count)):
        weights = np.empty((min(size, draws - start), count))
        for row in weights:
            row[:] = np.bincount(rng.integers(0, count, count), minlength=count)
        yield weights


def interval(draws: NDArray[np.float64], confidence: float = CONFIDENCE) -> NDArray[np.float64]:
    """The ends (T, 2) of the middle ``confidence`` of the draws (draws, T); nan draws are left out.

    >>> interval(np.linspace(0, 1, 201)[:, None]).round(3)
    array([[0.025, 0.975]])
    """
    tail = (1 - confidence) / 2
    ends: NDArray[np.float64] = np.nanquantile(draws, (tail, 1 - tail), axis=0).T
    return ends


def bootstrap_miou(images: Sequence[ImageCounts], draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """The mIoU of V masks of each image over as many images drawn with replacement: (draws, V), at least one image.

    A draw takes the same images for all V, so that they can be compared draw by draw. Classes that do not occur in a
    draw are left out of its mean.
    """
    variants = len(images[0].counts)
    ids = np.concatenate([image.occurring for image in images])
    owner = np.repeat(np.arange(len(images)), [len(image.occurring) for image in images])
    values = np.concatenate([image.counts.reshape(3 * variants, -1) for image in images], axis=1).T  # (sum n, 3 V)
    classes = np.unique(ids)
    figures = []
    for weights in resamples(len(images), draws, seed):
        total, occurs = np.zeros((len(weights), variants)), np.zeros((len(weights), variants))
        for own in (ids == index for index in classes.tolist()):
            pixels = (weights[:, owner[own]] @ values[own]).reshape(len(weights), variants, 3)
            truth, mask, both = np.moveaxis(pixels, -1, 0)
            iou = intersection_over_union(both, truth + mask - both)
            total += np.nan_to_num(iou)
            occurs += ~np.isnan(iou)
        figures.append(intersection_over_union(total, occurs))
    return np.concatenate(figures)
