"""Drawn scenes with exact ground truth: sixteen things on ten grounds.

They train and demonstrate a small CLIP without any download. A scene is composed in coordinates relative to the
shorter side of the picture: the same seed at a larger size is the same scene in more detail.
"""

from __future__ import annotations

from collections.abc import Iterator

from .compose import Scene, compose
from .grounds import GROUNDS
from .things import THINGS

__all__ = ["GROUNDS", "THINGS", "Scene", "draw_scene", "draw_scenes"]

SMALLEST_SIDE = 8


def draw_scene(seed: int, size: tuple[int, int] = (112, 112)) -> Scene:
    """Draws the first scene of `draw_scenes(1, seed, size)`; the same arguments give the same bytes.

    `size` is (height, width), each at least 8. A picture whose sides differ by more than about 1 : 12 may have no
    thing, where none could be large enough to count as visible.

    Raises ValueError if the seed is negative or a side is below 8 pixels.
    """
    return next(draw_scenes(1, seed, size))


def draw_scenes(count: int, seed: int = 0, size: tuple[int, int] = (112, 112)) -> Iterator[Scene]:
    """Draws `count` scenes one after another; scene i depends only on (seed, i, size).

    `size` is (height, width), each at least 8. Arguments are checked at once, not at the first scene.

    Raises ValueError if the count or the seed is negative or a side is below 8 pixels.
    """
    for name, value in (("count", count), ("seed", seed)):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value!r}; give 0 or more")
    if min(size) < SMALLEST_SIDE:
        raise ValueError(
            f"size must be at least {SMALLEST_SIDE} pixels high and wide, got {size!r}; "
            "give it as (height, width), for instance (112, 112)"
        )
    return (compose(seed, index, size) for index in range(count))
