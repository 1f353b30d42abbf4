"""Settings of the decision from scores to a mask: ``Config.mask``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import require, require_number, require_one_of, require_positive, setting

Background = Literal["power", "constant"]
Conflict = Literal["background", "foreground"]

_POWER_HELP = "exponent of the background score (1 - max cam)^p; larger: less background"


@dataclass(frozen=True)
class ConfidenceConfig:
    """Pixels of a low winning score are ignored (CLIP-ES section 3.4, as in the original code).

    ``ignore_below="auto"`` is the refinement's ``default_ignore_below``: 0.95 for the CRF, else no pixel is ignored.
    """

    background_power: float = setting(1.0, _POWER_HELP)
    ignore_below: float | Literal["auto"] = setting(
        "auto", "pixels whose winning score is lower become 255 (ignore); auto: 0.95 with the CRF, none without"
    )

    def __post_init__(self) -> None:
        require_positive("background_power", self.background_power)
        below = self.ignore_below
        if below != "auto":
            require_number("ignore_below", below)
            require(0 <= below <= 1, "ignore_below", below, "in [0, 1] or 'auto'")


@dataclass(frozen=True)
class AgreementConfig:
    """Pixels on which two backgrounds disagree are ignored (Ahn & Kwak, PSA, CVPR 2018; its code).

    A class is sure where it wins against much background, the background where it wins although there is little. Each
    of the two goes through the refinement. In the authors' code ``levels`` are the exponents 4 and 32 (PSA), 4 and 24
    (SEAM), 1 and 12 (MCTformer), or the constants 0.3 and 0.05 (IRN), 0.55 and 0.35 (AFA). IRN and AFA resolve a
    conflict for the ``foreground``.
    """

    background: Background = setting(
        "power", "the background's score: power: (1 - max cam)^level; constant: the level itself"
    )
    levels: tuple[float, float] = setting(
        (4.0, 32.0), "much background, against which a class is sure, then little, against which the background is sure"
    )
    conflict: Conflict = setting(
        "background",
        "who wins a pixel at which a class is sure against much background, and the background with little",
    )

    def __post_init__(self) -> None:
        require_one_of("background", self.background, ("power", "constant"))
        require_one_of("conflict", self.conflict, ("background", "foreground"))
        levels = self.levels
        require(
            isinstance(levels, tuple) and len(levels) == 2, "levels", levels, "a pair: much background, then little"
        )
        for level in levels:
            require_positive("levels", level)
        much, little = levels
        if self.background == "power":
            require(much < little, "levels", levels, "two exponents, the smaller first: it is more background")
        else:
            require(little < much <= 1, "levels", levels, "two constants of at most 1, the larger first")


@dataclass(frozen=True)
class ArgmaxConfig:
    """No pixel is ignored: each has the class of its highest score."""

    background_power: float = setting(1.0, _POWER_HELP)

    def __post_init__(self) -> None:
        require_positive("background_power", self.background_power)


MaskConfig = ConfidenceConfig | AgreementConfig | ArgmaxConfig
