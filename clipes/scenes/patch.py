"""A band of a picture, to be painted with textures, at twice the picture's size."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from .dice import Dice
from .pen import Colour, Point

SUPERSAMPLING = 2


class Patch:
    """A band of the picture being painted; `scale` is the pixels of its canvas to a unit.

    Coordinates are those of the picture, relative to its shorter side: x from 0 to `width`, y from
    `top` to `bottom` (downwards).
    """

    def __init__(self, width: float, top: float, bottom: float, scale: float) -> None:
        self.width, self.top, self.bottom = width, top, bottom
        self._scale = scale
        self.row = int(top * scale)  # the pixel row of the canvas at which the image starts
        self._shape = max(1, int(bottom * scale) + 1 - self.row), max(1, round(width * scale))
        self.image = Image.new("RGB", (self._shape[1], self._shape[0]))
        self._draw = ImageDraw.Draw(self.image)

    @property
    def height(self) -> float:
        """How high the band is."""
        return self.bottom - self.top

    def _pixels(self, points: list[Point]) -> list[Point]:
        scale, row = self._scale, self.row
        return [(x * scale, y * scale - row) for x, y in points]

    def base(
        self, dice: Dice, above: Colour, below: Colour, noise: float, fine: float = 26.0, stretch: float = 1.0
    ) -> None:
        """A vertical gradient with smooth noise of +-`noise`, `fine` cells to the shorter side."""
        columns = max(2, round(self.width * fine / stretch))
        rows = max(2, round(self.height * fine))
        fall = np.linspace(0.0, 1.0, rows)[:, None, None]
        colours = np.array(above) * (1 - fall) + np.array(below) * fall
        grain = dice.rng.random((rows, columns), dtype=np.float32)[..., None] - 0.5
        grid = np.clip(colours + 2 * noise * grain, 0, 255).astype(np.uint8)
        high, wide = self._shape
        self.image = Image.fromarray(grid).resize((wide, high), Image.Resampling.BICUBIC)
        self._draw = ImageDraw.Draw(self.image)

    def line(self, points: list[Point], width: float, colour: Colour) -> None:
        """A stroke of the given relative width, at least a hairline."""
        self._draw.line(self._pixels(points), fill=colour, width=max(1, round(width * self._scale)))

    def polygon(self, points: list[Point], colour: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon(self._pixels(points), fill=colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """A filled ellipse."""
        (left, top), (right, bottom) = self._pixels([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse((left, top, right, bottom), fill=colour)

    def ripple(self, y: float, x0: float, x1: float, height: float, waves: float) -> list[Point]:
        """A wavy line from x0 to x1 around y."""
        steps = max(6, int(waves * 8))
        shares = [k / steps for k in range(steps + 1)]
        return [(x0 + (x1 - x0) * t, y + height * math.sin(2 * math.pi * waves * t)) for t in shares]

    def scatter(self, dice: Dice, count: int) -> list[tuple[float, float, float]]:
        """Random places in it as (x, y, nearness), `count` of them to a unit of area; far ones first."""
        number = int(count * self.width * self.height) + 1
        found = dice.rng.random((number, 2))
        order = np.sort(found[:, 1])
        return [
            (float(x) * self.width, self.top + float(t) * self.height, float(t))
            for x, t in zip(found[:, 0], order, strict=True)
        ]
