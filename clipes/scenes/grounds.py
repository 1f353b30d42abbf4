"""The grounds: painters of textured bands."""

from __future__ import annotations

from collections.abc import Callable

from .dice import Dice
from .patch import Patch
from .pen import WHITE, Colour, darker, lighter, mix

Painter = Callable[[Patch, Dice], None]


SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((92, 170, 226), (196, 228, 242)),
    ((126, 196, 236), (226, 240, 244)),
    ((108, 124, 196), (246, 196, 178)),
    ((244, 178, 132), (252, 224, 176)),
    ((146, 186, 206), (222, 228, 226)),
    ((66, 92, 158), (158, 178, 214)),
    ((120, 204, 212), (232, 244, 226)),
)


def sky(patch: Patch, dice: Dice) -> None:
    above, below = dice.pick(SKIES)
    above, below = dice.jitter(above), dice.jitter(below)
    patch.base(dice, above, below, 3.0, fine=8.0)
    puff = lighter(mix(above, below, 0.7), dice.span(0.45, 0.85))
    if dice.chance(0.25):
        sun = dice.span(0.07, 0.12)
        x, y = dice.span(0.1, 0.9) * patch.width, patch.top + dice.span(0.12, 0.5) * patch.height
        patch.oval(x, y, sun * 1.5, sun * 1.5, mix(mix(above, below, 0.5), (255, 236, 170), 0.4))
        patch.oval(x, y, sun, sun, (255, 232, 150))
    style = dice.pick(("puffs", "puffs", "streaks", "clear"))
    for x, y, _ in patch.scatter(dice, {"puffs": 5, "streaks": 9, "clear": 0}[style]):
        if style == "streaks":
            long, thin = dice.span(0.08, 0.26), dice.span(0.006, 0.014)
            patch.oval(x, y, long, thin, puff)
            patch.oval(x + 0.4 * long, y + 2.2 * thin, long * 0.7, thin, puff)
            continue
        size = dice.span(0.035, 0.075)
        shade = mix(puff, above, 0.2)
        for dx, dy, r in ((-1.5, 0.3, 0.7), (1.5, 0.35, 0.65), (0.6, -0.1, 0.95), (-0.5, -0.3, 1.1)):
            patch.oval(x + dx * size, y + dy * size + 0.1 * size, r * size * 1.1, r * size * 0.8, shade)
        for dx, dy, r in ((-1.5, 0.3, 0.7), (1.5, 0.35, 0.65), (0.6, -0.1, 0.95), (-0.5, -0.3, 1.1)):
            patch.oval(x + dx * size, y + dy * size, r * size * 1.05, r * size * 0.7, puff)


def water(patch: Patch, dice: Dice) -> None:
    deep = dice.jitter(dice.pick(((44, 118, 176), (32, 136, 158), (58, 96, 150), (66, 158, 176), (72, 134, 128))))
    shallow = lighter(deep, 0.22)
    above, below = dice.pick(((shallow, deep), (shallow, darker(deep, 0.25)), (deep, shallow)))
    patch.base(dice, above, below, 8.0, fine=22.0, stretch=3.0)
    bright, dark = lighter(mix(above, below, 0.4), 0.4), darker(mix(above, below, 0.5), 0.22)
    waves = dice.span(1.0, 2.5)
    for x, y, near in patch.scatter(dice, 75):
        long = dice.span(0.04, 0.1) * (0.6 + near)
        line = patch.ripple(y, x - long, x + long, 0.006 + 0.008 * near, waves)
        patch.line(line, 0.008 + 0.006 * near, bright if dice.chance(0.6) else dark)


def grass(patch: Patch, dice: Dice) -> None:
    green = dice.jitter(dice.pick(((104, 172, 78), (136, 188, 84), (76, 144, 82), (168, 182, 84), (92, 160, 104))))
    patch.base(dice, lighter(green, 0.12), darker(green, 0.08), 12.0, fine=34.0, stretch=0.7)
    tones = (lighter(green, 0.26), darker(green, 0.26), lighter(green, 0.14), darker(green, 0.16))
    for x, y, near in patch.scatter(dice, 130):
        high, lean = 0.03 + 0.04 * near, dice.span(-0.012, 0.012)
        tone = dice.pick(tones)
        for side in (-0.012, 0.0, 0.012):
            blade = [(x + side * 0.3 - 0.004, y), (x + side + lean, y - high), (x + side * 0.3 + 0.004, y)]
            patch.polygon(blade, tone)
    if dice.chance(0.3):
        bloom = dice.paint("white", "yellow", "pink", share=0.9)
        for x, y, near in patch.scatter(dice, 14):
            patch.oval(x, y, 0.008 + 0.006 * near, 0.007 + 0.005 * near, bloom)


