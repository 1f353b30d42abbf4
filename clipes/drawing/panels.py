"""Plots for the documentation of a method: pictures and maps of one image side by side, and bar charts.

All panels of an image have the axes of its patch grid, so that a position has the same coordinates in each. The plots
are white and 8.4 inches wide. matplotlib (``pip install clipes[plot]``) is imported when something is drawn; only its
objects are used, not pyplot.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .figure import GREY, INK, MAPS, check_plot, save_figure
from .text import cut_text, plain_text, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

WIDTH = 8.4
"""Inches of a plot: about 840 pixels on a page."""

_BLUE, _CYAN = "#0072B2", "#56B4E9"
_MAX_NAME_LENGTH = 30  # characters
_SMOOTH_FROM = 400  # columns: pictures as wide as this are interpolated, narrower ones show their pixels as squares

Mark = Callable[["Axes"], None]
"""Draws on a panel, in coordinates of the patch grid."""


class Panel(NamedTuple):
    """A map (h, w) or a picture (h, w, 3) uint8 of the full image, of any resolution, and the marks drawn on it."""

    title: str
    values: NDArray[Any]
    marks: tuple[Mark, ...] = ()
    most: float = 1.0  # the value drawn in the brightest colour; 0 is drawn in the darkest
    colours: str = MAPS


def draw_panels(
    path: str | os.PathLike[str],
    panels: Sequence[Panel],
    size: tuple[int, int],
    grid: tuple[int, int],
    columns: int = 3,
    bar: str = "",
    legend: Sequence[tuple[str, Any]] = (),
) -> None:
    """Draw ``panels`` in rows of ``columns`` and write them to the .png, .svg or .pdf ``path`` atomically.

    ``size`` is the image's (H, W), ``grid`` its number of patches (h, w). If ``bar`` is given, one colour bar with that
    name serves all maps; otherwise each map has its own. ``legend`` are names with their colours.

    Raises what :func:`clipes.drawing.figure.check_plot` raises.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    wide = (WIDTH - 0.7 * bool(bar)) / columns - (0.35 if bar else 0.85)
    tall = wide * min(max(size[0] / size[1], 0.1), 4)
    keys = [(shorten(name), colour) for name, colour in legend]
    across = _keys_across([name for name, _ in keys])
    with drawing(path, (WIDTH, rows * (tall + 0.45) + 0.1 + 0.22 * -(-len(keys) // across))) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            shown = _show(axis, panel, cut_text(panel.title, wide + 0.3, 10), size, grid)
            if not bar and panel.values.ndim == 2:
                extend = "max" if panel.values.max() > panel.most else "neither"
                _draw_bar(figure, shown, [axis], tall, extend=extend)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        if bar:
            map_rows = {index // columns for index, panel in enumerate(panels) if panel.values.ndim == 2}
            map_axes = [axis for index, axis in enumerate(axes) if index // columns in map_rows]
            _draw_bar(figure, shown, map_axes, len(map_rows) * (tall + 0.45), name=bar)
        if keys:
            _draw_legend(figure, keys, across)


def draw_bars(path: str | os.PathLike[str], title: str, bars: Sequence[tuple[str, float]], blue: int) -> None:
    """Draw a bar for each (name, value), the first ``blue`` in blue, the others in grey; otherwise as draw_panels."""
    names, values = [shorten(name) for name, _ in bars], [value for _, value in bars]
    with drawing(path, (WIDTH, 0.6 + 0.24 * len(bars))) as figure:
        axis = figure.subplots()
        axis.barh(range(len(bars)), values, color=[_BLUE] * blue + [GREY] * (len(bars) - blue), height=0.7)
        for row, value in enumerate(values):
            axis.text(value, row, f" {value:.3f}", va="center", fontsize=9, color=INK)
        axis.set_yticks(range(len(bars)), names, fontsize=9, color=INK, parse_math=False)
        axis.set_ylim(len(bars) - 0.4, -0.6)
        axis.set_xlim(0, max(values) * 1.12 or 1)
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=10, color=INK)
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
        axis.spines["left"].set_color(GREY)


def mark_grid(grid: tuple[int, int]) -> Mark:
    """The grid lines between h x w patches."""
    h, w = grid

    def draw(axis: Axes) -> None:
        thin: Any = {"color": "white", "linewidth": min(0.7, 40 / max(h, w))}
        axis.hlines(np.arange(h + 1) - 0.5, -0.5, w - 0.5, **thin)
        axis.vlines(np.arange(w + 1) - 0.5, -0.5, h - 0.5, **thin)

    return draw


def mark_boxes(boxes: Sequence[tuple[int, int, int, int]], colour: str = _CYAN) -> Mark:
    """Outlines of boxes (top, left, bottom, right), ends exclusive; with a dark edge, to be visible on any colour."""

    def draw(axis: Axes) -> None:
        from matplotlib.patches import Rectangle

        for top, left, bottom, right in boxes:
            for width, ink in ((3.4, "black"), (1.7, colour)):
                corner, wide, high = (left - 0.5, top - 0.5), right - left, bottom - top
                axis.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=ink, linewidth=width, clip_on=False))

    return draw


def mark_patch(row: int, column: int) -> Mark:
    """The outline of one patch."""
    return mark_boxes([(row, column, row + 1, column + 1)], "white")


def mark_patches(inside: NDArray[np.bool_]) -> Mark:
    """A dot in each patch where ``inside`` (h, w) is True."""
    rows, columns = np.nonzero(inside)
    size = 50 / max(inside.shape)

    def draw(axis: Axes) -> None:
        axis.plot(columns, rows, "o", markersize=size, color="white", markeredgecolor="black", markeredgewidth=size / 5)

    return draw


def mark_borders(ids: NDArray[Any], ignored: int, grid: tuple[int, int]) -> Mark:
    """Lines between pixels of different ids (H, W). ``ignored`` pixels, which are often isolated, get no lines."""
    high, wide = grid[0] / ids.shape[0], grid[1] / ids.shape[1]  # of a pixel, in patches
    valid = ids != ignored
    below = np.argwhere((ids[1:] != ids[:-1]) & valid[1:] & valid[:-1]) * (high, wide) - 0.5
    right = np.argwhere((ids[:, 1:] != ids[:, :-1]) & valid[:, 1:] & valid[:, :-1]) * (high, wide) - 0.5

    def draw(axis: Axes) -> None:
        axis.hlines(below[:, 0] + high, below[:, 1], below[:, 1] + wide, color="white", linewidth=0.7)
        axis.vlines(right[:, 1] + wide, right[:, 0], right[:, 0] + high, color="white", linewidth=0.7)

    return draw


def shorten(name: str, longest: int = _MAX_NAME_LENGTH) -> str:
    """``name`` as :func:`clipes.drawing.text.plain_text`, cut to ``longest`` characters."""
    shown = plain_text(name)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _show(axis: Axes, panel: Panel, title: str, size: tuple[int, int], grid: tuple[int, int]) -> AxesImage:
    h, w = grid
    kind: Any = {} if panel.values.ndim == 3 else {"cmap": panel.colours, "vmin": 0, "vmax": panel.most}
    shown = axis.imshow(
        panel.values,
        extent=(-0.5, w - 0.5, h - 0.5, -0.5),
        aspect=(size[0] / h) / (size[1] / w),
        interpolation="nearest" if panel.values.shape[1] < _SMOOTH_FROM else "antialiased",
        **kind,
    )
    axis.set_title(title, fontsize=10, color=INK, parse_math=False)
    axis.tick_params(labelsize=8, color=GREY, labelcolor=GREY, length=2)
    step = -(-max(h, w) // 5)
    axis.set_xticks(range(0, w, step))
    axis.set_yticks(range(0, h, step))
    for side in axis.spines.values():
        side.set_visible(False)
    for mark in panel.marks:
        mark(axis)
    return shown


def _draw_bar(
    figure: Figure, shown: AxesImage, axes: list[Axes], available: float, name: str = "", extend: str = "neither"
) -> None:
    """Draw a colour bar next to ``axes``, which are ``available`` inches high: 0.1 x at most 2.4 inches."""
    length = min(0.9 * available, 2.4)
    look: Any = {"extend": extend, "pad": 0.02, "anchor": (0, 0.5 if length < 2.4 else 1)}
    bar = figure.colorbar(shown, ax=axes, shrink=length / available, aspect=length / 0.1, **look)
    bar.set_label(name, color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8, color=GREY, labelcolor=INK)


def _keys_across(names: Sequence[str]) -> int:
    """How many names of a legend fit into a row, each after a square of its colour."""
    widest = max((text_width(name, 9) for name in names), default=0)
    return max(1, min(len(names), 5, int((WIDTH - 0.2) / (widest + 0.6))))


def _draw_legend(figure: Figure, keys: Sequence[tuple[str, Any]], across: int) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=colour, edgecolor=GREY, label=name) for name, colour in keys]
    shown = figure.legend(handles=patches, loc="outside lower center", ncols=across, frameon=False, fontsize=9)
    for text in shown.get_texts():
        text.set_parse_math(False)


@contextmanager
def drawing(path: str | os.PathLike[str], size: tuple[float, float], dots: float = 150) -> Iterator[Figure]:
    """Yield an empty figure of ``size`` inches with ``dots`` per inch; write it to ``path`` if the block succeeds.

    Raises what :func:`clipes.drawing.figure.check_plot` raises.
    """
    path = check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a box is drawn, which says enough
        figure = Figure(figsize=size, layout="constrained", facecolor="white", dpi=dots)
        FigureCanvasAgg(figure)
        yield figure
        save_figure(path, figure)
