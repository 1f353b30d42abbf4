"""Affinity by the cosine of features: SEAM's pixel correlation module (Wang et al., CVPR 2020).

The features are those of CLIP, where SEAM learns a layer for them.

Axes: B images, P pairs of an image and a label, N patches, padded to the largest N of the batch, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipes.clip.layout import CLASS_TOKEN_FIRST, Layout
from clipes.clip.pairs import Pairs
from clipes.clip.transformer import Block, merge_heads, project_qkv
from clipes.config import FeatureAffinityConfig, Features

from .propagation import normalise_rows, propagate
from .scaling import masked_min_max
from .scope import in_scope

_EPSILON = 1e-5  # of SEAM and SPA, beside norms and sums


def block_features(block: Block, tokens: Tensor, features: Features, layout: Layout = CLASS_TOKEN_FIRST) -> Tensor:
    """The patches' features (B, N, D), float32 or wider: the ``tokens`` (B, S, D) that enter a block, or its keys
    or values of them, heads side by side.
    """
    if features != "tokens":
        _, key, value = project_qkv(block, block.attention_input(tokens), layout)
        tokens = merge_heads(key if features == "keys" else value)
    return tokens[:, layout.patches].to(torch.promote_types(tokens.dtype, torch.float32))


def feature_cosines(features: Tensor, patch_mask: Tensor, centred: bool = True, threshold: float = 0.0) -> Tensor:
    """Cosines (B, N, N) float64 of the patches' features (B, N, D), 0 where below ``threshold`` and on padding.

    ``centred`` subtracts the mean over the patches in ``patch_mask`` (B, N) bool first. Vectors are divided by their
    length + 1e-5.
    """
    features = features * patch_mask[..., None]
    if centred:
        mean = features.sum(1, keepdim=True) / patch_mask.sum(1)[:, None, None]
        features = (features - mean) * patch_mask[..., None]
    unit = features / (features.norm(dim=-1, keepdim=True) + _EPSILON)
    cosines = unit @ unit.mT
    return torch.where(cosines >= threshold, cosines, 0).double()


def feature_affinity(
    features: Tensor,
    patch_mask: Tensor,
    centred: bool = True,
    threshold: float = 0.0,
    power: float = 1.0,
    regions: Tensor | None = None,
) -> Tensor:
    """The matrix (B, N, N) float64 of SEAM: :func:`feature_cosines` to a power, rows divided by (their sum + 1e-5).

    SEAM itself: threshold 0, power 1, not centred. With ``regions`` (B, N) int64, 0 for none, within these alone
    (:func:`clipes.cams.scope.in_scope`).
    """
    cosines = feature_cosines(features, patch_mask, centred, threshold)
    if regions is not None:
        cosines = cosines * in_scope(cosines, regions, patch_mask)
    return normalise_rows(cosines**power, _EPSILON)


def propagate_by_features(
    cams: Tensor,
    features: Sequence[Tensor],
    patch_mask: Tensor,
    pairs: Pairs,
    config: FeatureAffinityConfig,
    regions: Tensor | None = None,
) -> Tensor:
    """Propagate each map along its image's :func:`feature_affinity`, of each block's features by itself.

    Args:
        cams: (P, N) in [0, 1], 0 on padding.
        features: of each block, (B, N, D).
        patch_mask: (B, N) bool, False on padding.
        pairs: which image a map belongs to.
        config: the settings.
        regions: (B, N) int64, 0 for none, if patches are to exchange within these alone.

    Returns:
        (P, N) in [0, 1], of the maps' dtype: the mean of the blocks' min-max scaled maps, min-max scaled.
    """
    # In float64, because the affinity flattens maps and the min-max scaling then magnifies rounding errors.
    maps, mask_of_maps = pairs.pad_per_image(cams.double()), pairs.gather_images(patch_mask)
    total = torch.zeros_like(cams, dtype=torch.float64)
    for of_block in features:
        matrix = feature_affinity(of_block, patch_mask, config.centred, config.threshold, config.power, regions)
        total += masked_min_max(pairs.unpad(propagate(maps, matrix, config.hops)), mask_of_maps)
    return masked_min_max(total / len(features), mask_of_maps).to(cams)
