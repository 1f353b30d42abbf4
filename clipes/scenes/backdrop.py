"""Layouts of grounds: which stand above which, where their borders run, and the painted result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .dice import Dice
from .grounds import GROUNDS, PAINTERS
from .patch import SUPERSAMPLING, Patch
from .pen import Point, darker, lighter

# Names from top to bottom, and how common the layout is before a thing is considered.
LAYOUTS: dict[tuple[str, ...], float] = {
    ("sky",): 2.0,
    ("sky", "water"): 1.4,
    ("sky", "grass"): 1.4,
    ("sky", "snow"): 1.3,
    ("sky", "sand"): 0.8,
    ("sky", "road"): 0.8,
    ("sky", "railroad"): 0.8,
    ("sky", "mountain"): 0.6,
    ("sky", "mountain", "grass"): 0.8,
    ("sky", "mountain", "water"): 0.8,
    ("sky", "mountain", "snow"): 0.7,
    ("sky", "mountain", "road"): 0.6,
    ("sky", "mountain", "railroad"): 0.6,
    ("sky", "mountain", "sand"): 0.4,
    ("sky", "water", "sand"): 1.0,
    ("sky", "water", "grass"): 0.4,
    ("sky", "grass", "road"): 0.8,
    ("sky", "grass", "railroad"): 0.8,
    ("sky", "sand", "road"): 0.3,
    ("sky", "snow", "railroad"): 0.4,
    ("sky", "wall", "road"): 0.5,
    ("sky", "wall", "grass"): 0.4,
    ("mountain", "grass"): 0.4,
    ("mountain", "water"): 0.4,
    ("mountain", "snow"): 0.4,
    ("mountain", "railroad"): 0.3,
    ("wall", "carpet"): 3.0,
    ("wall", "road"): 0.6,
    ("wall", "grass"): 0.5,
    ("wall", "snow"): 0.5,
    ("wall", "sand"): 0.3,
    ("wall", "water"): 0.3,
    ("wall", "railroad"): 0.3,
    ("water", "sand"): 0.7,
    ("grass", "road"): 0.5,
    ("grass", "railroad"): 0.5,
    ("grass", "water"): 0.5,
    ("grass", "sand"): 0.3,
    ("snow", "road"): 0.4,
    ("snow", "water"): 0.3,
    ("carpet",): 2.4,
    ("wall",): 1.2,
    ("grass",): 1.2,
    ("water",): 1.4,
    ("snow",): 1.3,
    ("sand",): 1.0,
    ("road",): 0.9,
    ("railroad",): 0.7,
    ("mountain",): 0.5,
}
BUILT = ("road", "railroad", "wall", "carpet", "water")


@dataclass(frozen=True)
class Band:
    """A ground between two heights, relative to the picture's shorter side."""

    ground: str
    top: float
    bottom: float


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The painted grounds."""

    image: NDArray[np.uint8]  # (H, W, 3)
    index: NDArray[np.uint8]  # (H, W), index in GROUNDS


def bands(layout: tuple[str, ...], dice: Dice, height: float) -> list[Band]:
    """The layout's bands from top to bottom, with varied borders; `height` is the picture's."""
    shares = [dice.span(0.7, 1.3) * (0.7 if name == "mountain" else 1.0) for name in layout]
    if layout[0] in ("sky", "wall"):
        shares[0] *= dice.span(0.8, 1.6)
    ends = np.cumsum(shares) / sum(shares) * height
    tops = [0.0, *(float(end) for end in ends[:-1])]
    return [Band(name, top, float(end)) for name, top, end in zip(layout, tops, ends, strict=True)]


def _border(band: Band, dice: Dice, width: float) -> list[Point]:
    """The upper edge of a band, from left to right."""
    if band.ground == "mountain":
        count = max(3, round(width * dice.span(3.0, 5.0)))
        reach = min(0.8 * band.top, dice.span(0.1, 0.24))
        return [
            (
                width * k / count,
                band.top - (reach * dice.span(0.4, 1.0) if k % 2 else -0.2 * reach * dice.span(0, 1)),
            )
            for k in range(count + 1)
        ]
    swing = 0.0 if band.ground in BUILT else dice.span(0.0, 0.04)
    phase, waves = dice.span(0, 6.28), dice.span(0.6, 1.6)
    steps = 14 if swing else 1
    shares = [k / steps for k in range(steps + 1)]
    return [(width * t, band.top + swing * math.sin(phase + 6.28 * waves * t * width)) for t in shares]


def _snow_caps(patch: Patch, border: list[Point], dice: Dice) -> None:
    """Whitens the peaks of a mountain border."""
    for before, peak, after in zip(border[:-2], border[1:-1], border[2:], strict=True):
        if peak[1] < before[1] and peak[1] < after[1]:
            share = dice.span(0.3, 0.45)
            left = (peak[0] + share * (before[0] - peak[0]), peak[1] + share * (before[1] - peak[1]))
            right = (peak[0] + share * (after[0] - peak[0]), peak[1] + share * (after[1] - peak[1]))
            low = max(left[1], right[1])
            patch.polygon([peak, right, (peak[0], low - 0.02), left], (242, 246, 252))


def paint(layout: list[Band], dice: Dice, shape: tuple[int, int], unit: float) -> Backdrop:
    """Paints the bands over a picture of `shape` (height, width) whose shorter side is `unit` pixels."""
    high, wide = shape
    fine = unit * SUPERSAMPLING
    canvas = Image.new("RGB", (wide * SUPERSAMPLING, high * SUPERSAMPLING))
    regions = Image.new("L", (wide, high))
    width, height = wide / unit, high / unit
    for number, band in enumerate(layout):
        border = _border(band, dice, width) if number else [(0.0, 0.0), (width, 0.0)]
        first = max(0.0, min(y for _, y in border))
        patch = Patch(width, first, min(height, band.bottom + 0.05), fine)
        PAINTERS[band.ground](patch, dice)
        if band.ground == "mountain" and number and dice.chance(0.6):
            _snow_caps(patch, border, dice)
        if number == 0:
            canvas.paste(patch.image, (0, 0))
        else:
            mask = Image.new("L", patch.image.size)
            outline = [(x * fine, y * fine - patch.row) for x, y in border]
            floor = [(canvas.width, patch.image.height), (0, patch.image.height)]
            ImageDraw.Draw(mask).polygon([*outline, *floor], fill=255)
            canvas.paste(patch.image, (0, patch.row), mask)
            _edge(canvas, border, band, fine)
        outline = [(x * unit - 0.5, y * unit - 0.5) for x, y in border]
        ImageDraw.Draw(regions).polygon([*outline, (wide, high), (0, high)], fill=GROUNDS.index(band.ground))
    return Backdrop(np.array(canvas.reduce(SUPERSAMPLING)), np.asarray(regions))


def _edge(canvas: Image.Image, border: list[Point], band: Band, fine: float) -> None:
    """A thin line along a border, the colour of what lies below it but darker (or lighter)."""
    x, y = border[len(border) // 2]
    at = (min(canvas.width - 1, int(x * fine)), min(canvas.height - 1, int((y + 0.03) * fine)))
    red, green, blue = canvas.getpixel(at)[:3]  # type: ignore[index]
    tone = (red, green, blue)
    colour = lighter(tone, 0.3) if band.ground in ("grass", "sand", "snow") else darker(tone, 0.3)
    points = [(px * fine, py * fine) for px, py in border]
    ImageDraw.Draw(canvas).line(points, fill=colour, width=max(1, round(0.01 * fine)))
