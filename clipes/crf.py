"""Dense CRF: mean-field inference in the fully connected CRF of Krähenbühl & Koltun (2011).

All pairs of pixels are tied by two Gaussian kernels, smoothness (places) and appearance (places and colours), with
symmetric normalisation and Potts compatibility; a permutohedral lattice applies them approximately. One mathematics,
two executions: this file in torch, for any device, and ``crf.cpp`` for a CPU.

Axes: C labels of an image, R = C + 1 rows of its scores, the background first; H x W pixels, n pixels of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipes.checks import check_picture, check_scores
from clipes.compiled import compiled_mean_field, library
from clipes.config import CrfConfig
from clipes.lattice import Lattice, build_lattice, fits

_CLIP = 1e-5
_KEPT_PIXELS = 2**20


def dense_crf(image: Any, scores: NDArray[Any], config: CrfConfig | None = None) -> NDArray[np.float32]:
    """Refine the scores of one image by its colours.

    Args:
        image: (H, W, 3) uint8 RGB, an array or a PIL image.
        scores: (C + 1, H, W) float shares, background first; below 1e-5 they count as 1e-5, above 1 as 1.
        config: iterations, kernels and weights; by default the paper's.

    Returns:
        (C + 1, H, W) float32, the marginals of the mean field; they sum to 1 at every pixel.

    Raises:
        TypeError: an image that is not uint8, scores that are not floats, a config of another kind.
        ValueError: another shape, sizes that differ, scores that are negative, not finite or all 0 at a pixel; sigmas
            too small for the picture's size.
        MemoryError: a picture too large for the memory (benchmarks/crf.md says how much it takes); where the CRF is not
            compiled, torch's RuntimeError.

    >>> image = np.zeros((2, 4, 3), np.uint8)
    >>> image[:, 2:] = 255
    >>> scores = np.full((2, 2, 4), 0.5)
    >>> scores[:, 0, 0], scores[:, 0, 3] = (0.9, 0.1), (0.1, 0.9)
    >>> dense_crf(image, scores).argmax(0)
    array([[0, 0, 1, 1],
           [0, 0, 1, 1]])
    """
    config = CrfConfig() if config is None else config
    if not isinstance(config, CrfConfig):
        raise TypeError(f"config is {config!r}; give a clipes.CrfConfig")
    picture = check_picture(image)
    rows = check_scores(scores, picture.shape[:2])
    return refine_crf([torch.from_numpy(picture.copy())], [torch.from_numpy(rows)], config)[0].numpy()


def refine_crf(images: Sequence[Tensor], scores: Sequence[Tensor], config: CrfConfig) -> list[Tensor]:
    """Refine several images, of any sizes and numbers of labels: the tensor door behind :func:`dense_crf`.

    Takes images (H, W, 3) uint8 and scores (C + 1, H, W) float32 on one device; returns refined scores. On a CPU by the
    compiled mean field where there is one, elsewhere by :func:`mean_field`, on a GPU all together. Raises ValueError
    for sigmas too small for a picture's size.
    """
    for image in images:
        _check_reach(image.shape[0], image.shape[1], config)
    if not images or images[0].device.type != "cpu":
        return mean_field(images, scores, config)
    code, pairs = library(), zip(images, scores, strict=True)
    if code is None:  # one by one: no slower, and the same bits whatever else is in the batch
        return [mean_field([image], [rows], config)[0] for image, rows in pairs]
    return [torch.from_numpy(compiled_mean_field(code, i.numpy(), s.numpy(), config)) for i, s in pairs]


def _check_reach(height: int, width: int, config: CrfConfig) -> None:
    smooth, bilateral, colour = config.smooth_sigma, config.bilateral_sigma, config.colour_sigma
    if not fits((width / smooth, height / smooth)):
        raise ValueError(f"smooth_sigma is {smooth}, too small for {height} x {width} pixels; use a larger one")
    if not fits((width / bilateral, height / bilateral, *[255 / colour] * 3)):
        raise ValueError(
            f"bilateral_sigma is {bilateral} and colour_sigma {colour}, together too small for {height} x {width} "
            "pixels; use larger ones"
        )


def mean_field(images: Sequence[Tensor], scores: Sequence[Tensor], config: CrfConfig) -> list[Tensor]:
    """What :func:`refine_crf` does, in torch, on any device; the same bits in every run on it."""
    if not images:
        return []
    device = images[0].device
    sizes = tuple((image.shape[0], image.shape[1]) for image in images)
    counts = [height * width for height, width in sizes]
    make = _kept_spatial if sum(counts) <= _KEPT_PIXELS else _spatial
    colours = torch.cat([image.reshape(-1, 3) for image in images]).to(torch.float32)
    features = torch.cat([_places(sizes).to(device) / config.bilateral_sigma, colours / config.colour_sigma], 1)
    kernels = (
        (config.smooth_weight, make(sizes, config.smooth_sigma, device)),
        (config.bilateral_weight, _Kernel(features, _owners(sizes).to(device))),
    )
    rows = _infer(_unary(scores), kernels, config.iterations)
    parts = torch.split(rows, counts)
    return [
        part[:, : len(s)].T.reshape(len(s), *size).contiguous()
        for part, s, size in zip(parts, scores, sizes, strict=True)
    ]


def _infer(unary: Tensor, kernels: Sequence[tuple[float, _Kernel]], iterations: int) -> Tensor:
    """Marginals (n, R) from log scores (n, R) (Krähenbühl & Koltun 2011, algorithm 1).

    Since a pixel's marginals sum to one, what the background receives is what a map of ones would, less what the labels
    receive: R - 1 channels are filtered.
    """
    marginals = unary.softmax(1)
    ones = marginals.new_ones(len(marginals), 1)
    everything = _received(kernels, ones)
    for _ in range(iterations):
        received = _received(kernels, marginals[:, 1:])
        messages = torch.cat([everything - received.sum(1, keepdim=True), received], 1)
        marginals = (unary + messages).softmax(1)
    return marginals


def _received(kernels: Sequence[tuple[float, _Kernel]], values: Tensor) -> Tensor:
    return torch.stack([weight * kernel.apply(values) for weight, kernel in kernels]).sum(0)


class _Kernel:
    """A Gaussian kernel over the pixels with symmetric normalisation: N^-1/2 K N^-1/2, N the row sums of K."""

    def __init__(self, features: Tensor, picture: Tensor):
        self._lattice: Lattice = build_lattice(features, picture)
        self._norm = (self._lattice.filter(features.new_ones(len(features), 1)) + 1e-20).rsqrt()

    def apply(self, values: Tensor) -> Tensor:
        """(n, C) to (n, C)."""
        return self._norm * self._lattice.filter(self._norm * values)


def _spatial(sizes: tuple[tuple[int, int], ...], sigma: float, device: torch.device) -> _Kernel:
    return _Kernel(_places(sizes).to(device) / sigma, _owners(sizes).to(device))


_kept_spatial = lru_cache(maxsize=4)(_spatial)


def _owners(sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Each pixel's picture: (n,) int64."""
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor([h * w for h, w in sizes]))


def _places(sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Each pixel's column and row: (n, 2) float32."""
    grids = [torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij") for h, w in sizes]
    return torch.cat([torch.stack([column, row], -1).reshape(-1, 2) for row, column in grids]).to(torch.float32)


def _unary(scores: Sequence[Tensor]) -> Tensor:
    """Log scores (n, R), R that of the image with most labels; rows that an image lacks are -inf."""
    most = max(len(s) for s in scores)
    logs = [s.to(torch.float32).clamp(_CLIP, 1).log().reshape(len(s), -1).T for s in scores]
    return torch.cat([torch.nn.functional.pad(log, (0, most - log.shape[1]), value=-torch.inf) for log in logs])
