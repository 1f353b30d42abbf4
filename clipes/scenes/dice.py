"""Chance: numbers, choices and colours from one random generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from .pen import Colour

Choice = TypeVar("Choice")

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


class Dice:
    """Random choices, the same ones for the same seed."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._random = rng.random
        self.rng = rng

    def span(self, low: float, high: float) -> float:
        """A number between the two."""
        return low + (high - low) * float(self._random())

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return float(self._random()) < probability

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int((high - low + 1) * float(self._random()))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """One of the choices."""
        return choices[int(len(choices) * float(self._random()))]

    def weighted(self, choices: Sequence[Choice], weights: Sequence[float]) -> Choice:
        """One of the choices, with probabilities in proportion to the weights."""
        rest = float(self._random()) * sum(weights)
        for choice, weight in zip(choices, weights, strict=True):
            rest -= weight
            if rest < 0:
                return choice
        return choices[-1]

    def jitter(self, colour: Colour, reach: float = 12.0) -> Colour:
        """The colour, a little changed: each channel by up to `reach`, and all of them together."""
        shared = self.span(-reach, reach)
        red, green, blue = (
            min(252, max(16, int(channel + shared + self.span(-reach, reach) / 2))) for channel in colour
        )
        return red, green, blue

    def paint(self, *typical: str, share: float = 0.4) -> Colour:
        """A colour: one of the typical names with probability `share`, else any of the palette."""
        names = typical if typical and self.chance(share) else tuple(PALETTE)
        return self.jitter(PALETTE[self.pick(names)])

    def contrast(self, colour: Colour, *typical: str) -> Colour:
        """A colour that is clearly not the given one."""
        for _ in range(6):
            other = self.paint(*typical)
            if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 150:
                return other
        return PALETTE["white"] if sum(colour) < 420 else PALETTE["charcoal"]
