"""Layouts of grounds: which of them a picture has from top to bottom, where their borders run, and their painting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .canvas import SUPERSAMPLING, Canvas
from .grounds import GROUNDS, PAINTERS
from .pen import Point, darker, lighter
from .sampler import Sampler

# The grounds from top to bottom, and how common the layout is before a thing is considered.
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
STRAIGHT = ("road", "railroad", "wall", "carpet", "water")  # grounds with a straight upper border


@dataclass(frozen=True)
class Band:
    """A ground between two heights, relative to the picture's shorter side."""

    ground: str
    top: float
    bottom: float


def sample_bands(layout: tuple[str, ...], rng: Sampler, height: float) -> list[Band]:
    """The layout's bands from top to bottom, with random heights that add up to `height`."""
    shares = [rng.uniform(0.7, 1.3) * (0.7 if name == "mountain" else 1.0) for name in layout]
    if layout[0] in ("sky", "wall"):
        shares[0] *= rng.uniform(0.8, 1.6)
    ends = (np.cumsum(shares) / sum(shares) * height).tolist()
    return [Band(*band) for band in zip(layout, [0.0, *ends[:-1]], ends, strict=True)]


def paint_bands(
    bands: list[Band], rng: Sampler, shape: tuple[int, int], unit: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paints the bands over a picture of `shape` (H, W) whose shorter side is `unit` pixels.

    Returns the picture (H, W, 3) and the index in GROUNDS of each pixel's ground (H, W).
    """
    high, wide = shape
    fine = unit * SUPERSAMPLING
    picture = Image.new("RGB", (wide * SUPERSAMPLING, high * SUPERSAMPLING))
    regions = Image.new("L", (wide, high))
    width, height = wide / unit, high / unit
    for number, band in enumerate(bands):
        border = _border(band, rng, width) if number else [(0.0, 0.0), (width, 0.0)]
        first = max(0.0, min(y for _, y in border))
        canvas = Canvas(width, first, min(height, band.bottom + 0.05), fine)
        PAINTERS[band.ground](canvas, rng)
        if band.ground == "mountain" and number and rng.chance(0.6):
            _paint_snow_caps(canvas, border, rng)
        if number == 0:
            picture.paste(canvas.image, (0, 0))
        else:
            mask = Image.new("L", canvas.image.size)
            outline = [(x * fine, y * fine - canvas.row) for x, y in border]
            floor = [(picture.width, canvas.image.height), (0, canvas.image.height)]
            ImageDraw.Draw(mask).polygon([*outline, *floor], fill=255)
            picture.paste(canvas.image, (0, canvas.row), mask)
            _draw_border(picture, border, band, fine)
        outline = [(x * unit - 0.5, y * unit - 0.5) for x, y in border]
        ImageDraw.Draw(regions).polygon([*outline, (wide, high), (0, high)], fill=GROUNDS.index(band.ground))
    return np.array(picture.reduce(SUPERSAMPLING)), np.asarray(regions)


def _border(band: Band, rng: Sampler, width: float) -> list[Point]:
    """The upper border of a band, from left to right."""
    if band.ground == "mountain":
        count = max(3, round(width * rng.uniform(3.0, 5.0)))
        reach = min(0.8 * band.top, rng.uniform(0.1, 0.24))
        rises = [reach * rng.uniform(0.4, 1.0) if k % 2 else -0.2 * reach * rng.uniform(0, 1) for k in range(count + 1)]
        return [(width * k / count, band.top - rise) for k, rise in enumerate(rises)]
    swing = 0.0 if band.ground in STRAIGHT else rng.uniform(0.0, 0.04)
    phase, waves = rng.uniform(0, 6.28), rng.uniform(0.6, 1.6)
    steps = 14 if swing else 1
    shares = [k / steps for k in range(steps + 1)]
    return [(width * t, band.top + swing * math.sin(phase + 6.28 * waves * t * width)) for t in shares]


def _paint_snow_caps(canvas: Canvas, border: list[Point], rng: Sampler) -> None:
    """Whitens the peaks of a mountain's border."""
    for before, peak, after in zip(border[:-2], border[1:-1], border[2:], strict=True):
        if peak[1] < before[1] and peak[1] < after[1]:
            share = rng.uniform(0.3, 0.45)
            left, right = (
                (peak[0] + share * (foot[0] - peak[0]), peak[1] + share * (foot[1] - peak[1]))
                for foot in (before, after)
            )
            low = max(left[1], right[1])
            canvas.polygon([peak, right, (peak[0], low - 0.02), left], (242, 246, 252))


def _draw_border(picture: Image.Image, border: list[Point], band: Band, fine: float) -> None:
    """A thin line along a border, in the colour of what lies below it, but darker or lighter."""
    x, y = border[len(border) // 2]
    at = (min(picture.width - 1, int(x * fine)), min(picture.height - 1, int((y + 0.03) * fine)))
    red, green, blue = picture.getpixel(at)[:3]  # type: ignore[index]
    vary = lighter if band.ground in ("grass", "sand", "snow") else darker
    points = [(px * fine, py * fine) for px, py in border]
    ImageDraw.Draw(picture).line(points, fill=vary((red, green, blue), 0.3), width=max(1, round(0.01 * fine)))
