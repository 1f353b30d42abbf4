"""The things: how each is drawn, posed, where it stands and what it is usually seen with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import animals, plants, toys, vehicles
from .dice import Dice
from .pen import Pen, Sketch, finish

Drawing = Callable[[Pen, Dice], None]


@dataclass(frozen=True)
class Habit:
    """Where a thing is usually seen.

    `ground` is the usual ground. `usual` is how sure the thing is of it: the share of the pictures of the
    thing that have the ground, or a little more, as the other things of a picture have a say, too. `place` is
    "stands" (its foot is on the ground), "flies" or "swims" (all of it is inside the ground's region).
    `tilt` is the largest usual tilt in radians; `smallest` and `largest` bound the thing's longer side.
    `foot` is half the width of its contact shadow, as a share of its own width.
    """

    draw: Drawing
    ground: str
    usual: float
    place: str
    tilt: float
    smallest: float = 0.28
    largest: float = 0.6
    foot: float = 0.46


HABITS: dict[str, Habit] = {
    "apple": Habit(plants.apple, "grass", 0.3, "stands", 0.35, 0.22, 0.5),
    "balloon": Habit(toys.balloon, "sky", 0.8, "flies", 0.2, 0.3),
    "bird": Habit(animals.bird, "sky", 0.8, "flies", 0.25, 0.26),
    "boat": Habit(vehicles.boat, "water", 0.89, "stands", 0.1),
    "butterfly": Habit(animals.butterfly, "grass", 0.4, "flies", 0.6, 0.24, 0.5),
    "car": Habit(vehicles.car, "road", 0.79, "stands", 0.06, 0.3),
    "cat": Habit(animals.cat, "carpet", 0.66, "stands", 0.06),
    "fish": Habit(animals.fish, "water", 0.87, "swims", 0.35, 0.26),
    "flower": Habit(plants.flower, "grass", 0.65, "stands", 0.18, 0.28, foot=0.26),
    "house": Habit(toys.house, "grass", 0.65, "stands", 0.02),
    "kite": Habit(toys.kite, "sky", 0.8, "flies", 0.5, 0.32),
    "mushroom": Habit(plants.mushroom, "grass", 0.67, "stands", 0.12, 0.24, foot=0.34),
    "snowman": Habit(toys.snowman, "snow", 0.86, "stands", 0.08),
    "train": Habit(vehicles.train, "railroad", 0.89, "stands", 0.03, 0.4, 0.66),
    "tree": Habit(plants.tree, "grass", 0.65, "stands", 0.05, 0.32, foot=0.32),
    "umbrella": Habit(toys.umbrella, "sand", 0.59, "stands", 0.4, 0.28, foot=0.2),
}
THINGS: tuple[str, ...] = tuple(HABITS)


def sketch(name: str, dice: Dice) -> Sketch:
    """One variant of the thing, in one of its poses."""
    habit = HABITS[name]
    pen = Pen()
    habit.draw(pen, dice)
    flip = dice.chance(0.5)
    reach = habit.tilt if dice.chance(0.9) else habit.tilt + 0.3
    return finish(pen, flip, dice.span(-reach, reach))
