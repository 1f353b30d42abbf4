"""Settings of the affinities that propagate maps between patches: ``Config.affinity``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import require, require_int, require_number, require_one_of, setting
from .request import AttentionBlocks, EncodeRequest

Boxes = Literal["paper", "exact"]


@dataclass(frozen=True)
class AttentionAffinityConfig:
    """Class-aware attention-based affinity, CAA (CLIP-ES section 3.4)."""

    last_blocks: int = setting(8, "how many of the last blocks' attention maps are averaged (all, if there are fewer)")
    sinkhorn_iterations: int = setting(3, "iterations of column and row normalisation; 0: the attention as it is")
    box_threshold: float = setting(0.4, "share of a map's maximum above which a region gets a box, in [0, 1)")
    boxes: Boxes = setting("paper", "'paper': boxes never cover the last row and column; 'exact': they may")
    hops: int = setting(2, "how often the affinity is applied")

    def __post_init__(self) -> None:
        require_int("last_blocks", self.last_blocks)
        require_int("sinkhorn_iterations", self.sinkhorn_iterations, 0)
        require_int("hops", self.hops)
        require_number("box_threshold", self.box_threshold)
        require(0 <= self.box_threshold < 1, "box_threshold", self.box_threshold, "in [0, 1)")
        require_one_of("boxes", self.boxes, ("paper", "exact"))

    @property
    def attention(self) -> AttentionBlocks:
        """Whose mean the attention is."""
        return AttentionBlocks(self.last_blocks)

    @property
    def needs(self) -> EncodeRequest:
        """What the affinity reads of the encoder."""
        return EncodeRequest(attention=frozenset({self.attention}))


AffinityConfig = AttentionAffinityConfig
