"""Drawings of vehicles: boat, car, train.

Each function records one variant with the pen, in a box of about -0.5..0.5, y down.
"""

from __future__ import annotations

from .pen import GLASS, Colour, Pen, Point, darker, lighter
from .sampler import PALETTE, Sampler

TYRE: Colour = (58, 56, 68)
HEADLIGHT: Colour = (255, 240, 170)


def boat(pen: Pen, rng: Sampler) -> None:
    hull = rng.colour("brown", "red", "blue", "white")
    trim = rng.contrast(hull, "white", "cream", "amber")
    if rng.chance(0.55):
        _sails(pen, rng)
    else:
        _cabin(pen, rng, hull)
    low = rng.uniform(0.4, 0.5)
    deck = [(-0.5, 0.16), (-0.45, 0.2), (0, 0.22), (0.44, 0.18), (0.54, 0.1)]
    pen.spline([*deck, (0.42, low - 0.02), (0.2, low + 0.02), (-0.25, low + 0.02), (-0.42, low - 0.06)], hull)
    pen.line([(-0.45, 0.24), (0, 0.265), (0.47, 0.21)], 0.036, trim, curved=True)
    pen.line([(-0.38, low - 0.06), (0.38, low - 0.06)], 0.03, darker(hull, 0.3))


def _sails(pen: Pen, rng: Sampler) -> None:
    sail = rng.colour("white", "cream", "red", share=0.5)
    other = rng.choice((sail, rng.contrast(sail), lighter(sail, 0.4)))
    pen.line([(0.02, 0.26), (0.02, -0.48)], 0.036, darker(PALETTE["brown"], 0.2))
    pen.polygon([(-0.02, -0.42), (-0.02, 0.17), (-rng.uniform(0.3, 0.42), 0.17)], other)
    pen.spline([(0.06, -0.4), (0.28, -0.12), (rng.uniform(0.36, 0.44), 0.15), (0.06, 0.17)], sail)
    if rng.chance(0.5):
        pen.line([(0.06, -0.06), (0.31, -0.06)], 0.045, rng.contrast(sail))
    pen.polygon([(0.02, -0.5), (0.18, -0.46), (0.02, -0.42)], rng.colour("red"), rim=False)


def _cabin(pen: Pen, rng: Sampler, hull: Colour) -> None:
    cabin = rng.choice((PALETTE["white"], PALETTE["cream"], lighter(hull, 0.5)))
    funnel = rng.contrast(cabin, "red", "charcoal", "amber")
    for x in (-0.06, 0.1)[: rng.integer(1, 2)]:
        pen.box(x, -0.36, x + 0.11, 0.0, funnel)
        pen.box(x + 0.015, -0.27, x + 0.095, -0.2, lighter(funnel, 0.75), rim=False)
    pen.box(-0.26, -0.06, 0.3, 0.2, cabin)
    if rng.chance(0.6):
        pen.box(-0.2, -0.2, 0.04, -0.04, cabin)
        pen.box(-0.15, -0.16, -0.01, -0.09, GLASS, rim=False)
    pen.discs([(-0.18, 0.06), (-0.05, 0.06), (0.08, 0.06), (0.21, 0.06)], 0.036, darker(GLASS, 0.5))


def _wheel(pen: Pen, x: float, y: float, radius: float, hub: Colour) -> None:
    for share, colour in ((1.0, TYRE), (0.58, hub), (0.22, darker(hub, 0.5))):
        pen.discs([(x, y)], radius * share, colour)


SILL = 0.18  # the height of a car's lower edge


def _car_outline(kind: str, roof: float) -> tuple[list[Point], list[Point]]:
    """The corners of the body, and the (left, right) ends of its window panes."""
    rear = (-0.5, SILL)
    if kind == "van":
        hood = [(0.24, roof), (0.34, -0.04), (0.49, 0.02), (0.5, SILL)]
        return [rear, (-0.5, roof + 0.05), (-0.45, roof), *hood], [(-0.4, -0.2), (-0.16, 0.02), (0.06, 0.22)]
    if kind == "truck":
        cabin = [(-0.06, -0.02), (-0.05, roof), (0.2, roof), (0.3, -0.02)]
        return [rear, (-0.5, -0.02), *cabin, (0.5, 0.03), (0.5, SILL)], [(0.0, 0.18)]
    lift = 0.06 if kind == "beetle" else 0.0
    boot = [(-0.5, 0.0 - lift), (-0.36, -0.03 - lift)]
    hood = [(0.25, -0.03 - lift / 2), (0.46, 0.02), (0.51, SILL)]
    return [rear, *boot, (-0.24, roof), (0.1, roof), *hood], [(-0.2, -0.04), (0.0, 0.12)]


def _panes(pen: Pen, kind: str, panes: list[Point], roof: float) -> None:
    top = roof + 0.055
    for index, (left, right) in enumerate(panes):
        slant = 0.06 if index == len(panes) - 1 else 0.0
        low = left - (0.05 if index == 0 and kind in ("saloon", "beetle") else 0.0)
        pane = [(left, top), (right - slant, top), (right + 0.4 * slant, -0.03), (low, -0.03)]
        pen.polygon(pane, GLASS, rim=False)
        reflection = [(left + 0.02, top), (left + 0.07, top), (left, -0.03), (low, -0.03)]
        pen.polygon(reflection, lighter(GLASS, 0.6), rim=False)


