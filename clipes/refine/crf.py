"""Dense CRF: mean-field inference in the fully connected CRF of Krähenbühl & Koltun (2011).

All pairs of pixels are connected by two Gaussian kernels, smoothness (positions) and appearance (positions and
colours), with symmetric normalisation and Potts compatibility. A permutohedral lattice applies them approximately.
There are three implementations of the same algorithm: this file in torch, for any device; its iterations as GPU
kernels; and ``crf.cpp`` for a CPU.

Axes: C labels of an image, R = C + 1 rows of its scores, the background first; H x W pixels, n pixels of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from clipes import kernels
from clipes.config import CrfConfig
from clipes.device.inference import inference

from .compiled import compiled_mean_field, library
from .lattice import Lattice, build_lattice, fits, join
from .validate import check_picture, check_scores

_CLIP = 1e-5
_MAX_CACHED_PIXELS = 2**19  # of an image whose spatial lattice is cached; it takes about 85 bytes per pixel
_MAX_BATCH_PIXELS = 2**22  # about 3 GB: some 700 bytes per pixel, and 40 more per label


def dense_crf(image: Any, scores: NDArray[Any], config: CrfConfig | None = None) -> NDArray[np.float32]:
    """Refine the scores of one image by its colours.

    Args:
        image: (H, W, 3) uint8 RGB, an array or a PIL image.
        scores: (C + 1, H, W) float in [0, 1], background first; clipped to [1e-5, 1].
        config: iterations, kernels and weights; by default the paper's.

    Returns:
        (C + 1, H, W) float32, the marginals of the mean field. They sum to 1 at every pixel.

    Raises:
        TypeError: an image that is not uint8, scores that are not floats, a config of another kind.
        ValueError: another shape, sizes that differ, scores that are negative, not finite or all 0 at a pixel; sigmas
            too small for the picture's size.
        MemoryError: a picture too large for the memory (benchmarks/crf.md has the sizes).
        RuntimeError: the same, raised by torch where the CRF is not compiled.

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
        raise TypeError(f"config is {config!r}; give a clipes.config.CrfConfig")
    picture = check_picture(image)
    rows = check_scores(scores, picture.shape[:2])
    return refine_crf([torch.from_numpy(picture.copy())], [torch.from_numpy(rows)], config)[0].numpy()


def refine_crf(images: Sequence[Tensor], scores: Sequence[Tensor], config: CrfConfig) -> list[Tensor]:
    """Refine several images, of any sizes and numbers of labels: :func:`dense_crf` for tensors.

    Takes images (H, W, 3) uint8 and scores (C + 1, H, W) float32 on one device; returns refined scores. A CPU uses the
    compiled mean field if it is installed, else :func:`mean_field` image by image; a GPU computes all images together.
    Raises ValueError for sigmas too small for a picture's size.
    """
    for image in images:
        _check_reach(image.shape[0], image.shape[1], config)
    if not images or images[0].device.type != "cpu":
        return mean_field(images, scores, config)
    code, pairs = library(), zip(images, scores, strict=True)
    if code is None:  # one by one: as fast, and the bits do not depend on the batch
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


@inference()
def mean_field(images: Sequence[Tensor], scores: Sequence[Tensor], config: CrfConfig) -> list[Tensor]:
    """:func:`refine_crf` in torch, on any device; repeated runs on one device give the same bits."""
    refined: list[Tensor] = []
    for batch in _batches([image.shape[0] * image.shape[1] for image in images]):
        refined += _mean_field_of_batch(images[batch], scores[batch], config)
    return refined


def _batches(counts: Sequence[int]) -> list[slice]:
    """Consecutive batches of pictures of ``counts`` pixels: at most ``_MAX_BATCH_PIXELS`` each, or a single picture."""
    starts, pixels = [0], 0
    for index, count in enumerate(counts):
        if pixels and pixels + count > _MAX_BATCH_PIXELS:
            starts.append(index)
            pixels = 0
        pixels += count
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], len(counts)], strict=True) if stop > start]


