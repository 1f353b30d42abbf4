"""Tiles: windows of a large picture, each encoded by itself, whose maps become one map of the picture.

Lengths are in any unit, patches in the library's own path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from clipes.clip.vision import VisionEncoder
from clipes.config import Config, TileConfig, View
from clipes.device.pixels import resize_image
from clipes.io.images import patch_grid


class Window(NamedTuple):
    """A rectangle of a picture: its first row and column, its height and width."""

    top: int
    left: int
    height: int
    width: int


class Tile(NamedTuple):
    """What is encoded by itself: of image ``image`` in its ``view``, resized to ``grid`` (h, w) patches, a window."""

    image: int
    view: View
    grid: tuple[int, int]
    window: Window

    @property
    def whole(self) -> bool:
        """Whether the window is the whole picture."""
        return self.window[2:] == self.grid


def windows(shape: tuple[int, int], size: int, stride: int) -> list[Window]:
    """The windows of a sliding window over ``shape`` (H, W), row by row.

    They are ``size`` high and wide, ``stride`` apart; the last of a row or column is shifted inside. Where the picture
    is lower or narrower than ``size``, they are as high or wide as the picture.

    >>> [window.left for window in windows((5, 9), 5, 3)], windows((5, 9), 5, 3)[-1]
    ([0, 3, 4], Window(top=0, left=4, height=5, width=5))
    """
    height, width = (min(size, length) for length in shape)
    tops, lefts = (
        [*range(0, length - side, stride), length - side] for length, side in zip(shape, (height, width), strict=True)
    )
    return [Window(top, left, height, width) for top in tops for left in lefts]


def join_windows(
    maps: Sequence[Tensor], windows: Sequence[Window], shape: tuple[int, int], weight: Tensor | None = None
) -> Tensor:
    """One map (C, *shape) from those of windows that cover it, (C, height, width) each: their mean where they overlap.

    ``weight`` (height, width), above 0, is that of a window's places in the mean; None weighs all alike, the rule of
    SCLIP's and ClearCLIP's code.
    """
    weight = maps[0].new_ones(windows[0][2:]) if weight is None else weight
    total = maps[0].new_zeros((len(maps[0]), *shape))
    sums = maps[0].new_zeros(shape)
    for one, (top, left, height, width) in zip(maps, windows, strict=True):
        rows, columns = slice(top, top + height), slice(left, left + width)
        total[:, rows, columns] += weight * one
        sums[rows, columns] += weight
    return total / sums


def tent(height: int, width: int, like: Tensor) -> Tensor:
    """Weights (height, width) in (0, 1] that fall linearly from the middle to the border, of dtype and device of
    ``like``: windows that overlap blend without a step.

    >>> tent(1, 4, torch.ones(1)).tolist()
    [[0.5, 1.0, 1.0, 0.5]]
    """
    rows, columns = (
        torch.minimum(at, at.flip(0)) / ((len(at) + 1) // 2)
        for at in (torch.arange(1, side + 1, dtype=like.dtype, device=like.device) for side in (height, width))
    )
    return rows[:, None] * columns


def tiles_of(images: Sequence[Image.Image], patch: int, config: Config) -> list[Tile]:
    """Everything that is encoded of ``images``: image by image, view by view, window by window.

    ValueError as :func:`tile_in_patches`.
    """
    found = []
    for index, image in enumerate(images):
        for view in config.views.all:
            grid = image_grid(image, patch, config, view.scale)
            found += [Tile(index, view, grid, window) for window in _windows_of(grid, patch, config)]
    return found


def _windows_of(grid: tuple[int, int], patch: int, config: Config) -> list[Window]:
    if config.views.tile is None:
        return [Window(0, 0, *grid)]
    return windows(grid, *tile_in_patches(config.views.tile, patch, config.image.max_patches))


def image_grid(image: Image.Image, patch: int, config: Config, scale: float = 1.0) -> tuple[int, int]:
    """The patches (h, w) that an image, or its view of another ``scale``, is resized to."""
    square = config.image.square
    size = (image.height, image.width) if square is None else (square, square)
    if scale != 1:
        size = max(1, round(scale * size[0])), max(1, round(scale * size[1]))
    return patch_grid(size, patch, config.image.max_patches if config.views.tile is None else size[0] * size[1])


def largest_window(grid: tuple[int, int], patch: int, config: Config) -> int:
    """The patches of the largest part that is encoded by itself of a picture of ``grid`` (h, w)."""
    height, width = _windows_of(grid, patch, config)[0][2:]
    return height * width


def tile_in_patches(tile: TileConfig, patch: int, max_patches: int) -> tuple[int, int]:
    """Size and stride of a tile in whole patches, rounded down.

    ValueError for a size or a stride below a patch, and for a window of more patches than ``max_patches``.

    >>> tile_in_patches(TileConfig(448, 224), 16, 4096)
    (28, 14)
    """
    size, stride = tile.size // patch, tile.stride // patch
    if not stride:
        raise ValueError(
            f"the tile {tile} has a side or a stride below the model's patches of {patch} pixels; make both at least "
            f"{patch}"
        )
    if size * size > max_patches:
        raise ValueError(
            f"the tile {tile} has {size * size} patches of {patch} pixels, above max_patches {max_patches}; make it "
            f"smaller than {patch * (1 + int(max_patches**0.5))} or max_patches larger"
        )
    return size, stride


class Pictures:
    """Pixels of tiles of ``images``. A resized picture is kept until a tile of another one is asked for."""

    def __init__(self, images: Sequence[Image.Image], vision: VisionEncoder, antialias: bool) -> None:
        self._images, self._vision, self._antialias = images, vision, antialias
        self._kept: tuple[tuple[int, View], Tensor] | None = None

    def cut(self, tile: Tile) -> Tensor:
        """The tile's pixels (3, height, width) in [0, 255]; see :func:`clipes.device.pixels.resize_image`."""
        if tile.whole:
            return self._resized(tile)
        of = tile.image, tile.view
        if self._kept is None or self._kept[0] != of:
            self._kept = None  # free before the next one is made
            self._kept = of, self._resized(tile)
        patch, (top, left, height, width) = self._vision.patch_size, tile.window
        rows, columns = slice(patch * top, patch * (top + height)), slice(patch * left, patch * (left + width))
        return self._kept[1][:, rows, columns]

    def _resized(self, tile: Tile) -> Tensor:
        vision, image = self._vision, self._images[tile.image]
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if tile.view.mirrored else image
        size = vision.patch_size * tile.grid[0], vision.patch_size * tile.grid[1]
        return resize_image(image, size, vision.device, vision.interpolation, self._antialias)
