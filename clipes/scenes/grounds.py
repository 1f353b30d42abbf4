"""The grounds: painters of textured bands."""

from __future__ import annotations

from collections.abc import Callable

from .canvas import Canvas
from .pen import WHITE, Colour, darker, lighter, mix
from .sampler import Sampler

SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((92, 170, 226), (196, 228, 242)),
    ((126, 196, 236), (226, 240, 244)),
    ((108, 124, 196), (246, 196, 178)),
    ((244, 178, 132), (252, 224, 176)),
    ((146, 186, 206), (222, 228, 226)),
    ((66, 92, 158), (158, 178, 214)),
    ((120, 204, 212), (232, 244, 226)),
)
CLOUD = ((-1.5, 0.3, 0.7), (1.5, 0.35, 0.65), (0.6, -0.1, 0.95), (-0.5, -0.3, 1.1))  # x, y, radius of its ellipses


def sky(canvas: Canvas, rng: Sampler) -> None:
    above, below = rng.choice(SKIES)
    above, below = rng.jitter(above), rng.jitter(below)
    canvas.gradient(rng, above, below, 3.0, frequency=8.0)
    bright = lighter(mix(above, below, 0.7), rng.uniform(0.45, 0.85))
    if rng.chance(0.25):
        sun = rng.uniform(0.07, 0.12)
        x, y = rng.uniform(0.1, 0.9) * canvas.width, canvas.top + rng.uniform(0.12, 0.5) * canvas.height
        canvas.ellipse(x, y, sun * 1.5, sun * 1.5, mix(mix(above, below, 0.5), (255, 236, 170), 0.4))
        canvas.ellipse(x, y, sun, sun, (255, 232, 150))
    style = rng.choice(("clouds", "clouds", "streaks", "clear"))
    for x, y, _ in canvas.scatter(rng, {"clouds": 5, "streaks": 9, "clear": 0}[style]):
        if style == "streaks":
            long, thin = rng.uniform(0.08, 0.26), rng.uniform(0.006, 0.014)
            canvas.ellipse(x, y, long, thin, bright)
            canvas.ellipse(x + 0.4 * long, y + 2.2 * thin, long * 0.7, thin, bright)
            continue
        size = rng.uniform(0.035, 0.075)
        shade = mix(bright, above, 0.2)
        for dx, dy, r in CLOUD:
            canvas.ellipse(x + dx * size, y + dy * size + 0.1 * size, r * size * 1.1, r * size * 0.8, shade)
        for dx, dy, r in CLOUD:
            canvas.ellipse(x + dx * size, y + dy * size, r * size * 1.05, r * size * 0.7, bright)


def water(canvas: Canvas, rng: Sampler) -> None:
    deep = rng.shade((44, 118, 176), (32, 136, 158), (58, 96, 150), (66, 158, 176), (72, 134, 128))
    shallow = lighter(deep, 0.22)
    above, below = rng.choice(((shallow, deep), (shallow, darker(deep, 0.25)), (deep, shallow)))
    canvas.gradient(rng, above, below, 8.0, frequency=22.0, stretch=3.0)
    bright, dark = lighter(mix(above, below, 0.4), 0.4), darker(mix(above, below, 0.5), 0.22)
    waves = rng.uniform(1.0, 2.5)
    for x, y, near in canvas.scatter(rng, 75):
        long = rng.uniform(0.04, 0.1) * (0.6 + near)
        line = canvas.wave(y, x - long, x + long, 0.006 + 0.008 * near, waves)
        canvas.line(line, 0.008 + 0.006 * near, bright if rng.chance(0.6) else dark)


def grass(canvas: Canvas, rng: Sampler) -> None:
    green = rng.shade((104, 172, 78), (136, 188, 84), (76, 144, 82), (168, 182, 84), (92, 160, 104))
    canvas.gradient(rng, lighter(green, 0.12), darker(green, 0.08), 12.0, frequency=34.0, stretch=0.7)
    tones = (lighter(green, 0.26), darker(green, 0.26), lighter(green, 0.14), darker(green, 0.16))
    for x, y, near in canvas.scatter(rng, 130):
        high, lean = 0.03 + 0.04 * near, rng.uniform(-0.012, 0.012)
        tone = rng.choice(tones)
        for side in (-0.012, 0.0, 0.012):
            blade = [(x + side * 0.3 - 0.004, y), (x + side + lean, y - high), (x + side * 0.3 + 0.004, y)]
            canvas.polygon(blade, tone)
    if rng.chance(0.3):
        bloom = rng.colour("white", "yellow", "pink", share=0.9)
        for x, y, near in canvas.scatter(rng, 14):
            canvas.ellipse(x, y, 0.008 + 0.006 * near, 0.007 + 0.005 * near, bloom)


