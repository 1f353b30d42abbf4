"""Settings of the way from a picture to the encoder's input: ``Config.image``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import require_flag, require_int, require_one_of, setting

Positions = Literal["bilinear", "bicubic"]
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
        "bilinear", "how positional embeddings are resampled: bilinear (CLIP-ES) or bicubic by scale factor (SCLIP)"
    )

    def __post_init__(self) -> None:
        require_int("max_patches", self.max_patches)
        if self.square is not None:
            require_int("square", self.square)
        require_one_of("normalisation", self.normalisation, ("model", "imagenet"))
        require_flag("antialias", self.antialias)
        require_one_of("positions", self.positions, ("bilinear", "bicubic"))
