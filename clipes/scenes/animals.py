"""Drawings of animals: bird, butterfly, cat, fish.

Each function records one variant with the pen, in a box of about -0.5..0.5, y down.
"""

from __future__ import annotations

from .pen import WHITE, Colour, Pen, darker, lighter, mirrored, mix, scaled
from .sampler import PALETTE, Sampler


def bird(pen: Pen, rng: Sampler) -> None:
    coat = rng.colour("blue", "red", "brown", "slate")
    wing = rng.choice((darker(coat, 0.25), rng.contrast(coat), lighter(coat, 0.4)))
    belly = rng.choice((lighter(coat, 0.55), PALETTE["cream"], coat))
    flying = rng.chance(0.45)
    beak = rng.colour("orange", "amber", share=0.85)
    if flying:
        pen.spline([(0.02, -0.02), (-0.22, -0.36), (-0.2, -0.46), (0.1, -0.28), (0.2, -0.04)], darker(wing, 0.2))
    else:
        for x in (-0.02, 0.08):
            pen.line([(x, 0.25), (x + 0.02, 0.43), (x + 0.09, 0.43)], 0.028, darker(beak, 0.25))
    pen.polygon([(-0.22, 0.0), (-0.56, -0.1), (-0.5, 0.02), (-0.58, 0.1), (-0.22, 0.16)], darker(wing, 0.1))
    fat = rng.uniform(0.85, 1.15)
    pen.polygon([(0.38, -0.2), (0.55, -0.11), (0.38, -0.06)], beak)
    back = [(-0.34, 0.02), (-0.1, -0.14), (0.12, -0.24), (0.26, -0.33)]
    front = [(0.41, -0.25), (0.42, -0.1), (0.32, 0.1), (0.1, 0.27 * fat), (-0.14, 0.22 * fat)]
    pen.spline([*back, *front], coat)
    pen.spline([(0.3, 0.03), (0.14, 0.23 * fat), (-0.08, 0.2 * fat), (0.1, 0.1)], belly, rim=False)
    if rng.chance(0.35):
        pen.spline([(0.2, -0.31), (0.1, -0.44), (0.22, -0.38), (0.24, -0.48), (0.32, -0.34)], wing, rim=False)
    pen.eye(0.32, -0.2, 0.036)
    if flying:
        spread = rng.uniform(0.3, 0.5)
        pen.spline([(0.16, -0.04), (-0.1, -spread), (-0.3, -spread - 0.1), (-0.26, -0.2), (-0.14, 0.06)], wing)
        for t in (0.3, 0.55):
            pen.line([(-0.1 - 0.08 * t, -0.02), (-0.26 + 0.1 * t, -spread * 0.8)], 0.02, darker(wing, 0.3))
    else:
        pen.spline([(0.16, -0.06), (0.06, 0.12), (-0.18, 0.15), (-0.38, 0.08), (-0.12, -0.08)], wing)
        pen.line([(0.02, 0.06), (-0.14, 0.09), (-0.26, 0.07)], 0.02, darker(wing, 0.3), curved=True)


