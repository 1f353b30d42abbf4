"""Composition: what is in a scene, where it stands, and its exact mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grounds import GROUNDS
from .layouts import LAYOUTS, Band, paint_bands, sample_bands
from .pen import Floats, Layer, Sketch, rasterise
from .sampler import Sampler
from .things import PROPERTIES, THINGS, sketch

VISIBLE_SHARE = 0.012
GROUND_SHARE = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Scene:
    """A picture and the truth about it."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    mask: NDArray[np.uint8]  # (H, W), 0 background, 1..16 = index in THINGS + 1; exact, no 255
    labels: tuple[str, ...]  # names of the things visible, each once, in THINGS order
    grounds: tuple[str, ...]  # names of the grounds visible, in GROUNDS order

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"Scene({height} x {width}: {', '.join(self.labels)}; on {', '.join(self.grounds)})"


@dataclass(frozen=True, eq=False)
class Placed:
    """A thing at its place: centre and longer side, relative to the picture's shorter side."""

    name: str
    sketch: Sketch
    x: float
    y: float
    size: float

    @property
    def bottom(self) -> float:
        """The height of its lowest point."""
        return self.y + self.size * self.sketch.height / 2

    def overlap(self, other: Placed) -> float:
        """The shared part of the two bounding boxes, as a share of the smaller box; 0..1."""
        shared, own, others = 1.0, 1.0, 1.0
        for at, there, one, two in (
            (self.x, other.x, self.size * self.sketch.width, other.size * other.sketch.width),
            (self.y, other.y, self.size * self.sketch.height, other.size * other.sketch.height),
        ):
            shared *= max(0.0, min(at + one / 2, there + two / 2) - max(at - one / 2, there - two / 2))
            own, others = own * one, others * two
        return shared / min(own, others)


_GROUND_SHARES = {
    ground: sum(weight for layout, weight in LAYOUTS.items() if ground in layout) / sum(LAYOUTS.values())
    for ground in GROUNDS
}


def _likelihood_ratio(name: str, layout: tuple[str, ...]) -> float:
    """How much likelier the layout is with the thing than without knowing of it (Bayes' rule)."""
    properties = PROPERTIES[name]
    share = _GROUND_SHARES[properties.ground]
    return properties.usual / share if properties.ground in layout else (1 - properties.usual) / (1 - share)


def _sample_contents(rng: Sampler) -> tuple[list[str], tuple[str, ...]]:
    """The names of the things and the layout they are in."""
    layouts = list(LAYOUTS)
    first = rng.choice(THINGS)
    layout = rng.weighted(layouts, [LAYOUTS[one] * _likelihood_ratio(first, one) for one in layouts])
    names = [first]
    for _ in range(rng.weighted((0, 1, 2, 3), (0.3, 0.35, 0.25, 0.1))):
        weights = [_likelihood_ratio(name, layout) * (0.4 if name in names else 1.0) for name in THINGS]
        names.append(rng.weighted(THINGS, weights))
    return names, layout


def _sample_size(name: str, rng: Sampler, count: int, shape: tuple[float, float], drawn: Sketch) -> float:
    """The longer side of one of `count` things: smaller among many, and large enough to be seen in a wide picture."""
    properties = PROPERTIES[name]
    largest = 0.75 if count == 1 else properties.largest - 0.06 * (count - 2)
    size = rng.uniform(properties.smallest, max(largest, properties.smallest + 0.06))
    covered = 0.42 * drawn.width * drawn.height
    needed = math.sqrt(1.8 * VISIBLE_SHARE * shape[0] * shape[1] / covered)
    return min(max(size, needed), 0.95)


def _sample_position(
    drawn: Sketch, name: str, size: float, bands: list[Band], shape: tuple[float, float], rng: Sampler
) -> tuple[float, float]:
    """A plausible centre (x, y) for the thing; any height for one in fourteen."""
    high, wide = shape
    half_wide, half_high = size * drawn.width / 2, size * drawn.height / 2
    outside = 0.25 if rng.chance(0.12) else 0.0  # how much of the half may be outside of the picture
    x_reach = max(0.0, wide - 2 * half_wide * (1 - outside))
    x = half_wide * (1 - outside) + x_reach * rng.uniform(0, 1)
    properties = PROPERTIES[name]
    usual = [band for band in bands if band.ground == properties.ground]
    if rng.chance(0.07):
        y = rng.uniform(half_high, max(half_high, high - half_high))
    elif properties.stands:
        band = usual[-1] if usual else bands[-1]
        low = min(band.bottom, high - 0.02)
        y = low - (low - band.top) * rng.uniform(0.05, 0.75) - half_high
    else:
        band = usual[-1] if usual else rng.choice(bands)
        room = max(0.0, band.bottom - band.top - 2 * half_high)
        y = band.top + half_high + room * rng.uniform(0, 1)
    top, bottom = half_high * (1 - outside), high - half_high * (1 - outside)
    return min(max(x, 0.0), wide), min(max(y, min(top, high / 2)), max(bottom, high / 2))


