"""Scope: patches exchange only within a region of the picture (Zhang et al., CorrCLIP, ICCV 2025).

Axes: B images, N = h * w patches, padded to the largest N of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional as F

from clipes.clip.layout import Layout
from clipes.clip.transformer import Block, merge_heads, project_qkv
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import ScopeConfig


def patch_regions(regions: NDArray[np.int32], grid: tuple[int, int]) -> NDArray[np.int64]:
    """The region (h * w,) that most of each patch's pixels are in, the smallest id of equals; 0 counts as one.

    Takes ids (H, W), and the patches (h, w) that the picture is resized to.

    >>> patch_regions(np.array([[1, 1, 2, 0], [1, 2, 2, 0]]), (1, 2)).tolist()
    [1, 0]
    """
    rows, columns = (_samples(*sides) for sides in zip(regions.shape, grid, strict=True))
    sampled = regions[rows[:, None], columns].reshape(grid[0], -1, grid[1], len(columns) // grid[1])
    patches = sampled.swapaxes(1, 2).reshape(grid[0] * grid[1], -1)
    patch = np.repeat(np.arange(len(patches)), patches.shape[1])
    (patch, region), count = np.unique(np.stack([patch, patches.ravel()]), axis=1, return_counts=True)
    best = np.lexsort((region, -count, patch))
    return np.asarray(region[best[np.searchsorted(patch, np.arange(len(patches)))]], dtype=np.int64)


def _samples(side: int, patches: int) -> NDArray[np.int64]:
    """The pixels, as many for each patch, that are looked at along one side of ``side`` pixels."""
    count = patches * -(-side // patches)
    return ((2 * np.arange(count) + 1) * side) // (2 * count)


def in_scope(similarity: Tensor, regions: Tensor, patch_mask: Tensor) -> Tensor:
    """Which pairs of patches exchange: (B, N, N) bool.

    Both are in one region; or one of them is in none, and they are more similar than two patches of the image are on
    average. Every patch has itself.

    Args:
        similarity: (B, N, N) of any scale.
        regions: (B, N) int64, 0 where a patch is in none.
        patch_mask: (B, N) bool, False on padding.
    """
    both = patch_mask[:, :, None] & patch_mask[:, None]
    mean = (similarity * both).sum((1, 2), keepdim=True) / both.sum((1, 2), keepdim=True)
    free = (regions == 0)[:, :, None] | (regions == 0)[:, None]
    one = regions[:, :, None] == regions[:, None]
    itself = torch.eye(regions.shape[1], dtype=torch.bool, device=regions.device)
    return both & (torch.where(free, similarity > mean, one) | itself)


def scope_features(block: Block, tokens: Tensor, patch_mask: Tensor, layout: Layout) -> Tensor:
    """Unit features (B, N, D) by which regions are joined: query plus key of a block, heads side by side, centred.

    Takes the ``tokens`` (B, S, D) that enter it. CorrCLIP takes those of DINO.
    """
    query, key, _ = project_qkv(block, block.attention_input(tokens), layout)
    features = merge_heads(query + key)[:, layout.patches] * patch_mask[..., None]
    mean = features.sum(1, keepdim=True) / patch_mask.sum(1)[:, None, None]
    return F.normalize(features - mean, dim=-1)


def joined_regions(features: Tensor, regions: Tensor, distance: float) -> Tensor:
    """Regions whose mean features are near each other as one: (N,) int64, numbered from 1, 0 where a patch is in none.

    Two regions are joined if the cosine of their means is at most ``distance`` below the highest cosine of two regions,
    a region's with itself included; and so are those that others join. One region, and no patch without one, stay.

    Args:
        features: (N, D) unit.
        regions: (N,) int64.
        distance: CorrCLIP has 0.2.
    """
    ids, index = torch.unique(regions, return_inverse=True)
    segmented = ids > 0
    if len(ids) <= 2 or not segmented.any():
        return regions
    sums = features.new_zeros(len(ids), features.shape[1]).index_add_(0, index, features)
    means = F.normalize(F.normalize(sums, dim=-1)[segmented], dim=-1)
    cosines = means @ means.mT
    near = (cosines.max() - cosines <= distance).cpu().numpy()
    _, cluster = connected_components(near, directed=False)
    numbers = torch.zeros_like(ids)
    numbers[segmented] = torch.from_numpy(cluster).to(ids) + 1
    return numbers[index]


def scoped(
    vision: VisionEncoder, encoded: Encoded, regions: Sequence[NDArray[np.int32] | None] | None, config: ScopeConfig
) -> Encoded:
    """The batch with the region of each patch, from ids (H, W) of each image's regions, at any size.

    Raises ValueError where an image has none.
    """
    found = [own for own in regions or [] if own is not None]
    if len(found) != len(encoded.grids):
        raise ValueError("a scope needs the regions of each picture; set config.regions, or give regions")
    patch_mask = encoded.patch_mask
    padded = torch.zeros(patch_mask.shape, dtype=torch.int64)
    for row, own, grid in zip(padded, found, encoded.grids, strict=True):
        row[: grid[0] * grid[1]] = torch.from_numpy(patch_regions(own, grid))
    padded = padded.to(patch_mask.device)
    if config.join is not None:
        features = scope_features(vision.blocks[-1], encoded.tokens[-1], patch_mask, encoded.layout)
        for row, own_features, mask in zip(padded, features, patch_mask, strict=True):
            row[mask] = joined_regions(own_features[mask], row[mask], config.join)
    return replace(encoded, regions=padded)