def butterfly(pen: Pen, rng: Sampler) -> None:
    upper = rng.colour("orange", "amber", "blue", "violet")
    lower = rng.choice((upper, rng.contrast(upper), lighter(upper, 0.35)))
    spot = rng.contrast(upper, "white", "charcoal", "yellow")
    reach, drop = rng.uniform(0.42, 0.52), rng.uniform(0.34, 0.5)
    lower_wing = [(0.02, 0.02), (0.2, 0.0), (reach - 0.12, 0.14), (reach - 0.16, drop - 0.1), (0.16, drop)]
    tip = [(reach - 0.08, -0.42), (reach, -0.3), (reach - 0.1, 0.0)]
    upper_wing = [(0.02, 0.0), (0.12, -0.28), *tip, (0.2, 0.08)]
    spots = [(0.34, -0.26, 0.06), (0.26, -0.1, 0.045), (0.2, 0.24, 0.055)][: rng.integer(1, 3)]
    for points, colour in ((lower_wing, lower), (upper_wing, upper)):
        for side in (-1, 1):
            pen.spline([(side * x, y) for x, y in points], darker(upper, 0.55))
            pen.spline([(side * (0.05 + 0.82 * x), 0.84 * y - 0.005) for x, y in points], colour, rim=False)
    for side in (-1, 1):
        for x, y, radius in spots:
            pen.ellipse(side * x, y, radius, radius * 1.1, spot, rim=False)
        pen.line([(0, -0.22), (side * 0.06, -0.36), (side * 0.14, -0.42)], 0.018, darker(upper, 0.8), curved=True)
        pen.discs([(side * 0.14, -0.42)], 0.022, darker(upper, 0.8))
    body = rng.choice((PALETTE["charcoal"], PALETTE["brown"], darker(lower, 0.5)))
    pen.ellipse(0, 0.06, 0.042, 0.25, body, rim=False)
    pen.ellipse(0, -0.21, 0.05, 0.055, body, rim=False)
    pen.ellipse(-0.012, 0.0, 0.012, 0.12, lighter(body, 0.3), rim=False)


def _cat_face(pen: Pen, x: float, y: float, r: float, coat: Colour, muzzle: Colour, rng: Sampler) -> None:
    inner = mix(coat, PALETTE["pink"], 0.7)
    for side in (-1, 1):
        ear = scaled([(side * 0.95, -0.1), (side * 0.84, -1.3), (side * 0.15, -0.75)], x, y, r)
        pen.polygon(ear, coat)
        middle = (sum(p[0] for p in ear) / 3, sum(p[1] for p in ear) / 3)
        pen.polygon(scaled([(a - middle[0], b - middle[1]) for a, b in ear], *middle, 0.5), inner, rim=False)
    pen.ellipse(x, y, r * 1.08, r * 0.92, coat)
    pen.ellipse(x, y + 0.38 * r, 0.5 * r, 0.36 * r, muzzle, rim=False)
    iris = rng.colour("lime", "amber", "turquoise", share=0.9)
    for side in (-1, 1):
        pen.ellipse(x + side * 0.42 * r, y - 0.1 * r, 0.22 * r, 0.24 * r, lighter(iris, 0.2), rim=False)
        pen.ellipse(x + side * 0.4 * r, y - 0.1 * r, 0.1 * r, 0.21 * r, darker(coat, 0.95), rim=False)
        for lift in (0.22, 0.42):
            pen.line(scaled([(side * 0.4, 0.36), (side * 1.3, lift * 1.4)], x, y, r), 0.012, lighter(coat, 0.75))
    pen.polygon(scaled([(-0.13, 0.2), (0.13, 0.2), (0, 0.36)], x, y, r), darker(inner, 0.2), rim=False)


def cat(pen: Pen, rng: Sampler) -> None:
    coat = rng.colour("orange", "slate", "charcoal", "tan", "white", "brown", share=0.6)
    stripe = darker(coat, 0.35)
    chest = rng.choice((lighter(coat, 0.6), PALETTE["white"], lighter(coat, 0.25)))
    striped = rng.chance(0.5)
    if rng.chance(0.55):  # sitting, from the front
        curl = rng.uniform(0.28, 0.42)
        pen.line([(0.1, 0.42), (curl, 0.4), (curl + 0.08, 0.12), (curl - 0.04, -0.06)], 0.1, stripe, True, 0.7)
        pen.spline(mirrored([(0, -0.12), (0.17, 0.0), (0.27, 0.3), (0.2, 0.48), (0, 0.49)]), coat)
        pen.ellipse(0, 0.14, 0.1, 0.17, chest, rim=False)
        for side in (-1, 1):
            pen.line([(side * 0.05, 0.22), (side * 0.05, 0.44)], 0.016, stripe)
            pen.ellipse(side * 0.095, 0.455, 0.085, 0.05, chest)
        if striped:
            for y in (0.16, 0.26, 0.36):
                for side in (-1, 1):
                    pen.line([(side * 0.25, y), (side * 0.15, y + 0.02)], 0.035, stripe, taper=0.3)
        _cat_face(pen, 0, -0.22, 0.215, coat, chest, rng)
    else:  # walking, from the side
        pen.line([(-0.34, 0.02), (-0.48, -0.1), (-0.5, -0.3), (-0.42, -0.4)], 0.085, coat, True, 0.7)
        for x, colour in ((-0.2, stripe), (0.24, stripe), (-0.3, coat), (0.14, coat)):
            stride = rng.uniform(-0.05, 0.05)
            foot = [(x + 0.05 + stride, 0.42), (x - 0.05 + stride, 0.42)]
            pen.polygon([(x - 0.06, 0.1), (x + 0.07, 0.1), *foot], colour)
        pen.spline([(-0.38, 0.02), (-0.2, -0.12), (0.2, -0.1), (0.34, 0.02), (0.26, 0.2), (-0.26, 0.22)], coat)
        if striped:
            for x in (-0.24, -0.12, 0.0, 0.12):
                pen.line([(x, -0.1), (x + 0.02, 0.08)], 0.04, stripe, taper=0.3)
        _cat_face(pen, 0.34, -0.14, 0.18, coat, chest, rng)


