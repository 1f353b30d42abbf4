"""The sources of maps by their settings, each with what it reads of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import (
    ClassAttentionConfig,
    CommitteeConfig,
    DenseConfig,
    GetamConfig,
    GradCamConfig,
    PatchTextConfig,
)

from .committee import join_maps, times_attention
from .dense import dense_features
from .getam import getam_maps
from .gradcam import softmax_gradcam
from .patch_text import second_stream, surgery_maps
from .probabilities import label_shares
from .scaling import masked_min_max

Source = Callable[[VisionEncoder, Encoded, Tensor, Tensor, Pairs, Any], Tensor]


def _gradcam(
    vision: VisionEncoder, encoded: Encoded, text: Tensor, label_mask: Tensor, pairs: Pairs, config: GradCamConfig
) -> Tensor:
    return softmax_gradcam(vision.blocks[-1], vision.head, encoded.last_block, text, label_mask, pairs, config.pool)


def _patch_text(
    vision: VisionEncoder, encoded: Encoded, text: Tensor, label_mask: Tensor, pairs: Pairs, config: PatchTextConfig
) -> Tensor:
    tokens, last = encoded.tokens[-config.blocks :], encoded.last_block
    blocks = vision.blocks[-len(tokens) :]
    features = second_stream(blocks, vision.head, tokens, last, config)
    return surgery_maps(features, text, label_mask, pairs, config, last)


def _getam(
    vision: VisionEncoder, encoded: Encoded, text: Tensor, label_mask: Tensor, pairs: Pairs, config: GetamConfig
) -> Tensor:
    tokens = encoded.tokens[-config.blocks :]
    blocks = vision.blocks[-len(tokens) :]
    return getam_maps(blocks, vision.head, tokens, encoded.last_block, text, label_mask, pairs, config.pool)


def _dense(
    vision: VisionEncoder, encoded: Encoded, text: Tensor, label_mask: Tensor, pairs: Pairs, config: DenseConfig
) -> Tensor:
    block, head = vision.blocks[-1], vision.head
    x, grids = encoded.tokens[-1], encoded.grids
    settings = config.attention, config.residual, config.sigma
    features = dense_features(block, head, x, grids, *settings, encoded.layout, encoded.regions)
    scale = head.logit_scale if config.scale is None else config.scale
    shares = label_shares(features, text, label_mask.shape[1], pairs, scale)
    return masked_min_max(shares, pairs.gather_images(encoded.patch_mask))


def _committee(
    vision: VisionEncoder, encoded: Encoded, text: Tensor, label_mask: Tensor, pairs: Pairs, config: CommitteeConfig
) -> Tensor:
    members = (SOURCES[type(member)](vision, encoded, text, label_mask, pairs, member) for member in config.members)
    patch_mask = pairs.gather_images(encoded.patch_mask)
    scaled = [masked_min_max(maps, patch_mask) for maps in members]
    return masked_min_max(join_maps(scaled, config.rule), patch_mask)


def class_attention_maps(cams: Tensor, encoded: Encoded, pairs: Pairs, config: ClassAttentionConfig) -> Tensor:
    """Maps (P, N) times the class token's mean attention in the image, as ``config`` says, min-max scaled."""
    attention = pairs.gather_images(encoded.class_attention[config.blocks]).to(cams.dtype)
    patch_mask = pairs.gather_images(encoded.patch_mask)
    return masked_min_max(times_attention(cams, attention, config.exponent), patch_mask)


SOURCES: dict[type, Source] = {
    GradCamConfig: _gradcam,
    PatchTextConfig: _patch_text,
    GetamConfig: _getam,
    DenseConfig: _dense,
    CommitteeConfig: _committee,
}
"""The function of each source's settings: to maps (P, N) in [0, 1], 0 on padding.

All take the encoder, what it computed, unit text features (K + M, V, E), the images' labels (B, K) bool, which image
and label a map belongs to, and the settings.
"""