def sand(patch: Patch, dice: Dice) -> None:
    grain = dice.jitter(dice.pick(((236, 212, 160), (226, 192, 138), (242, 224, 188), (214, 178, 132))))
    patch.base(dice, lighter(grain, 0.15), darker(grain, 0.05), 7.0, fine=48.0)
    light, dark = lighter(grain, 0.45), darker(grain, 0.17)
    step = dice.span(0.07, 0.12)
    for index in range(int(patch.height / step)):
        y = patch.top + (index + dice.span(0.3, 0.7)) * step
        x0 = dice.span(-0.3, 0.2) * patch.width
        line = patch.ripple(y, x0, x0 + dice.span(0.6, 1.1) * patch.width, 0.012, patch.width * dice.span(1.2, 2.0))
        patch.line(line, 0.012, dark)
        patch.line([(x, y + 0.012) for x, y in line], 0.008, light)
    for x, y, _ in patch.scatter(dice, 120):
        patch.oval(x, y, 0.005, 0.004, dice.pick((dark, light, darker(grain, 0.35))))


def snow(patch: Patch, dice: Dice) -> None:
    white = dice.jitter(dice.pick(((238, 244, 250), (226, 236, 248), (246, 242, 244), (216, 228, 242))), 6)
    shade = mix(white, dice.pick(((120, 150, 206), (150, 140, 200), (110, 170, 200))), 0.24)
    patch.base(dice, white, mix(white, shade, 0.4), 5.0, fine=10.0, stretch=2.0)
    for x, y, near in patch.scatter(dice, 9):  # drifts
        wide, high = dice.span(0.12, 0.3), dice.span(0.02, 0.04) * (0.6 + near)
        patch.oval(x, y + 0.25 * high, wide, high, mix(white, shade, 0.75))
        patch.oval(x - 0.04 * wide, y, wide * 0.94, high * 0.86, lighter(white, 0.5))
    for x, y, _ in patch.scatter(dice, 70):
        tone = WHITE if dice.chance(0.5) else shade
        patch.oval(x, y, 0.007, 0.006, tone)


def mountain(patch: Patch, dice: Dice) -> None:
    rock = dice.jitter(dice.pick(((122, 122, 150), (140, 118, 108), (104, 128, 138), (150, 138, 130), (112, 104, 140))))
    patch.base(dice, lighter(rock, 0.18), darker(rock, 0.06), 9.0, fine=24.0)
    light, dark = lighter(rock, 0.2), darker(rock, 0.25)
    for x, y, _ in patch.scatter(dice, 26):  # facets: a lit and a shaded side of each crag
        wide, high = dice.span(0.04, 0.12), dice.span(0.06, 0.16)
        patch.polygon([(x, y - high), (x - wide, y + 0.4 * high), (x + 0.2 * wide, y + 0.2 * high)], light)
        patch.polygon([(x, y - high), (x + 0.2 * wide, y + 0.2 * high), (x + wide, y + 0.5 * high)], dark)


def _dashes(patch: Patch, y: float, thick: float, gap: float, start: float, paint: Colour) -> None:
    x = start - gap
    while x < patch.width:
        patch.polygon([(x, y), (x + gap * 0.55, y), (x + gap * 0.53, y + thick), (x - gap * 0.02, y + thick)], paint)
        x += gap


def road(patch: Patch, dice: Dice) -> None:
    tar = dice.jitter(dice.pick(((104, 104, 112), (88, 92, 104), (126, 122, 122), (78, 76, 88))))
    patch.base(dice, tar, darker(tar, 0.08), 9.0, fine=56.0)
    for x, y, _ in patch.scatter(dice, 60):
        patch.oval(x, y, 0.005, 0.004, dice.pick((lighter(tar, 0.25), darker(tar, 0.3))))
    paint = dice.pick(((246, 240, 226), (246, 240, 226), (246, 204, 92)))
    edge = min(0.03, 0.08 * patch.height)
    lanes = max(1, round(patch.height / dice.span(0.3, 0.5)))
    for lane in range(1, lanes + 1):
        y = patch.top + patch.height * (lane - 0.5) / lanes
        _dashes(patch, y, edge * dice.span(0.7, 1.0), dice.span(0.22, 0.34), dice.span(0, 0.2), paint)
    if dice.chance(0.7):
        for y in (patch.top + 0.09 * patch.height, patch.bottom - 0.13 * patch.height):
            patch.polygon([(0, y), (patch.width, y), (patch.width, y + edge * 0.6), (0, y + edge * 0.6)], paint)


