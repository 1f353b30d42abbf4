"""Drawings of plants and fungi: apple, flower, mushroom, tree.

Each function records one variant with the pen, in a box of about -0.5..0.5, y down.
"""

from __future__ import annotations

import math

from .pen import Colour, Pen, Point, darker, lighter, mirrored, mix
from .sampler import PALETTE, Sampler

LEAF = ("green", "lime", "pine")


def _leaf(pen: Pen, x: float, y: float, dx: float, dy: float, fat: float, colour: Colour) -> None:
    """A pointed leaf from (x, y) to (x + dx, y + dy), with a midrib."""
    side: Point = (-dy * fat, dx * fat)
    left = [(x + dx * t + side[0] * w, y + dy * t + side[1] * w) for t, w in ((0.25, 0.8), (0.55, 1.0))]
    right = [(x + dx * t - side[0] * w, y + dy * t - side[1] * w) for t, w in ((0.55, 1.0), (0.25, 0.8))]
    pen.spline([(x, y), *left, (x + dx, y + dy), *right], colour)
    pen.line([(x + dx * 0.1, y + dy * 0.1), (x + dx * 0.8, y + dy * 0.8)], 0.015, lighter(colour, 0.3))


def apple(pen: Pen, rng: Sampler) -> None:
    skin = rng.colour("red", "red", "lime", "amber", share=0.55)
    wide, low = rng.uniform(0.92, 1.12), rng.uniform(0.9, 1.1)
    half = [(0.0, -0.25), (0.2, -0.36), (0.41, -0.24), (0.43, 0.06), (0.3, 0.36), (0.13, 0.45), (0.0, 0.41)]
    pen.spline(mirrored([(x * wide, y * low) for x, y in half]), skin)
    blush = mix(skin, PALETTE[rng.choice(("red", "yellow", "lime"))], rng.uniform(0.0, 0.18))
    for x, y, share in ((-0.03, 0.03, 0.05), (-0.05, 0.0, 0.1), (-0.07, -0.03, 0.15)):
        pen.ellipse(x * wide, y, (0.38 - share) * wide, (0.4 - share) * low, lighter(blush, share * 0.9), rim=False)
    pen.ellipse(-0.22 * wide, -0.14, 0.1, 0.055, lighter(skin, 0.7), rim=False, tilt=-0.7)
    pen.ellipse(0.0, -0.25 * low, 0.11, 0.035, darker(skin, 0.4), rim=False)
    bend = rng.uniform(-0.08, 0.1)
    pen.line([(0, -0.24), (0.01, -0.36), (bend, -0.5)], 0.045, darker(PALETTE["brown"], 0.2), curved=True)
    if rng.chance(0.8):
        dx, dy = rng.uniform(0.22, 0.32), rng.uniform(-0.16, -0.04)
        _leaf(pen, 0.02, -0.35, dx, dy, 0.36, rng.colour(*LEAF, share=0.8))
    if rng.chance(0.25):
        pen.discs([(0.12, 0.1), (-0.1, 0.22), (0.24, -0.08), (0.02, -0.06)], 0.014, lighter(skin, 0.5))


def flower(pen: Pen, rng: Sampler) -> None:
    petal = rng.colour("red", "pink", "yellow", "violet", "white", share=0.5)
    stalk = rng.colour(*LEAF, share=0.9)
    bend = rng.uniform(-0.1, 0.1)
    pen.line([(bend, 0.5), (bend * 0.3, 0.2), (0, -0.1)], 0.055, darker(stalk, 0.2), curved=True)
    pen.line([(bend - 0.006, 0.5), (bend * 0.3 - 0.006, 0.2), (-0.006, -0.1)], 0.026, stalk, curved=True)
    for side in (-1, 1):
        if rng.chance(0.85):
            root = rng.uniform(0.25, 0.45)
            _leaf(pen, bend * 0.5, root, side * rng.uniform(0.2, 0.3), rng.uniform(-0.22, -0.06), 0.28, stalk)
    if rng.chance(0.28):  # a tulip
        for side in (-1, 1):
            cup = [(0, 0.06), (0.2, 0.0), (0.25, -0.2), (0.22, -0.46), (0.06, -0.26)]
            pen.spline([(side * x, y) for x, y in cup], darker(petal, 0.1))
        pen.spline(mirrored([(0, 0.07), (0.14, 0.0), (0.13, -0.22), (0, -0.44)]), lighter(petal, 0.1))
        return
    heart = rng.contrast(petal, "amber", "yellow", "brown")
    count = rng.integer(5, 9)
    long, turn = rng.uniform(0.15, 0.17), rng.uniform(0, 1)
    fat = long * min(0.95, 4.2 / count) * rng.uniform(0.85, 1.0)
    for step in range(count):
        angle = 2 * math.pi * (step + turn) / count
        x, y = 0.19 * math.cos(angle), -0.2 + 0.19 * math.sin(angle)
        pen.ellipse(x, y, long, fat, petal, tilt=angle)
        pen.ellipse(x * 1.12, (y + 0.2) * 1.12 - 0.2, long * 0.55, fat * 0.45, lighter(petal, 0.28), False, angle)
    pen.sphere(0, -0.2, 0.115, 0.115, heart)