def sand(canvas: Canvas, rng: Sampler) -> None:
    grain = rng.shade((236, 212, 160), (226, 192, 138), (242, 224, 188), (214, 178, 132))
    canvas.gradient(rng, lighter(grain, 0.15), darker(grain, 0.05), 7.0, frequency=48.0)
    light, dark = lighter(grain, 0.45), darker(grain, 0.17)
    step = rng.uniform(0.07, 0.12)
    for index in range(int(canvas.height / step)):
        y = canvas.top + (index + rng.uniform(0.3, 0.7)) * step
        x0 = rng.uniform(-0.3, 0.2) * canvas.width
        x1 = x0 + rng.uniform(0.6, 1.1) * canvas.width
        line = canvas.wave(y, x0, x1, 0.012, canvas.width * rng.uniform(1.2, 2.0))
        canvas.line(line, 0.012, dark)
        canvas.line([(x, y + 0.012) for x, y in line], 0.008, light)
    canvas.speckle(rng, 120, 0.005, 0.004, (dark, light, darker(grain, 0.35)))


def snow(canvas: Canvas, rng: Sampler) -> None:
    white = rng.shade((238, 244, 250), (226, 236, 248), (246, 242, 244), (216, 228, 242), reach=6)
    shadow = mix(white, rng.choice(((120, 150, 206), (150, 140, 200), (110, 170, 200))), 0.24)
    canvas.gradient(rng, white, mix(white, shadow, 0.4), 5.0, frequency=10.0, stretch=2.0)
    for x, y, near in canvas.scatter(rng, 9):  # drifts
        wide, high = rng.uniform(0.12, 0.3), rng.uniform(0.02, 0.04) * (0.6 + near)
        canvas.ellipse(x, y + 0.25 * high, wide, high, mix(white, shadow, 0.75))
        canvas.ellipse(x - 0.04 * wide, y, wide * 0.94, high * 0.86, lighter(white, 0.5))
    canvas.speckle(rng, 70, 0.007, 0.006, (WHITE, shadow))


def mountain(canvas: Canvas, rng: Sampler) -> None:
    rock = rng.shade((122, 122, 150), (140, 118, 108), (104, 128, 138), (150, 138, 130), (112, 104, 140))
    canvas.gradient(rng, lighter(rock, 0.18), darker(rock, 0.06), 9.0, frequency=24.0)
    light, dark = lighter(rock, 0.2), darker(rock, 0.25)
    for x, y, _ in canvas.scatter(rng, 26):  # crags, each with a lit and a shaded side
        wide, high = rng.uniform(0.04, 0.12), rng.uniform(0.06, 0.16)
        canvas.polygon([(x, y - high), (x - wide, y + 0.4 * high), (x + 0.2 * wide, y + 0.2 * high)], light)
        canvas.polygon([(x, y - high), (x + 0.2 * wide, y + 0.2 * high), (x + wide, y + 0.5 * high)], dark)


def road(canvas: Canvas, rng: Sampler) -> None:
    tar = rng.shade((104, 104, 112), (88, 92, 104), (126, 122, 122), (78, 76, 88))
    canvas.gradient(rng, tar, darker(tar, 0.08), 9.0, frequency=56.0)
    canvas.speckle(rng, 60, 0.005, 0.004, (lighter(tar, 0.25), darker(tar, 0.3)))
    paint = rng.choice(((246, 240, 226), (246, 240, 226), (246, 204, 92)))
    edge = min(0.03, 0.08 * canvas.height)
    lanes = max(1, round(canvas.height / rng.uniform(0.3, 0.5)))
    for lane in range(lanes):
        y = canvas.top + canvas.height * (lane + 0.5) / lanes
        thick, gap = edge * rng.uniform(0.7, 1.0), rng.uniform(0.22, 0.34)
        x = rng.uniform(0, 0.2) - gap
        while x < canvas.width:
            dash = [(x, y), (x + gap * 0.55, y), (x + gap * 0.53, y + thick), (x - gap * 0.02, y + thick)]
            canvas.polygon(dash, paint)
            x += gap
    if rng.chance(0.7):
        for y in (canvas.top + 0.09 * canvas.height, canvas.bottom - 0.13 * canvas.height):
            canvas.box(0, y, canvas.width, y + edge * 0.6, paint)


