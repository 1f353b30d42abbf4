"""Pixel-adaptive refinement, PAR: scores that follow the picture's edges, without a CRF (Ru et al. 2022, AFA, 3.4).

In each iteration a pixel's scores become the weighted mean of the scores of its eight neighbours at several distances.
A neighbour's weight is larger the closer its colour is.

Three differences from the original code, none of which changes a winner. Its weights sum to 1 + ``position_weight``;
ours sum to 1, so that scores do not grow with the iterations. The result is divided by its sum at every pixel. Half
resolution is rounded up, not down, so that a picture of one row keeps its row.

Axes: B images, R = C + 1 rows of scores, n = 8 x (number of distances) neighbours, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from clipes.config import ParConfig
from clipes.device.inference import inference

from .neighbours import DIRECTIONS, GUARD, colour_weights, deviation, neighbours, ordered_sum, weighted_mean
from .validate import check_picture, check_scores


def pixel_adaptive_refinement(image: Any, scores: NDArray[Any], config: ParConfig | None = None) -> NDArray[np.float32]:
    """Refine the scores of one picture along its edges (AFA section 3.4).

    Args:
        image: (H, W, 3) uint8 RGB, an array or a PIL image.
        scores: (C + 1, H, W) float in [0, 1], row 0 the background; every pixel needs one above 0.
        config: the settings; None for those of AFA on PASCAL VOC.

    Returns:
        (C + 1, H, W) float32 in [0, 1], columns sum to 1.

    Raises:
        TypeError: an image that is not uint8, scores that are not floats, a config of another kind.
        ValueError: another shape, sizes that differ, scores that are negative, not finite or all 0 at a pixel.

    A wrong pixel in the right half of a picture that is black on the left and white on the right:

    >>> image = np.zeros((4, 6, 3), np.uint8)
    >>> image[:, 3:] = 255
    >>> right = np.where(image[..., 0] == 255, 0.9, 0.1)
    >>> right[1, 4] = 0.2
    >>> refined = pixel_adaptive_refinement(image, np.stack([1 - right, right]), ParConfig(resolution="full"))
    >>> refined[1, 1].round(2)
    array([0.11, 0.11, 0.11, 0.88, 0.88, 0.88], dtype=float32)
    """
    config = ParConfig() if config is None else config
    if not isinstance(config, ParConfig):
        raise TypeError(f"config is {config!r}; pass a ParConfig, or None for the default")
    pixels = check_picture(image)
    rows = check_scores(scores, pixels.shape[:2])
    picture = torch.from_numpy(np.moveaxis(pixels, -1, 0).copy())
    return refine_par_batch(picture[None], torch.from_numpy(rows)[None], config)[0].numpy()


def refine_par(images: Sequence[Tensor], scores: Sequence[Tensor], config: ParConfig) -> list[Tensor]:
    """Refine several pictures of any sizes, one after the other: pictures (H, W, 3) uint8, scores (C + 1, H, W)."""
    pairs = zip(images, scores, strict=True)
    return [refine_par_batch(image.permute(2, 0, 1)[None], rows[None], config)[0] for image, rows in pairs]


@inference()
def refine_par_batch(images: Tensor, scores: Tensor, config: ParConfig) -> Tensor:
    """Refine the scores of several pictures of one size, on any device that has float64.

    Args:
        images: (B, 3, H, W) uint8, or float in 0..255. Another scale gives the same result as long as neighbours
            differ by much more than 1e-8.
        scores: (B, R, H, W), not negative. Rows of zeros, which pad images with fewer labels, stay zero and do not
            change the other rows.

    Returns:
        (B, R, H, W) float32, columns sum to 1 (0 in a picture whose scores are all 0). On a CPU each picture's
        scores have the same bits whatever the batch.

    Raises ValueError for shapes that do not match.
    """
    if scores.ndim != 4 or images.shape != (len(scores), 3, *scores.shape[2:]):
        raise ValueError(f"images {tuple(images.shape)}, scores {tuple(scores.shape)}; not (B, 3, H, W), (B, R, H, W)")
    averaged = par_rounds(images, scores, config)
    return averaged / ordered_sum(averaged.unbind(1))[:, None].clamp_min(torch.finfo(torch.float32).tiny)


@inference()
def par_rounds(images: Tensor, maps: Tensor, config: ParConfig) -> Tensor:
    """The iterations alone: images and maps as in :func:`refine_par_batch`, maps of any range; (B, R, H, W) float32.

    AFA's own code gives ``(1 + position_weight) ** iterations`` times as much.
    """
    size = (maps.shape[2], maps.shape[3])
    images, maps = images.double(), maps.float()
    if config.resolution == "half":
        half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        # Rounded, because interpolation adds noise of 1e-14 to areas of one colour, and the division by their standard
        # deviation would magnify it. True differences between 8-bit colours are above 1e-8.
        images, maps = _resize(images, half).round(decimals=10), _resize(maps, half)
    weights = _neighbour_weights(images, config)
    for _ in range(config.iterations):
        maps = weighted_mean(maps, weights, config.dilations)
    return _resize(maps, size) if config.resolution == "half" else maps


def _neighbour_weights(images: Tensor, config: ParConfig) -> Tensor:
    """Weights (B, n, H, W) float32 of each pixel's neighbours, summing to 1, from images (B, 3, H, W) float64."""
    scale = (deviation(images, config.dilations) + GUARD) * config.colour_scale
    # In float64, because a pixel that differs from all its neighbours has terms of up to 1e20 with small differences.
    energy = images.new_empty((len(images), len(DIRECTIONS) * len(config.dilations), *images.shape[-2:]))
    for neighbour, term in zip(neighbours(images, config.dilations), energy.unbind(1), strict=True):
        torch.mean((neighbour - images).div_(scale).square_(), 1, out=term)
    colour = colour_weights(energy)
    position = _position_weights(config.dilations, config.colour_scale, colour.device)
    total = 1 + config.position_weight
    return colour.div_(total).add_(position[:, None, None] * (config.position_weight / total))


@lru_cache(maxsize=16)
def _position_weights(dilations: tuple[int, ...], scale: float, device: torch.device) -> Tensor:
    """Weights (n,) float32 of the neighbours by distance only; sum 1. Cached, since a copy to a GPU synchronises."""
    distances = [distance * math.hypot(*direction) for distance in dilations for direction in DIRECTIONS]
    distance = torch.tensor(distances, dtype=torch.float64)
    return (-((distance / (distance.std() + GUARD) / scale) ** 2)).softmax(0).float().to(device)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with half-pixel centres; the rows one by one, since F.interpolate's last bits depend on their number."""
    flat = F.interpolate(maps.flatten(0, 1)[:, None], size, mode="bilinear", align_corners=False)
    return flat.reshape(*maps.shape[:2], *size)
