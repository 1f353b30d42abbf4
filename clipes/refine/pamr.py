"""Pixel-adaptive mask refinement, PAMR (Araslanov & Roth, CVPR 2020, section 4.2; its code).

In each iteration a pixel's scores become the weighted mean of the scores of its eight neighbours at several distances.
The weights are the softmax, over the neighbours, of

    - mean over RGB of |neighbour - pixel| / (1e-8 + colour_scale * deviation)

with the unbiased standard deviation, per colour, of the neighbours and, once for each distance, the pixel itself.
Against PAR (:mod:`clipes.refine.par`): differences are not squared, no weight depends on the position alone, and the
picture keeps its resolution. The pixel's own score does not count.

Axes: B images, R rows of scores, n = 8 x (number of distances) neighbours, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipes.config import PamrConfig
from clipes.device.inference import inference

from .neighbours import DIRECTIONS, GUARD, colour_weights, deviation, neighbours, ordered_sum, weighted_mean
from .validate import check_picture, check_rows


def pixel_adaptive_mask_refinement(
    image: Any, scores: NDArray[Any], config: PamrConfig | None = None
) -> NDArray[np.float32]:
    """Refine the scores, or maps, of one picture along its edges (Araslanov & Roth 2020, section 4.2).

    Args:
        image: (H, W, 3) uint8 RGB, an array or a PIL image.
        scores: (R, H, W) float, 0 or more. Each row is refined alone, and the rows need not sum to 1.
        config: the settings; None for those of the paper's code.

    Returns:
        (R, H, W) float32. At each pixel a row is between its smallest and its largest value; rows that summed to 1 do
        so again.

    Raises:
        TypeError: an image that is not uint8, scores that are not floats, a config of another kind.
        ValueError: another shape, sizes that differ, scores that are negative or not finite.

    A wrong pixel in the right half of a picture that is black on the left and white on the right:

    >>> image = np.zeros((4, 6, 3), np.uint8)
    >>> image[:, 3:] = 255
    >>> right = np.where(image[..., 0] == 255, 0.9, 0.1)
    >>> right[1, 4] = 0.2
    >>> pixel_adaptive_mask_refinement(image, right[None])[0, 1].round(2)
    array([0.1 , 0.1 , 0.1 , 0.89, 0.89, 0.89], dtype=float32)
    """
    config = PamrConfig() if config is None else config
    if not isinstance(config, PamrConfig):
        raise TypeError(f"config is {config!r}; pass a PamrConfig, or None for the default")
    pixels = check_picture(image)
    rows = check_rows(scores, pixels.shape[:2])
    picture = torch.from_numpy(np.moveaxis(pixels, -1, 0).copy())
    return refine_pamr_batch(picture[None], torch.from_numpy(rows)[None], config)[0].numpy()


def refine_pamr(images: Sequence[Tensor], scores: Sequence[Tensor], config: PamrConfig) -> list[Tensor]:
    """Refine several pictures of any sizes, one after the other: pictures (H, W, 3) uint8, scores (C + 1, H, W).

    The scores at each pixel are divided by their sum, which is 1 but for the rounding of ten rounds.
    """
    pairs = zip(images, scores, strict=True)
    refined = [refine_pamr_batch(image.permute(2, 0, 1)[None], rows[None], config)[0] for image, rows in pairs]
    return [rows / ordered_sum(rows.unbind(0)) for rows in refined]


@inference()
def refine_pamr_batch(images: Tensor, scores: Tensor, config: PamrConfig) -> Tensor:
    """Refine the scores of several pictures of one size, on any device that has float64.

    Args:
        images: (B, 3, H, W) uint8, or float. Their scale does not matter as long as neighbours differ by much more
            than 1e-8.
        scores: (B, R, H, W) of any range, each row alone.

    Returns:
        (B, R, H, W) float32. On a CPU each picture's scores have the same bits whatever the batch.

    Raises ValueError for shapes that do not match.
    """
    if scores.ndim != 4 or images.shape != (len(scores), 3, *scores.shape[2:]):
        raise ValueError(f"images {tuple(images.shape)}, scores {tuple(scores.shape)}; not (B, 3, H, W), (B, R, H, W)")
    weights, scores = _neighbour_weights(images.double(), config), scores.float()
    for _ in range(config.iterations):
        scores = weighted_mean(scores, weights, config.dilations)
    return scores


def _neighbour_weights(images: Tensor, config: PamrConfig) -> Tensor:
    """Weights (B, n, H, W) float32 of each pixel's neighbours, summing to 1, from images (B, 3, H, W) float64."""
    scale = GUARD + config.colour_scale * deviation(images, config.dilations, own=len(config.dilations))
    size = (len(images), len(DIRECTIONS) * len(config.dilations), *images.shape[-2:])
    distances = images.new_empty(size, dtype=torch.float32)
    for neighbour, term in zip(neighbours(images, config.dilations), distances.unbind(1), strict=True):
        term.copy_((neighbour - images).abs_().div_(scale).mean(1))
    return colour_weights(distances)
