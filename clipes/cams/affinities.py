"""The affinities by their settings, each with what it reads of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import AttentionAffinityConfig, ContrastAffinityConfig, FeatureAffinityConfig

from .affinity import propagate_cams
from .contrast_affinity import propagate_by_contrast
from .feature_affinity import block_features, propagate_by_features
from .propagation import normalise_rows
from .scope import in_scope

Affinity = Callable[[Tensor, VisionEncoder, Encoded, Pairs, Any], Tensor]


def _attention(
    cams: Tensor, vision: VisionEncoder, encoded: Encoded, pairs: Pairs, config: AttentionAffinityConfig
) -> Tensor:
    attention = scoped_attention(encoded, config)
    return propagate_cams(cams, attention, pairs, encoded.grids, config, encoded.votes)


def scoped_attention(encoded: Encoded, config: AttentionAffinityConfig) -> Tensor:
    """The mean attention (B, N, N) that ``config`` asks for, 0 between regions that are to be kept apart.

    What is left of a patch's row is scaled to the row's former sum, as a softmax within the region would be.
    """
    attention = encoded.attention[config.attention]
    if encoded.regions is None:
        return attention
    inside = attention * in_scope(attention, encoded.regions, encoded.patch_mask)
    return normalise_rows(inside) * attention.sum(-1, keepdim=True)


def _features(
    cams: Tensor, vision: VisionEncoder, encoded: Encoded, pairs: Pairs, config: FeatureAffinityConfig
) -> Tensor:
    features, patch_mask = _features_of_blocks(vision, encoded, config)
    return propagate_by_features(cams, features, patch_mask, pairs, config, encoded.regions)


def _contrast(
    cams: Tensor, vision: VisionEncoder, encoded: Encoded, pairs: Pairs, config: ContrastAffinityConfig
) -> Tensor:
    features, patch_mask = _features_of_blocks(vision, encoded, config)
    return propagate_by_contrast(cams, features, patch_mask, pairs, config)


def _features_of_blocks(
    vision: VisionEncoder, encoded: Encoded, config: FeatureAffinityConfig | ContrastAffinityConfig
) -> tuple[list[Tensor], Tensor]:
    """The patches' features (B, N, D) of each chosen block, and which patches are no padding, (B, N) bool."""
    tokens = encoded.tokens[-config.blocks :]
    blocks = vision.blocks[-len(tokens) :]
    features = [
        block_features(block, x, config.features, encoded.layout) for block, x in zip(blocks, tokens, strict=True)
    ]
    return features, encoded.patch_mask


AFFINITIES: dict[type, Affinity] = {
    AttentionAffinityConfig: _attention,
    FeatureAffinityConfig: _features,
    ContrastAffinityConfig: _contrast,
}
"""The function of each affinity's settings: from maps (P, N) in [0, 1] to maps (P, N) in [0, 1].

All take the maps, the encoder, what it computed, which image a map belongs to, and the settings.
"""
