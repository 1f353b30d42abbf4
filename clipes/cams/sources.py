"""The sources of maps by their settings, each with what it reads of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import GradCamConfig

from .gradcam import softmax_gradcam

Source = Callable[[VisionEncoder, Encoded, Tensor, Tensor, Pairs, Any], Tensor]


def _gradcam(
    vision: VisionEncoder, encoded: Encoded, text: Tensor, label_mask: Tensor, pairs: Pairs, config: GradCamConfig
) -> Tensor:
    return softmax_gradcam(vision.blocks[-1], vision.head, encoded.last_block, text, label_mask, pairs, config.pool)


SOURCES: dict[type, Source] = {GradCamConfig: _gradcam}
"""The function of each source's settings: to maps (P, N) in [0, 1], min-max scaled, 0 on padding.

All take the encoder, what it computed, unit text features (K + M, V, E), the images' labels (B, K) bool, which image
and label a map belongs to, and the settings.
"""
