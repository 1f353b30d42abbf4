"""Self-correlation of foreground seeds against that of background seeds (Pan et al., SPA, CVPR 2021).

Matrices are read by columns: column j holds how much each patch correlates with patch j, and sums to 1 at most.

Axes: as in :mod:`clipes.cams.feature_affinity`, C maps of each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.config import ContrastAffinityConfig

from .feature_affinity import feature_cosines
from .propagation import normalise_columns
from .scaling import masked_min_max

_EPSILON = 1e-10  # beside the sums of columns and the ranges of maps, as in the original code


def first_correlation(cosines: Tensor) -> Tensor:
    """Columns of cosines (B, N, N), none negative, divided by (their sum + 1e-5)."""
    return normalise_columns(cosines, 1e-5)


def higher_correlation(cosines: Tensor, patch_mask: Tensor, threshold: float, order: int = 2) -> Tensor:
    """Correlations over paths of ``order`` steps between different patches: (B, N, N).

    The cosines with a diagonal of 0 and columns that sum to 1 are multiplied with themselves; columns are normalised
    after each product. Entries below ``threshold`` divided by the number of patches become 0 at the end.
    """
    step = first_correlation(cosines * ~torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device))
    paths = step
    for _ in range(order - 1):
        paths = normalise_columns(paths @ step, _EPSILON)
    least = threshold / patch_mask.sum(1)[:, None, None]
    return torch.where(paths >= least, paths, 0)


def join_correlations(first: Tensor, higher: Tensor, weight: float) -> Tensor:
    """The larger of ``first`` and ``weight`` times ``higher`` (B, N, N), columns normalised."""
    return normalise_columns(torch.maximum(first, weight * higher), _EPSILON)


def seed_contrast(maps: Tensor, matrix: Tensor, patch_mask: Tensor, foreground: float, background: float) -> Tensor:
    """What foreground seeds correlate with less what background seeds do.

    Args:
        maps: (B, C, N), min-max scaled.
        matrix: (B, N, N), read by columns.
        patch_mask: (B, N) bool, False on padding.
        foreground: patches of a map at or above it are foreground seeds.
        background: patches at or below it are background seeds.

    Returns:
        (B, C, N) in [0, 1], min-max scaled; seeds that a map lacks count as 0 everywhere.
    """
    mask = patch_mask[:, None]
    by_seed = masked_min_max(matrix.mT, mask, _EPSILON)
    seen, unseen = (
        masked_min_max((seeds & mask).to(matrix.dtype) @ by_seed, mask, _EPSILON)
        for seeds in (maps >= foreground, maps <= background)
    )
    return masked_min_max((seen - unseen).clamp_min(0), mask, _EPSILON)


def propagate_by_contrast(
    cams: Tensor, features: Sequence[Tensor], patch_mask: Tensor, pairs: Pairs, config: ContrastAffinityConfig
) -> Tensor:
    """Each map by :func:`seed_contrast` on the sum of its image's correlations in several blocks.

    Arguments as :func:`clipes.cams.feature_affinity.propagate_by_features`. Returns (P, N) in [0, 1], of the maps'
    dtype, min-max scaled.
    """
    matrix = reduce(torch.add, (_correlation(of_block, patch_mask, config) for of_block in features))
    maps = masked_min_max(pairs.pad_per_image(cams.double()), patch_mask[:, None], _EPSILON)
    contrast = seed_contrast(maps, matrix, patch_mask, config.foreground, config.background)
    return pairs.unpad(contrast).to(cams)


def _correlation(features: Tensor, patch_mask: Tensor, config: ContrastAffinityConfig) -> Tensor:
    cosines = feature_cosines(features, patch_mask, config.centred, config.threshold)
    first = first_correlation(cosines)
    if config.higher_weight == 0:
        return first
    higher = higher_correlation(cosines, patch_mask, config.higher_threshold, config.order)
    return join_correlations(first, higher, config.higher_weight)
