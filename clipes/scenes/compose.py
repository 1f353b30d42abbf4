"""Composition: what is in a scene, where it stands, and its exact mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .backdrop import LAYOUTS, Band, bands, paint
from .dice import Dice
from .grounds import GROUNDS
from .pen import Floats, Layer, Sketch, rasterise
from .things import HABITS, THINGS, sketch

SMALLEST_SIDE = 8
VISIBLE_SHARE = 0.012
GROUND_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and the truth about it."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    mask: NDArray[np.uint8]  # (H, W), 0 background, 1..16 = index in THINGS + 1; exact, no 255
    labels: tuple[str, ...]  # names of the things visible, each once, in THINGS order
    grounds: tuple[str, ...]  # names of the grounds visible, in GROUNDS order


@dataclass(frozen=True, eq=False)
class Placed:
    """A thing at its place: centre and longer side, relative to the picture's shorter side."""

    name: str
    sketch: Sketch
    x: float
    y: float
    size: float

    @property
    def foot(self) -> float:
        """The height at which it ends."""
        return self.y + self.size * self.sketch.height / 2

    def overlap(self, other: Placed) -> float:
        """The shared part of the two boxes, as a share of the smaller box; 0..1."""
        shared, own, others = 1.0, 1.0, 1.0
        for at, there, one, two in (
            (self.x, other.x, self.size * self.sketch.width, other.size * other.sketch.width),
            (self.y, other.y, self.size * self.sketch.height, other.size * other.sketch.height),
        ):
            shared *= max(0.0, min(at + one / 2, there + two / 2) - max(at - one / 2, there - two / 2))
            own, others = own * one, others * two
        return shared / min(own, others)


def check_size(size: tuple[int, int]) -> None:
    """Raises ValueError unless both sides are large enough to draw on."""
    if min(size) < SMALLEST_SIDE:
        raise ValueError(
            f"size must be at least {SMALLEST_SIDE} pixels high and wide, got {size!r}; "
            "give it as (height, width), for instance (112, 112)"
        )


def check_count(name: str, value: int) -> None:
    """Raises ValueError if the number is negative."""
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value!r}; give 0 or more")


def _share_of(ground: str) -> float:
    return sum(weight for layout, weight in LAYOUTS.items() if ground in layout) / sum(LAYOUTS.values())


_SHARES = {ground: _share_of(ground) for ground in GROUNDS}


def _affinity(name: str, layout: tuple[str, ...]) -> float:
    """How much likelier the layout is with the thing than without knowing of it (Bayes' rule)."""
    habit = HABITS[name]
    share = _SHARES[habit.ground]
    return habit.usual / share if habit.ground in layout else (1 - habit.usual) / (1 - share)


def _cast(dice: Dice) -> tuple[list[str], tuple[str, ...]]:
    """The names of the things and the layout they are in."""
    layouts = list(LAYOUTS)
    first = dice.pick(THINGS)
    layout = dice.weighted(layouts, [LAYOUTS[one] * _affinity(first, one) for one in layouts])
    names = [first]
    for _ in range(dice.weighted((0, 1, 2, 3), (0.3, 0.35, 0.25, 0.1))):
        weights = [_affinity(name, layout) * (0.4 if name in names else 1.0) for name in THINGS]
        names.append(dice.weighted(THINGS, weights))
    return names, layout


def _size(name: str, dice: Dice, crowd: int, shape: tuple[float, float], form: Sketch) -> float:
    """The longer side of the thing: smaller in a crowd, and large enough to be seen in a wide picture."""
    habit = HABITS[name]
    largest = 0.75 if crowd == 1 else habit.largest - 0.06 * (crowd - 2)
    size = dice.span(habit.smallest, max(largest, habit.smallest + 0.06))
    covered = 0.42 * form.width * form.height
    needed = math.sqrt(1.8 * VISIBLE_SHARE * shape[0] * shape[1] / covered)
    return min(max(size, needed), 0.95)


def _spot(
    form: Sketch, name: str, size: float, layout: list[Band], shape: tuple[float, float], dice: Dice
) -> tuple[float, float]:
    """A plausible centre (x, y) for the thing; anywhere for one in fourteen."""
    high, wide = shape
    half_wide, half_high = size * form.width / 2, size * form.height / 2
    spill = 0.25 if dice.chance(0.12) else 0.0
    x_reach = max(0.0, wide - 2 * half_wide * (1 - spill))
    x = half_wide * (1 - spill) + x_reach * dice.span(0, 1)
    habit = HABITS[name]
    home = [band for band in layout if band.ground == habit.ground]
    if dice.chance(0.07):
        y = dice.span(half_high, max(half_high, high - half_high))
    elif habit.place == "stands":
        band = home[-1] if home else layout[-1]
        low = min(band.bottom, high - 0.02)
        y = low - (low - band.top) * dice.span(0.05, 0.75) - half_high
    else:
        band = home[-1] if home else dice.pick(layout)
        room = max(0.0, band.bottom - band.top - 2 * half_high)
        y = band.top + half_high + room * dice.span(0, 1)
    top, bottom = half_high * (1 - spill), high - half_high * (1 - spill)
    return min(max(x, 0.0), wide), min(max(y, min(top, high / 2)), max(bottom, high / 2))


