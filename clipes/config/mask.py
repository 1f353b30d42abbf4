"""Settings of the decision from scores to a mask: ``Config.mask``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import require, require_number, require_positive, setting


@dataclass(frozen=True)
class MaskConfig:
    """Background score, decision, ignored pixels (CLIP-ES section 3.4, as in the original code).

    ``ignore_below="auto"`` is the refinement's ``default_ignore_below``: 0.95 for the CRF, else no pixel is ignored.
    """

    background_power: float = setting(1.0, "exponent of the background score (1 - max cam)^p; larger: less background")
    ignore_below: float | Literal["auto"] | None = setting(
        "auto", "pixels whose winning score is lower become 255 (ignore); auto: 0.95 with the CRF, none without"
    )

    def __post_init__(self) -> None:
        require_positive("background_power", self.background_power)
        below = self.ignore_below
        if below is not None and below != "auto":
            require_number("ignore_below", below)
            require(0 <= below <= 1, "ignore_below", below, "in [0, 1], 'auto' or None")
