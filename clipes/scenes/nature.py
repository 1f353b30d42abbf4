"""Drawings of grown things: apple, bird, butterfly, cat, fish, flower, mushroom, tree.

Each function records one variant with the pen, in a box of about -0.5..0.5, y down.
"""

from __future__ import annotations

import math

from .dice import PALETTE, Dice
from .pen import WHITE, Colour, Pen, Point, darker, lighter, mix

LEAF = ("green", "lime", "pine")


def _leaf(pen: Pen, x: float, y: float, dx: float, dy: float, fat: float, colour: Colour) -> None:
    """A pointed leaf from (x, y) to (x + dx, y + dy), with a midrib."""
    side: Point = (-dy * fat, dx * fat)
    tip = (x + dx, y + dy)
    left = [(x + dx * t + side[0] * w, y + dy * t + side[1] * w) for t, w in ((0.25, 0.8), (0.55, 1.0))]
    right = [(x + dx * t - side[0] * w, y + dy * t - side[1] * w) for t, w in ((0.55, 1.0), (0.25, 0.8))]
    pen.blob([(x, y), *left, tip, *right], colour)
    pen.line([(x + dx * 0.1, y + dy * 0.1), (x + dx * 0.8, y + dy * 0.8)], 0.015, lighter(colour, 0.3))


def apple(pen: Pen, dice: Dice) -> None:
    skin = dice.paint("red", "red", "lime", "amber", share=0.55)
    wide, low = dice.span(0.92, 1.12), dice.span(0.9, 1.1)
    half = [(0.0, -0.25), (0.2, -0.36), (0.41, -0.24), (0.43, 0.06), (0.3, 0.36), (0.13, 0.45)]
    right = [(x * wide, y * low) for x, y in half]
    left = [(-x, y) for x, y in right[:0:-1]]
    pen.blob([*right, (0.0, 0.41 * low), *left], skin)
    blush = mix(skin, PALETTE[dice.pick(("red", "yellow", "lime"))], dice.span(0.0, 0.18))
    for x, y, share in ((-0.03, 0.03, 0.05), (-0.05, 0.0, 0.1), (-0.07, -0.03, 0.15)):
        pen.ellipse(
            x * wide, y, (0.38 - share) * wide, (0.4 - share) * low, lighter(blush, share * 0.9), rim=False
        )
    pen.ellipse(-0.22 * wide, -0.14, 0.1, 0.055, lighter(skin, 0.7), rim=False, tilt=-0.7)
    pen.ellipse(0.0, -0.25 * low, 0.11, 0.035, darker(skin, 0.4), rim=False)
    bend = dice.span(-0.08, 0.1)
    pen.line([(0, -0.24), (0.01, -0.36), (bend, -0.5)], 0.045, darker(PALETTE["brown"], 0.2), curved=True)
    if dice.chance(0.8):
        _leaf(
            pen,
            0.02,
            -0.35,
            dice.span(0.22, 0.32),
            dice.span(-0.16, -0.04),
            0.36,
            dice.paint(*LEAF, share=0.8),
        )
    if dice.chance(0.25):
        for x, y in ((0.12, 0.1), (-0.1, 0.22), (0.24, -0.08), (0.02, -0.06)):
            pen.ellipse(x, y, 0.014, 0.014, lighter(skin, 0.5), rim=False)


