"""Settings of the affinities that propagate maps between patches: ``Config.affinity``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import (
    require,
    require_flag,
    require_int,
    require_number,
    require_one_of,
    require_positive,
    require_share,
    setting,
)
from .request import AttentionBlocks, EncodeRequest

Boxes = Literal["paper", "exact", "none"]
Features = Literal["tokens", "keys", "values"]


@dataclass(frozen=True)
class AttentionAffinityConfig:
    """Class-aware attention-based affinity, CAA (CLIP-ES section 3.4), and what others make of attention.

    The mean attention of the last blocks is kept where enough blocks agree (TagCLIP), Sinkhorn-normalised,
    symmetrised, raised to a power (PSA), cut beyond a radius (AFA), and normalised by rows: in this order, each step
    if its setting asks for it.
    """

    last_blocks: int = setting(8, "how many of the last blocks' attention maps are averaged (all, if there are fewer)")
    skip_last: bool = setting(False, "leave out the last of them")
    oldest_block: Literal["equal", "per-head"] = setting(
        "equal", "weight of the oldest of them: as the others, or 1 / heads of it (ExCEL's code)"
    )
    votes: int = setting(0, "keep pairs of patches above the mean attention in so many of all blocks; 0: all pairs")
    sinkhorn_iterations: int = setting(3, "iterations of column and row normalisation; 0: the attention as it is")
    symmetric: bool = setting(True, "mean of the affinity and its transpose")
    power: float = setting(1.0, "exponent of each weight")
    radius: int | None = setting(None, "patches exchange only within so many rows and columns; none: everywhere")
    row_epsilon: float | None = setting(
        None, "added to the sum of a patch's weights, by which they are divided at the end; none: not divided"
    )
    box_threshold: float = setting(0.4, "share of a map's maximum above which a region gets a box, in [0, 1)")
    boxes: Boxes = setting(
        "paper", "'paper': boxes never cover the last row and column; 'exact': they may; 'none': from everywhere"
    )
    hops: int = setting(2, "how often the affinity is applied")

    def __post_init__(self) -> None:
        require_int("last_blocks", self.last_blocks)
        require_flag("skip_last", self.skip_last)
        require_flag("symmetric", self.symmetric)
        require(not self.skip_last or self.last_blocks > 1, "last_blocks", self.last_blocks, "above 1 with skip_last")
        require_one_of("oldest_block", self.oldest_block, ("equal", "per-head"))
        require_int("votes", self.votes, 0)
        require_int("sinkhorn_iterations", self.sinkhorn_iterations, 0)
        require_positive("power", self.power)
        if self.radius is not None:
            require_int("radius", self.radius)
        if self.row_epsilon is not None:
            require_number("row_epsilon", self.row_epsilon)
            require(0 <= self.row_epsilon <= 1e6, "row_epsilon", self.row_epsilon, "in [0, 1e6] or None")
        require_int("hops", self.hops)
        require_number("box_threshold", self.box_threshold)
        require(0 <= self.box_threshold < 1, "box_threshold", self.box_threshold, "in [0, 1)")
        require_one_of("boxes", self.boxes, ("paper", "exact", "none"))

    @property
    def attention(self) -> AttentionBlocks:
        """Whose mean the attention is."""
        return AttentionBlocks(self.last_blocks, self.skip_last, self.oldest_block == "per-head")

    @property
    def needs(self) -> EncodeRequest:
        """What the affinity reads of the encoder."""
        return EncodeRequest(attention=frozenset({self.attention}), votes=self.votes > 0)


@dataclass(frozen=True)
class FeatureAffinityConfig:
    """Cosine of features (Wang et al., SEAM, CVPR 2020: the pixel correlation module).

    The cosines of a block's features that are above a threshold; each patch's weights then sum to 1. The maps of
    several blocks are averaged, our reading of SSA (Sun & Li, 2021). Features are centred first, because those of a ViT
    have a common direction, which makes all cosines alike.
    """

    features: Features = setting("tokens", "of each block: the tokens that enter it, its keys or its values")
    blocks: int = setting(1, "last blocks whose features are used, each by itself")
    centred: bool = setting(True, "subtract the features' mean over the patches first")
    threshold: float = setting(0.0, "cosines below it count as 0")
    power: float = setting(1.0, "exponent of each cosine")
    hops: int = setting(1, "how often the affinity is applied")

    def __post_init__(self) -> None:
        require_one_of("features", self.features, ("tokens", "keys", "values"))
        require_int("blocks", self.blocks)
        require_flag("centred", self.centred)
        require_share("threshold", self.threshold)
        require_positive("power", self.power)
        require_int("hops", self.hops)

    @property
    def needs(self) -> EncodeRequest:
        """What the affinity reads of the encoder."""
        return EncodeRequest(tokens=self.blocks)


@dataclass(frozen=True)
class ContrastAffinityConfig:
    """Self-correlation of foreground seeds minus that of background seeds (Pan et al., SPA, CVPR 2021).

    The defaults are SPA's for CUB.
    """

    features: Features = setting("tokens", "of each block: the tokens that enter it, its keys or its values")
    blocks: int = setting(2, "last blocks whose correlations are summed")
    centred: bool = setting(True, "subtract the features' mean over the patches first")
    threshold: float = setting(0.1, "cosines below it count as 0")
    order: int = setting(2, "of the higher correlation: products of the cosines' matrix with itself")
    higher_threshold: float = setting(0.5, "higher correlations below it, divided by the number of patches, count as 0")
    higher_weight: float = setting(2.0, "weight of the higher correlation; 0: the cosines alone")
    foreground: float = setting(0.1, "patches of a map at or above it are foreground seeds")
    background: float = setting(0.05, "patches of a map at or below it are background seeds")

    def __post_init__(self) -> None:
        require_one_of("features", self.features, ("tokens", "keys", "values"))
        require_int("blocks", self.blocks)
        require_flag("centred", self.centred)
        for name in ("threshold", "foreground", "background"):
            require_share(name, getattr(self, name))
        require_int("order", self.order, 2)
        require(self.order <= 10, "order", self.order, "at most 10")
        for name in ("higher_threshold", "higher_weight"):
            require_number(name, getattr(self, name))
            require(0 <= getattr(self, name) <= 1e6, name, getattr(self, name), "in [0, 1e6]")
        require(
            self.background < self.foreground, "background", self.background, f"below foreground, {self.foreground}"
        )

    @property
    def needs(self) -> EncodeRequest:
        """What the affinity reads of the encoder."""
        return EncodeRequest(tokens=self.blocks)


AffinityConfig = AttentionAffinityConfig | FeatureAffinityConfig | ContrastAffinityConfig
