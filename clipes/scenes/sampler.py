"""Random numbers, choices and colours from one generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from .pen import Colour

Option = TypeVar("Option")

PALETTE: dict[str, Colour] = {
    "red": (214, 60, 62),
    "coral": (240, 112, 92),
    "orange": (241, 140, 52),
    "amber": (247, 181, 60),
    "yellow": (248, 214, 86),
    "lime": (170, 200, 74),
    "green": (84, 164, 84),
    "pine": (40, 116, 92),
    "teal": (38, 150, 150),
    "turquoise": (88, 196, 190),
    "sky": (110, 184, 228),
    "blue": (58, 118, 196),
    "indigo": (70, 78, 160),
    "violet": (132, 98, 190),
    "purple": (156, 76, 150),
    "magenta": (214, 78, 138),
    "pink": (244, 158, 178),
    "brown": (142, 94, 66),
    "tan": (206, 160, 112),
    "cream": (250, 232, 198),
    "white": (244, 244, 242),
    "silver": (182, 190, 200),
    "slate": (104, 116, 136),
    "charcoal": (70, 68, 84),
}


class Sampler:
    """Random choices, the same ones for the same seed."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        """A number from low to high, high not included."""
        return low + (high - low) * float(self.generator.random())

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return float(self.generator.random()) < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int((high - low + 1) * float(self.generator.random()))

    def choice(self, options: Sequence[Option]) -> Option:
        """One of the options."""
        return options[int(len(options) * float(self.generator.random()))]

    def weighted(self, options: Sequence[Option], weights: Sequence[float]) -> Option:
        """One of the options, with probabilities in proportion to the weights."""
        rest = float(self.generator.random()) * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            rest -= weight
            if rest < 0:
                return option
        return options[-1]

    def jitter(self, colour: Colour, reach: float = 12.0) -> Colour:
        """The colour, with all channels changed by up to `reach`, and each by up to half of it."""
        shared = self.uniform(-reach, reach)
        red, green, blue = (
            min(252, max(16, int(channel + shared + self.uniform(-reach, reach) / 2))) for channel in colour
        )
        return red, green, blue

    def shade(self, *colours: Colour, reach: float = 12.0) -> Colour:
        """One of the colours, changed by :meth:`jitter`."""
        return self.jitter(self.choice(colours), reach)

    def colour(self, *typical: str, share: float = 0.4) -> Colour:
        """One of the typical names of the palette with probability `share`, else any of it; changed by `jitter`."""
        names = typical if typical and self.chance(share) else tuple(PALETTE)
        return self.jitter(PALETTE[self.choice(names)])

    def contrast(self, colour: Colour, *typical: str) -> Colour:
        """A colour that is clearly not the given one."""
        for _ in range(6):
            other = self.colour(*typical)
            if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 150:
                return other
        return PALETTE["white"] if sum(colour) < 420 else PALETTE["charcoal"]
