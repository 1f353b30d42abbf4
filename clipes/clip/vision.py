"""The vision side of CLIP: images to tokens and attention, over a ViT's weights, at any image size.

Axes: B images, (h, w) patch grid, N = h * w, S = 1 + N tokens, D width, p patch size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clipes.config import AttentionBlocks, EncodeRequest, Positions
from clipes.device.pixels import Interpolation

from .collect import Collector
from .head import Head
from .transformer import Block, BlockActivations, Norm

_NOTHING_MORE = EncodeRequest()


@dataclass(frozen=True)
class Encoded:
    """A batch of encoded images, padded to the largest number of patches in it; the means of what was requested.

    Attributes:
        last_block: the activations of the last block.
        grids: each image's (h, w).
        request: what was asked for besides.
        attention, class_attention, tokens, votes: as in :class:`clipes.clip.collect.Collector`.
        regions: (B, N) int64, the region of each patch, 0 for none, if patches are to exchange within these alone.
    """

    last_block: BlockActivations
    grids: tuple[tuple[int, int], ...]
    request: EncodeRequest = _NOTHING_MORE
    attention: Mapping[AttentionBlocks, Tensor] = field(default_factory=dict)
    class_attention: Mapping[int, Tensor] = field(default_factory=dict)
    tokens: tuple[Tensor, ...] = ()
    votes: Tensor | None = None
    regions: Tensor | None = None

    def check(self, needs: EncodeRequest) -> None:
        """ValueError unless everything that ``needs`` names was kept."""
        if needs | self.request != self.request:
            raise ValueError("encoded for other settings, without what these need; encode with the same config")


@dataclass(frozen=True, repr=False)
class VisionEncoder:
    """The vision side of a CLIP ViT as frozen tensors.

    Pictures are resized by ``interpolation``; ``mean`` and ``std`` normalise RGB in [0, 1].
    """

    patch_size: int
    patch_weight: Tensor  # (D, 3, p, p)
    class_embedding: Tensor  # (D,)
    positional_embedding: Tensor  # (1 + g * g, D), g the native grid
    ln_pre: Norm | None
    blocks: tuple[Block, ...]
    head: Head
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"

    def __repr__(self) -> str:
        width = self.class_embedding.shape[0]
        blocks = f"{len(self.blocks)} blocks of width {width}"
        return f"VisionEncoder({blocks}, patches of {self.patch_size}, {self.dtype}, {self.device})"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.patch_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, except those of the last block and the head; see :meth:`to`."""
        return self.patch_weight.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> VisionEncoder:
        """A copy on another device or in another dtype.

        The gradient of the CAM goes through the last block and the head. They stay in float32 or wider, except the
        matrices of that block's MLP, whose products need no more precision than those of the other blocks.
        """
        master_dtype = None if dtype is None else torch.promote_types(dtype, torch.float32)
        moved: VisionEncoder = _to(self, device, dtype)
        mlp = {name: getattr(moved.blocks[-1], name) for name in _MLP}
        last: Block = _to(self.blocks[-1], device, master_dtype)
        head = _to(self.head, device, master_dtype)
        return replace(moved, blocks=(*moved.blocks[:-1], replace(last, **mlp)), head=head)

    def encode(
        self,
        pixels: Tensor | Sequence[Tensor],
        request: EncodeRequest = _NOTHING_MORE,
        positions: Positions = "bilinear",
    ) -> Encoded:
        """Encode normalised images.

        Args:
            pixels: (B, 3, h * p, w * p), or a list of images (3, h * p, w * p) of different sizes; normalised with
                ``mean`` and ``std``.
            request: what to keep besides the last block's activations.
            positions: how positional embeddings are resampled, see :func:`resample_positions`.

        Raises:
            ValueError: no image, one that is not (3, H, W), a side that is not a positive multiple of the patch size.
        """
        if not len(pixels):
            raise ValueError("no images to encode; give one at least")
        grids = tuple(self._grid(image) for image in pixels)
        x, token_mask = self._embed(pixels, grids, positions)
        kept = Collector(request, self.blocks, x, token_mask)
        for index in range(len(self.blocks) - 1):
            x = kept.run(index, x)
        last_block = kept.run_last(x)
        maps = kept.attention, kept.class_attention, tuple(kept.tokens), kept.votes
        return Encoded(last_block, grids, request, *maps)

    def embed(self, pixels: Tensor, positions: Positions = "bilinear") -> Tensor:
        """The tokens (B, S, D) that enter the first block, of normalised pixels (B, 3, h * p, w * p) of one size."""
        return self._embed(pixels, [self._grid(image) for image in pixels], positions)[0]

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
        self, pixels: Tensor | Sequence[Tensor], grids: Sequence[tuple[int, int]], positions: Positions
    ) -> tuple[Tensor, Tensor | None]:
        """Class token and patches with their positions, (B, S, D); and the token mask (B, S), None if no padding."""
        if len(set(grids)) == 1:
            x = self._tokens(pixels if isinstance(pixels, Tensor) else torch.stack(list(pixels)), grids[0], positions)
        else:
            tokens = [self._tokens(image[None], grid, positions)[0] for image, grid in zip(pixels, grids, strict=True)]
            x = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        x = x if self.ln_pre is None else self.ln_pre(x)
        lengths = [1 + h * w for h, w in grids]
        if len(set(lengths)) == 1:
            return x, None
        return x, torch.arange(x.shape[1], device=x.device) < torch.tensor(lengths).to(x.device)[:, None]

    def _tokens(self, pixels: Tensor, grid: tuple[int, int], positions: Positions) -> Tensor:
        """(B, 3, h * p, w * p) to (B, 1 + h * w, D), before ``ln_pre``."""
        patch = self.patch_size
        split = pixels.to(self.device, self.dtype).reshape(len(pixels), 3, grid[0], patch, grid[1], patch)
        # A linear layer and not a convolution, because cuDNN computes float32 convolutions in TF32.
        patches = F.linear(split.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2), self.patch_weight.flatten(1))
        class_token = self.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([class_token, patches], 1) + resample_positions(self.positional_embedding, grid, positions)