def railroad(patch: Patch, dice: Dice) -> None:
    stone = dice.jitter(dice.pick(((158, 146, 134), (140, 138, 142), (172, 158, 138), (128, 118, 112))))
    patch.base(dice, stone, darker(stone, 0.1), 14.0, fine=44.0)
    for x, y, _ in patch.scatter(dice, 170):
        patch.oval(x, y, 0.011, 0.008, dice.pick((lighter(stone, 0.3), darker(stone, 0.28), darker(stone, 0.15))))
    wood = dice.jitter(dice.pick(((110, 76, 58), (92, 80, 74), (128, 92, 64))))
    steel = dice.pick(((182, 190, 204), (150, 150, 164)))
    tracks = max(1, round(patch.height / 0.42))
    gap, slant = dice.span(0.1, 0.15), dice.span(-0.05, 0.05)
    for track in range(tracks):
        high = patch.height / tracks
        y0, y1 = patch.top + (track + 0.24) * high, patch.top + (track + 0.8) * high
        x = -0.1
        while x < patch.width + 0.1:
            sleeper = [(x, y0), (x + gap * 0.42, y0), (x + slant + gap * 0.48, y1), (x + slant, y1)]
            patch.polygon([(px + 0.008, py + 0.012) for px, py in sleeper], darker(stone, 0.45))
            patch.polygon(sleeper, wood)
            x += gap
        for y in (y0 + 0.2 * (y1 - y0), y0 + 0.76 * (y1 - y0)):
            patch.line([(0, y + 0.012), (patch.width, y + 0.012)], 0.016, darker(steel, 0.6))
            patch.line([(0, y), (patch.width, y)], 0.02, steel)


def wall(patch: Patch, dice: Dice) -> None:
    paint = lighter(dice.paint("coral", "cream", "tan", "sky", "turquoise"), dice.span(0.1, 0.45))
    style = dice.pick(("bricks", "bricks", "stripes", "panels"))
    patch.base(dice, lighter(paint, 0.08), paint, 3.5, fine=30.0)
    if style == "bricks":
        mortar, high = dice.pick((lighter(paint, 0.5), darker(paint, 0.25))), dice.span(0.07, 0.1)
        wide, rows = high * 2.1, int(patch.height / high) + 1
        for row in range(rows):
            y = patch.top + row * high
            patch.line([(0, y), (patch.width, y)], 0.011, mortar)
            for column in range(int(patch.width / wide) + 2):
                x = (column - 0.5 * (row % 2)) * wide
                if dice.chance(0.2):
                    tone = dice.pick((lighter(paint, 0.16), darker(paint, 0.12)))
                    patch.polygon(
                        [
                            (x + 0.01, y + 0.01),
                            (x + wide, y + 0.01),
                            (x + wide, y + high),
                            (x + 0.01, y + high),
                        ],
                        tone,
                    )
                patch.line([(x, y), (x, y + high)], 0.011, mortar)
        return
    gap = dice.span(0.1, 0.18)
    tone = dice.pick((lighter(paint, 0.3), darker(paint, 0.12), mix(paint, dice.paint(), 0.22)))
    for column in range(int(patch.width / gap) + 1):
        x = column * gap
        if style == "stripes":
            patch.polygon(
                [(x, patch.top), (x + gap / 2, patch.top), (x + gap / 2, patch.bottom), (x, patch.bottom)],
                tone,
            )
        else:
            patch.line([(x, patch.top), (x, patch.bottom)], 0.012, darker(paint, 0.25))
            patch.line([(x + 0.012, patch.top), (x + 0.012, patch.bottom)], 0.008, lighter(paint, 0.35))
    if dice.chance(0.5):
        y = patch.bottom - 0.05
        patch.polygon([(0, y), (patch.width, y), (patch.width, patch.bottom), (0, patch.bottom)], lighter(paint, 0.6))


def carpet(patch: Patch, dice: Dice) -> None:
    wool = dice.paint("red", "purple", "indigo", "teal", "tan", "coral", share=0.6)
    patch.base(dice, lighter(wool, 0.05), darker(wool, 0.06), 9.0, fine=52.0, stretch=0.6)
    one, other = dice.contrast(wool, "cream", "amber"), dice.contrast(wool)
    size, style = dice.span(0.075, 0.11), dice.pick(("diamonds", "zigzag", "rings"))
    rows, columns = int(patch.height / (2 * size)) + 1, int(patch.width / (2 * size)) + 2
    for row in range(rows):
        y = patch.top + (2 * row + 1) * size
        tone = one if row % 2 == 0 else other
        if style == "zigzag":
            line = [(k * size, y + (0.45 * size if k % 2 else -0.45 * size)) for k in range(2 * columns + 1)]
            patch.line(line, 0.3 * size, mix(wool, tone, 0.75))
            continue
        for column in range(columns):
            x = (2 * column + row % 2) * size
            if style == "rings":
                for r, colour in ((0.72, tone), (0.48, wool), (0.24, other)):
                    patch.oval(x, y, r * size, r * size, mix(wool, colour, 0.8))
                continue
            for r, colour in ((0.85, tone), (0.5, wool), (0.24, one)):
                points = [(x, y - r * size), (x + r * size, y), (x, y + r * size), (x - r * size, y)]
                patch.polygon(points, mix(wool, colour, 0.8))
    for y in (patch.top + 0.012, patch.bottom - 0.03):
        patch.line([(0, y), (patch.width, y)], 0.022, one)


PAINTERS: dict[str, Painter] = {
    "carpet": carpet,
    "grass": grass,
    "mountain": mountain,
    "railroad": railroad,
    "road": road,
    "sand": sand,
    "sky": sky,
    "snow": snow,
    "wall": wall,
    "water": water,
}
GROUNDS: tuple[str, ...] = tuple(PAINTERS)