DOTS = ((-0.55, 0.3, 0.06), (0.02, 0.42, 0.08), (0.55, 0.26, 0.06), (0.3, 0.74, 0.05), (-0.22, 0.78, 0.05))


def mushroom(pen: Pen, rng: Sampler) -> None:
    cap = rng.colour("red", "brown", "tan", "coral")
    stalk = rng.choice((PALETTE["cream"], PALETTE["white"], lighter(cap, 0.65)))
    wide, high = rng.uniform(0.36, 0.52), rng.uniform(0.34, 0.58)
    brim, slim = rng.uniform(-0.08, 0.06), rng.uniform(0.09, 0.15)
    pen.spline(mirrored([(slim, brim - 0.05), (slim, brim + 0.2), (slim * 1.35, 0.46), (0, 0.5)]), stalk)
    pen.line([(slim * 0.5, brim + 0.12), (slim * 0.6, 0.42)], 0.04, darker(stalk, 0.12))
    if rng.chance(0.4):
        ring = brim + 0.14
        pen.polygon(mirrored([(slim, ring), (slim * 1.5, ring + 0.08)]), stalk)
    pen.ellipse(0, brim, wide * 0.97, 0.08, mix(stalk, darker(cap, 0.4), 0.4))
    for step in range(-3, 4):
        pen.line([(step * 0.04, brim), (step * 0.125 * wide / 0.45, brim + 0.06)], 0.012, darker(stalk, 0.4))
    angles = [math.pi * (k + 0.1) / 17.2 for k in range(18)]
    dome = [(wide * math.cos(a), brim - high * math.sin(a) ** 0.8) for a in angles]
    pen.polygon([*dome, (-wide * 0.5, brim + 0.035), (0, brim + 0.05), (wide * 0.5, brim + 0.035)], cap)
    pen.ellipse(-0.3 * wide, brim - 0.66 * high, 0.25 * wide, 0.12 * high, lighter(cap, 0.25), rim=False, tilt=-0.5)
    if rng.chance(0.75):
        colour = lighter(cap, 0.85) if rng.chance(0.7) else rng.contrast(cap, "white")
        for x, y, radius in DOTS:
            pen.ellipse(x * wide, brim - y * high, radius, radius * 0.85, colour, rim=False)


def _conifer(pen: Pen, rng: Sampler, crown: Colour) -> None:
    tiers, wide = rng.integer(3, 4), rng.uniform(0.24, 0.34)
    step = 0.84 / (tiers + 0.6)
    for tier in range(tiers):
        low = 0.34 - tier * step
        half = wide * (1 - 0.2 * tier)
        top = low - 1.6 * step
        fringe = [(half * (1 - 0.5 * t), low + (0.035 if t % 2 else 0.0)) for t in range(5)]
        pen.polygon([(0, top), *fringe], crown)
        lit = [(-0.01, top + 0.08), (-half * 0.2, low - 0.04), (-half * 0.75, low - 0.03)]
        pen.polygon(lit, lighter(crown, 0.16), rim=False)


# The ellipses of a round crown: x, y, radius.
CROWN = (
    (0.2, -0.02, 0.2),
    (-0.2, 0.0, 0.2),
    (0.17, -0.22, 0.19),
    (-0.16, -0.22, 0.2),
    (0, -0.3, 0.2),
    (0, -0.06, 0.23),
)


def tree(pen: Pen, rng: Sampler) -> None:
    crown = rng.colour("green", "green", "lime", "pine", "orange", "pink", share=0.6)
    bark = rng.jitter(PALETTE[rng.choice(("brown", "brown", "slate", "tan"))])
    kind = rng.weighted(("round", "conifer", "poplar"), (0.55, 0.3, 0.15))
    slim = rng.uniform(0.045, 0.075)
    pen.polygon(mirrored([(slim, 0.0), (slim * 1.1, 0.36), (slim * 1.9, 0.5)]), bark)
    pen.line([(-slim * 0.3, 0.1), (-slim * 0.4, 0.44)], 0.02, lighter(bark, 0.25))
    if kind == "conifer":
        _conifer(pen, rng, crown)
        return
    if kind == "poplar":
        pen.spline(mirrored([(0, -0.5), (0.17, -0.2), (0.19, 0.1), (0.08, 0.28)]), crown)
        lit = [(-0.02, -0.42), (0.05, -0.1), (-0.02, 0.2), (-0.13, 0.08), (-0.11, -0.2)]
        pen.spline(lit, lighter(crown, 0.15), rim=False)
        return
    pen.line([(0, 0.2), (0.16, 0.0)], 0.05, bark)
    puffs = [(x * rng.uniform(0.85, 1.2), y + rng.uniform(-0.03, 0.03), r) for x, y, r in CROWN]
    for x, y, r in puffs:
        pen.discs([(x, y)], r, darker(crown, 0.42))
    for x, y, r in puffs:
        pen.discs([(x, y)], r - 0.02, crown)
    for x, y, r in puffs[1:]:
        pen.ellipse(x - 0.3 * r, y - 0.32 * r, r * 0.5, r * 0.42, lighter(crown, 0.15), rim=False)
    if rng.chance(0.3):
        fruit = rng.contrast(crown, "red", "amber", "white")
        pen.discs([(x + 0.04, y + 0.05) for x, y, _ in puffs], 0.034, fruit)
