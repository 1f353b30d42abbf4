"""Settings of the refinements by colour: ``Config.refine``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from .checks import require, require_int, require_number, require_one_of, require_positive, setting

Resolution = Literal["full", "half"]


@dataclass(frozen=True)
class CrfConfig:
    """Fully connected CRF (Krähenbühl & Koltun 2011) with the parameters of CLIP-ES."""

    default_ignore_below: ClassVar[float | None] = 0.95  # its scores are close to 0 and 1

    iterations: int = setting(10, "mean-field iterations")
    smooth_sigma: float = setting(1.0, "reach of the smoothness kernel in pixels")
    smooth_weight: float = setting(3.0, "weight of the smoothness kernel")
    bilateral_sigma: float = setting(67.0, "reach of the appearance kernel in pixels")
    colour_sigma: float = setting(3.0, "reach of the appearance kernel in colour levels, of 255")
    bilateral_weight: float = setting(4.0, "weight of the appearance kernel")

    def __post_init__(self) -> None:
        require_int("iterations", self.iterations)
        require(self.iterations <= 1000, "iterations", self.iterations, "at most 1000")
        for name in ("smooth_sigma", "bilateral_sigma", "colour_sigma"):
            require_positive(name, getattr(self, name))
        for name in ("smooth_weight", "bilateral_weight"):
            value = getattr(self, name)
            require_number(name, value)
            require(0 <= value <= 1e6, name, value, "in [0, 1e6]")


@dataclass(frozen=True)
class ParConfig:
    """Pixel-adaptive refinement (Ru et al. 2022, AFA section 3.4), the choice without a CRF."""

    default_ignore_below: ClassVar[float | None] = None

    iterations: int = setting(10, "rounds; 15 for COCO in AFA")
    dilations: tuple[int, ...] = setting((1, 2, 4, 8, 12, 24), "distances of the eight neighbours, in pixels")
    colour_scale: float = setting(0.3, "sharpness of both kernels, in standard deviations of the neighbourhood")
    position_weight: float = setting(0.01, "weight of the position kernel; the colour kernel's is 1")
    resolution: Resolution = setting("half", "of the picture that is worked on; AFA's is half")

    def __post_init__(self) -> None:
        require_int("iterations", self.iterations)
        require_positive("colour_scale", self.colour_scale)
        require(self.colour_scale >= 1e-6, "colour_scale", self.colour_scale, "at least 1e-6")
        require_number("position_weight", self.position_weight)
        weight = self.position_weight
        require(0 <= weight < math.inf, "position_weight", weight, "0 or more and finite")
        _require_distances(self.dilations)
        require_one_of("resolution", self.resolution, ("full", "half"))


@dataclass(frozen=True)
class PamrConfig:
    """Pixel-adaptive mask refinement (Araslanov & Roth, CVPR 2020; its code)."""

    default_ignore_below: ClassVar[float | None] = None

    iterations: int = setting(10, "rounds of the mean over the neighbours")
    dilations: tuple[int, ...] = setting((1, 2, 4, 8, 12, 24), "distances of the eight neighbours, in pixels")
    colour_scale: float = setting(0.1, "sharpness of the colour kernel, in standard deviations of the neighbourhood")

    def __post_init__(self) -> None:
        require_int("iterations", self.iterations)
        require_positive("colour_scale", self.colour_scale)
        require(self.colour_scale >= 1e-6, "colour_scale", self.colour_scale, "at least 1e-6")
        _require_distances(self.dilations)


def _require_distances(distances: tuple[int, ...]) -> None:
    require(isinstance(distances, tuple) and len(distances) > 0, "dilations", distances, "a tuple of distances")
    for distance in distances:
        require_int("dilations", distance)
        require(distance <= 10**6, "dilations", distance, "at most a million")
    require(len(set(distances)) == len(distances), "dilations", distances, "without repeats")


RefineConfig = CrfConfig | ParConfig | PamrConfig
