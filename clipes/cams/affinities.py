"""The affinities by their settings, each with what it reads of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from clipes.clip.pairs import Pairs
from clipes.clip.vision import Encoded, VisionEncoder
from clipes.config import AttentionAffinityConfig

from .affinity import propagate_cams

Affinity = Callable[[Tensor, VisionEncoder, Encoded, Pairs, Any], Tensor]


def _attention(
    cams: Tensor, vision: VisionEncoder, encoded: Encoded, pairs: Pairs, config: AttentionAffinityConfig
) -> Tensor:
    return propagate_cams(cams, encoded.attention[config.attention], pairs, encoded.grids, config)


AFFINITIES: dict[type, Affinity] = {AttentionAffinityConfig: _attention}
"""The function of each affinity's settings: from maps (P, N) in [0, 1] to maps (P, N) in [0, 1].

All take the maps, the encoder, what it computed, which image a map belongs to, and the settings.
"""