def bird(pen: Pen, dice: Dice) -> None:
    coat = dice.paint("blue", "red", "brown", "slate")
    wing = dice.pick((darker(coat, 0.25), dice.contrast(coat), lighter(coat, 0.4)))
    belly = dice.pick((lighter(coat, 0.55), PALETTE["cream"], coat))
    flying = dice.chance(0.45)
    beak = dice.paint("orange", "amber", share=0.85)
    if flying:
        pen.blob(
            [(0.02, -0.02), (-0.22, -0.36), (-0.2, -0.46), (0.1, -0.28), (0.2, -0.04)], darker(wing, 0.2)
        )
    else:
        for x in (-0.02, 0.08):
            pen.line([(x, 0.25), (x + 0.02, 0.43), (x + 0.09, 0.43)], 0.028, darker(beak, 0.25))
    pen.polygon([(-0.22, 0.0), (-0.56, -0.1), (-0.5, 0.02), (-0.58, 0.1), (-0.22, 0.16)], darker(wing, 0.1))
    fat = dice.span(0.85, 1.15)
    pen.polygon([(0.38, -0.2), (0.55, -0.11), (0.38, -0.06)], beak)
    body = [
        (-0.34, 0.02),
        (-0.1, -0.14),
        (0.12, -0.24),
        (0.26, -0.33),
        (0.41, -0.25),
        (0.42, -0.1),
        (0.32, 0.1),
    ]
    pen.blob([*body, (0.1, 0.27 * fat), (-0.14, 0.22 * fat)], coat)
    pen.blob([(0.3, 0.03), (0.14, 0.23 * fat), (-0.08, 0.2 * fat), (0.1, 0.1)], belly, rim=False)
    if dice.chance(0.35):
        pen.blob([(0.2, -0.31), (0.1, -0.44), (0.22, -0.38), (0.24, -0.48), (0.32, -0.34)], wing, rim=False)
    pen.eye(0.32, -0.2, 0.036)
    if flying:
        spread = dice.span(0.3, 0.5)
        pen.blob([(0.16, -0.04), (-0.1, -spread), (-0.3, -spread - 0.1), (-0.26, -0.2), (-0.14, 0.06)], wing)
        for t in (0.3, 0.55):
            pen.line([(-0.1 - 0.08 * t, -0.02), (-0.26 + 0.1 * t, -spread * 0.8)], 0.02, darker(wing, 0.3))
    else:
        pen.blob([(0.16, -0.06), (0.06, 0.12), (-0.18, 0.15), (-0.38, 0.08), (-0.12, -0.08)], wing)
        pen.line([(0.02, 0.06), (-0.14, 0.09), (-0.26, 0.07)], 0.02, darker(wing, 0.3), curved=True)


def butterfly(pen: Pen, dice: Dice) -> None:
    upper = dice.paint("orange", "amber", "blue", "violet")
    lower = dice.pick((upper, dice.contrast(upper), lighter(upper, 0.35)))
    spot = dice.contrast(upper, "white", "charcoal", "yellow")
    reach, drop = dice.span(0.42, 0.52), dice.span(0.34, 0.5)
    edge = darker(upper, 0.55)
    wings = (
        ([(0.02, 0.02), (0.2, 0.0), (reach - 0.12, 0.14), (reach - 0.16, drop - 0.1), (0.16, drop)], lower),
        (
            [
                (0.02, 0.0),
                (0.12, -0.28),
                (reach - 0.08, -0.42),
                (reach, -0.3),
                (reach - 0.1, 0.0),
                (0.2, 0.08),
            ],
            upper,
        ),
    )
    spots = [(0.34, -0.26, 0.06), (0.26, -0.1, 0.045), (0.2, 0.24, 0.055)][: dice.whole(1, 3)]
    for points, colour in wings:
        for side in (-1, 1):
            pen.blob([(side * x, y) for x, y in points], edge)
            pen.blob([(side * (0.05 + 0.82 * x), 0.84 * y - 0.005) for x, y in points], colour, rim=False)
    for side in (-1, 1):
        for x, y, radius in spots:
            pen.ellipse(side * x, y, radius, radius * 1.1, spot, rim=False)
        pen.line(
            [(0, -0.22), (side * 0.06, -0.36), (side * 0.14, -0.42)], 0.018, darker(upper, 0.8), curved=True
        )
        pen.ellipse(side * 0.14, -0.42, 0.022, 0.022, darker(upper, 0.8), rim=False)
    body = dice.pick((PALETTE["charcoal"], PALETTE["brown"], darker(lower, 0.5)))
    pen.ellipse(0, 0.06, 0.042, 0.25, body, rim=False)
    pen.ellipse(0, -0.21, 0.05, 0.055, body, rim=False)
    pen.ellipse(-0.012, 0.0, 0.012, 0.12, lighter(body, 0.3), rim=False)


