"""What a stage cannot be faster than: the machine's ceilings as measured, and the least work that a stage has.

A stage is bound by its arithmetic (FLOP against matrix products at their fastest) or by memory (bytes against a copy);
work that no method can leave out is counted, not what clipes happens to do. For decoding, resizing and PNG the limit is
the library's own call.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipes.device.matmul_precision import matmul_precision
from speed.clock import Clock
from speed.subjects import Subjects

TYPES = {"cpu": (torch.float32, torch.bfloat16), "cuda": (torch.float32, torch.float16)}
SIDE = {"cpu": 2048, "cuda": 8192}
COPIED = {"cpu": 2**28, "cuda": 2**31}


def ceilings(clock: Clock) -> dict[str, float]:
    """FLOP/s of square matrix products by type, and bytes/s of a copy (read and written): the best of the rounds.

    On a CPU float32 is measured as torch does it by itself and by the library that clipes chooses: the better counts.
    On a GPU "tf32" is what clipes multiplies in float32 beside a lower precision.
    """
    kind, exact = clock.device.type, torch.float32
    found = {str(dtype).removeprefix("torch."): _products(clock, dtype, nullcontext()) for dtype in TYPES[kind]}
    if kind == "cuda":
        found["tf32"] = _products(clock, exact, matmul_precision(clock.device, torch.float16))
    else:
        found["float32"] = max(found["float32"], _products(clock, exact, matmul_precision(clock.device, exact)))
    source = torch.zeros(COPIED[kind], dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    times = clock.interleaved({"copy": lambda: target.copy_(source)})
    return found | {"copy": 2 * COPIED[kind] / min(times["copy"])}


def _products(clock: Clock, dtype: torch.dtype, context: AbstractContextManager[None]) -> float:
    """FLOP/s within a context."""
    side = SIDE[clock.device.type]
    one, other = (torch.rand(side, side, device=clock.device).to(dtype) for _ in range(2))
    with context, torch.inference_mode():
        times = clock.interleaved({"product": lambda: one @ other})
    return 2 * side**3 / min(times["product"])


@dataclass(frozen=True)
class Shape:
    """What the work depends on."""

    tokens: int
    width: int
    blocks: int
    patch: int
    pixels: int
    labels: int


def shape_of(subjects: Subjects, size: tuple[int, int], labels: int) -> Shape:
    """Of a model and pictures of (H, W) with so many labels."""
    visual, patch = subjects.baseline.visual, subjects.baseline.patch
    tokens = 1 + -(-size[0] // patch) * -(-size[1] // patch)
    blocks = visual.transformer.resblocks
    return Shape(tokens, visual.class_embedding.shape[-1], len(blocks), patch, size[0] * size[1], labels)


def work(stage: str, shape: Shape) -> dict[str, float]:
    """What a stage has to do for one picture: "bytes"; FLOP in "float32", and those that may be in a "lower" precision.

    Empty where a library's own call is the limit.
    """
    s, d, n, labels = shape.tokens, shape.width, shape.tokens - 1, shape.labels
    attention, mlp = 8 * s * d * d + 4 * s * s * d, 16 * s * d * d  # in and out, QK^T and AV; two layers
    if stage == "encode":
        return {"lower": (shape.blocks - 1) * (attention + mlp) + 2 * n * d * 3 * shape.patch**2}
    if stage == "cam":  # forward; for each label back through the MLP and the output, and once through A^T
        back = 2 * n * d * d + 2 * n * s * d
        return {"lower": mlp + labels * 16 * n * d * d, "float32": attention + labels * back}
    if stage == "affinity":  # float32 attention once for each half round of Sinkhorn and each half step
        return {"bytes": 4 * n * n * (3 * 2 + 2 * 2)}
    if stage == "decide":  # maps and background written, read, and the mask
        return {"bytes": shape.pixels * (8 * (labels + 1) + 1)}
    if stage == "crf":  # ten times: 6 + 3 corners with index and weight, splat and slice; marginals read and written
        return {"bytes": 10 * shape.pixels * (2 * 9 * 8 + 8 * labels)}
    return {}


def library_calls(path: Path, patch: int, mask: np.ndarray[Any, Any]) -> dict[str, Callable[[], object]]:
    """The bare calls of Pillow and zlib behind decoding, resizing and PNG, for one picture and its mask."""
    image = Image.open(path).convert("RGB")
    size, bicubic = (-(-image.width // patch) * patch, -(-image.height // patch) * patch), Image.Resampling.BICUBIC
    encoded = BytesIO(path.read_bytes())
    rows = np.pad(mask, ((0, 0), (1, 0))).tobytes()  # each row's filter type in front, as in a PNG

    def deflate() -> object:
        packer = zlib.compressobj(strategy=zlib.Z_RLE)
        return packer.compress(rows) + packer.flush()

    return {"decode": lambda: Image.open(encoded).load(), "resize": lambda: image.resize(size, bicubic), "png": deflate}
