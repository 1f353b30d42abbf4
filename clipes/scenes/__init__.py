"""Drawn scenes with exact ground truth: sixteen things on ten grounds.

The pictures train and show a small CLIP without any download. A scene is composed in coordinates
relative to the shorter side of the picture, so the same seed at a larger size is the same scene, sharper.
"""

from __future__ import annotations

from collections.abc import Iterator

from .compose import Scene, check_count, check_size, compose
from .grounds import GROUNDS
from .things import THINGS

__all__ = ["GROUNDS", "THINGS", "Scene", "draw_scene", "draw_scenes"]


def draw_scene(seed: int, size: tuple[int, int] = (112, 112)) -> Scene:
    """Draws one scene; the same arguments give the same bytes.

    `size` is (height, width), each at least 8. The result is the first scene of
    `draw_scenes(1, seed, size)`. A picture whose sides differ by more than about 1 : 12 may be left
    without a thing, where none could be large enough to count as visible.

    Raises ValueError if the seed is negative or a side is below 8 pixels.
    """
    return next(draw_scenes(1, seed, size))


def draw_scenes(count: int, seed: int = 0, size: tuple[int, int] = (112, 112)) -> Iterator[Scene]:
    """Draws `count` scenes one after another; scene i depends only on (seed, i, size).

    `size` is (height, width), each at least 8. Arguments are checked at once, not at the first scene.

    Raises ValueError if the count or the seed is negative or a side is below 8 pixels.
    """
    check_count("count", count)
    check_count("seed", seed)
    check_size(size)
    return (compose(seed, index, size) for index in range(count))
