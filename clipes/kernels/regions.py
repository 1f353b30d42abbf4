"""Labels the connected regions of small maps on CUDA, without synchronising with the host.

Axes: P maps, (h, w) patch grid.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"
# (the arguments of kernels have no type annotations, because Triton interprets annotations itself)

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
        (P, h, w) int32: for each foreground pixel the smallest flat index, in 0..h*w-1, of its region; elsewhere -1.
    """
    maps, height, width = foreground.shape
    labels = torch.empty(foreground.shape, dtype=torch.int32, device=foreground.device)
    block = triton.next_power_of_2(max(2, height * width))  # at least 2: Triton 3.2 treats an array of one as a scalar
    with torch.cuda.device_of(foreground):
        _label_regions[(maps,)](
            foreground.contiguous(), labels, height, width,
            BLOCK=block, num_warps=min(16, max(1, block // 64)), enable_fp_fusion=True,
        )  # fmt: skip
    return labels


@triton.jit
def _label_regions(foreground, labels, height, width, BLOCK: tl.constexpr):
    """Label one map per program by label propagation. A pixel's label is the index of a pixel of the same region.

    Each round finds the smallest label among a pixel's neighbours, and writes it to the pixel that the own label
    points to, so that labelled parts are merged at once instead of pixel by pixel. Then each label is replaced by the
    label of the pixel it points to (pointer jumping). A snake through 64x64 patches takes 12 rounds. Labels only
    decrease. When no neighbour has a smaller label, all labels of a region equal the index of its first pixel.

    The threads communicate through ``labels``. Barriers separate the reads of each step from its writes. The only
    concurrent writes to one address are atomic minima, whose result does not depend on their order. Volatile reads see
    the results.
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
            row = tl.minimum(tl.maximum(pixels // width + down, 0), height - 1)  # clamped at the edges
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