def car(pen: Pen, rng: Sampler) -> None:
    body = rng.colour("red", "blue", "yellow", "silver")
    kind = rng.choice(("saloon", "beetle", "van", "truck"))
    roof = {"saloon": -0.2, "beetle": -0.26, "van": -0.28, "truck": -0.26}[kind] * rng.uniform(0.9, 1.15)
    shape, panes = _car_outline(kind, roof)
    if kind == "truck" and rng.chance(0.6):
        load = rng.contrast(body, "brown", "tan")
        pen.spline([(-0.44, 0.0), (-0.38, -0.12), (-0.26, -0.17), (-0.14, -0.12), (-0.08, 0.0)], load)
    pen.polygon(shape, body)
    _panes(pen, kind, panes, roof)
    pen.line([(-0.49, 0.14), (0.5, 0.14)], 0.035, darker(body, 0.25))
    if rng.chance(0.4):
        pen.line([(-0.48, 0.06), (0.46, 0.06)], 0.035, rng.contrast(body, "white"))
    pen.line([(0.06, 0.02), (0.11, 0.02)], 0.018, darker(body, 0.5))
    pen.ellipse(0.47, 0.075, 0.025, 0.035, HEADLIGHT, rim=False)
    pen.box(-0.5, 0.04, -0.475, 0.1, (206, 48, 52), rim=False)
    radius, hub = rng.uniform(0.1, 0.125), rng.colour("silver", "white", share=0.8)
    for x in (-0.28, 0.28):
        pen.discs([(x, SILL)], radius + 0.025, darker(body, 0.6))
        _wheel(pen, x, SILL + 0.02, radius, hub)


def _wagon(pen: Pen, rng: Sampler, left: float, right: float, colour: Colour) -> None:
    pen.box(left, -0.14, right, 0.17, colour)
    pen.box(left - 0.015, -0.19, right + 0.015, -0.13, darker(colour, 0.3))
    count = rng.integer(2, 3)
    step = (right - left) / count
    for index in range(count):
        x = left + step * (index + 0.5)
        pen.box(x - 0.28 * step, -0.08, x + 0.28 * step, 0.04, GLASS, rim=False)
    pen.line([(left + 0.02, 0.1), (right - 0.02, 0.1)], 0.03, lighter(colour, 0.5))


def _steam_train(pen: Pen, rng: Sampler, colour: Colour) -> None:
    trim = rng.contrast(colour, "amber", "charcoal", "red")
    wagon = rng.choice((colour, rng.colour(), trim))
    if rng.chance(0.65):
        pen.line([(-0.1, 0.16), (0.1, 0.16)], 0.04, TYRE)
        _wagon(pen, rng, -0.52, -0.09, wagon)
        for x in (-0.42, -0.19):
            _wheel(pen, x, 0.2, 0.065, lighter(trim, 0.2))
    chimney = [(0.33, -0.06), (0.31, -0.27), (0.28, -0.33), (0.44, -0.33), (0.41, -0.27), (0.4, -0.06)]
    pen.polygon(chimney, darker(trim, 0.1))
    pen.spline([(0.18, -0.08), (0.19, -0.18), (0.24, -0.18), (0.25, -0.08)], trim)
    pen.box(0.1, -0.1, 0.5, 0.14, colour)
    for x in (0.2, 0.32):
        pen.line([(x, -0.085), (x, 0.125)], 0.022, trim)
    pen.box(-0.03, -0.26, 0.16, 0.16, colour)
    pen.box(-0.06, -0.31, 0.19, -0.25, darker(trim, 0.15))
    pen.box(0.01, -0.18, 0.12, -0.06, GLASS, rim=False)
    pen.box(-0.03, 0.12, 0.52, 0.18, darker(colour, 0.35), rim=False)
    pen.polygon([(0.5, 0.12), (0.62, 0.26), (0.48, 0.26)], trim)
    for x, y, radius in ((0.06, 0.17, 0.1), (0.25, 0.2, 0.07), (0.41, 0.2, 0.07)):
        _wheel(pen, x, y, radius, trim)
    pen.line([(0.06, 0.19), (0.41, 0.21)], 0.022, lighter(TYRE, 0.5))


def train(pen: Pen, rng: Sampler) -> None:
    colour = rng.colour("red", "green", "charcoal", "blue")
    if rng.chance(0.6):
        _steam_train(pen, rng, colour)
        return
    band = rng.contrast(colour, "white", "amber")
    roof = -0.17
    for x in (-0.46, -0.32, -0.06, 0.08, 0.3):  # a railcar
        _wheel(pen, x, 0.17, 0.05, PALETTE["slate"])
    nose = rng.uniform(0.32, 0.46)
    tail = [(-0.2, 0.17), (-0.5, 0.17), (-0.6, 0.14), (-0.61, 0.0), (-0.59, roof + 0.02), (-0.5, roof)]
    front = [(nose - 0.1, roof), (nose + 0.06, roof + 0.06), (0.57, 0.06), (0.6, 0.14), (0.5, 0.17)]
    pen.spline([*tail, (-0.2, roof), *front], colour)
    pen.box(-0.57, 0.06, 0.54, 0.105, band, rim=False)
    for x in (-0.5, -0.37, -0.24, -0.02, 0.11, 0.24)[: 5 if nose < 0.4 else 6]:
        pen.box(x, -0.1, x + 0.09, 0.02, darker(GLASS, 0.15), rim=False)
    pen.polygon([(nose, -0.1), (nose + 0.05, -0.1), (nose + 0.15, 0.01), (nose, 0.01)], GLASS, rim=False)
    pen.line([(-0.11, roof + 0.02), (-0.11, 0.16)], 0.028, darker(colour, 0.5))
    pen.discs([(0.55, 0.1)], 0.025, HEADLIGHT)
    if rng.chance(0.6):
        pen.line([(-0.34, roof), (-0.26, roof - 0.08), (-0.34, roof - 0.14), (-0.18, roof - 0.14)], 0.018, TYRE)
