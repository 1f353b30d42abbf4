"""Dense CRF: mean-field inference in the fully connected CRF of Krähenbühl & Koltun (2011).

All pairs of pixels are tied by two Gaussian kernels, smoothness (places) and appearance (places and colours), with
symmetric normalisation and Potts compatibility; a permutohedral lattice applies them approximately. One mathematics,
three executions: this file in torch, for any device; its iterations in kernels, for a GPU; and ``crf.cpp`` for a CPU.

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

from .compiled import compiled_mean_field, library
from .lattice import Lattice, build_lattice, fits, join
from .validate import check_picture, check_scores

_CLIP = 1e-5
_KEPT_PIXELS = 2**19  # a spatial lattice takes about 85 bytes a pixel; those of larger images are not kept
_PIXELS_TOGETHER = 2**22  # about 3 GB: some 700 bytes a pixel and 40 more for each label


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
        raise TypeError(f"config is {config!r}; give a clipes.config.CrfConfig")
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


@torch.no_grad()
def mean_field(images: Sequence[Tensor], scores: Sequence[Tensor], config: CrfConfig) -> list[Tensor]:
    """What :func:`refine_crf` does, in torch, on any device; the same bits in every run on it."""
    refined: list[Tensor] = []
    for part in _parts([image.shape[0] * image.shape[1] for image in images]):
        refined += _together(images[part], scores[part], config)
    return refined


def _parts(counts: Sequence[int]) -> list[slice]:
    """Where to cut pictures of so many pixels, so that none but a single one has more than can be held together."""
    cuts, held = [0], 0
    for index, count in enumerate(counts):
        if held and held + count > _PIXELS_TOGETHER:
            cuts.append(index)
            held = 0
        held += count
    return [slice(start, stop) for start, stop in zip(cuts, [*cuts[1:], len(counts)], strict=True) if stop > start]


def _together(images: Sequence[Tensor], scores: Sequence[Tensor], config: CrfConfig) -> list[Tensor]:
    unary, device = _unary(scores), images[0].device
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    counts = [height * width for height, width in sizes]
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    kept = [
        _kept_spatial(*size, config.smooth_sigma, device, stream)
        if count <= _KEPT_PIXELS
        else _spatial(*size, config.smooth_sigma, device)
        for count, size in zip(counts, sizes, strict=True)
    ]
    smooth = _Kernel(join([one.lattice for one in kept]), torch.cat([one.ones for one in kept]))
    places = torch.cat([_places(*size, device) for size in sizes], 1) / _divisor(config.bilateral_sigma, device)
    pixels = torch.cat([image.reshape(-1, 3) for image in images]).T.to(torch.float32)
    alike = _kernel(torch.cat([places, pixels / _divisor(config.colour_sigma, device)]), counts)
    weighted = ((config.smooth_weight, smooth), (config.bilateral_weight, alike))
    rows = _infer(unary, weighted, config.iterations)
    parts = zip(torch.split(rows, counts, 1), scores, sizes, strict=True)
    return [part[: len(s)].reshape(len(s), *size).contiguous() for part, s, size in parts]


@dataclass(frozen=True)
class _Kernel:
    """A Gaussian kernel K over the pixels with symmetric normalisation: N^-1/2 K N^-1/2, N the row sums of K.

    The lattice filters by it; ``ones`` (n, 1) is what it makes of a map of ones.
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

    Since a pixel's marginals sum to one, what the background receives is what a map of ones would, less what the labels
    receive: R - 1 channels are filtered.
    """
    marginals = _softmax(unary)
    if len(unary) == 1:
        return marginals
    everything = torch.cat([weight * kernel.ones for weight, kernel in weighted], 1).sum(1)
    lattices = [(weight, kernel.lattice) for weight, kernel in weighted]
    if kernels.usable(unary):
        from clipes.kernels.lattice import iterate

        return iterate(unary, everything, lattices, iterations)
    for _ in range(iterations):
        shares = marginals[1:].T.contiguous()
        received = torch.stack([weight * lattice.filter(shares) for weight, lattice in lattices]).sum(0).T
        marginals = _softmax(unary + torch.cat([(everything - received.sum(0))[None], received]))
    return marginals


def _softmax(logits: Tensor) -> Tensor:
    """Over the rows (R, n); bits of torch's own depend on the number of threads."""
    shares = (logits - logits.amax(0)).exp_()
    return shares.div_(shares.sum(0))


def _spatial(height: int, width: int, sigma: float, device: torch.device) -> _Kernel:
    return _kernel(_places(height, width, device) / _divisor(sigma, device), [height * width])


@lru_cache(maxsize=32)
def _kept_spatial(height: int, width: int, sigma: float, device: torch.device, stream: int) -> _Kernel:
    """Each ``stream`` of a GPU keeps its own: another would read it before it is made, or after it is overwritten."""
    return _spatial(height, width, sigma, device)


def _places(height: int, width: int, device: torch.device) -> Tensor:
    """Each pixel's column and row: (2, n) float32."""
    row, column = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    return torch.stack([column.expand(height, width), row.expand(height, width)]).reshape(2, -1).to(torch.float32)


def _divisor(sigma: float, device: torch.device) -> Tensor:
    """By a number, a GPU would multiply with its inverse, which rounds otherwise than a CPU."""
    return torch.full((), sigma, dtype=torch.float64, device=device)


def _unary(scores: Sequence[Tensor]) -> Tensor:
    """Log scores (R, n), R that of the image with most labels; rows that an image lacks are -inf."""
    most = max(len(s) for s in scores)
    logs = [s.to(torch.float32).clamp(_CLIP, 1).log().reshape(len(s), -1) for s in scores]
    return torch.cat([pad(log, (0, 0, 0, most - len(log)), value=-torch.inf) for log in logs], 1)