_MLP = ("fc_weight", "fc_bias", "proj_weight", "proj_bias")


def resample_positions(embedding: Tensor, grid: tuple[int, int], method: Positions = "bilinear") -> Tensor:
    """Positional embeddings (1 + g * g, D) for another grid: (1 + h * w, D).

    The class token's row is kept. ``"bilinear"`` has half-pixel centres and no antialiasing, as in CLIP-ES;
    ``"bicubic"`` samples at steps of g / (n + 0.1), as SCLIP, ClearCLIP and NACLIP do. open_clip's own resize is
    bicubic with antialiasing.
    """
    side = math.isqrt(len(embedding) - 1)
    if (side, side) == grid:
        return embedding
    square = embedding[1:].T.reshape(1, -1, side, side)
    square = square.to(torch.promote_types(square.dtype, torch.float32))
    if method == "bilinear":
        resampled = F.interpolate(square, grid, mode="bilinear", align_corners=False)
    else:
        factors = tuple((length + 0.1) / side for length in grid)
        resampled = F.interpolate(square, scale_factor=factors, mode="bicubic", align_corners=False)
    return torch.cat([embedding[:1], resampled.flatten(2)[0].T.to(embedding.dtype)])


def _to(part: Any, device: torch.device | str | None, dtype: torch.dtype | None) -> Any:
    """``part`` with every tensor moved, also those nested in dataclasses and tuples."""
    if isinstance(part, Tensor):
        return part.to(device=device, dtype=dtype)
    if isinstance(part, tuple):
        return tuple(_to(item, device, dtype) for item in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{f.name: _to(getattr(part, f.name), device, dtype) for f in fields(part)})
    return part


def fingerprint(vision: VisionEncoder) -> str:
    """A SHA-256 of the encoder: of its weights, their dtypes and its structure."""
    digest = hashlib.sha256()
    _update_hash(digest, vision)
    return digest.hexdigest()


def _update_hash(digest: Any, part: Any) -> None:
    """Add to the digest a tensor, or every part of a dataclass or tuple."""
    if isinstance(part, Tensor):
        digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
        digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(part, tuple):
        digest.update(f"{len(part)} parts".encode())
        for item in part:
            _update_hash(digest, item)
    elif is_dataclass(part):
        digest.update(type(part).__name__.encode())
        for item in fields(part):
            digest.update(item.name.encode())
            _update_hash(digest, getattr(part, item.name))
    else:
        digest.update(repr(part).encode())
