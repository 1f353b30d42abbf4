"""Drawings of other man-made things: balloon, house, kite, snowman, umbrella.

Each function records one variant with the pen, in a box of about -0.5..0.5, y down.
"""

from __future__ import annotations

import math

from .pen import GLASS, INK, Colour, Pen, darker, lighter, mirrored, mix, scaled
from .sampler import PALETTE, Sampler


def balloon(pen: Pen, rng: Sampler) -> None:
    skin = rng.colour("red", "blue", "yellow", "pink")
    if rng.chance(0.5):
        _hot_air_balloon(pen, rng, skin)
        return
    wide = rng.uniform(0.23, 0.29)
    wave = rng.uniform(0.03, 0.07)
    string = [(0, 0.18), (wave, 0.28), (-wave, 0.38), (wave * 0.4, 0.5)]
    pen.line(string, 0.02, darker(skin, 0.5), curved=True)
    pen.polygon([(0, 0.1), (0.055, 0.2), (-0.055, 0.2)], darker(skin, 0.15))
    pen.spline(mirrored([(0, -0.5), (wide * 0.8, -0.4), (wide, -0.2), (wide * 0.66, 0.02), (0, 0.15)]), skin)
    pen.ellipse(-0.04, -0.24, wide * 0.68, 0.22, lighter(skin, 0.14), rim=False)
    pen.ellipse(-0.11, -0.35, 0.045, 0.085, lighter(skin, 0.7), rim=False, tilt=0.45)


def _hot_air_balloon(pen: Pen, rng: Sampler, skin: Colour) -> None:
    band = rng.contrast(skin, "white", "amber", "cream")
    for x in (-0.08, 0.08):
        pen.line([(x * 1.8, 0.08), (x, 0.36)], 0.016, darker(PALETTE["brown"], 0.3))
    pen.box(-0.09, 0.34, 0.09, 0.5, rng.colour("tan", "brown", share=0.9))
    pen.line([(-0.09, 0.42), (0.09, 0.42)], 0.02, darker(PALETTE["brown"], 0.3))
    half = [(0, -0.5), (0.26, -0.43), (0.38, -0.2), (0.3, 0.04), (0.13, 0.22)]
    wide = rng.uniform(0.86, 1.06)
    for share, colour in ((1.0, skin), (0.62, band), (0.24, skin)):
        pen.spline(mirrored([(x * share * wide, y) for x, y in half]), colour, rim=share == 1.0)
    if rng.chance(0.5):
        stripe = [(-0.36 * wide, -0.12), (0, -0.06), (0.36 * wide, -0.12)]
        pen.line(stripe, 0.07, mix(band, darker(skin, 0.2), 0.5), curved=True)
    pen.ellipse(-0.17, -0.34, 0.04, 0.08, lighter(skin, 0.6), rim=False, tilt=0.6)
    pen.box(-0.12, 0.19, 0.12, 0.23, darker(band, 0.2), rim=False)


def _window(pen: Pen, x: float, y: float, size: float, frame: Colour, pane: Colour) -> None:
    pen.box(x - size, y - size * 1.15, x + size, y + size * 1.15, frame)
    pen.box(x - size * 0.72, y - size * 0.87, x + size * 0.72, y + size * 0.87, pane, rim=False)
    pen.line([(x, y - size), (x, y + size)], 0.018, frame)
    pen.line([(x - size, y), (x + size, y)], 0.018, frame)


