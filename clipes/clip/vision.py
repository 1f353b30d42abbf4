"""The vision side of CLIP: images to tokens and attention, over a ViT's weights, at any image size.

Axes: B images, (h, w) patch grid, N = h * w, S = R + N tokens, R of them before the patches, D width, p patch size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from clipes.config import AttentionBlocks, EncodeRequest, Positions
from clipes.device.pixels import Interpolation

from .collect import Collector
from .head import Head
from .layout import Layout
from .norm import Norm, normed
from .positions import resample_positions
from .rotary import RotaryPositions
from .stem import PatchLayer, patch_size, patches_of
from .transformer import Block, BlockActivations

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

    @property
    def layout(self) -> Layout:
        """Which tokens are patches."""
        return self.last_block.layout

    @property
    def patch_mask(self) -> Tensor:
        """(B, N) bool, False on padding."""
        return self.last_block.patch_mask

    def check(self, needs: EncodeRequest) -> None:
        """ValueError unless everything that ``needs`` names was kept."""
        if needs | self.request != self.request:
            raise ValueError("encoded for other settings, without what these need; encode with the same config")


@dataclass(frozen=True, repr=False)
class VisionEncoder:
    """The vision side of a CLIP as frozen tensors: a description of its transformer, part by part.

    Attributes:
        stem: the layers that make patches of pixels.
        prefix: (R, D) the tokens before the patches, the class token first; R may be 0.
        native_grid: the (h, w) that ``positions`` were learnt for.
        positions: (R + N, D), added to the tokens; 0 for tokens without a position.
        ln_pre: normalises the tokens that enter the blocks.
        blocks, head: what comes after.
        mean, std: normalise RGB in [0, 1].
        interpolation: how pictures are resized.
        rotary: positions by which the blocks turn queries and keys, besides those that are added.
    """

    stem: tuple[PatchLayer, ...]
    prefix: Tensor
    native_grid: tuple[int, int]
    positions: Tensor
    ln_pre: Norm | None
    blocks: tuple[Block, ...]
    head: Head
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    rotary: RotaryPositions | None = None

    def __repr__(self) -> str:
        blocks = f"{len(self.blocks)} blocks of width {self.prefix.shape[1]}"
        return f"VisionEncoder({blocks}, patches of {self.patch_size}, {self.dtype}, {self.device})"

    @property
    def patch_size(self) -> int:
        """The side of a patch in pixels, p."""
        return patch_size(self.stem)

    @property
    def layout(self) -> Layout:
        """The order of an image's tokens."""
        return Layout(len(self.prefix))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.prefix.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, except those of the last block and the head; see :meth:`to`."""
        return self.prefix.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> VisionEncoder:
        """A copy on another device or in another dtype.

        The gradient of the CAM goes through the last block and the head. They stay in float32 or wider, except the
        matrices of that block's MLP, whose products need no more precision than those of the other blocks.
        """
        master_dtype = None if dtype is None else torch.promote_types(dtype, torch.float32)
        moved: VisionEncoder = _to(self, device, dtype)
        last: Block = _to(self.blocks[-1], device, master_dtype)
        head = _to(self.head, device, master_dtype)
        mlp = replace(moved.blocks[-1].mlp, norm=last.mlp.norm)
        return replace(moved, blocks=(*moved.blocks[:-1], replace(last, mlp=mlp)), head=head)

    def check(self, needs: EncodeRequest) -> None:
        """ValueError for settings that need a class token where the model has none."""
        if needs.class_token and not len(self.prefix):
            raise ValueError(
                "the chosen settings read a class token, and this model has none; choose the map 'gradcam' or 'dense', "
                "and no class attention"
            )

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
            positions: how positional embeddings are resampled, see :func:`clipes.clip.positions.resample_positions`.

        Raises:
            ValueError: no image, one that is not (3, H, W), a side that is not a positive multiple of the patch size, a
                request that the model cannot serve.
        """
        self.check(request)
        if not len(pixels):
            raise ValueError("no images to encode; give one at least")
        grids = tuple(self._grid(image) for image in pixels)
        x, layout = self._embed(pixels, grids, positions)
        kept = Collector(request, self.blocks, x, layout)
        for index in range(len(self.blocks) - 1):
            x = kept.run(index, x)
        last_block = kept.run_last(x)
        maps = kept.attention, kept.class_attention, tuple(kept.tokens), kept.votes
        return Encoded(last_block, grids, request, *maps)

    def embed(self, pixels: Tensor | Sequence[Tensor], positions: Positions = "bilinear") -> tuple[Tensor, Layout]:
        """The tokens (B, S, D) that enter the first block, and which of them are patches. Arguments and errors as of
        :meth:`encode`.
        """
        return self._embed(pixels, [self._grid(image) for image in pixels], positions)

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
    ) -> tuple[Tensor, Layout]:
        """The tokens that enter the first block, (B, S, D), and which of them are patches."""
        if len(set(grids)) == 1:
            x = self._tokens(pixels if isinstance(pixels, Tensor) else torch.stack(list(pixels)), grids[0], positions)
        else:
            tokens = [self._tokens(image[None], grid, positions)[0] for image, grid in zip(pixels, grids, strict=True)]
            x = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        x = normed(self.ln_pre, x)
        rotation = self.rotary.rotation(grids, len(self.prefix), x) if self.rotary else None
        lengths = [len(self.prefix) + h * w for h, w in grids]
        if len(set(lengths)) == 1:
            return x, replace(self.layout, rotation=rotation)
        mask = torch.arange(x.shape[1], device=x.device) < torch.tensor(lengths).to(x.device)[:, None]
        return x, replace(self.layout, token_mask=mask, rotation=rotation)

    def _tokens(self, pixels: Tensor, grid: tuple[int, int], positions: Positions) -> Tensor:
        """(B, 3, h * p, w * p) to (B, R + h * w, D), before ``ln_pre``."""
        patches = patches_of(self.stem, pixels.to(self.device, self.dtype))
        prefix = self.prefix.expand(len(pixels), *self.prefix.shape)
        return torch.cat([prefix, patches], 1) + resample_positions(self.positions, self.native_grid, grid, positions)


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
