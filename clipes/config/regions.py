"""Settings of regions: which there are, ``Config.regions``, and what they do, ``Config.scope`` and ``Config.vote``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .checks import require, require_flag, require_int, require_number, require_positive, require_share, setting
from .request import EncodeRequest


@dataclass(frozen=True)
class GivenRegionsConfig:
    """Regions that come with the picture: an argument of the generator, or a file for each image of a run."""

    needs_colours: ClassVar[bool] = False

    unsegmented: int = setting(0, "the id that means: in no region")

    def __post_init__(self) -> None:
        require_int("unsegmented", self.unsegmented, -(2**31))
        require(self.unsegmented < 2**32, "unsegmented", self.unsegmented, "a number of 32 bits")


@dataclass(frozen=True)
class SlicConfig:
    """SLIC superpixels of the picture (Achanta et al., TPAMI 2012), by scikit-image."""

    needs_colours: ClassVar[bool] = True

    segments: int = setting(200, "about how many superpixels a picture has")
    compactness: float = setting(10.0, "weight of the distance against the colours; larger: squarer superpixels")
    sigma: float = setting(0.0, "of the Gaussian that smooths the picture first, in pixels; 0: not smoothed")

    def __post_init__(self) -> None:
        require_int("segments", self.segments)
        require(self.segments <= 65535, "segments", self.segments, "at most 65535")
        require_positive("compactness", self.compactness)
        _require_sigma(self.sigma)


@dataclass(frozen=True)
class FelzenszwalbConfig:
    """Graph-based segments of the picture (Felzenszwalb & Huttenlocher, IJCV 2004), by scikit-image."""

    needs_colours: ClassVar[bool] = True

    scale: float = setting(100.0, "larger: larger segments")
    sigma: float = setting(0.8, "of the Gaussian that smooths the picture first, in pixels; 0: not smoothed")
    min_size: int = setting(20, "pixels that a segment has at least")

    def __post_init__(self) -> None:
        require_positive("scale", self.scale)
        _require_sigma(self.sigma)
        require_int("min_size", self.min_size)


def _require_sigma(sigma: float) -> None:
    require_number("sigma", sigma)
    require(0 <= sigma < math.inf, "sigma", sigma, "0 or more and finite")


RegionsConfig = GivenRegionsConfig | SlicConfig | FelzenszwalbConfig


@dataclass(frozen=True)
class ModeVoteConfig:
    """Each region takes its most frequent id (map correction of Zhang et al., CorrCLIP, ICCV 2025)."""


@dataclass(frozen=True)
class SeplVoteConfig:
    """Classes take regions that they mostly fill, or that hold most of them (Chen et al., SEPL, 2023; its code)."""

    majority: float = setting(0.5, "a class takes a region of which it has more than this share")
    share: float = setting(0.85, "or which has at least this share of the class; above 1: none")
    keep: bool = setting(True, "pixels of a class in no region that it could take stay of the class")

    def __post_init__(self) -> None:
        require_share("majority", self.majority)
        require_positive("share", self.share)
        require_flag("keep", self.keep)


VoteConfig = ModeVoteConfig | SeplVoteConfig


@dataclass(frozen=True)
class ScopeConfig:
    """Patches exchange only within a region (Zhang et al., CorrCLIP, ICCV 2025).

    It counts in the affinities ``attention`` and ``features`` and in the last block of the maps ``dense``.
    """

    join: float | None = setting(
        None, "regions whose mean features are so near in cosine count as one (CorrCLIP: 0.2); none: each by itself"
    )

    def __post_init__(self) -> None:
        if self.join is not None:
            require_number("join", self.join)
            require(0 <= self.join <= 2, "join", self.join, "in [0, 2] or None")

    @property
    def needs(self) -> EncodeRequest:
        """What the scope reads of the encoder."""
        return EncodeRequest(tokens=0 if self.join is None else 1)