def railroad(canvas: Canvas, rng: Sampler) -> None:
    stone = rng.shade((158, 146, 134), (140, 138, 142), (172, 158, 138), (128, 118, 112))
    canvas.gradient(rng, stone, darker(stone, 0.1), 14.0, frequency=44.0)
    canvas.speckle(rng, 170, 0.011, 0.008, (lighter(stone, 0.3), darker(stone, 0.28), darker(stone, 0.15)))
    wood = rng.shade((110, 76, 58), (92, 80, 74), (128, 92, 64))
    steel = rng.choice(((182, 190, 204), (150, 150, 164)))
    tracks = max(1, round(canvas.height / 0.42))
    gap, slant = rng.uniform(0.1, 0.15), rng.uniform(-0.05, 0.05)
    for track in range(tracks):
        high = canvas.height / tracks
        y0, y1 = canvas.top + (track + 0.24) * high, canvas.top + (track + 0.8) * high
        x = -0.1
        while x < canvas.width + 0.1:
            sleeper = [(x, y0), (x + gap * 0.42, y0), (x + slant + gap * 0.48, y1), (x + slant, y1)]
            canvas.polygon([(px + 0.008, py + 0.012) for px, py in sleeper], darker(stone, 0.45))
            canvas.polygon(sleeper, wood)
            x += gap
        for y in (y0 + 0.2 * (y1 - y0), y0 + 0.76 * (y1 - y0)):
            canvas.line([(0, y + 0.012), (canvas.width, y + 0.012)], 0.016, darker(steel, 0.6))
            canvas.line([(0, y), (canvas.width, y)], 0.02, steel)


def wall(canvas: Canvas, rng: Sampler) -> None:
    paint = lighter(rng.colour("coral", "cream", "tan", "sky", "turquoise"), rng.uniform(0.1, 0.45))
    style = rng.choice(("bricks", "bricks", "stripes", "panels"))
    canvas.gradient(rng, lighter(paint, 0.08), paint, 3.5, frequency=30.0)
    if style == "bricks":
        _bricks(canvas, rng, paint)
        return
    gap = rng.uniform(0.1, 0.18)
    tone = rng.choice((lighter(paint, 0.3), darker(paint, 0.12), mix(paint, rng.colour(), 0.22)))
    for column in range(int(canvas.width / gap) + 1):
        x = column * gap
        if style == "stripes":
            canvas.box(x, canvas.top, x + gap / 2, canvas.bottom, tone)
        else:
            canvas.line([(x, canvas.top), (x, canvas.bottom)], 0.012, darker(paint, 0.25))
            canvas.line([(x + 0.012, canvas.top), (x + 0.012, canvas.bottom)], 0.008, lighter(paint, 0.35))
    if rng.chance(0.5):
        canvas.box(0, canvas.bottom - 0.05, canvas.width, canvas.bottom, lighter(paint, 0.6))


def _bricks(canvas: Canvas, rng: Sampler, paint: Colour) -> None:
    mortar, high = rng.choice((lighter(paint, 0.5), darker(paint, 0.25))), rng.uniform(0.07, 0.1)
    wide = high * 2.1
    for row in range(int(canvas.height / high) + 1):
        y = canvas.top + row * high
        canvas.line([(0, y), (canvas.width, y)], 0.011, mortar)
        for column in range(int(canvas.width / wide) + 2):
            x = (column - 0.5 * (row % 2)) * wide
            if rng.chance(0.2):
                tone = rng.choice((lighter(paint, 0.16), darker(paint, 0.12)))
                canvas.box(x + 0.01, y + 0.01, x + wide, y + high, tone)
            canvas.line([(x, y), (x, y + high)], 0.011, mortar)


def carpet(canvas: Canvas, rng: Sampler) -> None:
    wool = rng.colour("red", "purple", "indigo", "teal", "tan", "coral", share=0.6)
    canvas.gradient(rng, lighter(wool, 0.05), darker(wool, 0.06), 9.0, frequency=52.0, stretch=0.6)
    one, other = rng.contrast(wool, "cream", "amber"), rng.contrast(wool)
    size, style = rng.uniform(0.075, 0.11), rng.choice(("diamonds", "zigzag", "rings"))
    columns = int(canvas.width / (2 * size)) + 2
    for row in range(int(canvas.height / (2 * size)) + 1):
        y = canvas.top + (2 * row + 1) * size
        tone = one if row % 2 == 0 else other
        if style == "zigzag":
            line = [(k * size, y + (0.45 * size if k % 2 else -0.45 * size)) for k in range(2 * columns + 1)]
            canvas.line(line, 0.3 * size, mix(wool, tone, 0.75))
            continue
        for column in range(columns):
            x = (2 * column + row % 2) * size
            if style == "rings":
                for r, colour in ((0.72, tone), (0.48, wool), (0.24, other)):
                    canvas.ellipse(x, y, r * size, r * size, mix(wool, colour, 0.8))
                continue
            for r, colour in ((0.85, tone), (0.5, wool), (0.24, one)):
                points = [(x, y - r * size), (x + r * size, y), (x, y + r * size), (x - r * size, y)]
                canvas.polygon(points, mix(wool, colour, 0.8))
    for y in (canvas.top + 0.012, canvas.bottom - 0.03):
        canvas.line([(0, y), (canvas.width, y)], 0.022, one)


_PAINTERS = (carpet, grass, mountain, railroad, road, sand, sky, snow, wall, water)
PAINTERS: dict[str, Callable[[Canvas, Sampler], None]] = {painter.__name__: painter for painter in _PAINTERS}
GROUNDS: tuple[str, ...] = tuple(PAINTERS)
