"""A canvas for a band of a picture, painted with textures at twice the picture's resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from .pen import Colour, Point
from .sampler import Sampler

SUPERSAMPLING = 2


class Canvas:
    """A band of the picture being painted; `scale` is the pixels of its image to a unit.

    Coordinates are those of the picture, relative to its shorter side: x from 0 to `width`, y from `top` to `bottom`,
    downwards.
    """

    def __init__(self, width: float, top: float, bottom: float, scale: float) -> None:
        self.width, self.top, self.bottom = width, top, bottom
        self.height = bottom - top
        self._scale = scale
        self.row = int(top * scale)  # the pixel row of the picture at which the image starts
        self.image = Image.new("RGB", (max(1, round(width * scale)), max(1, int(bottom * scale) + 1 - self.row)))
        self._draw = ImageDraw.Draw(self.image)

    def _pixels(self, points: list[Point]) -> list[Point]:
        return [(x * self._scale, y * self._scale - self.row) for x, y in points]

    def gradient(
        self, rng: Sampler, above: Colour, below: Colour, noise: float, frequency: float = 26.0, stretch: float = 1.0
    ) -> None:
        """A vertical gradient with smooth noise of +-`noise`, `frequency` cells to the shorter side."""
        columns = max(2, round(self.width * frequency / stretch))
        rows = max(2, round(self.height * frequency))
        fall = np.linspace(0.0, 1.0, rows)[:, None, None]
        colours = np.array(above) * (1 - fall) + np.array(below) * fall
        grain = rng.generator.random((rows, columns), dtype=np.float32)[..., None] - 0.5
        grid = np.clip(colours + 2 * noise * grain, 0, 255).astype(np.uint8)
        self.image = Image.fromarray(grid).resize(self.image.size, Image.Resampling.BICUBIC)
        self._draw = ImageDraw.Draw(self.image)

    def line(self, points: list[Point], width: float, colour: Colour) -> None:
        """A stroke of the given relative width, at least one pixel."""
        self._draw.line(self._pixels(points), fill=colour, width=max(1, round(width * self._scale)))

    def polygon(self, points: list[Point], colour: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon(self._pixels(points), fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """A filled upright rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """A filled ellipse."""
        (left, top), (right, bottom) = self._pixels([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse((left, top, right, bottom), fill=colour)

    def wave(self, y: float, x0: float, x1: float, height: float, waves: float) -> list[Point]:
        """The points of a sine curve from x0 to x1 around y."""
        steps = max(6, int(waves * 8))
        shares = [k / steps for k in range(steps + 1)]
        return [(x0 + (x1 - x0) * t, y + height * math.sin(2 * math.pi * waves * t)) for t in shares]

    def scatter(self, rng: Sampler, count: int) -> list[tuple[float, float, float]]:
        """Random places (x, y, t), `count` of them to a unit of area; t rises from 0 at the top to 1 at the bottom."""
        number = int(count * self.width * self.height) + 1
        found = rng.generator.random((number, 2))
        pairs = zip(found[:, 0].tolist(), np.sort(found[:, 1]).tolist(), strict=True)
        return [(x * self.width, self.top + t * self.height, t) for x, t in pairs]

    def speckle(self, rng: Sampler, count: int, rx: float, ry: float, colours: Sequence[Colour]) -> None:
        """Ellipses of random colours at random places, `count` of them to a unit of area."""
        for x, y, _ in self.scatter(rng, count):
            self.ellipse(x, y, rx, ry, rng.choice(colours))