def _cat_face(pen: Pen, x: float, y: float, r: float, coat: Colour, muzzle: Colour, dice: Dice) -> None:
    inner = mix(coat, PALETTE["pink"], 0.7)
    for side in (-1, 1):
        ear = [
            (x + side * 0.95 * r, y - 0.1 * r),
            (x + side * 0.84 * r, y - 1.3 * r),
            (x + side * 0.15 * r, y - 0.75 * r),
        ]
        pen.polygon(ear, coat)
        middle = (sum(p[0] for p in ear) / 3, sum(p[1] for p in ear) / 3)
        small = [(middle[0] + 0.5 * (a - middle[0]), middle[1] + 0.5 * (b - middle[1])) for a, b in ear]
        pen.polygon(small, inner, rim=False)
    pen.ellipse(x, y, r * 1.08, r * 0.92, coat)
    pen.ellipse(x, y + 0.38 * r, 0.5 * r, 0.36 * r, muzzle, rim=False)
    iris = dice.paint("lime", "amber", "turquoise", share=0.9)
    for side in (-1, 1):
        pen.ellipse(x + side * 0.42 * r, y - 0.1 * r, 0.22 * r, 0.24 * r, lighter(iris, 0.2), rim=False)
        pen.ellipse(x + side * 0.4 * r, y - 0.1 * r, 0.1 * r, 0.21 * r, darker(coat, 0.95), rim=False)
        for lift in (0.22, 0.42):
            start = (x + side * 0.4 * r, y + 0.36 * r)
            pen.line([start, (x + side * 1.3 * r, y + lift * 1.4 * r)], 0.012, lighter(coat, 0.75))
    pen.polygon(
        [(x - 0.13 * r, y + 0.2 * r), (x + 0.13 * r, y + 0.2 * r), (x, y + 0.36 * r)],
        darker(inner, 0.2),
        False,
    )


def cat(pen: Pen, dice: Dice) -> None:
    coat = dice.paint("orange", "slate", "charcoal", "tan", "white", "brown", share=0.6)
    stripe = darker(coat, 0.35)
    chest = dice.pick((lighter(coat, 0.6), PALETTE["white"], lighter(coat, 0.25)))
    striped = dice.chance(0.5)
    if dice.chance(0.55):  # sitting, from the front
        curl = dice.span(0.28, 0.42)
        pen.line(
            [(0.1, 0.42), (curl, 0.4), (curl + 0.08, 0.12), (curl - 0.04, -0.06)], 0.1, stripe, True, 0.7
        )
        pen.blob(
            [
                (0, -0.12),
                (0.17, 0.0),
                (0.27, 0.3),
                (0.2, 0.48),
                (0, 0.49),
                (-0.2, 0.48),
                (-0.27, 0.3),
                (-0.17, 0),
            ],
            coat,
        )
        pen.ellipse(0, 0.14, 0.1, 0.17, chest, rim=False)
        for side in (-1, 1):
            pen.line([(side * 0.05, 0.22), (side * 0.05, 0.44)], 0.016, stripe)
            pen.ellipse(side * 0.095, 0.455, 0.085, 0.05, chest)
        if striped:
            for y in (0.16, 0.26, 0.36):
                for side in (-1, 1):
                    pen.line([(side * 0.25, y), (side * 0.15, y + 0.02)], 0.035, stripe, taper=0.3)
        _cat_face(pen, 0, -0.22, 0.215, coat, chest, dice)
    else:  # walking, from the side
        pen.line([(-0.34, 0.02), (-0.48, -0.1), (-0.5, -0.3), (-0.42, -0.4)], 0.085, coat, True, 0.7)
        for x, colour in ((-0.2, stripe), (0.24, stripe), (-0.3, coat), (0.14, coat)):
            stride = dice.span(-0.05, 0.05)
            pen.polygon(
                [(x - 0.06, 0.1), (x + 0.07, 0.1), (x + 0.05 + stride, 0.42), (x - 0.05 + stride, 0.42)],
                colour,
            )
        pen.blob([(-0.38, 0.02), (-0.2, -0.12), (0.2, -0.1), (0.34, 0.02), (0.26, 0.2), (-0.26, 0.22)], coat)
        if striped:
            for x in (-0.24, -0.12, 0.0, 0.12):
                pen.line([(x, -0.1), (x + 0.02, 0.08)], 0.04, stripe, taper=0.3)
        _cat_face(pen, 0.34, -0.14, 0.18, coat, chest, dice)


