"""From a picture to the normalised, patch-multiple tensor that the encoder takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Interpolation = Literal["bicubic", "bilinear"]


def prepare(
    image: Image.Image,
    grid: tuple[int, int],
    patch: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> Tensor:
    """Resize `image` to `grid` (h, w) patches and normalise it: (3, h*P, w*P) float32 on `device`.

    Scaled to [0, 1], then `(x - mean) / std` per channel. Other arguments and errors as of :func:`resize_image`.
    """
    size = grid[0] * patch, grid[1] * patch
    return normalise(resize_image(image, size, device, interpolation, antialias), mean, std)


def resize_image(
    image: Image.Image,
    size: tuple[int, int],
    device: torch.device | str = "cpu",
    interpolation: Interpolation = "bicubic",
    antialias: bool = True,
) -> Tensor:
    """`image` at `size` (H, W) in pixels: (3, H, W) on `device`, in [0, 255], uint8 or float32.

    Antialiased ``interpolation`` on the 8-bit RGB picture, or without ``antialias`` bilinear interpolation that is not
    rounded. Raises ValueError for a picture that is not RGB; see :func:`clipes.io.images.open_image`.
    """
    if image.mode != "RGB":
        raise ValueError(f"prepare takes an RGB image, not mode {image.mode!r}; use open_image first")
    if not antialias:
        pixels = pixels_of(image, device).permute(2, 0, 1)[None].float()
        return F.interpolate(pixels, size, mode="bilinear", align_corners=False)[0]
    if torch.device(device).type == "cpu":
        return pixels_of(image.resize(size[::-1], Image.Resampling[interpolation.upper()])).permute(2, 0, 1)
    return resize(pixels_of(image, device), size, interpolation)


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels (3, H, W) in [0, 255] as `(x / 255 - mean) / std` per channel, float32."""
    centre, spread = (_per_channel(tuple(values), pixels.device) for values in (mean, std))
    return ((pixels.float() / 255 - centre) / spread).contiguous()


@lru_cache(maxsize=64)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(3, 1, 1) float32; cached, since a host-to-device copy would synchronise."""
    return torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None].to(device)


def resize(pixels: Tensor, size: tuple[int, int], interpolation: Interpolation = "bicubic") -> Tensor:
    """A picture (H, W, 3) uint8 resized on its device as Pillow does: (3, h, w) float32 with integer values.

    Rows are resized first, then columns, rounded after each. A few values differ from Pillow's by 1, because Pillow
    also rounds its weights. torch's own resampling of bytes differs in many more values, which changes maps.
    """
    resized = pixels.permute(2, 0, 1)[None].float()
    for step in ((len(pixels), size[1]), size):
        resized = F.interpolate(resized, step, mode=interpolation, antialias=True).clamp(0, 255).round()
    return resized[0]


def pixels_of(image: Image.Image, device: torch.device | str = "cpu") -> Tensor:
    """An RGB picture as (H, W, 3) uint8 on `device`. Asynchronous copy on CUDA."""
    pixels = torch.from_numpy(np.array(image))
    return pixels if torch.device(device).type == "cpu" else pixels.pin_memory().to(device, non_blocking=True)


def to_host(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Tensors as arrays; from a GPU through pinned memory, with a single synchronisation for all."""
    if not any(tensor.is_cuda for tensor in tensors):
        return [tensor.numpy() for tensor in tensors]
    copies = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [copy.numpy() for copy in copies]
