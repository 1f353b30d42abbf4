"""Connected regions of small maps on CUDA, without a word from the host.

Axes: P maps, (h, w) patch grid.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (a kernel's arguments bear no types: Triton reads annotations itself)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def label_regions(foreground: Tensor) -> Tensor:
    """Number the 8-connected regions of each map.

    Args:
        foreground: (P, h, w) bool.

    Returns:
        (P, h, w) int32: the smallest flat index, in 0..h*w-1, of the region that a pixel belongs to; -1 outside.
    """
    maps, height, width = foreground.shape
    labels = torch.empty(foreground.shape, dtype=torch.int32, device=foreground.device)
    block = triton.next_power_of_2(max(2, height * width))  # Triton 3.2 takes an array of one for a number
    with torch.cuda.device_of(foreground):
        _label_regions[(maps,)](
            foreground.contiguous(), labels, height, width,
            BLOCK=block, num_warps=min(16, max(1, block // 64)), enable_fp_fusion=True,
        )  # fmt: skip
    return labels


@triton.jit
def _label_regions(foreground, labels, height, width, BLOCK: tl.constexpr):
    """One program for each map. Labels are indices of pixels of the same region, and only ever fall.

    A round takes the least label among each pixel's neighbours, tells it to the pixel that its own label names
    (so whole regions join, not pixel after pixel), and lets labels skip to the labels of what they name: a snake
    through 64x64 patches takes 12 rounds. Where no neighbour is less, all labels of a region are equal: to its first
    pixel's index, which that pixel never lost.

    The pixels' threads talk through ``labels``. A barrier stands between the reads and the writes of each step, so
    that nothing races but the atomic minima, whose outcome knows no order; volatile reads see what these wrote.
    """
    size = height * width
    foreground += tl.program_id(0).to(tl.int64) * size
    labels += tl.program_id(0).to(tl.int64) * size
    pixels = tl.arange(0, BLOCK)
    inside = tl.load(foreground + pixels, mask=pixels < size, other=0) != 0
    tl.store(labels + pixels, tl.where(inside, pixels, -1), mask=pixels < size)
    tl.debug_barrier()
    falling = True
    while falling:
        own = tl.load(labels + pixels, mask=inside, other=0, volatile=True)
        least = own
        for down in tl.static_range(-1, 2):
            row = tl.minimum(tl.maximum(pixels // width + down, 0), height - 1)  # at an edge a neighbour once more
            for right in tl.static_range(-1, 2):
                column = tl.minimum(tl.maximum(pixels % width + right, 0), width - 1)
                near = tl.load(labels + row * width + column, mask=inside, other=-1, volatile=True)
                least = tl.where(near < 0, least, tl.minimum(least, near))
        lower = inside & (least < own)
        falling = tl.max(lower.to(tl.int32), 0) > 0
        tl.debug_barrier()
        tl.atomic_min(labels + own, least, mask=lower, sem="relaxed")
        tl.debug_barrier()
        own = tl.load(labels + pixels, mask=inside, other=0, volatile=True)
        further = tl.load(labels + own, mask=inside, other=0, volatile=True)
        tl.debug_barrier()
        tl.store(labels + pixels, further, mask=inside)
        tl.debug_barrier()
