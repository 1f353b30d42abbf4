"""Panels and bars that explain the method, written to files.

matplotlib (the extra ``plot``) is imported when something is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipes.drawing.figure import (
    GREY,
    NAME_WIDTH,
    SMALL_SIZE,
    WIDTH,
    Mark,
    Panel,
    add_legend,
    drawing,
    fit_height,
    fit_text,
    show_panel,
)


def draw_panels(
    path: str | os.PathLike[str],
    panels: Sequence[Panel],
    size: tuple[int, int],
    grid: tuple[int, int],
    columns: int = 3,
    bar: str = "",
    legend: Sequence[tuple[str, NDArray[np.uint8]]] = (),
) -> None:
    """Draw ``panels`` in rows of ``columns`` and write them to the .png, .svg or .pdf ``path`` atomically.

    ``size`` is the image's (H, W), ``grid`` its number of patches (h, w): all panels have the axes of the patch grid,
    so that a position has the same coordinates in each. If ``bar`` is given, one colour bar with that name serves all
    maps; otherwise each map has its own. ``legend`` are names with their colours (3,).

    Raises what :func:`check_plot` raises.
    """
    (h, w), aspect = grid, min(max(size[1] / size[0], 0.25), 10)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with drawing(path, (WIDTH, 3 * rows)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        step = -(-max(h, w) // 5)
        for index, panel in enumerate(panels):
            shown = show_panel(axes[index], panel, 0.8 * WIDTH / columns - 0.2, extent=(-0.5, w - 0.5, h - 0.5, -0.5))
            axes[index].set(xticks=range(0, w, step), yticks=range(0, h, step))
            if not bar and panel.values.ndim == 2:
                extend = "max" if panel.values.max() > panel.most else "neither"
                figure.colorbar(shown, ax=axes[index], extend=extend, shrink=0.9, pad=0.02, aspect=30)
        if bar:  # beside the last row, which holds maps
            figure.colorbar(shown, ax=axes[-columns:], label=bar, shrink=0.9, pad=0.02, aspect=30)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        add_legend(figure, legend)
        fit_height(figure, list(axes), aspect)


def draw_bars(path: str | os.PathLike[str], title: str, bars: Sequence[tuple[str, float]], blue: int) -> None:
    """Draw a bar for each (name, value), the first ``blue`` in blue, the others in grey; errors as in draw_panels."""
    values = [value for _, value in bars]
    with drawing(path, (WIDTH, 0.5 + 0.2 * len(bars))) as figure:
        axis = figure.subplots()
        drawn = axis.barh(range(len(bars)), values, color=["#0072B2"] * blue + [GREY] * (len(bars) - blue), height=0.7)
        axis.bar_label(drawn, fmt="{:.3f}", padding=3, fontsize=SMALL_SIZE)
        axis.set_yticks(range(len(bars)), [fit_text(name, NAME_WIDTH, SMALL_SIZE) for name, _ in bars])
        axis.set(title=title, xticks=[], xlim=(0, max(values) * 1.12 or 1), ylim=(len(bars) - 0.4, -0.6))
        axis.tick_params(length=0)
        axis.spines[["top", "right", "bottom"]].set_visible(False)


def mark_grid(grid: tuple[int, int]) -> Mark:
    """The grid lines between h x w patches."""
    h, w = grid

    def draw(axis: Any) -> None:
        thin: Any = {"color": "white", "linewidth": min(0.7, 40 / max(h, w))}
        axis.hlines(np.arange(h + 1) - 0.5, -0.5, w - 0.5, **thin)
        axis.vlines(np.arange(w + 1) - 0.5, -0.5, h - 0.5, **thin)

    return draw


def mark_boxes(boxes: Sequence[tuple[int, int, int, int]], colour: str = "#56B4E9") -> Mark:
    """Outlines of boxes (top, left, bottom, right), ends exclusive; with a dark edge, to be visible on any colour."""

    def draw(axis: Any) -> None:
        for top, left, bottom, right in boxes:
            x, y = np.array([left, right, right, left, left]) - 0.5, np.array([top, top, bottom, bottom, top]) - 0.5
            for width, ink in ((3, "black"), (1.5, colour)):
                axis.plot(x, y, color=ink, linewidth=width, clip_on=False)

    return draw


def mark_patch(row: int, column: int) -> Mark:
    """The outline of one patch."""
    return mark_boxes([(row, column, row + 1, column + 1)], "white")


def mark_patches(inside: NDArray[np.bool_]) -> Mark:
    """A dot in each patch where ``inside`` (h, w) is True."""
    rows, columns = np.nonzero(inside)
    size = 50 / max(inside.shape)

    def draw(axis: Any) -> None:
        axis.plot(columns, rows, "o", markersize=size, color="white", markeredgecolor="black", markeredgewidth=size / 5)

    return draw


def mark_borders(ids: NDArray[Any], ignored: int, grid: tuple[int, int]) -> Mark:
    """Lines between pixels of different ids (H, W). ``ignored`` pixels, which are often isolated, get no lines."""
    high, wide = grid[0] / ids.shape[0], grid[1] / ids.shape[1]  # of a pixel, in patches
    valid = ids != ignored
    below = np.argwhere((ids[1:] != ids[:-1]) & valid[1:] & valid[:-1]) * (high, wide) - 0.5
    right = np.argwhere((ids[:, 1:] != ids[:, :-1]) & valid[:, 1:] & valid[:, :-1]) * (high, wide) - 0.5

    def draw(axis: Any) -> None:
        axis.hlines(below[:, 0] + high, below[:, 1], below[:, 1] + wide, color="white", linewidth=0.7)
        axis.vlines(right[:, 1] + wide, right[:, 0], right[:, 0] + high, color="white", linewidth=0.7)

    return draw
