"""From pixels to patches: layers of windows that do not overlap, each a linear layer over its window's values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from .mlp import Activation, activate


@dataclass(frozen=True)
class PatchLayer:
    """A convolution whose stride is the size k of its kernel: ``weight`` (D, C, k, k), ``bias`` (D,) or None."""

    weight: Tensor
    bias: Tensor | None = None
    activation: Activation | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, h * k, w * k) to (B, h * w, D)."""
        size = self.weight.shape[-1]
        split = x.reshape(len(x), x.shape[1], x.shape[2] // size, size, x.shape[3] // size, size)
        # A linear layer and not a convolution, because cuDNN computes float32 convolutions in TF32.
        patches = F.linear(split.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2), self.weight.flatten(1), self.bias)
        return patches if self.activation is None else activate(patches, self.activation)


def patch_size(stem: Sequence[PatchLayer]) -> int:
    """The side in pixels of what becomes one patch."""
    return math.prod(layer.weight.shape[-1] for layer in stem)


def patches_of(stem: Sequence[PatchLayer], pixels: Tensor) -> Tensor:
    """Pixels (B, 3, h * p, w * p) to patches (B, h * w, D), layer by layer."""
    *others, last = stem
    for layer in others:
        height, width = (side // layer.weight.shape[-1] for side in pixels.shape[-2:])
        pixels = layer(pixels).mT.reshape(len(pixels), -1, height, width)
    return last(pixels)