def fish(pen: Pen, dice: Dice) -> None:
    skin = dice.paint("orange", "silver", "turquoise", "amber")
    fin = dice.pick((darker(skin, 0.22), dice.contrast(skin), lighter(skin, 0.3)))
    tall = dice.span(0.7, 1.35)
    fork = dice.span(-0.42, -0.34)
    pen.polygon([(-0.22, 0), (-0.5, -0.24), (fork, 0.0), (-0.5, 0.24)], fin)
    pen.blob([(-0.12, -0.1), (-0.08, -0.36 * tall), (0.12, -0.3 * tall), (0.24, -0.08)], fin)
    pen.blob([(-0.08, 0.1), (-0.14, 0.3 * tall), (0.0, 0.27 * tall), (0.06, 0.12)], fin)
    high = 0.23 * tall
    outline = [(-0.3, 0.0), (-0.16, -0.72 * high), (0.08, -high), (0.32, -0.7 * high), (0.46, 0.02)]
    pen.blob([*outline, (0.32, 0.72 * high), (0.08, high), (-0.16, 0.72 * high)], skin)
    pen.blob(
        [(-0.2, 0.3 * high), (0.1, 0.4 * high), (0.38, 0.3 * high), (0.1, 0.86 * high)],
        lighter(skin, 0.5),
        False,
    )
    pattern = dice.pick(("stripes", "scales", "plain", "spots"))
    mark = dice.contrast(skin, "white")
    if pattern == "stripes":
        for x in (-0.12, 0.0, 0.12):
            bow = 0.86 * high * (1 - abs(x - 0.06))
            pen.line([(x, -bow), (x + 0.03, 0), (x, bow)], 0.055, mark, curved=True)
    elif pattern == "scales":
        for x in (-0.14, -0.04, 0.06):
            for y in (-0.4, 0.0, 0.4):
                middle = y * high
                pen.line(
                    [(x, middle - 0.05), (x - 0.035, middle), (x, middle + 0.05)],
                    0.018,
                    darker(skin, 0.35),
                    True,
                )
    elif pattern == "spots":
        for x, y in ((-0.12, -0.2), (0.0, 0.3), (0.06, -0.5), (-0.04, 0.0)):
            pen.ellipse(x, y * high, 0.032, 0.032, mark, rim=False)
    pen.line([(0.2, -0.72 * high), (0.25, 0), (0.2, 0.72 * high)], 0.022, darker(skin, 0.4), curved=True)
    pen.blob([(0.14, 0.02), (0.0, 0.04), (-0.04, 0.13), (0.08, 0.12)], fin)
    pen.ellipse(0.32, -0.22 * high, 0.055, 0.055, WHITE, rim=False)
    pen.eye(0.33, -0.2 * high, 0.036)
    pen.line([(0.46, 0.04), (0.4, 0.06), (0.37, 0.045)], 0.018, darker(skin, 0.6), curved=True)


