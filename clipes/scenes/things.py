"""The things: how each is drawn, posed, where it stands and what it is usually seen with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import made, nature
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
    """

    draw: Drawing
    ground: str
    usual: float
    place: str
    tilt: float
    smallest: float = 0.28
    largest: float = 0.6


HABITS: dict[str, Habit] = {
    "apple": Habit(nature.apple, "grass", 0.3, "stands", 0.35, 0.22, 0.5),
    "balloon": Habit(made.balloon, "sky", 0.8, "flies", 0.2, 0.3),
    "bird": Habit(nature.bird, "sky", 0.8, "flies", 0.25, 0.26),
    "boat": Habit(made.boat, "water", 0.89, "stands", 0.1),
    "butterfly": Habit(nature.butterfly, "grass", 0.4, "flies", 0.6, 0.24, 0.5),
    "car": Habit(made.car, "road", 0.79, "stands", 0.06, 0.3),
    "cat": Habit(nature.cat, "carpet", 0.66, "stands", 0.06),
    "fish": Habit(nature.fish, "water", 0.87, "swims", 0.35, 0.26),
    "flower": Habit(nature.flower, "grass", 0.65, "stands", 0.18, 0.28),
    "house": Habit(made.house, "grass", 0.65, "stands", 0.02),
    "kite": Habit(made.kite, "sky", 0.8, "flies", 0.5, 0.32),
    "mushroom": Habit(nature.mushroom, "grass", 0.67, "stands", 0.12, 0.24),
    "snowman": Habit(made.snowman, "snow", 0.86, "stands", 0.08),
    "train": Habit(made.train, "railroad", 0.89, "stands", 0.03, 0.4, 0.66),
    "tree": Habit(nature.tree, "grass", 0.65, "stands", 0.05, 0.32),
    "umbrella": Habit(made.umbrella, "sand", 0.59, "stands", 0.4, 0.28),
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