def _place(names: list[str], bands: list[Band], shape: tuple[float, float], rng: Sampler) -> list[Placed]:
    """Finds a place for each thing; some overlap each other. The lower ones come last (on top)."""
    placed: list[Placed] = []
    for name in names:
        drawn = sketch(name, rng)
        size = _sample_size(name, rng, len(names), shape, drawn)
        allowed = rng.uniform(0.0, 0.45)
        tries: list[tuple[float, int, Placed]] = []
        for _ in range(10):
            x, y = _sample_position(drawn, name, size, bands, shape, rng)
            attempt = Placed(name, drawn, x, y, size)
            worst = max((attempt.overlap(other) for other in placed), default=0.0)
            tries.append((worst, len(tries), attempt))
            if worst <= allowed:
                break
        worst, _, best = min(tries[-1:] if tries[-1][0] <= allowed else tries)
        if worst < 0.6:
            placed.append(best)
    return sorted(placed, key=lambda one: one.bottom)


def _visible(
    things: list[tuple[Placed, Layer]], shape: tuple[int, int]
) -> tuple[list[tuple[Placed, Layer]], NDArray[np.uint8]]:
    """Leaves out the things of classes that can hardly be seen, and returns the mask of the others."""
    while True:
        mask = np.zeros(shape, dtype=np.uint8)
        for placed, layer in things:
            mask[layer.window][layer.alpha > 0.5] = THINGS.index(placed.name) + 1
        counts = np.bincount(mask.ravel(), minlength=len(THINGS) + 1)
        kept = [one for one in things if counts[THINGS.index(one[0].name) + 1] >= VISIBLE_SHARE * mask.size]
        if len(kept) == len(things):
            return kept, mask
        things = kept


def _darken_below(canvas: Floats, placed: Placed, unit: float) -> None:
    """A soft contact shadow under a standing thing; not part of its mask."""
    reach = PROPERTIES[placed.name].shadow * placed.size * placed.sketch.width * unit
    x, y = placed.x * unit, (placed.bottom - 0.015 * placed.size) * unit
    flat = max(1.0, 0.09 * placed.size * unit)
    top, bottom = max(0, int(y - 2 * flat)), min(canvas.shape[0], int(y + 2 * flat) + 2)
    left, right = max(0, int(x - 1.5 * reach)), min(canvas.shape[1], int(x + 1.5 * reach) + 2)
    down = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - y) / flat) ** 2
    across = ((np.arange(left, right, dtype=np.float32) + 0.5 - x) / reach) ** 2
    factor = 1.0 - 0.38 * np.exp(-1.3 * (down[:, None] + across[None, :] ** 2))
    canvas[top : max(top, bottom), left : max(left, right)] *= factor[..., None]


def _composite(canvas: Floats, things: list[tuple[Placed, Layer]], unit: float) -> NDArray[np.uint8]:
    for placed, layer in things:
        if PROPERTIES[placed.name].stands:
            _darken_below(canvas, placed, unit)
        canvas[layer.window] *= 1 - layer.alpha[..., None]
        canvas[layer.window] += layer.rgb
    picture: NDArray[np.uint8] = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return picture


def compose(seed: int, index: int, size: tuple[int, int]) -> Scene:
    """Draws scene number `index` of a seed."""
    rng = Sampler(np.random.default_rng([seed, index]))
    shape = int(size[0]), int(size[1])
    unit = float(min(shape))
    relative = shape[0] / unit, shape[1] / unit
    names, layout = _sample_contents(rng)
    bands = sample_bands(layout, rng, relative[0])
    things = _place(names, bands, relative, rng)
    painted, ground_ids = paint_bands(bands, rng, shape, unit)
    drawn = [(one, rasterise(one.sketch, one.x * unit, one.y * unit, one.size * unit, shape)) for one in things]
    kept, mask = _visible(drawn, shape)
    image = _composite(painted.astype(np.float32), kept, unit)
    present = np.bincount(mask.ravel(), minlength=len(THINGS) + 1)
    areas = np.bincount(ground_ids[mask == 0], minlength=len(GROUNDS))
    labels = tuple(name for number, name in enumerate(THINGS, 1) if present[number])
    grounds = tuple(name for number, name in enumerate(GROUNDS) if areas[number] >= GROUND_SHARE * mask.size)
    return Scene(image, mask, labels, grounds)