def house(pen: Pen, rng: Sampler) -> None:
    wall = rng.colour("cream", "white", "tan", "coral", "sky")
    roof = rng.contrast(wall, "red", "brown", "slate")
    wide, eaves = rng.uniform(0.3, 0.46), rng.uniform(-0.14, 0.06)
    peak = eaves - rng.uniform(0.26, 0.36)
    kind = rng.choice(("gable", "hip", "gambrel", "shed"))
    over = wide + 0.06
    roofs = {
        "gable": mirrored([(0, peak), (over, eaves)]),
        "hip": mirrored([(wide * 0.5, peak + 0.06), (over, eaves)]),
        "gambrel": mirrored([(0, peak - 0.02), (wide * 0.75, eaves - 0.18), (over, eaves)]),
        "shed": [(-over, eaves), (-over, eaves - 0.08), (wide * 0.9, peak + 0.04), (over, peak + 0.1), (over, eaves)],
    }
    if rng.chance(0.65):
        brick = rng.jitter(PALETTE["coral"]) if rng.chance(0.5) else darker(wall, 0.2)
        pen.box(wide * 0.42, peak - 0.02, wide * 0.42 + 0.11, eaves, brick)
        pen.box(wide * 0.42 - 0.02, peak - 0.04, wide * 0.42 + 0.13, peak + 0.02, darker(brick, 0.2), rim=False)
    pen.box(-wide, eaves - 0.03, wide, 0.46, wall)
    pen.box(-wide + 0.02, 0.39, wide - 0.02, 0.44, darker(wall, 0.2), rim=False)
    pen.polygon(roofs[kind], roof)
    pen.line([(-over + 0.03, eaves - 0.02), (over - 0.03, eaves - 0.02)], 0.035, darker(roof, 0.2))
    if kind in ("gable", "gambrel"):
        pen.ellipse(0, (eaves + peak) / 2 + 0.03, 0.055, 0.055, lighter(wall, 0.4))
    else:
        pen.line([(-wide * 0.6, eaves - 0.1), (wide * 0.75, eaves - 0.1)], 0.018, darker(roof, 0.25))
    frame = rng.choice((PALETTE["white"], darker(wall, 0.5)))
    pane = rng.choice((GLASS, (255, 226, 130), darker(GLASS, 0.4)))
    door = rng.contrast(wall, "brown", "red", "teal")
    at = rng.choice((-0.5, 0.0, 0.0, 0.5)) * wide
    pen.box(at - 0.075, 0.2, at + 0.075, 0.46, door)
    pen.discs([(at + 0.04, 0.34)], 0.014, lighter(door, 0.7))
    for x in (-0.62, 0.0, 0.62):
        if abs(x * wide - at) > 0.15:
            _window(pen, x * wide, (eaves + 0.46) / 2 - 0.02, 0.072, frame, pane)


def kite(pen: Pen, rng: Sampler) -> None:
    one = rng.colour("red", "amber", "blue", "magenta")
    other = rng.contrast(one)
    wide, cross = rng.uniform(0.25, 0.34), rng.uniform(-0.26, -0.16)
    low = rng.uniform(0.1, 0.22)
    sway = rng.uniform(0.04, 0.1)
    tail = [(0, low), (sway, low + 0.1), (-sway, low + 0.2), (sway * 0.5, 0.5)]
    pen.line(tail, 0.02, darker(other, 0.4), curved=True)
    bow = rng.contrast(other)
    for x, y in tail[1:]:
        pen.polygon(scaled([(-1, -0.5), (1, 0.5), (1, -0.5), (-1, 0.5)], x, y, 0.07), bow, rim=False)
    if rng.chance(0.28):  # a delta kite
        pen.polygon(mirrored([(0, -0.42), (0.5, low - 0.02), (0.14, low - 0.08), (0, low)]), one)
        pen.polygon(mirrored([(0, -0.36), (0.13, low - 0.11), (0, low - 0.03)]), other, rim=False)
        pen.line([(0, -0.4), (0, low)], 0.018, darker(one, 0.5))
        return
    pen.polygon(mirrored([(0, -0.5), (wide, cross), (0, low)]), one)
    if rng.chance(0.6):
        pen.polygon([(0, cross), (0, -0.46), (wide * 0.92, cross)], other, rim=False)
        pen.polygon([(0, cross), (0, low - 0.05), (-wide * 0.92, cross)], other, rim=False)
    else:
        pen.polygon(mirrored([(wide * 0.62, cross + 0.09), (0, low - 0.06)]), other, rim=False)
        pen.polygon(mirrored([(wide * 0.3, cross - 0.14), (0, -0.45)]), lighter(one, 0.35), rim=False)
    pen.line([(0, -0.49), (0, low)], 0.018, darker(one, 0.5))
    pen.line([(-wide, cross), (wide, cross)], 0.018, darker(one, 0.5))


def _hat(pen: Pen, rng: Sampler, y: float, r: float) -> None:
    felt = rng.colour("charcoal", "red", "blue")
    band = rng.contrast(felt)
    brim = y - 0.62 * r
    if rng.chance(0.5):  # a top hat
        pen.box(-0.72 * r, brim - 1.15 * r, 0.72 * r, brim, felt)
        pen.box(-0.66 * r, brim - 0.38 * r, 0.66 * r, brim - 0.1 * r, band, rim=False)
        pen.box(-1.2 * r, brim - 0.12 * r, 1.2 * r, brim + 0.14 * r, felt)
        return
    angles = [math.pi * k / 13 for k in range(14)]
    pen.polygon([(r * math.cos(a), brim - r * math.sin(a)) for a in angles], felt)
    pen.box(-1.08 * r, brim - 0.18 * r, 1.08 * r, brim + 0.16 * r, band)
    pen.sphere(0, brim - 1.05 * r, 0.3 * r, 0.3 * r, band)