def fish(pen: Pen, rng: Sampler) -> None:
    skin = rng.colour("orange", "silver", "turquoise", "amber")
    fin = rng.choice((darker(skin, 0.22), rng.contrast(skin), lighter(skin, 0.3)))
    tall = rng.uniform(0.7, 1.35)
    pen.polygon([(-0.22, 0), (-0.5, -0.24), (rng.uniform(-0.42, -0.34), 0.0), (-0.5, 0.24)], fin)
    pen.spline([(-0.12, -0.1), (-0.08, -0.36 * tall), (0.12, -0.3 * tall), (0.24, -0.08)], fin)
    pen.spline([(-0.08, 0.1), (-0.14, 0.3 * tall), (0.0, 0.27 * tall), (0.06, 0.12)], fin)
    high = 0.23 * tall
    outline = [(-0.3, 0.0), (-0.16, -0.72 * high), (0.08, -high), (0.32, -0.7 * high), (0.46, 0.02)]
    pen.spline([*outline, (0.32, 0.72 * high), (0.08, high), (-0.16, 0.72 * high)], skin)
    belly = [(-0.2, 0.3 * high), (0.1, 0.4 * high), (0.38, 0.3 * high), (0.1, 0.86 * high)]
    pen.spline(belly, lighter(skin, 0.5), rim=False)
    pattern = rng.choice(("stripes", "scales", "plain", "spots"))
    mark = rng.contrast(skin, "white")
    if pattern == "stripes":
        for x in (-0.12, 0.0, 0.12):
            bow = 0.86 * high * (1 - abs(x - 0.06))
            pen.line([(x, -bow), (x + 0.03, 0), (x, bow)], 0.055, mark, curved=True)
    elif pattern == "scales":
        for x in (-0.14, -0.04, 0.06):
            for y in (-0.4 * high, 0.0, 0.4 * high):
                pen.line([(x, y - 0.05), (x - 0.035, y), (x, y + 0.05)], 0.018, darker(skin, 0.35), curved=True)
    elif pattern == "spots":
        pen.discs([(-0.12, -0.2 * high), (0.0, 0.3 * high), (0.06, -0.5 * high), (-0.04, 0.0)], 0.032, mark)
    pen.line([(0.2, -0.72 * high), (0.25, 0), (0.2, 0.72 * high)], 0.022, darker(skin, 0.4), curved=True)
    pen.spline([(0.14, 0.02), (0.0, 0.04), (-0.04, 0.13), (0.08, 0.12)], fin)
    pen.discs([(0.32, -0.22 * high)], 0.055, WHITE)
    pen.eye(0.33, -0.2 * high, 0.036)
    pen.line([(0.46, 0.04), (0.4, 0.06), (0.37, 0.045)], 0.018, darker(skin, 0.6), curved=True)