def flower(pen: Pen, dice: Dice) -> None:
    petal = dice.paint("red", "pink", "yellow", "violet", "white", share=0.5)
    stalk = dice.paint(*LEAF, share=0.9)
    bend = dice.span(-0.1, 0.1)
    pen.line([(bend, 0.5), (bend * 0.3, 0.2), (0, -0.1)], 0.055, darker(stalk, 0.2), curved=True)
    pen.line([(bend - 0.006, 0.5), (bend * 0.3 - 0.006, 0.2), (-0.006, -0.1)], 0.026, stalk, curved=True)
    for side in (-1, 1):
        if dice.chance(0.85):
            root = dice.span(0.25, 0.45)
            _leaf(pen, bend * 0.5, root, side * dice.span(0.2, 0.3), dice.span(-0.22, -0.06), 0.28, stalk)
    if dice.chance(0.28):  # a tulip
        for side in (-1, 1):
            cup = [
                (0, 0.06),
                (side * 0.2, 0.0),
                (side * 0.25, -0.2),
                (side * 0.22, -0.46),
                (side * 0.06, -0.26),
            ]
            pen.blob(cup, darker(petal, 0.1))
        pen.blob(
            [(0, 0.07), (0.14, 0.0), (0.13, -0.22), (0, -0.44), (-0.13, -0.22), (-0.14, 0.0)],
            lighter(petal, 0.1),
        )
        return
    heart = dice.contrast(petal, "amber", "yellow", "brown")
    count = dice.whole(5, 9)
    long, turn = dice.span(0.15, 0.17), dice.span(0, 1)
    fat = long * min(0.95, 4.2 / count) * dice.span(0.85, 1.0)
    for step in range(count):
        angle = 2 * math.pi * (step + turn) / count
        x, y = 0.19 * math.cos(angle), -0.2 + 0.19 * math.sin(angle)
        pen.ellipse(x, y, long, fat, petal, tilt=angle)
        pen.ellipse(
            x * 1.12, (y + 0.2) * 1.12 - 0.2, long * 0.55, fat * 0.45, lighter(petal, 0.28), False, angle
        )
    pen.ball(0, -0.2, 0.115, 0.115, heart)


def mushroom(pen: Pen, dice: Dice) -> None:
    cap = dice.paint("red", "brown", "tan", "coral")
    stalk = dice.pick((PALETTE["cream"], PALETTE["white"], lighter(cap, 0.65)))
    wide, high = dice.span(0.36, 0.52), dice.span(0.34, 0.58)
    brim, slim = dice.span(-0.08, 0.06), dice.span(0.09, 0.15)
    foot = slim * 1.35
    stem = [
        (-slim, brim - 0.05),
        (slim, brim - 0.05),
        (slim, brim + 0.2),
        (foot, 0.46),
        (0, 0.5),
        (-foot, 0.46),
    ]
    pen.blob([*stem, (-slim, brim + 0.2)], stalk)
    pen.line([(slim * 0.5, brim + 0.12), (slim * 0.6, 0.42)], 0.04, darker(stalk, 0.12))
    if dice.chance(0.4):
        ring = brim + 0.14
        pen.polygon(
            [(-slim, ring), (slim, ring), (slim * 1.5, ring + 0.08), (-slim * 1.5, ring + 0.08)], stalk
        )
    pen.ellipse(0, brim, wide * 0.97, 0.08, mix(stalk, darker(cap, 0.4), 0.4))
    for step in range(-3, 4):
        pen.line([(step * 0.04, brim), (step * 0.125 * wide / 0.45, brim + 0.06)], 0.012, darker(stalk, 0.4))
    dome = [
        (wide * math.cos(a), brim - high * math.sin(a) ** 0.8)
        for a in (math.pi * (k + 0.1) / 17.2 for k in range(18))
    ]
    pen.polygon([*dome, (-wide * 0.5, brim + 0.035), (0, brim + 0.05), (wide * 0.5, brim + 0.035)], cap)
    pen.ellipse(
        -0.3 * wide, brim - 0.66 * high, 0.25 * wide, 0.12 * high, lighter(cap, 0.25), rim=False, tilt=-0.5
    )
    if dice.chance(0.75):
        dots = lighter(cap, 0.85) if dice.chance(0.7) else dice.contrast(cap, "white")
        for x, y, radius in (
            (-0.55, 0.3, 0.06),
            (0.02, 0.42, 0.08),
            (0.55, 0.26, 0.06),
            (0.3, 0.74, 0.05),
            (-0.22, 0.78, 0.05),
        ):
            pen.ellipse(x * wide, brim - y * high, radius, radius * 0.85, dots, rim=False)


