"""What pixel-adaptive refinements share: the neighbours of every pixel, and the mean of maps over them by weights.

A neighbour is one of the eight pixels at a distance ("dilation"); beyond the edge, the edge's pixel is repeated.

Axes: B images, R rows of maps, n = 8 x (number of distances) neighbours, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain, repeat

import torch
from torch import Tensor
from torch.nn import functional as F

DIRECTIONS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
GUARD = 1e-8
"""Beside a deviation that is divided by, which is 0 in a neighbourhood of one colour."""


def neighbours(maps: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Views (B, R, H, W) of the maps shifted by each distance and direction; edge pixels are repeated."""
    height, width = maps.shape[-2:]
    # A shift beyond H - 1 rows only reads the edge, so more padding than that is not needed.
    margin = (min(max(dilations), height - 1), min(max(dilations), width - 1))
    padded = F.pad(maps, (margin[1], margin[1], margin[0], margin[0]), mode="replicate")
    for distance in dilations:
        for down, right in DIRECTIONS:
            top = margin[0] + down * min(distance, height - 1)
            left = margin[1] + right * min(distance, width - 1)
            yield padded[..., top : top + height, left : left + width]


def deviation(images: Tensor, dilations: Sequence[int], own: int = 0) -> Tensor:
    """Unbiased standard deviation (B, 3, H, W) of each pixel's neighbours, the pixel itself counted ``own`` times."""
    count = len(DIRECTIONS) * len(dilations) + own
    mean, variance = torch.zeros_like(images), torch.zeros_like(images)
    for value in chain(neighbours(images, dilations), repeat(images, own)):
        mean += value
    mean /= count
    for value in chain(neighbours(images, dilations), repeat(images, own)):
        variance += (value - mean).square_()
    variance /= count - 1
    return variance.sqrt()


def colour_weights(distances: Tensor) -> Tensor:
    """Softmax over the neighbours of the negative ``distances`` (B, n, H, W), which are changed; float32."""
    # Not Tensor.softmax, because its last bits depend on the batch.
    weights = distances.sub_(distances.amin(1, keepdim=True)).neg_().float().exp_()
    weights /= ordered_sum(weights.unbind(1))[:, None]
    return weights


def weighted_mean(maps: Tensor, weights: Tensor, dilations: Sequence[int]) -> Tensor:
    """Maps (B, R, H, W): at each pixel the mean over its neighbours by ``weights`` (B, n, H, W), which sum to 1."""
    # One neighbour at a time: gathering all of them first takes n times the memory and four to ten times as long.
    total = torch.zeros_like(maps)
    for neighbour, weight in zip(neighbours(maps, dilations), weights.unbind(1), strict=True):
        total.addcmul_(neighbour, weight[:, None])
    return total


def ordered_sum(terms: Sequence[Tensor]) -> Tensor:
    """The sum in order from first to last. The order of Tensor.sum depends on the number of terms, zeros included."""
    return reduce(torch.add, terms)
