"""Settings of the way from a picture to the encoder's input: ``Config.image`` and ``Config.views``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from .checks import require, require_flag, require_int, require_number, require_one_of, setting

Positions = Literal["bilinear", "bicubic", "antialiased"]
Normalisation = Literal["model", "imagenet"]


@dataclass(frozen=True)
class ImageConfig:
    """Image to tokens. As all configs here, raises TypeError or ValueError for a setting that is not allowed."""

    max_patches: int = setting(4096, "largest patch grid; a bigger picture is shrunk for CLIP, the mask is not")
    square: int | None = setting(
        None, "side in pixels to which every picture is squashed; none: its own size and aspect"
    )
    normalisation: Normalisation = setting("model", "mean and deviation of the colours: the model's own or ImageNet's")
    antialias: bool = setting(True, "resize as the model was trained with; off: bilinear, without antialiasing (ExCEL)")
    positions: Positions = setting(
        "bilinear",
        "how positional embeddings are resampled: bilinear (CLIP-ES), bicubic by scale factor (SCLIP), or antialiased, "
        "bicubic as open_clip and timm resize them",
    )

    def __post_init__(self) -> None:
        require_int("max_patches", self.max_patches)
        if self.square is not None:
            require_int("square", self.square)
        require_one_of("normalisation", self.normalisation, ("model", "imagenet"))
        require_flag("antialias", self.antialias)
        require_one_of("positions", self.positions, get_args(Positions))


class View(NamedTuple):
    """One encoding of a picture: its size as a factor of its own, and whether it is mirrored."""

    scale: float
    mirrored: bool


@dataclass(frozen=True)
class TileConfig:
    """Square windows that slide over a picture, in pixels of the resized picture; its text is ``"448/224"``."""

    size: int = setting(448, "side of a window")
    stride: int = setting(224, "from one window to the next; the last one is shifted inside")

    def __post_init__(self) -> None:
        require_int("tile size", self.size)
        require_int("tile stride", self.stride)
        require(self.stride <= self.size, "tile stride", self.stride, f"at most the size, {self.size}")

    def __str__(self) -> str:
        return f"{self.size}/{self.stride}"


@dataclass(frozen=True)
class ViewsConfig:
    """Views of a picture, each encoded by itself, whose maps are averaged: scales, mirror images, tiles.

    Each view's maps are propagated by its own affinity and min-max scaled, brought to the grid of scale 1, summed and
    min-max scaled again. With a tile no view is shrunk to ``ImageConfig.max_patches``: windows of it are encoded, each
    with its own affinity, and their maps, weighted by how likely the window shows the label, are averaged where they
    overlap, a place near a window's border counting less. A view that is no larger than a tile is encoded as it is.
    """

    scales: tuple[float, ...] = setting((1.0,), "sizes of the picture that are encoded, as factors of its own")
    flip: bool = setting(False, "encode each size mirrored, too")
    tile: TileConfig | None = setting(
        None, "encode windows of a large picture instead of shrinking it: size and stride in pixels, such as 448/224"
    )

    def __post_init__(self) -> None:
        require(isinstance(self.scales, tuple) and len(self.scales) > 0, "scales", self.scales, "a tuple of factors")
        for scale in self.scales:
            require_number("scales", scale)
            require(0.1 <= scale <= 8, "scales", scale, "in [0.1, 8]")
        require(len(set(self.scales)) == len(self.scales), "scales", self.scales, "without repeats")
        require_flag("flip", self.flip)
        whole = self.tile is None or isinstance(self.tile, TileConfig)
        require(whole, "tile", self.tile, "none, or a size and a stride such as TileConfig(448, 224)")

    @property
    def single(self) -> bool:
        """Whether a picture is encoded once, as a whole."""
        return len(self.all) == 1 and self.tile is None

    @property
    def all(self) -> tuple[View, ...]:
        """The views, scale by scale, the mirrored one of a scale after the other."""
        return tuple(View(scale, mirrored) for scale in self.scales for mirrored in (False, True)[: 1 + self.flip])
