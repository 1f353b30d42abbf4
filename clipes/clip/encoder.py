"""Images to tokens and attention: our own forward pass over a CLIP ViT's weights, at any image size.

Axes: B images, (h, w) patch grid, N = h * w, S = 1 + N tokens, D width, p patch size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .head import Head
from .transformer import Block, Norm, Trace, run_block, run_block_with_map, trace_block


@dataclass(frozen=True)
class Encoded:
    """A batch of images, encoded; those of fewer patches are padded to the most of one.

    ``trace`` is the last block's pass; ``attention`` (B, N, N) float32 (or wider) the mean over heads and over the last
    blocks of the patch-to-patch attention (class token dropped, not renormalised; 0 on padding), or None if not asked
    for; ``grids`` each image's (h, w).
    """

    trace: Trace
    attention: Tensor | None
    grids: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Encoder:
    """The vision tower of a CLIP ViT as frozen tensors. ``mean`` and ``std`` normalise RGB in [0, 1]."""

    patch_size: int
    patch_weight: Tensor  # (D, 3, p, p)
    class_embedding: Tensor  # (D,)
    positional_embedding: Tensor  # (1 + g * g, D), g the native grid
    ln_pre: Norm | None
    blocks: tuple[Block, ...]
    head: Head
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.patch_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the weights, the last block's and the head's apart."""
        return self.patch_weight.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Encoder:
        """A copy on another device or of another floating type. The last block and the head, on whose
        gradients the CAM rests, stay in float32 at least, but for the matrices of that block's MLP, with which the
        products are as exact as all the blocks before."""
        wide = None if dtype is None else torch.promote_types(dtype, torch.float32)
        moved: Encoder = _moved(self, device, dtype)
        narrow = {name: getattr(moved.blocks[-1], name) for name in _MLP}
        last: Block = _moved(self.blocks[-1], device, wide)
        return replace(
            moved, blocks=(*moved.blocks[:-1], replace(last, **narrow)), head=_moved(self.head, device, wide)
        )

    def encode(self, pixels: Tensor | Sequence[Tensor], attention_blocks: int = 0) -> Encoded:
        """Run the tower over normalised images.

        Args:
            pixels: (B, 3, h * p, w * p), or a list of images (3, h * p, w * p) of different sizes; normalised with
                ``mean`` and ``std``.
            attention_blocks: over how many of the last blocks to average attention maps; 0: none, more than
                there are: all.

        Raises:
            ValueError: no image, one that is not (3, H, W), a side that is not a positive multiple of the patch size.
        """
        if not len(pixels):
            raise ValueError("no images to encode; give one at least")
        grids = tuple(self._grid(image) for image in pixels)
        x, real = self._embed(pixels, grids)
        maps = min(attention_blocks, len(self.blocks))
        count = x.shape[1] - 1
        wide = torch.promote_types(x.dtype, torch.float32)
        attention = x.new_zeros((len(x), count, count), dtype=wide) if maps else None
        for index, block in enumerate(self.blocks[:-1]):
            if attention is None or index < len(self.blocks) - maps:
                x = run_block(block, x, real)
            else:
                x = run_block_with_map(block, x, attention, 1 / (maps * block.heads), real)
        last = self.blocks[-1]
        trace = trace_block(last, x.to(last.in_proj_weight.dtype), real)
        if attention is not None:
            attention.add_(trace.attention[:, :, 1:, 1:].sum(1), alpha=1 / (maps * last.heads))
            attention.mul_(trace.real[:, 1:, None])
        return Encoded(trace, attention, grids)

    def _grid(self, image: Tensor) -> tuple[int, int]:
        if image.ndim != 3 or len(image) != 3:
            raise ValueError(f"an image is (3, H, W), not {tuple(image.shape)}; give (B, 3, H, W) or a list of images")
        height, width = image.shape[-2:]
        if min(height, width) < self.patch_size or height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"images of {height}x{width} pixels do not divide into patches of {self.patch_size}; "
                "bring them to a multiple with clipes.device.pixels.prepare"
            )
        return height // self.patch_size, width // self.patch_size

    def _embed(
        self, pixels: Tensor | Sequence[Tensor], grids: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor | None]:
        """Patches, class token and positions: (B, S, D); and which tokens are no padding, (B, S), None where all."""
        if len(set(grids)) == 1:
            x = self._tokens(pixels if isinstance(pixels, Tensor) else torch.stack(list(pixels)), grids[0])
        else:
            tokens = [self._tokens(image[None], grid)[0] for image, grid in zip(pixels, grids, strict=True)]
            x = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        x = x if self.ln_pre is None else self.ln_pre(x)
        lengths = [1 + h * w for h, w in grids]
        if len(set(lengths)) == 1:
            return x, None
        return x, torch.arange(x.shape[1], device=x.device) < torch.tensor(lengths).to(x.device)[:, None]

    def _tokens(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, 3, h * p, w * p) to (B, 1 + h * w, D), before ``ln_pre``."""
        patch = self.patch_size
        cut = pixels.to(self.device, self.dtype).reshape(len(pixels), 3, grid[0], patch, grid[1], patch)
        # Not a convolution: cuDNN computes those of float32 in TF32.
        patches = F.linear(cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2), self.patch_weight.flatten(1))
        first = self.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([first, patches], 1) + resample_positions(self.positional_embedding, grid)


_MLP = ("fc_weight", "fc_bias", "proj_weight", "proj_bias")


def resample_positions(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positional embeddings (1 + g * g, D) for another grid: (1 + h * w, D).

    The class token's row is kept, the square is resampled bilinearly (half-pixel centres, no antialias), as
    CLIP-ES does; open_clip's own resize is bicubic with antialias.
    """
    side = math.isqrt(len(embedding) - 1)
    if (side, side) == grid:
        return embedding
    square = embedding[1:].T.reshape(1, -1, side, side)
    square = square.to(torch.promote_types(square.dtype, torch.float32))
    resampled = F.interpolate(square, grid, mode="bilinear", align_corners=False)
    return torch.cat([embedding[:1], resampled.flatten(2)[0].T.to(embedding.dtype)])


def _moved(part: Any, device: torch.device | str | None, dtype: torch.dtype | None) -> Any:
    """``part`` with every tensor in it, however deep in dataclasses and tuples, moved."""
    if isinstance(part, Tensor):
        return part.to(device=device, dtype=dtype)
    if isinstance(part, tuple):
        return tuple(_moved(item, device, dtype) for item in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{f.name: _moved(getattr(part, f.name), device, dtype) for f in fields(part)})
    return part


def fingerprint(encoder: Encoder) -> str:
    """A SHA-256 of an image tower: of its weights, their types and its structure."""
    digest = hashlib.sha256()
    _feed(digest, encoder)
    return digest.hexdigest()


def _feed(digest: Any, part: Any) -> None:
    """Add a tensor, or whatever stands in dataclasses and tuples of them, to the digest."""
    if isinstance(part, Tensor):
        digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
        digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(part, tuple):
        digest.update(f"{len(part)} parts".encode())
        for item in part:
            _feed(digest, item)
    elif is_dataclass(part):
        digest.update(type(part).__name__.encode())
        for item in fields(part):
            digest.update(item.name.encode())
            _feed(digest, getattr(part, item.name))
    else:
        digest.update(repr(part).encode())
