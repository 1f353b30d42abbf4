"""A pen that records filled shapes, and their rasterisation.

A thing is recorded once, in its own coordinates (complex numbers, x to the right, y down), and can be rasterised at
any scale: a larger picture of the same seed is the same scene in more detail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
Curve = NDArray[np.complex128]
Floats = NDArray[np.float32]

SUPERSAMPLING = 3
RIM = 0.02
INK: Colour = (38, 34, 52)
WHITE: Colour = (250, 250, 247)
GLASS: Colour = (176, 220, 236)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """The colour that has `share` (0..1) of `other` in it."""
    rest = 1.0 - share
    red, green, blue = (int(a * rest + b * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def lighter(colour: Colour, share: float = 0.25) -> Colour:
    """The colour mixed with white."""
    return mix(colour, WHITE, share)


def darker(colour: Colour, share: float = 0.25) -> Colour:
    """The colour mixed with a dark blue; black would take the hue away."""
    return mix(colour, INK, share)


@lru_cache(maxsize=64)
def _circle(corners: int) -> Curve:
    circle: Curve = np.exp(2j * np.pi * np.arange(corners) / corners)
    return circle


@lru_cache(maxsize=64)
def _spline_indices(count: int, closed: bool) -> NDArray[np.intp]:
    segments = count if closed else count - 1
    index = np.arange(segments)[:, None] + np.arange(-1, 3)[None, :]
    return index % count if closed else np.clip(index, 0, count - 1)


_T = np.arange(6) / 6  # six points for each segment of a spline
_SPLINE_BASIS = 0.5 * np.stack(
    [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, _T**3 - _T**2], axis=1
)


def mirrored(half: Sequence[Point]) -> list[Point]:
    """A closed outline from its right half (x >= 0), which is mirrored at x = 0; points with x = 0 occur once."""
    return [*half, *((-x, y) for x, y in reversed(half) if x)]


def scaled(points: Iterable[Point], x: float, y: float, scale: float) -> list[Point]:
    """The points, scaled around (0, 0) and then moved by (x, y)."""
    return [(x + a * scale, y + b * scale) for a, b in points]


def as_curve(points: Sequence[Point]) -> Curve:
    """Points (x, y) as complex numbers."""
    return np.array([complex(x, y) for x, y in points])


def smooth(points: Sequence[Point], closed: bool = True) -> Curve:
    """A Catmull-Rom spline through the points."""
    knots = as_curve(points)
    curve: Curve = (knots[_spline_indices(len(knots), closed)] @ _SPLINE_BASIS.T).ravel()
    return curve if closed else np.append(curve, knots[-1])


def inset(curve: Curve, width: float) -> Curve:
    """A closed curve moved inwards by `width`, with mitred corners."""
    ahead = np.concatenate([curve[1:], curve[:1]])
    edge = ahead - curve
    inward = edge / (np.abs(edge) + 1e-9) * (1j if (curve.conj() * ahead).imag.sum() > 0 else -1j)
    before = np.concatenate([inward[-1:], inward[:-1]])
    reach = 1.0 + (inward * before.conj()).real
    moved: Curve = curve + (inward + before) * (width / np.maximum(reach, 0.35))
    return moved


class Pen:
    """Records filled shapes, the later ones on top of the earlier ones.

    Shapes have a darker rim of width RIM unless `rim=False`, which is for small details.
    """

    def __init__(self) -> None:
        self.curves: list[Curve] = []
        self.colours: list[Colour] = []

    def _add(self, curve: Curve, colour: Colour) -> None:
        self.curves.append(curve)
        self.colours.append(colour)

    def _fill(self, curve: Curve, colour: Colour, rim: bool) -> None:
        if rim:
            self._add(curve, darker(colour, 0.42))
        self._add(inset(curve, RIM) if rim else curve, colour)

    def polygon(self, points: Sequence[Point], colour: Colour, rim: bool = True) -> None:
        """Fills a polygon."""
        self._fill(as_curve(points), colour, rim)

    def spline(self, points: Sequence[Point], colour: Colour, rim: bool = True) -> None:
        """Fills the smooth closed curve through the points."""
        self._fill(smooth(points), colour, rim)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, rim: bool = True) -> None:
        """Fills an upright rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, rim)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, rim: bool = True, tilt: float = 0.0
    ) -> None:
        """Fills an ellipse around (x, y), turned by `tilt` radians."""
        circle = _circle(36 if max(rx, ry) > 0.15 else 16)
        turn = complex(math.cos(tilt), math.sin(tilt))
        for less in (0.0, RIM) if rim else (0.0,):
            curve: Curve = complex(x, y) + turn * ((rx - less) * circle.real + 1j * (ry - less) * circle.imag)
            self._add(curve, darker(colour, 0.42) if rim and not less else colour)

    def discs(self, centres: Iterable[Point], radius: float, colour: Colour) -> None:
        """Fills a circle without a rim around each of the centres."""
        for x, y in centres:
            self.ellipse(x, y, radius, radius, colour, rim=False)

    def sphere(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """An ellipse with a lighter side and a highlight at its upper left."""
        self.ellipse(x, y, rx, ry, colour)
        self.ellipse(x - 0.1 * rx, y - 0.12 * ry, 0.74 * rx, 0.72 * ry, lighter(colour, 0.13), rim=False)
        self.ellipse(x - 0.38 * rx, y - 0.42 * ry, 0.2 * rx, 0.13 * ry, lighter(colour, 0.62), False, -0.6)

    def line(
        self, points: Sequence[Point], width: float, colour: Colour, curved: bool = False, taper: float = 1.0
    ) -> None:
        """A stroke along the points, `taper` times as wide at its end as at its start."""
        path = smooth(points, closed=False) if curved else as_curve(points)
        step = np.diff(path)
        step = step / (np.abs(step) + 1e-9)
        normal = 1j * np.concatenate([step[:1], step[1:] + step[:-1], step[-1:]])
        normal = normal / (np.abs(normal) + 1e-9)
        side = normal * (width / 2)
        if taper != 1.0:
            side = side * np.linspace(1.0, taper, len(path))
        self._add(np.concatenate([path + side, (path - side)[::-1]]), colour)

    def eye(self, x: float, y: float, radius: float) -> None:
        """A dark eye with a highlight."""
        self.ellipse(x, y, radius, radius * 1.1, INK, rim=False)
        self.discs([(x - 0.3 * radius, y - 0.35 * radius)], 0.36 * radius, WHITE)


@dataclass(frozen=True, eq=False)
class Sketch:
    """A recorded thing, centred on 0 and with a longer side of 1."""

    curves: list[Curve]
    colours: list[Colour]
    width: float
    height: float


def finish(pen: Pen, flip: bool, tilt: float) -> Sketch:
    """Turns what the pen recorded (`tilt` in radians), and centres and scales it to a longer side of 1."""
    lengths = [len(curve) for curve in pen.curves]
    every = np.concatenate(pen.curves)
    if flip:
        every = -every.conj()
    every = every * complex(math.cos(tilt), math.sin(tilt))
    left, right = float(every.real.min()), float(every.real.max())
    top, bottom = float(every.imag.min()), float(every.imag.max())
    longer = max(right - left, bottom - top)
    every = (every - complex(left + right, top + bottom) / 2) / longer
    curves = np.split(every, np.cumsum(lengths)[:-1])
    return Sketch(curves, pen.colours, (right - left) / longer, (bottom - top) / longer)


@dataclass(frozen=True, eq=False)
class Layer:
    """A rasterised thing, clipped to the picture; empty when it lies outside."""

    window: tuple[slice, slice]  # the rows and columns of the picture that its arrays cover
    rgb: Floats  # (h, w, 3), 0..255, shaded, multiplied by alpha
    alpha: Floats  # (h, w), 0..1


def rasterise(sketch: Sketch, x: float, y: float, size: float, shape: tuple[int, int]) -> Layer:
    """Draws the sketch around pixel (x, y) of a picture of `shape` (H, W), with a longer side of `size` pixels."""
    margin = int(0.09 * size) + 2
    left = int(np.floor(x - sketch.width * size / 2)) - margin
    top = int(np.floor(y - sketch.height * size / 2)) - margin
    wide = int(np.ceil(sketch.width * size)) + 2 * margin + 1
    high = int(np.ceil(sketch.height * size)) + 2 * margin + 1
    # The fourth channel of CMYK holds the coverage. Pillow would convert RGBA to premultiplied alpha and back to
    # reduce it, which takes longer than the drawing.
    canvas = Image.new("CMYK", (wide * SUPERSAMPLING, high * SUPERSAMPLING), (0, 0, 0, 0))
    draw = ImageDraw.Draw(canvas)
    origin = complex(x - left, y - top)
    for curve, colour in zip(sketch.curves, sketch.colours, strict=True):
        corners = (curve * size + origin) * SUPERSAMPLING - (0.5 + 0.5j)
        draw.polygon(corners.view(np.float64).tolist(), fill=(*colour, 255))
    small = canvas.reduce(SUPERSAMPLING)
    pixels = np.asarray(small, dtype=np.float32)
    alpha = pixels[..., 3] / np.float32(255.0)
    rgb = pixels[..., :3] * _shading(small.getchannel("K"), size)[..., None]
    (rows, own_rows), (columns, own_columns) = _clip(top, high, shape[0]), _clip(left, wide, shape[1])
    return Layer((rows, columns), rgb[own_rows, own_columns], alpha[own_rows, own_columns])


def _clip(start: int, length: int, limit: int) -> tuple[slice, slice]:
    """The part of start..start + length that is within 0..limit; and the same part, counted from `start`."""
    first = min(max(0, start), limit)
    last = max(first, min(limit, start + length))
    return slice(first, last), slice(first - start, last - start)


def _shading(alpha: Image.Image, size: float) -> Floats:
    """Light from the upper left on a rounded relief of the silhouette: factors (h, w) around 1."""
    blurred = alpha.filter(ImageFilter.BoxBlur(0.06 * size))
    soft = np.asarray(blurred, dtype=np.float32) / np.float32(255.0)
    step = max(1, round(0.06 * size))
    padded = np.pad(soft, step)
    high, wide = soft.shape
    slope = padded[2 * step :, 2 * step :] - padded[:high, :wide]
    fall = np.linspace(1.05, 0.93, high, dtype=np.float32)[:, None]
    light: Floats = (fall + np.float32(0.2) * slope).astype(np.float32)
    return light