def _mean_field_of_batch(images: Sequence[Tensor], scores: Sequence[Tensor], config: CrfConfig) -> list[Tensor]:
    unary, device = _unary(scores), images[0].device
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    counts = [height * width for height, width in sizes]
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    spatial = [
        _cached_spatial(*size, config.smooth_sigma, device, stream)
        if count <= _MAX_CACHED_PIXELS
        else _spatial(*size, config.smooth_sigma, device)
        for count, size in zip(counts, sizes, strict=True)
    ]
    smooth = _Kernel(join([kernel.lattice for kernel in spatial]), torch.cat([kernel.ones for kernel in spatial]))
    positions = torch.cat([_positions(*size, device) for size in sizes], 1) / _divisor(config.bilateral_sigma, device)
    pixels = torch.cat([image.reshape(-1, 3) for image in images]).T.to(torch.float32)
    appearance = _kernel(torch.cat([positions, pixels / _divisor(config.colour_sigma, device)]), counts)
    weighted = ((config.smooth_weight, smooth), (config.bilateral_weight, appearance))
    rows = _infer(unary, weighted, config.iterations)
    parts = zip(torch.split(rows, counts, 1), scores, sizes, strict=True)
    return [part[: len(s)].reshape(len(s), *size).contiguous() for part, s, size in parts]


@dataclass(frozen=True)
class _Kernel:
    """A Gaussian kernel K over the pixels with symmetric normalisation: N^-1/2 K N^-1/2, N the row sums of K.

    ``lattice`` applies it; ``ones`` (n, 1) is the result for a map of ones.
    """

    lattice: Lattice
    ones: Tensor


def _kernel(features: Tensor, counts: Sequence[int]) -> _Kernel:
    lattice = build_lattice(features, counts)
    ones = features.new_ones(features.shape[1], 1)
    lattice = lattice.scaled((lattice.filter(ones) + 1e-20).rsqrt())
    return _Kernel(lattice, lattice.filter(ones))


def _infer(unary: Tensor, weighted: Sequence[tuple[float, _Kernel]], iterations: int) -> Tensor:
    """Marginals (R, n) from log scores (R, n) (Krähenbühl & Koltun 2011, algorithm 1).

    A pixel's marginals sum to one. So the background's message is that of a map of ones minus those of the labels, and
    only R - 1 channels are filtered.
    """
    marginals = _softmax(unary)
    if len(unary) == 1:
        return marginals
    total_message = torch.cat([weight * kernel.ones for weight, kernel in weighted], 1).sum(1)
    lattices = [(weight, kernel.lattice) for weight, kernel in weighted]
    if kernels.usable(unary, "lattice"):
        with kernels.fallback("lattice"):
            from clipes.kernels.lattice import iterate

            return iterate(unary, total_message, lattices, iterations)
    for _ in range(iterations):
        labels = marginals[1:].T.contiguous()
        message = torch.stack([weight * lattice.filter(labels) for weight, lattice in lattices]).sum(0).T
        marginals = _softmax(unary + torch.cat([(total_message - message.sum(0))[None], message]))
    return marginals


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the rows (R, n). The bits of torch's own depend on the number of threads."""
    exponentials = (logits - logits.amax(0)).exp_()
    return exponentials.div_(exponentials.sum(0))


def _spatial(height: int, width: int, sigma: float, device: torch.device) -> _Kernel:
    return _kernel(_positions(height, width, device) / _divisor(sigma, device), [height * width])


@lru_cache(maxsize=32)
def _cached_spatial(height: int, width: int, sigma: float, device: torch.device, stream: int) -> _Kernel:
    """:func:`_spatial`, cached per CUDA ``stream``: sharing it across streams would race."""
    return _spatial(height, width, sigma, device)


def _positions(height: int, width: int, device: torch.device) -> Tensor:
    """Each pixel's column and row: (2, n) float32."""
    row, column = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    return torch.stack([column.expand(height, width), row.expand(height, width)]).reshape(2, -1).to(torch.float32)


def _divisor(sigma: float, device: torch.device) -> Tensor:
    """``sigma`` as a tensor: CUDA divides by a scalar by multiplying with its reciprocal, which rounds differently."""
    return torch.full((), sigma, dtype=torch.float64, device=device)


def _unary(scores: Sequence[Tensor]) -> Tensor:
    """Log scores (R, n), R the most rows of an image; the rows of images with fewer are padded with -inf."""
    rows = max(len(s) for s in scores)
    logs = [s.to(torch.float32).clamp(_CLIP, 1).log().reshape(len(s), -1) for s in scores]
    return torch.cat([pad(log, (0, 0, 0, rows - len(log)), value=-torch.inf) for log in logs], 1)
