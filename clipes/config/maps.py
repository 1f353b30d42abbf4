"""Settings of the sources of class activation maps: ``Config.map``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import require_one_of, setting
from .request import EncodeRequest

Pooling = Literal["patch", "cls"]


@dataclass(frozen=True)
class GradCamConfig:
    """Softmax-GradCAM (CLIP-ES section 3.2)."""

    pool: Pooling = setting("patch", "image feature: mean of the patch tokens (the paper) or the class token")

    def __post_init__(self) -> None:
        require_one_of("pool", self.pool, ("patch", "cls"))

    @property
    def needs(self) -> EncodeRequest:
        """What the maps' source reads of the encoder."""
        return EncodeRequest()


MapConfig = GradCamConfig
