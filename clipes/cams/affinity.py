"""Class-aware attention-based affinity, CAA (CLIP-ES section 3.4, equations 5-8), and its relatives.

The mean attention W of an image is made doubly stochastic by Sinkhorn scaling, D = diag(r) W diag(c), and
symmetrised, A = (D + D^T) / 2. Neither D nor A is ever formed: A x = (r * W(c * x) + c * W^T(r * x)) / 2. A is formed
only where it is raised to a power, cut beyond a radius, or normalised by rows.

Axes: B images, P pairs of an image and a label, N = h * w patches, padded to the largest N of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.config import AttentionAffinityConfig

from .boxes import all_box_masks
from .propagation import near_patches_of, normalise_rows, propagate
from .scaling import masked_min_max


def propagate_cams(
    cams: Tensor,
    attention: Tensor,
    pairs: Pairs,
    grids: Sequence[tuple[int, int]],
    config: AttentionAffinityConfig,
    votes: Tensor | None = None,
) -> Tensor:
    """:func:`spread_cams`, min-max scaled: (P, N) in [0, 1], of the maps' dtype; all zero if no region is above the
    threshold.
    """
    spread = spread_cams(cams, attention, pairs, grids, config, votes)
    patches = torch.tensor([h * w for h, w in grids]).to(cams.device)
    patch_mask = torch.arange(cams.shape[1], device=cams.device) < patches[pairs.image, None]
    return masked_min_max(spread, patch_mask).to(cams)


def spread_cams(
    cams: Tensor,
    attention: Tensor,
    pairs: Pairs,
    grids: Sequence[tuple[int, int]],
    config: AttentionAffinityConfig,
    votes: Tensor | None = None,
) -> Tensor:
    """Propagate each map along the attention affinity of its image, from inside the map's boxes (equation 8).

    Args:
        cams: (P, N) in [0, 1].
        attention: (B, N, N) mean patch-to-patch attention, non-negative, 0 on padding.
        pairs: which image a map belongs to.
        grids: (h, w) of each image; the first h * w of its N patches are not padding.
        config: the settings.
        votes: (B, N, N), in how many blocks a pair of patches is above the mean; read if ``config.votes`` is above 0.

    Returns:
        (P, N) float64, not scaled, 0 on padding.

    Raises:
        ValueError: ``config.votes`` is above 0 and there are no votes.
    """
    if config.boxes != "none":
        cams = cams * all_box_masks(cams, pairs, grids, config.box_threshold, config.boxes)
    # In float64, because the affinity flattens maps and the min-max scaling then magnifies rounding errors.
    maps = pairs.pad_per_image(cams.double())  # (B, C, N)
    if _is_scaling_only(config):
        attention = _voted(attention.double(), votes, config.votes)
        rows, columns = (factor[:, None] for factor in sinkhorn_scaling(attention, config.sinkhorn_iterations))
        for _ in range(config.hops):
            maps = _apply_affinity(maps, attention, rows, columns, config.symmetric)
    else:
        maps = propagate(maps, affinity_matrix(attention, grids, config, votes), config.hops)
    return pairs.unpad(maps)


def _is_scaling_only(config: AttentionAffinityConfig) -> bool:
    """Whether the affinity is the attention with scaled rows and columns, symmetrised or not."""
    return config.power == 1 and config.radius is None and config.row_epsilon is None


def _voted(attention: Tensor, votes: Tensor | None, least: int) -> Tensor:
    """The attention (B, N, N) where at least so many blocks vote for a pair, else 0 (TagCLIP, AAAI 2024)."""
    if least == 0:
        return attention
    if votes is None:
        raise ValueError(f"votes is {least} and no votes are given; encode with votes, or set votes=0")
    return attention * (votes >= least)


def _apply_affinity(maps: Tensor, attention: Tensor, rows: Tensor, columns: Tensor, symmetric: bool) -> Tensor:
    """A x for maps x (B, C, N), from the attention (B, N, N) and its Sinkhorn factors (B, 1, N)."""
    forward = rows * ((columns * maps) @ attention.mT)
    if not symmetric:
        return forward
    backward = columns * ((rows * maps) @ attention)
    return (forward + backward) / 2


def affinity_matrix(
    attention: Tensor,
    grids: Sequence[tuple[int, int]],
    config: AttentionAffinityConfig,
    votes: Tensor | None = None,
) -> Tensor:
    """The affinity A (B, N, N) float64 by which each hop of :func:`spread_cams` propagates, with its arguments.

    Row i holds what patch i takes of each other. Rows sum to approximately 1 after one or more Sinkhorn iterations.
    """
    attention = _voted(attention.double(), votes, config.votes)
    rows, columns = sinkhorn_scaling(attention, config.sinkhorn_iterations)
    matrix = rows[..., None] * attention * columns[:, None]
    if config.symmetric:
        matrix = (matrix + matrix.mT) / 2
    if config.power != 1:
        matrix = matrix**config.power
    if config.radius is not None:
        matrix = matrix * near_patches_of(grids, config.radius, matrix.shape[-1], matrix.device)
    return matrix if config.row_epsilon is None else normalise_rows(matrix, config.row_epsilon)


def sinkhorn_scaling(attention: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Row and column factors (B, N), (B, N); each iteration divides by the column sums, then by the row sums.

    A row or column of zeros, such as padding, has the factor 0.
    """
    rows = attention.new_ones(attention.shape[:-1])
    columns = torch.ones_like(rows)
    for _ in range(iterations):
        columns = _inverse((attention.mT @ rows[..., None])[..., 0])
        rows = _inverse((attention @ columns[..., None])[..., 0])
    return rows, columns


def _inverse(sums: Tensor) -> Tensor:
    return torch.where(sums == 0, 0, 1 / sums)
