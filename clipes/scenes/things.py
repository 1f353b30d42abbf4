"""The things: how each is drawn and posed, where it stands, and which ground it is usually seen with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import animals, objects, plants, vehicles
from .pen import Pen, Sketch, finish
from .sampler import Sampler


@dataclass(frozen=True)
class Properties:
    """How a thing is drawn and placed.

    `ground` is its usual ground. `usual` is the share of the pictures of the thing that have this ground; it is a
    little more than the resulting share, because the other things of a picture influence the ground, too. A thing that
    `stands` has its lowest point on the ground; others are wholly inside the ground's region. `tilt` is the largest
    usual tilt in radians. `smallest` and `largest` bound the thing's longer side. `shadow` is half the width of its
    contact shadow, as a share of its own width.
    """

    draw: Callable[[Pen, Sampler], None]
    ground: str
    usual: float
    stands: bool
    tilt: float
    smallest: float = 0.28
    largest: float = 0.6
    shadow: float = 0.46


PROPERTIES: dict[str, Properties] = {
    "apple": Properties(plants.apple, "grass", 0.3, True, 0.35, 0.22, 0.5),
    "balloon": Properties(objects.balloon, "sky", 0.8, False, 0.2, 0.3),
    "bird": Properties(animals.bird, "sky", 0.8, False, 0.25, 0.26),
    "boat": Properties(vehicles.boat, "water", 0.89, True, 0.1),
    "butterfly": Properties(animals.butterfly, "grass", 0.4, False, 0.6, 0.24, 0.5),
    "car": Properties(vehicles.car, "road", 0.79, True, 0.06, 0.3),
    "cat": Properties(animals.cat, "carpet", 0.66, True, 0.06),
    "fish": Properties(animals.fish, "water", 0.87, False, 0.35, 0.26),
    "flower": Properties(plants.flower, "grass", 0.65, True, 0.18, 0.28, shadow=0.26),
    "house": Properties(objects.house, "grass", 0.65, True, 0.02),
    "kite": Properties(objects.kite, "sky", 0.8, False, 0.5, 0.32),
    "mushroom": Properties(plants.mushroom, "grass", 0.67, True, 0.12, 0.24, shadow=0.34),
    "snowman": Properties(objects.snowman, "snow", 0.86, True, 0.08),
    "train": Properties(vehicles.train, "railroad", 0.89, True, 0.03, 0.4, 0.66),
    "tree": Properties(plants.tree, "grass", 0.65, True, 0.05, 0.32, shadow=0.32),
    "umbrella": Properties(objects.umbrella, "sand", 0.59, True, 0.4, 0.28, shadow=0.2),
}
THINGS: tuple[str, ...] = tuple(PROPERTIES)


def sketch(name: str, rng: Sampler) -> Sketch:
    """One variant of the thing, in one of its poses."""
    properties = PROPERTIES[name]
    pen = Pen()
    properties.draw(pen, rng)
    flip = rng.chance(0.5)
    reach = properties.tilt if rng.chance(0.9) else properties.tilt + 0.3
    return finish(pen, flip, rng.uniform(-reach, reach))