def snowman(pen: Pen, rng: Sampler) -> None:
    snow = rng.jitter((236, 242, 250), 8)
    if rng.chance(0.25):
        snow = mix(snow, rng.colour(), 0.25)
    three = rng.chance(0.5)
    r, head, low, arm = (0.125, -0.2, 0.24, 0.06) if three else (0.15, -0.14, 0.27, 0.1)
    wood = darker(PALETTE["brown"], 0.25)
    for side in (-1, 1):
        lift = rng.uniform(-0.2, 0.06)
        pen.line([(side * 0.12, arm + 0.03), (side * 0.42, arm + lift)], 0.028, wood)
        pen.line([(side * 0.33, arm + lift * 0.7), (side * 0.38, arm + lift - 0.09)], 0.022, wood)
    pen.sphere(0, 0.5 - low, low * 1.05, low, snow)
    if three:
        pen.sphere(0, 0.02, 0.175, 0.16, snow)
    pen.sphere(0, head, r * 1.05, r, snow)
    pen.discs([(0, 0.04), (0, 0.12), (0, 0.24)][: rng.integer(2, 3)], 0.022, INK)
    if rng.chance(0.75):
        scarf = rng.colour("red", "green", "blue")
        pen.polygon([(0.03, head + r), (0.13, head + r), (0.16, head + r + 0.22), (0.06, head + r + 0.22)], scarf)
        pen.spline(mirrored(scaled([(0, 0.95), (1, 0.72), (0.95, 1.2), (0, 1.45)], 0, head, r)), scarf)
    for side in (-1, 1):
        pen.ellipse(side * 0.38 * r, head - 0.2 * r, 0.022, 0.025, INK, rim=False)
    nose = rng.jitter(PALETTE["orange"])
    pen.polygon(scaled([(0, -0.05), (0, 0.28), (1.15, 0.25)], 0, head, r), nose)
    if rng.chance(0.88):
        _hat(pen, rng, head, r)


def umbrella(pen: Pen, rng: Sampler) -> None:
    one = rng.colour("red", "blue", "yellow", "turquoise")
    other = rng.choice((one, lighter(one, 0.6), rng.contrast(one)))
    high = rng.uniform(0.32, 0.44)
    wood = rng.colour("brown", "slate", "charcoal", share=0.9)
    pen.line([(0, -high - 0.08), (0, 0.42)], 0.036, wood)
    if rng.chance(0.6):
        hook = [(0, 0.38), (0.015, 0.47), (0.07, 0.49), (0.12, 0.46), (0.125, 0.4)]
        pen.line(hook, 0.042, darker(wood, 0.2), curved=True)
    ribs = rng.choice((4, 5, 6))
    edges = [-math.cos(math.pi * k / ribs) * 0.5 for k in range(ribs + 1)]
    angles = [math.pi * k / 21 for k in range(22)]
    outline = [(-0.5 * math.cos(a), -high * math.sin(a) ** 0.85) for a in angles]
    for left, right in zip(edges[:0:-1], edges[-2::-1], strict=True):
        sag = 0.28 * abs(left - right)
        outline += [(left + (right - left) * t, -sag * 4 * t * (1 - t)) for t in (0.2, 0.4, 0.6, 0.8, 1.0)]
    pen.polygon(outline[:-1], one)
    angles = [0.12 + (math.pi / 2 - 0.12) * k / 5 for k in range(6)]
    rib = [(math.cos(a) * 0.96, -(math.sin(a) ** 0.85) * (high - 0.02)) for a in angles]  # one at x = 1
    for index in range(ribs):
        left, right = edges[index], edges[index + 1]
        left_rib, right_rib = ([(edge * x, y) for x, y in rib] for edge in (left, right))
        hem = ((left + right) * 0.48, -0.28 * abs(left - right) - 0.03)
        pen.polygon([*left_rib, *right_rib[::-1], hem], other if index % 2 else lighter(one, 0.06), rim=False)
        if index:
            pen.line(left_rib, 0.014, darker(one, 0.4))
    pen.ellipse(-0.2, -high * 0.66, 0.09, 0.04, lighter(one, 0.5), rim=False, tilt=-0.7)