def _place(names: list[str], layout: list[Band], shape: tuple[float, float], dice: Dice) -> list[Placed]:
    """Finds a place for each thing; some overlap each other. The ones further down come last (on top)."""
    placed: list[Placed] = []
    for name in names:
        form = sketch(name, dice)
        size = _size(name, dice, len(names), shape, form)
        allowed = dice.span(0.0, 0.45)
        tries: list[tuple[float, int, Placed]] = []
        for _ in range(10):
            x, y = _spot(form, name, size, layout, shape, dice)
            attempt = Placed(name, form, x, y, size)
            worst = max((attempt.overlap(other) for other in placed), default=0.0)
            tries.append((worst, len(tries), attempt))
            if worst <= allowed:
                break
        worst, _, best = min(tries[-1:] if tries[-1][0] <= allowed else tries)
        if worst < 0.6:
            placed.append(best)
    return sorted(placed, key=lambda one: one.foot)


def _window(layer: Layer, shape: tuple[int, int]) -> tuple[slice, slice, slice, slice] | None:
    """The rows and columns of the picture that the layer covers, and those of the layer."""
    high, wide = shape
    rows, columns = layer.alpha.shape
    top, left = max(0, layer.top), max(0, layer.left)
    bottom, right = min(high, layer.top + rows), min(wide, layer.left + columns)
    if top >= bottom or left >= right:
        return None
    own = slice(top - layer.top, bottom - layer.top), slice(left - layer.left, right - layer.left)
    return slice(top, bottom), slice(left, right), *own


def _mask(things: list[tuple[Placed, Layer]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    mask = np.zeros(shape, dtype=np.uint8)
    for placed, layer in things:
        window = _window(layer, shape)
        if window is not None:
            rows, columns, own_rows, own_columns = window
            mask[rows, columns][layer.alpha[own_rows, own_columns] > 0.5] = THINGS.index(placed.name) + 1
    return mask


def _visible(
    things: list[tuple[Placed, Layer]], shape: tuple[int, int]
) -> tuple[list[tuple[Placed, Layer]], NDArray[np.uint8]]:
    """Leaves out the things of classes that can hardly be seen, and returns the mask of the others."""
    while True:
        mask = _mask(things, shape)
        counts = np.bincount(mask.ravel(), minlength=len(THINGS) + 1)
        least = VISIBLE_SHARE * mask.size
        kept = [one for one in things if counts[THINGS.index(one[0].name) + 1] >= least]
        if len(kept) == len(things):
            return kept, mask
        things = kept


def _shadow(canvas: Floats, placed: Placed, unit: float) -> None:
    """A soft contact shadow under a standing thing; not part of its mask."""
    reach = HABITS[placed.name].foot * placed.size * placed.sketch.width * unit
    x, y = placed.x * unit, (placed.foot - 0.015 * placed.size) * unit
    flat = max(1.0, 0.09 * placed.size * unit)
    top, bottom = max(0, int(y - 2 * flat)), min(canvas.shape[0], int(y + 2 * flat) + 2)
    left, right = max(0, int(x - 1.5 * reach)), min(canvas.shape[1], int(x + 1.5 * reach) + 2)
    if top >= bottom or left >= right:
        return
    down = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - y) / flat) ** 2
    across = ((np.arange(left, right, dtype=np.float32) + 0.5 - x) / reach) ** 2
    dim = 1.0 - 0.38 * np.exp(-1.3 * (down[:, None] + across[None, :] ** 2))
    canvas[top:bottom, left:right] *= dim[..., None]


def _composite(canvas: Floats, things: list[tuple[Placed, Layer]], unit: float) -> NDArray[np.uint8]:
    for placed, layer in things:
        if HABITS[placed.name].place == "stands":
            _shadow(canvas, placed, unit)
        window = _window(layer, canvas.shape[:2])
        if window is not None:
            rows, columns, own_rows, own_columns = window
            alpha = layer.alpha[own_rows, own_columns, None]
            part = canvas[rows, columns]
            part *= 1 - alpha
            part += layer.rgb[own_rows, own_columns]
    picture: NDArray[np.uint8] = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return picture


def compose(seed: int, index: int, size: tuple[int, int]) -> Scene:
    """Draws scene number `index` of a seed."""
    dice = Dice(np.random.default_rng([seed, index]))
    shape = int(size[0]), int(size[1])
    unit = float(min(shape))
    relative = shape[0] / unit, shape[1] / unit
    names, chosen = _cast(dice)
    layout = bands(chosen, dice, relative[0])
    things = _place(names, layout, relative, dice)
    backdrop = paint(layout, dice, shape, unit)
    drawn = [(one, rasterise(one.sketch, one.x * unit, one.y * unit, one.size * unit)) for one in things]
    kept, mask = _visible(drawn, shape)
    image = _composite(backdrop.image.astype(np.float32), kept, unit)
    present = np.bincount(mask.ravel(), minlength=len(THINGS) + 1)
    areas = np.bincount(backdrop.index[mask == 0], minlength=len(GROUNDS))
    labels = tuple(name for number, name in enumerate(THINGS, 1) if present[number])
    grounds = tuple(name for number, name in enumerate(GROUNDS) if areas[number] >= GROUND_SHARE * mask.size)
    return Scene(image, mask, labels, grounds)