def _conifer(pen: Pen, dice: Dice, crown: Colour) -> None:
    tiers, wide = dice.whole(3, 4), dice.span(0.24, 0.34)
    step = 0.84 / (tiers + 0.6)
    for tier in range(tiers):
        low = 0.34 - tier * step
        half = wide * (1 - 0.2 * tier)
        top = low - 1.6 * step
        fringe = [(half * (1 - 0.5 * t), low + (0.035 if t % 2 else 0.0)) for t in range(5)]
        pen.polygon([(0, top), *fringe], crown)
        pen.polygon(
            [(-0.01, top + 0.08), (-half * 0.2, low - 0.04), (-half * 0.75, low - 0.03)],
            lighter(crown, 0.16),
            False,
        )


def tree(pen: Pen, dice: Dice) -> None:
    crown = dice.paint("green", "green", "lime", "pine", "orange", "pink", share=0.6)
    bark = dice.jitter(PALETTE[dice.pick(("brown", "brown", "slate", "tan"))])
    kind = dice.weighted(("round", "conifer", "poplar"), (0.55, 0.3, 0.15))
    slim = dice.span(0.045, 0.075)
    foot = [
        (-slim, 0.0),
        (slim, 0.0),
        (slim * 1.1, 0.36),
        (slim * 1.9, 0.5),
        (-slim * 1.9, 0.5),
        (-slim * 1.1, 0.36),
    ]
    pen.polygon(foot, bark)
    pen.line([(-slim * 0.3, 0.1), (-slim * 0.4, 0.44)], 0.02, lighter(bark, 0.25))
    if kind == "conifer":
        _conifer(pen, dice, crown)
        return
    if kind == "poplar":
        pen.blob(
            [(0, -0.5), (0.17, -0.2), (0.19, 0.1), (0.08, 0.28), (-0.08, 0.28), (-0.19, 0.1), (-0.17, -0.2)],
            crown,
        )
        pen.blob(
            [(-0.02, -0.42), (0.05, -0.1), (-0.02, 0.2), (-0.13, 0.08), (-0.11, -0.2)],
            lighter(crown, 0.15),
            False,
        )
        return
    pen.line([(0, 0.2), (0.16, 0.0)], 0.05, bark)
    puffs = [
        (0.2, -0.02, 0.2),
        (-0.2, 0.0, 0.2),
        (0.17, -0.22, 0.19),
        (-0.16, -0.22, 0.2),
        (0, -0.3, 0.2),
        (0, -0.06, 0.23),
    ]
    puffs = [(x * dice.span(0.85, 1.2), y + dice.span(-0.03, 0.03), r) for x, y, r in puffs]
    for x, y, r in puffs:
        pen.ellipse(x, y, r, r, darker(crown, 0.42), rim=False)
    for x, y, r in puffs:
        pen.ellipse(x, y, r - 0.02, r - 0.02, crown, rim=False)
    for x, y, r in puffs[1:]:
        pen.ellipse(x - 0.3 * r, y - 0.32 * r, r * 0.5, r * 0.42, lighter(crown, 0.15), rim=False)
    if dice.chance(0.3):
        fruit = dice.contrast(crown, "red", "amber", "white")
        for x, y, _ in puffs:
            pen.ellipse(x + 0.04, y + 0.05, 0.034, 0.034, fruit, rim=False)
